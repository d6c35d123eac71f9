"""Summaries of events that cost the same for ten thousand as for ten million: counted buckets, and rows at the edges.

Whole buckets are taken from the coarsest level that fits; what is left of a range at either side, less than a second
each, is counted from the rows through an index.
"""

import math
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from sqlalchemy import Connection, TextClause, text

from outrider.schema import LocalError

from .records import Bucket, Summary
from .tables import LEVELS, indexed


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
        values = _values(parts) | {"name": name, "key": key, "since": _finite(low), "until": _finite(high)}
        shape = sum(piece.level > 0 for piece in parts), sum(piece.level == 0 for piece in parts), key is not None
        for keyed, of, count, earliest, latest in connection.execute(_statement(_COUNTED, *shape), values):
            if count:
                found[of if keyed else None] = int(count), earliest, latest
        for of, followup, count in connection.execute(_statement(_FOLLOWED, *shape), values):
            if count:
                followups.setdefault(of, {})[followup] = int(count)
    nothing = (0, None, None)
    result: list[Summary] = []
    for of in [key] if key is not None else sorted(found, key=lambda of: (of is not None, of or "")):
        count, earliest, latest = found.get(of, nothing)
        followed = dict(sorted(followups.get(of, {}).items()))
        result.append(Summary(name=name, key=of, count=count, earliest=earliest, latest=latest, followups=followed))
    return result


def bars(connection: Connection, name: str, key: str | None, since: float, until: float, step: float) -> list[Bucket]:
    """The buckets of a level that begin in the range, or contain its beginning; those without events are left out.

    :raises InvalidQuery: `step` is no level.
    """
    if step not in LEVELS:
        raise InvalidQuery(f"step must be one of {', '.join(map(str, LEVELS))} seconds, not {step:g}")
    if not since < until:
        return []
    values = {
        "name": indexed(name),
        "key": None if key is None else indexed(key),
        "level": int(step),
        "since": _whole(_down(since, int(step))),
        "until": _whole(_up(until, 1)),
    }
    buckets = [
        Bucket(key=of if keyed else None, time=float(start), count=count)
        for keyed, of, start, count in connection.execute(_statement(_BARS, 0, 0, key is not None), values)
    ]
    return sorted(buckets, key=lambda bar: (bar.key is not None, bar.key or "", bar.time))


# Written out, for expressions of this size take SQLAlchemy longer to build than a database to answer. CROSS JOIN tells
# SQLite the order: for each key, for each piece, the range of an index. {of_…} holds a table to the name and the key.
_COUNTED: Final = """
SELECT keyed, key, sum(count), min(earliest), max(latest) FROM (
    SELECT c.keyed, c.key, c.count, c.earliest, c.latest
    FROM {keys} ({buckets}) AS piece CROSS JOIN event_counts AS c
    WHERE {of_counts} AND c.level = piece.level AND c.bucket >= piece.low AND c.bucket < piece.high
    UNION ALL
    SELECT 1, e.key, count(*), min(e.time), max(e.time)
    FROM {keys} ({edges}) AS piece CROSS JOIN events AS e
    WHERE {of_events} AND e.time >= piece.low AND e.time < piece.high GROUP BY e.key
    {keyless}
) AS counted GROUP BY keyed, key
"""

_KEYLESS: Final = """
    UNION ALL
    SELECT 0, '', count(*), min(e.time), max(e.time)
    FROM ({edges}) AS piece CROSS JOIN events AS e
    WHERE e.name = :name AND e.key IS NULL AND e.time >= piece.low AND e.time < piece.high
"""

