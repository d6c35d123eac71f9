"""A batch of records into the tables: repeats dropped, and what summaries are made of kept beside the rows.

Building statements from expressions costs more than SQLite's insert of a row, so these go to the driver as they are.
"""

from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter
from typing import Any, Final, cast

from msgspec import json
from sqlalchemy import BigInteger, Column, Connection, Double, Integer, SmallInteger, Table

from .records import CommandRecord, EventRecord, Record, ResultRecord
from .rollups import Batch, Deltas, Fact, Known, deltas, sort_out
from .rows import ROWS, TABLES, Row
from .tables import event_counts, event_followups, event_keys, reopened, reopened_followups

_FACT: Final = itemgetter(3, 4, 5, 6)
"""Name, key, subject and time of a row of `events`."""


def write(connection: Connection, batch: Sequence[Record]) -> Sequence[Record]:
    """Store what is new, and return it."""
    if not batch:
        return batch
    first = _reserve(connection, len(batch))
    new: dict[type[Record], list[Row]] = {}
    for kind in dict.fromkeys(map(type, batch)):
        make = ROWS[kind]
        rows = [make(seq, record) for seq, record in enumerate(batch, first) if type(record) is kind]
        new[kind] = _insert(connection, TABLES[kind], rows, first)
    if new.get(EventRecord):
        _count(connection, new[EventRecord], first)
    if new.get(CommandRecord) or new.get(ResultRecord):
        _own(connection, new.get(CommandRecord, []), bool(new.get(ResultRecord)), first)
    if sum(map(len, new.values())) == len(batch):
        return batch
    return [batch[row[0] - first] for stored in new.values() for row in stored]  # type: ignore[operator]  # `seq` is a number


def _reserve(connection: Connection, size: int) -> int:
    """The first of as many numbers. Whoever has reserved keeps other writers waiting until its commit."""
    return int(
        connection.exec_driver_sql(
            _marked(connection, "UPDATE counter SET last = last + ? WHERE one = 1 RETURNING last"), (size,)
        ).scalar_one()
        - size
        + 1
    )


def _insert(connection: Connection, table: Table, rows: list[Row], first: int) -> list[Row]:
    """Insert what is new, and return it."""
    columns = [column.name for column in table.columns]
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table.name} VALUES ({marks}) ON CONFLICT DO NOTHING"
        if connection.exec_driver_sql(statement, rows).rowcount == len(rows):
            return rows
        found = connection.exec_driver_sql(f"SELECT seq FROM {table.name} WHERE seq >= ?", (first,))
    else:
        statement = f"INSERT INTO {table.name} SELECT * FROM {_unnest(table)} ON CONFLICT DO NOTHING RETURNING seq"
        found = connection.exec_driver_sql(statement, tuple(map(list, zip(*rows, strict=True))))
    stored = set(found.scalars())
    return rows if len(stored) == len(rows) else [row for row in rows if row[0] in stored]


def _count(connection: Connection, rows: Sequence[Row], first: int) -> None:
    """Bring the counts up to date with new events."""
    batch = sort_out(cast("Iterable[Fact]", map(_FACT, rows)))
    change = deltas(batch, _known(connection, batch, first))
    _upsert(
        connection,
        event_counts,
        sorted(
            (name, int(key is not None), key or "", level, bucket, *count)
            for (name, key, level, bucket), count in change.counts.items()
        ),
        "count = event_counts.count + excluded.count, "
        "earliest = {least}(event_counts.earliest, excluded.earliest), "
        "latest = {greatest}(event_counts.latest, excluded.latest)",
    )
    _upsert(
        connection, event_keys, sorted({(name, int(key is not None), key or "") for name, key, *_ in change.counts})
    )
    _count_followups(connection, change)


def _count_followups(connection: Connection, change: Deltas) -> None:
    added = "count = {table}.count + excluded.count"
    _upsert(connection, event_followups, sorted((*key, count) for key, count in change.followups.items()), added)
    _upsert(connection, reopened, sorted({(subject, name, key, time) for name, key, subject, time in change.reopened}))
    _upsert(
        connection,
        reopened_followups,
        sorted((*key, count) for key, count in change.reopened_followups.items()),
        added,
    )


