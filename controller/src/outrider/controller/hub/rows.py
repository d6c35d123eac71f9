"""Records as rows of the tables, and back. The order of a row is that of its table's columns."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Raw, json
from sqlalchemy import RowMapping, Table

from outrider.schema import Status

from .records import CommandRecord, EventRecord, ProgressRecord, Record, ResultRecord, StateRecord
from .tables import LONGEST, commands, events, indexed, kept, progress, results, states

Row = tuple[object, ...]

LARGEST: Final = 2**63 - 1
"""The greatest integer that a column holds; JSON's may be greater."""

TABLES: Final[Mapping[type[Record], Table]] = {
    CommandRecord: commands,
    ProgressRecord: progress,
    ResultRecord: results,
    StateRecord: states,
    EventRecord: events,
}


def command_row(seq: int, record: CommandRecord) -> Row:
    """A row of `commands`."""
    return (
        seq,
        indexed(record.id),
        indexed(record.requester),
        indexed(record.behalf),
        indexed(record.device or ""),
        indexed(record.group or ""),
        indexed(record.command),
        _json(record.args),
        record.issued,
        record.expires,
        record.timeout,
        None if record.trace is None else kept(record.trace),
        record.received,
    )


def progress_row(seq: int, record: ProgressRecord) -> Row:
    """A row of `progress`."""
    return (
        seq,
        indexed(record.id),
        indexed(record.requester),
        indexed(record.device),
        min(record.number, LARGEST),
        int(record.accepted),
        record.fraction,
        None if record.text is None else kept(record.text),
        record.stream,
        None if record.data is None else kept(record.data),
        record.received,
    )


def result_row(seq: int, record: ResultRecord) -> Row:
    """A row of `results`; whose it is stands in its command."""
    return (
        seq,
        indexed(record.id),
        indexed(record.requester),
        indexed(record.device),
        indexed(record.command),
        str(record.status),
        _json(record.value),
        _json(record.error),
        record.started,
        record.finished,
        record.received,
        "",
    )


def state_row(seq: int, record: StateRecord) -> Row:
    """A row of `states`."""
    return (
        seq,
        indexed(record.device),
        indexed(record.status),
        min(record.session, LARGEST),
        record.since,
        json.encode(record.groups).decode(),
        json.encode(record.pools).decode(),
        json.encode(record.tags).decode(),
        kept(record.about),
        record.received,
    )


def event_row(seq: int, record: EventRecord) -> Row:
    """A row of `events`."""
    key, subject, data = record.key, record.subject, record.data
    # Nearly all are short and plain, and a call for each would be felt.
    if key is not None and (len(key) > LONGEST or "\0" in key):
        key = indexed(key)
    if subject is not None and (len(subject) > LONGEST or "\0" in subject):
        subject = indexed(subject)
    return (
        seq,
        record.id,
        record.device,
        record.name,
        key,
        subject,
        record.time,
        None if data is None else str(data, "utf-8", "replace"),
        record.received,
    )


def command_record(row: RowMapping) -> CommandRecord:
    """What a row of `commands` says."""
    return CommandRecord(
        seq=row["seq"],
        id=row["id"],
        requester=row["requester"],
        behalf=row["behalf"],
        device=row["device"] or None,
        group=row["group_name"] or None,
        command=row["command"],
        args=_raw(row["args"]),
        issued=row["issued"],
        expires=row["expires"],
        timeout=row["timeout"],
        trace=row["trace"],
        received=row["received"],
    )


def progress_record(row: RowMapping) -> ProgressRecord:
    """What a row of `progress` says."""
    return ProgressRecord(
        seq=row["seq"],
        id=row["id"],
        requester=row["requester"],
        device=row["device"],
        number=row["number"],
        accepted=bool(row["accepted"]),
        fraction=row["fraction"],
        text=row["text"],
        stream=row["stream"],
        data=row["data"],
        received=row["received"],
    )


def result_record(row: RowMapping) -> ResultRecord:
    """What a row of `results` says."""
    return ResultRecord(
        seq=row["seq"],
        id=row["id"],
        requester=row["requester"],
        device=row["device"],
        command=row["command"],
        status=Status(row["status"]),
        value=_raw(row["value"]),
        error=_raw(row["error"]),
        started=row["started"],
        finished=row["finished"],
        received=row["received"],
    )


def state_record(row: RowMapping) -> StateRecord:
    """What a row of `states` says."""
    return StateRecord(
        seq=row["seq"],
        device=row["device"],
        status=row["status"],
        session=row["session"],
        since=row["since"],
        groups=json.decode(row["groups"], type=list[str]),
        pools=json.decode(row["pools"], type=list[str]),
        tags=json.decode(row["tags"], type=dict[str, str | int | float | bool]),
        about=row["about"],
        received=row["received"],
    )


def event_record(row: RowMapping) -> EventRecord:
    """What a row of `events` says."""
    return EventRecord(
        seq=row["seq"],
        id=row["id"],
        device=row["device"],
        name=row["name"],
        key=row["key"],
        subject=row["subject"],
        time=row["time"],
        data=_raw(row["data"]),
        received=row["received"],
    )


# Any: each function takes the record of its own key, which a type of mapping cannot say.
ROWS: Final[Mapping[type[Record], Callable[[int, Any], Row]]] = {
    CommandRecord: command_row,
    ProgressRecord: progress_row,
    ResultRecord: result_row,
    StateRecord: state_row,
    EventRecord: event_row,
}

RECORDS: Final[Mapping[type[Record], Callable[[RowMapping], Record]]] = {
    CommandRecord: command_record,
    ProgressRecord: progress_record,
    ResultRecord: result_record,
    StateRecord: state_record,
    EventRecord: event_record,
}


def _json(raw: Raw | None) -> str | None:
    return None if raw is None else str(raw, "utf-8", "replace")


def _raw(text: str | None) -> Raw | None:
    return None if text is None else Raw(text.encode())
