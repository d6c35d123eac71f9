from contextlib import AbstractContextManager

import pytest
from sqlalchemy import Connection, func, select

from outrider.controller.hub import retention
from outrider.controller.hub.database import Database, StoreUnavailable
from outrider.controller.hub.records import CommandQuery, EventQuery, ResultQuery, Summary
from outrider.controller.hub.retention import Age
from outrider.controller.hub.store import Store
from outrider.controller.hub.tables import event_counts
from tests.controller.hub.made import command, event, progress, result, state

HOUR = 3600.0


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few records take several transactions, as many do."""
    monkeypatch.setattr(retention, "AT_ONCE", 10)


def test_rows_received_before_leave_whatever_their_kind(store: Store) -> None:
    for received in (1.0, 9.0):
        store.write([event(received=received) for _ in range(35)])
        store.write([command(f"c{received:g}", device="lamp-1", received=received), result(received=received)])
    store.write([progress(), state()])
    assert store.prune(older_than=5.0) == 39
    assert len(store.events(EventQuery()).items) == 35
    assert [each.id for each in store.commands(CommandQuery()).items] == ["c9"]
    assert store.results(ResultQuery()).items == []


def test_rows_of_a_clock_that_was_ahead_do_not_keep_those_behind_them(store: Store) -> None:
    ahead = 1e9
    store.write([event(received=ahead) for _ in range(25)])
    store.write([event(received=1.0) for _ in range(25)])
    store.write([event(received=9.0) for _ in range(25)])
    store.write([event(received=1.0)])  # behind young ones: it is left until these are old
    assert store.prune(older_than=5.0, now=10.0) == 25
    assert len(store.events(EventQuery()).items) == 51
    assert store.prune(older_than=ahead + 1.0, now=ahead + 2.0) == 51


def test_counts_stay_when_their_rows_leave(store: Store) -> None:
    store.write([event(time=time, key="e", subject=f"s{time}", received=1.0) for time in (1.5, 2.5, HOUR)])
    store.write([event("ack", subject="s1.5", time=9.0, received=1.0)])
    whole = store.summary("initial", key="e", since=0, until=HOUR)
    assert store.prune(older_than=5.0) == 4
    assert store.summary("initial", key="e", since=0, until=HOUR) == whole
    assert whole[0].count == 2
    assert whole[0].followups == {"ack": 1}


def test_counts_leave_at_their_own_age(store: Store) -> None:
    store.write([event(time=time, key=key, received=1.0) for time in (1.5, 90000.0) for key in ("e", None)])
    store.write([event("old", 1.0, key="e", subject="s", received=1.0), event("ack", 2.0, subject="s", received=1.0)])
    store.write([event("old", 3.0, key="e", subject="s", received=1.0)])
    store.prune(older_than=200_000.0, counts_older_than=86400.0)
    assert store.names() == ["initial"]
    assert [summary.count for summary in store.summary("initial")] == [1, 1]
    assert store.summary("old", key="e") == [
        Summary(name="old", key="e", count=0, earliest=None, latest=None, followups={})
    ]


def test_counts_are_not_removed_before_their_rows(store: Store) -> None:
    store.write([event(time=1.0, key="e", received=1.0), event(time=200_000.0, key="e", received=200_000.0)])
    store.prune(older_than=0.5, counts_older_than=86400.0)
    assert store.summary("initial", key="e")[0].count == 2


def test_store_over_its_size_loses_the_oldest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 200)
    store.write([command(device="lamp-1")])
    for _ in range(5):
        store.write([event(subject="s" * 100, key="e") for _ in range(500)])
    held = store._database  # pyright: ignore[reportPrivateUsage]
    before = retention.size(held)
    left = store.prune(larger_than=before * 2 // 3)
    assert retention.size(held) <= before * 2 // 3
    assert store.commands(CommandQuery()).items == []
    kept = store.events(EventQuery(limit=3000)).items
    assert 0 < len(kept) == 2501 - left
    assert [each.seq for each in kept] == [*range(2501, 2501 - len(kept), -1)]
    assert store.prune(larger_than=before) == 0


def test_counts_leave_with_the_rows_of_a_store_over_its_size(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 200)
    for day in range(5):
        at = day * 86_400.0
        store.write([event(time=at + number, key="e", received=at + number) for number in range(1000)])
    held = store._database  # pyright: ignore[reportPrivateUsage]
    with held.reading() as connection:
        counted = connection.scalar(select(func.count()).select_from(event_counts))
    store.prune(larger_than=retention.size(held) * 2 // 3)
    with held.reading() as connection:
        assert (connection.scalar(select(func.count()).select_from(event_counts)) or 0) < (counted or 0) * 3 // 4
    kept = store.events(EventQuery(limit=5000)).items
    first = min(each.time for each in kept)
    assert 0 < len(kept) < 5000
    assert store.summary("initial", key="e", since=first)[0].count == len(kept)


def test_pruning_ends_when_the_store_is_closed(url: str) -> None:
    store = Store.open(url)
    store.write([command(f"c{number}", device="lamp-1", received=1.0) for number in range(50)])
    steps = iter(range(3))
    writing = Database.writing

    def closing(database: Database) -> AbstractContextManager[Connection]:
        if next(steps) == 2:
            store.close()
        return writing(database)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "writing", closing)
        with pytest.raises(StoreUnavailable, match="it was closed"):
            store.prune(older_than=5.0, now=9.0)
    with Store.open(url) as again:
        assert len(again.commands(CommandQuery()).items) == 30


def test_age_is_not_judged_by_a_clock_that_has_just_jumped() -> None:
    age = Age(100.0)
    assert age.before(1000.0, running=5.0) == 900.0
    assert age.before(1601.0, running=605.0) == 1501.0
    assert age.before(9e8, running=1205.0) is None
    assert age.before(9e8 + 600.0, running=1805.0) == 9e8 + 500.0
    assert age.before(2200.0, running=2405.0) is None
    assert age.before(2800.0, running=3005.0) == 2700.0


def test_file_shrinks_when_rows_leave(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("shrinks") / "hub.sqlite"
    with Store.open(f"sqlite:///{file}") as store:
        store.write([event(subject="s" * 100, received=1.0) for _ in range(5000)])
        store.prune(larger_than=2**40)
        store.prune(older_than=0.5)
        store.write([event(received=9.0)])
        with store._database.alone() as connection:  # pyright: ignore[reportPrivateUsage]
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
        before = file.stat().st_size
        store.prune(older_than=5.0)
        assert file.stat().st_size < before / 3


def test_size_that_cannot_be_reached_leaves_no_rows_and_ends(store: Store) -> None:
    store.write([event(key="e") for _ in range(30)])
    assert store.prune(larger_than=1) == 30
    assert store.summary("initial")[0].count == 30
