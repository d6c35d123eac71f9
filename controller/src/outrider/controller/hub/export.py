"""Everything the store has, record by record, as lines for other programs. It takes no more memory for more of them."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

from msgspec import Raw, json, structs
from sqlalchemy import select

from .database import Database
from .records import CommandRecord, EventRecord, ProgressRecord, Record, ResultRecord, StateRecord
from .rows import RECORDS, TABLES

AT_ONCE: Final = 2000
"""Records that are read together. Between these the database is free: a long look at it would keep its log growing."""

Kind = Literal["command", "progress", "result", "state", "event"]
KINDS: Final[dict[Kind, type[Record]]] = {
    "command": CommandRecord,
    "progress": ProgressRecord,
    "result": ResultRecord,
    "state": StateRecord,
    "event": EventRecord,
}


def records(database: Database, kinds: Sequence[Kind], since: float | None, until: float | None) -> Iterator[Record]:
    """Records that the hub received in [since, until), one kind after the other, oldest first.

    What is stored meanwhile may be among them or not.

    :raises StoreUnavailable: while it is read.
    """
    for kind in kinds:
        table, record = TABLES[KINDS[kind]], RECORDS[KINDS[kind]]
        where = [] if since is None else [table.c.received >= since]
        where += [] if until is None else [table.c.received < until]
        after = 0
        while True:
            statement = select(table).where(table.c.seq > after, *where).order_by(table.c.seq).limit(AT_ONCE)
            with database.reading() as connection:
                found = connection.execute(statement).mappings().all()
            for row in found:
                yield record(row)
            if len(found) < AT_ONCE:
                break
            after = found[-1]["seq"]


def ndjson(some: Iterable[Record]) -> Iterator[bytes]:
    """A line of JSON for each record; `type` says of which kind it is."""
    for record in some:
        yield json.encode(record) + b"\n"


def comma_separated(some: Iterable[Record]) -> Iterator[bytes]:
    """CSV (RFC 4180) with a heading; where the kind changes another heading follows an empty line.

    Values that are JSON stand as such. A text that a spreadsheet would take for a formula gets a `'` before it: devices
    choose their texts.
    """
    kind: type[Record] | None = None
    line = io.StringIO(newline="")
    writer = csv.writer(line)
    for record in some:
        if type(record) is not kind:
            if kind is not None:
                writer.writerow(())
            kind = type(record)
            writer.writerow(("type", *(field.name for field in structs.fields(kind))))
        writer.writerow((record.__struct_config__.tag, *map(_cell, structs.astuple(record))))
        yield line.getvalue().encode(errors="replace")
        line.seek(0)
        line.truncate()


FORMATS: Final = {"ndjson": ndjson, "csv": comma_separated}


def _cell(value: object) -> object:
    match value:
        case Raw():
            return str(value, "utf-8", "replace")
        case list() | dict():
            return json.encode(value).decode()
        case bool():
            return "true" if value else "false"
        case str() if value.startswith(_FORMULA):
            return f"'{value}"
        case _:
            return value


_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
