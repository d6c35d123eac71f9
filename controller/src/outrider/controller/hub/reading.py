"""Records out of the tables, a page at a time. A page stays the same while records are added: its cursor is a `seq`."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    RowMapping,
    Select,
    Table,
    and_,
    func,
    or_,
    select,
    union_all,
)

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

NEXT: Final = 20_000
"""Numbers that are looked at before an index is asked for all that are meant."""

Conditions = list[ColumnElement[bool]]


def find_commands(connection: Connection, query: CommandQuery) -> Page[CommandRecord]:
    """Commands, newest first."""
    given = {"id": query.id, "behalf": query.behalf, "requester": query.requester, "command": query.command}
    where = _equal(commands, _first(**given), **given)
    where += _but(commands, query.but) + _between(commands.c.received, query.since, query.until)
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
    given = {
        "id": query.id,
        "behalf": query.behalf,
        "device": query.device,
        "status": query.status,
        "requester": query.requester,
    }
    where = _equal(results, _first(**given), **given)
    where += _but(results, query.but) + _between(results.c.received, query.since, query.until)
    return _newest(connection, select(results), where, query.cursor, query.limit, rows.result_record)


def find_states(connection: Connection, device: str, cursor: int | None, limit: int) -> Page[StateRecord]:
    """States of a device, newest first."""
    return _newest(
        connection, select(states), _equal(states, "device", device=device), cursor, limit, rows.state_record
    )


def find_progress(
    connection: Connection,
    id: str,
    requester: str,
    device: str | None,
    after: int,
    limit: int,
    *,
    stream: str | None = None,
) -> Page[ProgressRecord]:
    """Progress of a command, oldest first."""
    where = _equal(progress, "id", id=id, requester=requester, device=device)
    if stream is not None:
        where.append(progress.c.stream == stream)
    return _oldest(connection, select(progress), where, after, limit, rows.progress_record)


def find_events(connection: Connection, query: EventQuery) -> Page[EventRecord]:
    """Events, newest first, or from `after` on.

    An index finds all that are meant, and these would have to be sorted. What is frequent is among the next rows, so
    these are looked at first.
    """
    seq = events.c.seq
    order: ColumnElement[int] = seq.desc()
    beyond: ColumnElement[bool]
    if query.after is not None:
        order, onward, near, beyond = seq, seq > query.after, seq <= query.after + NEXT, seq > query.after + NEXT
    else:
        newest = query.cursor if query.cursor is not None else (connection.scalar(select(func.max(seq))) or 0) + 1
        onward, near, beyond = seq < newest, seq >= newest - NEXT, seq < newest - NEXT
    times = _between(events.c.time, query.since, query.until)
    statement = select(events).where(onward, near, *times, *_events_of(query, None)).order_by(order)
    page = _page(connection, statement, query.limit, rows.event_record)
    if page.next is not None or connection.execute(select(seq).where(beyond).limit(1)).first() is None:
        return page
    best = _first(subject=query.subject, device=query.device, name=query.name)
    if times and best not in ("subject", "device") and query.key is None:
        onward, best = and_(onward, seq.in_(_at(query.name, times))), None
    statement = select(events).where(onward, *times, *_events_of(query, best)).order_by(order)
    return _page(connection, statement, query.limit, rows.event_record)


def _events_of(query: EventQuery, best: str | None) -> Conditions:
    """The events that are meant, found by the index that begins with `best`."""
    found = _equal(events, best, subject=query.subject, device=query.device, name=query.name)
    return found + _equal(events, "key" if best == "name" else best, key=query.key)


def _at(name: str | None, times: Conditions) -> CompoundSelect[int]:
    """The events of a time, through the index of each name and key, which are few."""
    named = [] if name is None else [event_keys.c.name.concat("") == indexed(name)]
    same = event_keys.c.name == events.c.name
    keyed = and_(same, event_keys.c.keyed == 1, event_keys.c.key == events.c.key)
    keyless = and_(same, event_keys.c.keyed == 0, events.c.key.is_(None))
    return union_all(*(select(events.c.seq).join(event_keys, on).where(*named, *times) for on in (keyed, keyless)))


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


def _equal(table: Table, best: str | None, **values: str | None) -> Conditions:
    """What columns hold. SQLite, which knows little of what is in them, has the choice of one index: that of `best`."""
    found: Conditions = []
    for name, value in values.items():
        if value is not None:
            # What is put together from a column is in no index.
            column = table.c[name] if name == best else table.c[name].concat("")
            found.append(column == indexed(value))
    # SQLite takes an index that leaves rows out only where the question does too.
    if table is commands and best == "id":
        found.append(table.c.id != "")
    return found


def _but(table: Table, beginning: str | None) -> Conditions:
    return [] if beginning is None else [func.substr(table.c.id, 1, len(beginning)) != beginning]


def _first(**values: str | None) -> str | None:
    """The first of these that is asked for."""
    return next((name for name, value in values.items() if value is not None), None)


def _between(column: ColumnElement[float], since: float | None, until: float | None) -> Conditions:
    found: Conditions = []
    if since is not None:
        found.append(column >= since)
    if until is not None:
        found.append(column < until)
    return found
