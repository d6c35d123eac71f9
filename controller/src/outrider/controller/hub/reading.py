"""Records out of the tables, a page at a time. A page stays the same while records are added: its cursor is a `seq`."""

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table, and_, or_, select

from . import rows
from .records import (
    CommandQuery,
    CommandRecord,
    EventQuery,
    EventRecord,
    Page,
    ProgressRecord,
    Record,
    ResultQuery,
    ResultRecord,
    StateRecord,
)
from .tables import commands, event_keys, events, indexed, progress, results, states

R = TypeVar("R", bound=Record)

Question = Select[*tuple[Any, ...]]
"""Any: what a column holds is said in `tables.py`, and not known to a type checker here."""

Conditions = list[ColumnElement[bool]]


def find_commands(connection: Connection, query: CommandQuery) -> Page[CommandRecord]:
    """Commands, newest first."""
    where = _equal(commands, id=query.id, requester=query.requester, behalf=query.behalf, command=query.command)
    where += _between(commands.c.received, query.since, query.until)
    if query.device is not None:
        device = indexed(query.device)
        answered = [
            select(commands.c.seq)
            .join(of, and_(of.c.id == commands.c.id, of.c.requester == commands.c.requester))
            .where(of.c.device == device, commands.c.id != "", commands.c.group_name != "")
            for of in (results, progress)
        ]
        where.append(or_(commands.c.device == device, *(commands.c.seq.in_(some) for some in answered)))
    return _newest(connection, select(commands), where, query.cursor, query.limit, rows.command_record)


def find_results(connection: Connection, query: ResultQuery) -> Page[ResultRecord]:
    """Results, newest first."""
    where = _equal(
        results,
        id=query.id,
        requester=query.requester,
        behalf=query.behalf,
        device=query.device,
        status=query.status,
    )
    where += _between(results.c.received, query.since, query.until)
    return _newest(connection, select(results), where, query.cursor, query.limit, rows.result_record)


def find_states(connection: Connection, device: str, cursor: int | None, limit: int) -> Page[StateRecord]:
    """States of a device, newest first."""
    return _newest(connection, select(states), _equal(states, device=device), cursor, limit, rows.state_record)


def find_progress(
    connection: Connection, id: str, requester: str, device: str | None, after: int, limit: int
) -> Page[ProgressRecord]:
    """Progress of a command, oldest first."""
    where = _equal(progress, id=id, requester=requester, device=device)
    return _oldest(connection, select(progress), where, after, limit, rows.progress_record)


def find_events(connection: Connection, query: EventQuery) -> Page[EventRecord]:
    """Events, newest first, or from `after` on."""
    where = _equal(events, device=query.device, name=query.name, key=query.key, subject=query.subject)
    where += _between(events.c.time, query.since, query.until)
    if query.after is not None:
        return _oldest(connection, select(events), where, query.after, query.limit, rows.event_record)
    return _newest(connection, select(events), where, query.cursor, query.limit, rows.event_record)


def find_names(connection: Connection) -> list[str]:
    """The names that events came with."""
    return sorted(connection.scalars(select(event_keys.c.name).distinct()))


def _newest(
    connection: Connection,
    statement: Question,
    where: Conditions,
    cursor: int | None,
    limit: int,
    record: Callable[[RowMapping], R],
) -> Page[R]:
    seq = statement.selected_columns["seq"]
    if cursor is not None:
        where = [*where, seq < cursor]
    return _page(connection, statement.where(*where).order_by(seq.desc()), limit, record)


def _oldest(
    connection: Connection,
    statement: Question,
    where: Conditions,
    after: int,
    limit: int,
    record: Callable[[RowMapping], R],
) -> Page[R]:
    seq = statement.selected_columns["seq"]
    return _page(connection, statement.where(*where, seq > after).order_by(seq), limit, record)


def _page(connection: Connection, statement: Question, limit: int, record: Callable[[RowMapping], R]) -> Page[R]:
    found = [record(row) for row in connection.execute(statement.limit(limit + 1)).mappings()]
    return Page(found[:limit], found[limit - 1].seq if len(found) > limit else None)


def _equal(table: Table, **values: str | None) -> Conditions:
    found = [table.c[name] == indexed(value) for name, value in values.items() if value is not None]
    # SQLite takes an index that leaves rows out only where the question does too.
    if table is commands and values.get("id"):
        found.append(table.c.id != "")
    return found


def _between(column: ColumnElement[float], since: float | None, until: float | None) -> Conditions:
    found: Conditions = []
    if since is not None:
        found.append(column >= since)
    if until is not None:
        found.append(column < until)
    return found
