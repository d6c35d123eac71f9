"""What new events change in the counts that summaries are made of. Pure: what the store knew of them is passed in."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .tables import LEVELS


class Fact(NamedTuple):
    """What counts of an event. Names and texts are as the tables hold them."""

    name: str
    key: str | None
    subject: str | None
    time: float


class Opening(NamedTuple):
    """An event that opened a subject."""

    subject: str
    name: str
    key: str
    time: float


class Known(NamedTuple):
    """What the store had of the subjects in a batch, before it.

    :ivar reopened: those that had been opened more than once.
    :ivar openings: of each other one that had been opened, by which event.
    :ivar followups: of those which this batch opens, except the reopened ones: how many follow-ups of each name.
    """

    reopened: frozenset[str] = frozenset()
    openings: Mapping[str, Opening] = {}
    followups: Mapping[str, Mapping[str, int]] = {}


class Count(NamedTuple):
    """A change of `event_counts`, except for its level."""

    events: int
    earliest: float
    latest: float


CountKey = tuple[str, str | None, int, int]
"""Name, key, level and bucket."""

FollowupKey = tuple[str, str, int, int, str]
"""Name and key of what was followed up, level and bucket of its time, name of the follow-up."""


class Deltas(NamedTuple):
    """What is to be added to the tables; counts of follow-ups may be negative."""

    counts: dict[CountKey, Count]
    followups: dict[FollowupKey, int]
    reopened: list[Opening]
    reopened_followups: dict[tuple[str, str], int]


def deltas(new: Sequence[Fact], known: Known) -> Deltas:
    """What the events in `new`, none of which is stored yet, change."""
    followups: Counter[FollowupKey] = Counter()
    more: Counter[tuple[str, str]] = Counter()
    reopened: list[Opening] = []
    opened, followed = _by_subject(new)
    for subject in opened.keys() | followed.keys():
        openings = opened.get(subject, [])
        coming = followed.get(subject, Counter())
        if subject in known.reopened:
            reopened += openings
            _add(more, subject, coming)
            continue
        before = known.openings.get(subject)
        had = known.followups.get(subject, {})
        every = openings if before is None else [before, *openings]
        if len(every) > 1:
            if before is not None:
                _count(followups, before, had, -1)
            reopened += every
            _add(more, subject, had)
            _add(more, subject, coming)
        elif every:
            if before is None:
                _count(followups, every[0], had, 1)
            _count(followups, every[0], coming, 1)
    return Deltas(counts(new), {key: count for key, count in followups.items() if count}, reopened, dict(more))


def counts(new: Iterable[Fact]) -> dict[CountKey, Count]:
    """How many events each bucket of each level gets. The finest is counted, the others are made of it."""
    finest: dict[tuple[str, str | None, int], list[float]] = {}
    for name, key, _, time in new:
        bucket = (name, key, int(time // 1))
        found = finest.get(bucket)
        if found is None:
            finest[bucket] = [1, time, time]
        else:
            found[0] += 1
            if time < found[1]:
                found[1] = time
            elif time > found[2]:
                found[2] = time
    result: dict[CountKey, Count] = {}
    for level in LEVELS:
        coarser: dict[tuple[str, str | None, int], list[float]] = {}
        for (name, key, second), (count, earliest, latest) in finest.items():
            bucket = (name, key, second // level * level)
            found = coarser.get(bucket)
            if found is None:
                coarser[bucket] = [count, earliest, latest]
            else:
                found[0] += count
                found[1] = min(found[1], earliest)
                found[2] = max(found[2], latest)
        for (name, key, start), (count, earliest, latest) in coarser.items():
            result[name, key, level, start] = Count(int(count), earliest, latest)
        finest = coarser
    return result


def _by_subject(new: Iterable[Fact]) -> tuple[dict[str, list[Opening]], dict[str, Counter[str]]]:
    opened: dict[str, list[Opening]] = {}
    followed: dict[str, Counter[str]] = {}
    for name, key, subject, time in new:
        if subject is None:
            continue
        if key is None:
            found = followed.get(subject)
            if found is None:
                found = followed[subject] = Counter()
            found[name] += 1
        else:
            opened.setdefault(subject, []).append(Opening(subject, name, key, time))
    return opened, followed


def _count(into: Counter[FollowupKey], opening: Opening, followups: Mapping[str, int], sign: int) -> None:
    for followup, count in followups.items():
        for level in LEVELS:
            bucket = int(opening.time // 1) // level * level
            into[opening.name, opening.key, level, bucket, followup] += sign * count


def _add(into: Counter[tuple[str, str]], subject: str, followups: Mapping[str, int]) -> None:
    for name, count in followups.items():
        into[subject, name] += count
