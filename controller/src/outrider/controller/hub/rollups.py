"""What new events change in the counts that summaries are made of. Pure: what the store knew of them is passed in."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import floor
from typing import Final, NamedTuple, cast

from .tables import LEVELS

Fact = tuple[str, str | None, str | None, float]
"""What counts of an event: name, key, subject and time, as the tables hold them."""

Opening = tuple[str, str, str, float]
"""The same of an event that has a key and a subject: it opened the subject."""


class Batch(NamedTuple):
    """The events of a batch, sorted out.

    :ivar times: of all of them, by name and key.
    :ivar opened: what opened each subject, first; `again`: what opened it after that.
    :ivar followed: how many follow-ups of each name a subject has.
    """

    times: Mapping[tuple[str, str | None], list[float]]
    opened: Mapping[str, Opening]
    again: Mapping[str, Sequence[Opening]]
    followed: Mapping[str, Mapping[str, int]]


class Known(NamedTuple):
    """What the store had of the subjects in a batch, before it.

    :ivar reopened: those that had been opened more than once.
    :ivar openings: of each other one that had been opened, by which event.
    :ivar followups: of those which this batch opens, except the reopened ones: how many follow-ups of each name.
    """

    reopened: Collection[str] = frozenset()
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


Links = defaultdict[tuple[str, str, int, str], int]
"""Follow-ups by name and key of what they follow up, its second, and their own name."""


class Deltas(NamedTuple):
    """What is to be added to the tables; counts of follow-ups may be negative."""

    counts: dict[CountKey, Count]
    followups: dict[FollowupKey, int]
    reopened: list[Opening]
    reopened_followups: dict[tuple[str, str], int]


def sort_out(new: Iterable[Fact]) -> Batch:
    """A batch by what is counted of it, in one pass."""
    times: defaultdict[tuple[str, str | None], list[float]] = defaultdict(list)
    opened: dict[str, Opening] = {}
    again: dict[str, list[Opening]] = {}
    followed: dict[str, dict[str, int]] = {}
    for fact in new:
        name, key, subject, time = fact
        times[name, key].append(time)
        if subject is None:
            continue
        if key is None:
            found = followed.get(subject)
            if found is None:
                followed[subject] = {name: 1}
            else:
                found[name] = found.get(name, 0) + 1
        elif subject in opened:
            again.setdefault(subject, []).append(cast("Opening", fact))
        else:
            opened[subject] = cast("Opening", fact)
    return Batch(times, opened, again, followed)


def deltas(batch: Batch, known: Known) -> Deltas:
    """What a batch changes, of whose events none is stored yet."""
    links: Links = defaultdict(int)
    reopened: list[Opening] = []
    more: defaultdict[tuple[str, str], int] = defaultdict(int)
    # Most subjects are opened once and come for the first time: their follow-ups are only counted.
    told = batch.opened.keys() & {*batch.again, *known.reopened, *known.openings, *known.followups}
    for subject in told:
        openings = [batch.opened[subject], *batch.again.get(subject, ())]
        coming = batch.followed.get(subject, _NONE)
        had = known.followups.get(subject, _NONE)
        before = known.openings.get(subject)
        if subject in known.reopened:
            reopened += openings
            _add(more, subject, coming)
        elif before is None and len(openings) == 1:
            _link(links, openings[0], had, 1)
            _link(links, openings[0], coming, 1)
        else:
            if before is not None:
                _link(links, before, had, -1)
                reopened.append(before)
            reopened += openings
            _add(more, subject, had)
            _add(more, subject, coming)
    for subject, coming in batch.followed.items():
        if subject in told:
            continue
        opening = batch.opened.get(subject) or known.openings.get(subject)
        if opening is not None:
            _link(links, opening, coming, 1)
        elif subject in known.reopened:
            _add(more, subject, coming)
    return Deltas(counts(batch.times), _in_levels(links), reopened, dict(more))


def counts(times: Mapping[tuple[str, str | None], Iterable[float]]) -> dict[CountKey, Count]:
    """How many events each bucket of each level gets. The finest is counted, the others are made of it."""
    finest: dict[tuple[str, str | None, int], Count] = {}
    for (name, key), some in times.items():
        ordered = sorted(some)
        first = 0
        for second, events in Counter(map(floor, ordered)).items():
            finest[name, key, second] = Count(events, ordered[first], ordered[first + events - 1])
            first += events
    result: dict[CountKey, Count] = {}
    for level in LEVELS:
        coarser: dict[tuple[str, str | None, int], Count] = {}
        for (name, key, second), count in finest.items():
            bucket = (name, key, second // level * level)
            found = coarser.get(bucket)
            coarser[bucket] = (
                count
                if found is None
                else Count(
                    found.events + count.events, min(found.earliest, count.earliest), max(found.latest, count.latest)
                )
            )
        for (name, key, start), count in coarser.items():
            result[name, key, level, start] = count
        finest = coarser
    return result


_NONE: Final[Mapping[str, int]] = {}


def _link(into: Links, opening: Opening, followups: Mapping[str, int], sign: int) -> None:
    name, key, _, time = opening
    for followup, count in followups.items():
        into[name, key, floor(time), followup] += sign * count


def _in_levels(links: Mapping[tuple[str, str, int, str], int]) -> dict[FollowupKey, int]:
    """The same for the buckets of each level."""
    result: dict[FollowupKey, int] = {}
    for level in LEVELS:
        coarser: Links = defaultdict(int)
        for (name, key, second, followup), count in links.items():
            coarser[name, key, second // level * level, followup] += count
        for (name, key, start, followup), count in coarser.items():
            if count:
                result[name, key, level, start, followup] = count
        links = coarser
    return result


def _add(into: defaultdict[tuple[str, str], int], subject: str, followups: Mapping[str, int]) -> None:
    for name, count in followups.items():
        into[subject, name] += count
