"""Summaries of events that cost the same for ten thousand as for ten million: counted buckets, and rows at the edges.

Whole buckets are taken from the coarsest level that fits; what is left of a range at either side, less than a second
each, is counted from the rows through an index.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    exists,
    func,
    literal,
    select,
    true,
    union_all,
)

from outrider.schema import LocalError

from .records import Bucket, Summary
from .tables import LEVELS, event_counts, event_followups, event_keys, events, indexed, reopened, reopened_followups

Question = Select[*tuple[Any, ...]]
"""Any: what a column holds is said in `tables.py`, and not known to a type checker here."""


class InvalidQuery(LocalError, ValueError):
    """What was asked for cannot be answered; the message says what can."""


class Piece(NamedTuple):
    """A part of a range: whole buckets of a level, or, where `level` is 0, rows. From `since` on, before `until`."""

    level: int
    since: float
    until: float


def pieces(since: float, until: float) -> list[Piece]:
    """A range (infinite where it has no end) as buckets of the coarsest levels that fit, and rows at its edges."""
    if since >= until:
        return []
    low, high = _up(since, LEVELS[0]), _down(until, LEVELS[0])
    if low >= high:
        return [Piece(0, since, until)]
    found = [Piece(0, since, low), Piece(0, high, until)]
    for level, coarser in pairwise(LEVELS):
        inner_low, inner_high = _up(low, coarser), _down(high, coarser)
        if inner_low >= inner_high:
            found.append(Piece(level, low, high))
            break
        found += [Piece(level, low, inner_low), Piece(level, inner_high, high)]
        low, high = inner_low, inner_high
    else:
        found.append(Piece(LEVELS[-1], low, high))
    return [piece for piece in found if piece.since < piece.until]


def summarise(
    connection: Connection, name: str, key: str | None, since: float | None, until: float | None
) -> list[Summary]:
    """One summary for the key, or for each key seen in the range."""
    name, key = indexed(name), None if key is None else indexed(key)
    low, high = -math.inf if since is None else since, math.inf if until is None else until
    parts = pieces(low, high)
    found: dict[str | None, tuple[int, float | None, float | None]] = {}
    followups: dict[str | None, dict[str, int]] = {}
    if parts:
        for keyed, of, count, earliest, latest in connection.execute(_counted(name, key, parts)):
            if count:
                found[of if keyed else None] = int(count), earliest, latest
        for of, followup, count in connection.execute(_followed(name, key, parts, low, high)):
            if count:
                followups.setdefault(of, {})[followup] = int(count)
    keys = sorted(found, key=lambda of: (of is not None, of or "")) if key is None else [key]
    return [
        Summary(
            name=name,
            key=of,
            count=found.get(of, _NONE)[0],
            earliest=found.get(of, _NONE)[1],
            latest=found.get(of, _NONE)[2],
            followups=dict(sorted(followups.get(of, {}).items())),
        )
        for of in keys
    ]


def bars(connection: Connection, name: str, key: str | None, since: float, until: float, step: float) -> list[Bucket]:
    """The buckets of a level that begin in the range, or contain its beginning; those without events are left out.

    :raises InvalidQuery: `step` is no level.
    """
    if step not in LEVELS:
        raise InvalidQuery(f"step must be one of {', '.join(map(str, LEVELS))} seconds, not {step:g}")
    name, key = indexed(name), None if key is None else indexed(key)
    if not since < until:
        return []
    low = since if math.isinf(since) else since // step * step
    statement = _of(
        event_counts,
        select(event_counts.c.keyed, event_counts.c.key, event_counts.c.bucket, event_counts.c.count),
        name,
        key,
    ).where(event_counts.c.level == int(step), *_within(event_counts.c.bucket, low, until))
    buckets = [
        Bucket(key=of if keyed else None, time=float(bucket), count=count)
        for keyed, of, bucket, count in connection.execute(statement)
    ]
    return sorted(buckets, key=lambda bar: (bar.key is not None, bar.key or "", bar.time))


_NONE = (0, None, None)


def _counted(name: str, key: str | None, parts: list[Piece]) -> Question:
    every = union_all(*_counts(name, key, parts)).subquery()
    columns = every.c
    return select(
        columns.keyed,
        columns.key,
        func.sum(columns.count),
        func.min(columns.earliest),
        func.max(columns.latest),
    ).group_by(columns.keyed, columns.key)


def _counts(name: str, key: str | None, parts: list[Piece]) -> Iterator[Question]:
    for piece in parts:
        if piece.level:
            columns = event_counts.c
            yield (
                _of(
                    event_counts,
                    select(
                        columns.keyed.label("keyed"),
                        columns.key.label("key"),
                        func.sum(columns.count).label("count"),
                        func.min(columns.earliest).label("earliest"),
                        func.max(columns.latest).label("latest"),
                    ),
                    name,
                    key,
                )
                .where(columns.level == piece.level, *_within(columns.bucket, piece.since, piece.until))
                .group_by(columns.keyed, columns.key)
            )
            continue
        time = events.c.time
        figures = func.count().label("count"), func.min(time).label("earliest"), func.max(time).label("latest")
        within = _within(time, piece.since, piece.until)
        yield (
            _rows(select(literal(1).label("keyed"), events.c.key.label("key"), *figures), name, key)
            .where(*within)
            .group_by(events.c.key)
        )
        if key is None:
            # Events without a key.
            yield (
                select(literal(0).label("keyed"), literal("").label("key"), *figures).where(
                    events.c.name == name, events.c.key.is_(None), *within
                )
            )


def _followed(name: str, key: str | None, parts: list[Piece], since: float, until: float) -> Question:
    every = union_all(*_followups(name, key, parts), _reopened(name, key, since, until)).subquery()
    columns = every.c
    return select(columns.key, columns.followup, func.sum(columns.count)).group_by(columns.key, columns.followup)


def _followups(name: str, key: str | None, parts: list[Piece]) -> Iterator[Question]:
    for piece in parts:
        if piece.level:
            columns = event_followups.c
            yield (
                _of(
                    event_followups,
                    select(
                        columns.key.label("key"),
                        columns.followup.label("followup"),
                        func.sum(columns.count).label("count"),
                    ),
                    name,
                    key,
                )
                .where(columns.level == piece.level, *_within(columns.bucket, piece.since, piece.until))
                .group_by(columns.key, columns.followup)
            )
            continue
        later = events.alias("later")
        yield (
            _rows(
                select(events.c.key.label("key"), later.c.name.label("followup"), func.count().label("count")),
                name,
                key,
                later,
                and_(later.c.subject == events.c.subject, later.c.key.is_(None)),
            )
            .where(
                *_within(events.c.time, piece.since, piece.until),
                events.c.subject.is_not(None),
                ~exists().where(reopened.c.subject == events.c.subject),
            )
            .group_by(events.c.key, later.c.name)
        )


def _reopened(name: str, key: str | None, since: float, until: float) -> Question:
    """Follow-ups of subjects that were opened more than once: each subject counts once in the whole range."""
    within = _of(reopened, select(reopened.c.key, reopened.c.subject).distinct(), name, key).where(
        *_within(reopened.c.time, since, until)
    )
    opened = within.subquery()
    return (
        select(
            opened.c.key.label("key"),
            reopened_followups.c.name.label("followup"),
            func.sum(reopened_followups.c.count).label("count"),
        )
        .join(reopened_followups, reopened_followups.c.subject == opened.c.subject)
        .group_by(opened.c.key, reopened_followups.c.name)
    )


def _of(table: FromClause, statement: Question, name: str, key: str | None) -> Question:
    """A question about a name and a key, or each key there is, so that the index finds the range of each."""
    if key is not None:
        keyed = [table.c.keyed == 1] if "keyed" in table.c else []
        return statement.where(table.c.name == name, *keyed, table.c.key == key)
    joined = [table.c.keyed == event_keys.c.keyed] if "keyed" in table.c else [event_keys.c.keyed == 1]
    return statement.select_from(
        event_keys.join(table, and_(table.c.name == event_keys.c.name, *joined, table.c.key == event_keys.c.key))
    ).where(event_keys.c.name == name)


def _rows(
    statement: Question,
    name: str,
    key: str | None,
    other: FromClause | None = None,
    on: ColumnElement[bool] | None = None,
) -> Question:
    """The same of the events themselves, of those that have a key; beside another table if there is one."""
    source: FromClause = events
    if key is None:
        source = event_keys.join(
            events,
            and_(events.c.name == event_keys.c.name, event_keys.c.keyed == 1, events.c.key == event_keys.c.key),
        )
    if other is not None:
        source = source.join(other, true() if on is None else on)
    statement = statement.select_from(source)
    if key is None:
        return statement.where(event_keys.c.name == name)
    return statement.where(events.c.name == name, events.c.key == key)


def _within(column: ColumnElement[float] | ColumnElement[int], since: float, until: float) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if since > -math.inf:
        found.append(column >= since)
    if until < math.inf:
        found.append(column < until)
    return found


def _down(time: float, level: int) -> float:
    return time if math.isinf(time) else time // level * level


def _up(time: float, level: int) -> float:
    return time if math.isinf(time) else -(-time // level) * level