# What is in `reopened` counts by subject, once in the whole range, and is in none of the other two.
_FOLLOWED: Final = """
SELECT key, followup, sum(count) FROM (
    SELECT c.key, c.followup, c.count
    FROM {keys} ({buckets}) AS piece CROSS JOIN event_followups AS c
    WHERE {of_followups} AND c.level = piece.level AND c.bucket >= piece.low AND c.bucket < piece.high
    UNION ALL
    SELECT e.key, later.name, count(*)
    FROM {keys} ({edges}) AS piece CROSS JOIN events AS e CROSS JOIN events AS later
    WHERE {of_events} AND e.time >= piece.low AND e.time < piece.high
    AND e.subject IS NOT NULL AND later.subject = e.subject AND later.key IS NULL
    AND NOT EXISTS (SELECT 1 FROM reopened WHERE reopened.subject = e.subject)
    GROUP BY e.key, later.name
    UNION ALL
    SELECT opened.key, f.name, sum(f.count)
    FROM (
        SELECT DISTINCT r.key, r.subject FROM {keys} reopened AS r
        WHERE {of_reopened} AND r.time >= :since AND r.time < :until
    ) AS opened CROSS JOIN reopened_followups AS f
    WHERE f.subject = opened.subject GROUP BY opened.key, f.name
) AS followed GROUP BY key, followup
"""

_BARS: Final = """
SELECT c.keyed, c.key, c.bucket, c.count FROM {keys} event_counts AS c
WHERE {of_counts} AND c.level = :level AND c.bucket >= :since AND c.bucket < :until
"""

_ONE_KEY: Final = {
    "keys": "",
    "keyless": "",
    "of_counts": "c.name = :name AND c.keyed = 1 AND c.key = :key",
    "of_followups": "c.name = :name AND c.key = :key",
    "of_events": "e.name = :name AND e.key = :key",
    "of_reopened": "r.name = :name AND r.key = :key",
}
_EVERY_KEY: Final = {
    "keys": "event_keys AS k CROSS JOIN",
    "keyless": _KEYLESS,
    "of_counts": "k.name = :name AND c.name = k.name AND c.keyed = k.keyed AND c.key = k.key",
    "of_followups": "k.name = :name AND k.keyed = 1 AND c.name = k.name AND c.key = k.key",
    "of_events": "k.name = :name AND k.keyed = 1 AND e.name = k.name AND e.key = k.key",
    "of_reopened": "k.name = :name AND k.keyed = 1 AND r.name = k.name AND r.key = k.key",
}


@lru_cache
def _statement(template: str, buckets: int, edges: int, one_key: bool) -> TextClause:
    """A question about so many pieces; one that has none of a kind gets one that is empty."""
    places = {
        "buckets": _each("SELECT :level{0} AS level, :low{0} AS low, :high{0} AS high", buckets)
        or "SELECT 0 AS level, 0 AS low, 0 AS high",
        "edges": _each("SELECT :from{0} AS low, :to{0} AS high", edges) or "SELECT 0.0 AS low, 0.0 AS high",
    }
    fixed = _ONE_KEY if one_key else _EVERY_KEY
    return text(template.format(**places, **{name: part.format(**places) for name, part in fixed.items()}))


def _each(question: str, count: int) -> str:
    return " UNION ALL ".join(question.format(number) for number in range(count))


def _values(parts: list[Piece]) -> dict[str, str | float | int | None]:
    values: dict[str, str | float | int | None] = {}
    for number, piece in enumerate(piece for piece in parts if piece.level):
        values[f"level{number}"] = piece.level
        values[f"low{number}"] = _whole(piece.since)
        values[f"high{number}"] = _whole(piece.until)
    for number, piece in enumerate(piece for piece in parts if not piece.level):
        values[f"from{number}"] = _finite(piece.since)
        values[f"to{number}"] = _finite(piece.until)
    return values


def _whole(time: float) -> int:
    """A bucket's beginning as its column holds it."""
    return int(min(max(time, -_LAST), _LAST))


def _finite(time: float) -> float:
    return float(min(max(time, -_LAST), _LAST))


_LAST: Final = 2.0**62


def _down(time: float, level: int) -> float:
    return time if math.isinf(time) else time // level * level


def _up(time: float, level: int) -> float:
    return time if math.isinf(time) else -(-time // level) * level
