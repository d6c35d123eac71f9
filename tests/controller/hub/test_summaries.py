import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.controller.hub.records import Bucket, EventRecord, Summary
from outrider.controller.hub.store import InvalidQuery, Store
from outrider.controller.hub.summaries import pieces
from outrider.controller.hub.tables import LEVELS
from tests.controller.hub.made import event, fresh

DAY = 86400.0
EDGES = sorted(
    {
        edge + part
        for edge in (0.0, 1.0, 59.0, 60.0, 3599.0, 3600.0, 3660.0, DAY - 1, DAY, DAY + 60, 2 * DAY, 3 * DAY + 3600)
        for part in (0.0, 0.25, 0.5, 1.0)
    }
)
TIMES = st.sampled_from(EDGES)
ENDS = st.one_of(st.none(), TIMES, st.floats(0, 4 * DAY))
FACTS = st.tuples(
    st.integers(0, 30),  # the id: some come again, also with another content
    st.sampled_from(("lamp-1", "lamp-2")),
    st.sampled_from(("a", "b")),
    st.sampled_from((None, "e", "f", "")),
    st.sampled_from((None, "s", "t", "u")),
    TIMES,
)
BATCHES = st.lists(st.lists(FACTS, max_size=12), max_size=6)


def naive(events: Sequence[EventRecord], name: str, since: float | None, until: float | None) -> list[Summary]:
    """What a summary without a key says, by looking at every row."""
    low, high = -math.inf if since is None else since, math.inf if until is None else until
    meant = [each for each in events if each.name == name and low <= each.time < high]
    found: list[Summary] = []
    for key in sorted({each.key for each in meant}, key=lambda key: (key is not None, key or "")):
        some = [each for each in meant if each.key == key]
        subjects = {each.subject for each in some if key is not None and each.subject is not None}
        followups = Counter(each.name for each in events if each.key is None and each.subject in subjects)
        times = [each.time for each in some]
        found.append(
            Summary(
                name=name,
                key=key,
                count=len(some),
                earliest=min(times),
                latest=max(times),
                followups=dict(sorted(followups.items())),
            )
        )
    return found


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(batches=BATCHES, ranges=st.lists(st.tuples(ENDS, ENDS), min_size=1, max_size=3))
def test_summary_of_any_range_is_what_the_rows_say(
    shared: Store,
    batches: list[list[tuple[int, str, str, str | None, str | None, float]]],
    ranges: list[tuple[float | None, float | None]],
) -> None:
    own = fresh()
    kept: dict[tuple[str, str], EventRecord] = {}
    for batch in batches:
        events = [
            event(
                f"{own}-{name}",
                time,
                id=str(number),
                device=f"{own}-{device}",
                key=key,
                subject=None if subject is None else f"{own}-{subject}",
            )
            for number, device, name, key, subject, time in batch
        ]
        before = len(kept)
        for each in events:
            kept.setdefault((each.device, each.id), each)
        assert shared.write(events) == len(kept) - before
    rows = list(kept.values())
    for since, until in [(None, None), *ranges]:
        for name in (f"{own}-a", f"{own}-b"):
            expected = naive(rows, name, since, until)
            assert shared.summary(name, since=since, until=until) == expected
            by_key = {summary.key: summary for summary in expected}
            for key in ("e", "f", ""):
                nothing = Summary(name=name, key=key, count=0, earliest=None, latest=None, followups={})
                assert shared.summary(name, key=key, since=since, until=until) == [by_key.get(key, nothing)]
    for step in LEVELS:
        bars = Counter((each.key, each.time // step * step) for each in rows if each.name == f"{own}-a")
        assert shared.series(f"{own}-a", since=0.0, until=5 * DAY, step=step) == [
            Bucket(key=key, time=start, count=bars[key, start])
            for key, start in sorted(bars, key=lambda bar: (bar[0] is not None, bar[0] or "", bar[1]))
        ]


@given(since=st.floats(0, 4 * DAY) | TIMES, length=st.floats(0, 4 * DAY) | TIMES)
def test_pieces_of_a_range_are_whole_buckets_that_cover_it_once(since: float, length: float) -> None:
    until = since + length
    found = sorted(pieces(since, until), key=lambda piece: piece.since)
    if since >= until:
        assert found == []
        return
    assert found[0].since == since
    assert found[-1].until == until
    assert all(one.until == other.since for one, other in pairwise(found))
    for piece in found:
        if piece.level:
            assert piece.since % piece.level == piece.until % piece.level == 0
        else:
            assert piece.until - piece.since <= 1 or len(found) == 1


def test_followup_that_came_before_what_it_follows_is_counted(store: Store) -> None:
    store.write([event("ack", 5.0, subject="s")])
    store.write([event("initial", 7.5, key="e", subject="s")])
    assert store.summary("initial", key="e")[0].followups == {"ack": 1}


def test_followup_counts_in_the_range_of_its_opening_whenever_it_came(store: Store) -> None:
    store.write([event("initial", 10.0, key="e", subject="s"), event("ack", 10 * DAY, subject="s")])
    assert store.summary("initial", key="e", since=0, until=20)[0].followups == {"ack": 1}
    assert store.summary("initial", key="e", since=20)[0].followups == {}


def test_subject_opened_on_three_days_counts_its_followups_once(store: Store) -> None:
    store.write([event("initial", 10.0, key="e", subject="s"), event("ack", 11.0, subject="s")])
    store.write([event("initial", DAY + 0.5, key="e", subject="s")])
    store.write([event("initial", 2 * DAY + 0.5, key="e", subject="s"), event("ack", 1.0, subject="s")])
    assert store.summary("initial", key="e")[0].followups == {"ack": 2}
    assert store.summary("initial", key="e", since=DAY)[0].followups == {"ack": 2}
    assert store.summary("initial", key="e", since=3 * DAY)[0].followups == {}


def test_subject_opened_by_two_keys_counts_for_both(store: Store) -> None:
    store.write([event("initial", 1.0, key="e", subject="s"), event("initial", 2.0, key="f", subject="s")])
    store.write([event("ack", 3.0, subject="s")])
    assert [summary.followups for summary in store.summary("initial")] == [{"ack": 1}, {"ack": 1}]


def test_key_that_was_never_seen_has_an_empty_summary(store: Store) -> None:
    assert store.summary("initial", key="e") == [
        Summary(name="initial", key="e", count=0, earliest=None, latest=None, followups={})
    ]
    assert store.summary("initial") == []


def test_range_that_ends_before_it_begins_is_empty(store: Store) -> None:
    store.write([event(time=5.0, key="e")])
    assert store.summary("initial", since=6, until=4) == []
    assert store.series("initial", since=6, until=4, step=1) == []


def test_series_begins_with_the_bucket_that_holds_since(store: Store) -> None:
    store.write([event(time=time, key="e") for time in (59.0, 60.0, 61.0, 121.0)])
    assert store.series("initial", since=70, until=120, step=60) == [Bucket(key="e", time=60.0, count=2)]


def test_step_that_is_no_level_is_refused(store: Store) -> None:
    with pytest.raises(InvalidQuery, match="one of 1, 10, 60, 600, 3600, 86400 seconds, not 5"):
        store.series("initial", since=0, until=1, step=5)


def test_names_are_those_that_events_came_with(store: Store) -> None:
    store.write([event("b"), event("a", key="e"), event("b", key="f")])
    assert store.names() == ["a", "b"]