def _known(connection: Connection, batch: Batch, first: int) -> Known:
    """What was stored of the subjects before this batch. Of a new one the index is asked once."""
    opened, followed = batch.opened.keys(), batch.followed.keys()
    reopened: set[str] = set()
    if connection.exec_driver_sql("SELECT 1 FROM reopened LIMIT 1").first() is not None:
        question = "SELECT DISTINCT subject FROM reopened WHERE subject {any}"
        reopened.update(row[0] for row in _about(connection, question, opened | followed))
    earlier = f"events.subject = new.subject AND events.seq < {first}"
    question = f"SELECT new.subject FROM {{new}} WHERE EXISTS (SELECT 1 FROM events WHERE {earlier})"
    seen = {row[0] for row in _about(connection, question, opened - reopened)}
    question = (
        f"SELECT name, key, subject, time FROM events WHERE subject {{any}} AND key IS NOT NULL AND seq < {first}"
    )
    openings = {row[2]: tuple(row) for row in _about(connection, question, (followed - opened - reopened) | seen)}
    followups: dict[str, dict[str, int]] = {}
    question = (
        "SELECT subject, name, count(*) FROM events "
        f"WHERE subject {{any}} AND key IS NULL AND seq < {first} GROUP BY subject, name"
    )
    for subject, name, count in _about(connection, question, seen):
        followups.setdefault(subject, {})[name] = count
    return Known(reopened, openings, followups)


def _own(connection: Connection, new_commands: Sequence[Row], new_results: bool, first: int) -> None:
    """Copy to results on whose behalf their commands were sent, whichever came first."""
    # That the id is not empty is said for SQLite, which takes the index only then.
    same = (
        "commands.id = results.id AND commands.id <> '' AND commands.requester = results.requester "
        "AND commands.behalf <> ''"
    )
    if new_results:
        connection.exec_driver_sql(
            f"UPDATE results SET behalf = commands.behalf FROM commands WHERE results.seq >= {first} AND {same}"
        )
    # The columns of `commands`: seq, id, requester, behalf.
    ids = {str(row[1]) for row in new_commands if row[3]}
    if ids:
        statement = (
            f"UPDATE results SET behalf = commands.behalf FROM commands WHERE results.id {{any}} AND {same} "
            f"AND results.behalf = '' AND commands.seq >= {first}"
        )
        connection.exec_driver_sql(*_any(connection, statement, ids))


def _upsert(connection: Connection, table: Table, rows: Sequence[Row], update: str = "") -> None:
    """Insert rows, or change those that are there; in the order of their keys, as every hub does."""
    if not rows:
        return
    sqlite = connection.dialect.name == "sqlite"
    names = {
        "table": table.name,
        "least": "min" if sqlite else "least",
        "greatest": "max" if sqlite else "greatest",
    }
    keys = ", ".join(column.name for column in table.primary_key.columns)
    then = f"UPDATE SET {update.format_map(names)}" if update else "NOTHING"
    if sqlite:
        marks = ", ".join("?" * len(table.columns))
        connection.exec_driver_sql(
            f"INSERT INTO {table.name} VALUES ({marks}) ON CONFLICT ({keys}) DO {then}", list(rows)
        )
    else:
        connection.exec_driver_sql(
            f"INSERT INTO {table.name} SELECT * FROM {_unnest(table)} ON CONFLICT ({keys}) DO {then}",
            tuple(map(list, zip(*rows, strict=True))),
        )


def _about(connection: Connection, statement: str, values: Collection[str]) -> Sequence[Any]:
    """The rows of a question about many values, of a kind that the statement says."""
    return connection.exec_driver_sql(*_any(connection, statement, values)).all() if values else ()


def _any(connection: Connection, statement: str, values: Iterable[str]) -> tuple[str, tuple[object]]:
    """A statement about any of the values, `{any}`, or each of them as `new.subject`, `{new}`.

    They are one parameter, however many, so that it is prepared once.
    """
    if connection.dialect.name == "sqlite":
        several, new = "IN (SELECT value FROM json_each(?))", "(SELECT value AS subject FROM json_each(?)) AS new"
        return statement.format(any=several, new=new), (json.encode(list(values)).decode(),)
    return statement.format(any="= ANY(%s::text[])", new="unnest(%s::text[]) AS new (subject)"), (list(values),)


def _marked(connection: Connection, statement: str) -> str:
    return statement if connection.dialect.name == "sqlite" else statement.replace("?", "%s")


def _unnest(table: Table) -> str:
    """A table's rows from one array for each column."""
    return f"unnest({', '.join(f'%s::{_array(column)}' for column in table.columns)})"


def _array(column: Column[Any]) -> str:
    """Its array's type: the columns of ours are integers, doubles and texts."""
    match column.type:
        case SmallInteger():
            return "smallint[]"
        case BigInteger():
            return "bigint[]"
        case Integer():
            return "integer[]"
        case Double():
            return "float8[]"
        case _:
            return "text[]"
