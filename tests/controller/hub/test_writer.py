"""The writer between its callers and a store: order, batches, a database that is away, records that none takes."""

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from outrider.controller.hub.records import CommandQuery, CommandRecord, Record
from outrider.controller.hub.store import Store, StoreUnavailable
from outrider.controller.hub.writer import Writer
from outrider.schema import LocalError, QueueFull
from tests.processes import until

LIMIT = 10.0
SHORT = (0.01, 0.02)


def command(number: int) -> CommandRecord:
    return CommandRecord(id=str(number), command="ping", device="lamp-1", received=float(number))


class Scripted:
    """A store in memory that is away, or finds records that it cannot take, as the test says."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.attempts = 0
        self.away = False
        self.poison: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    @property
    def ids(self) -> list[str]:
        return [id for batch in self.batches for id in batch]

    def write(self, batch: Sequence[Record]) -> int:
        self.attempts += 1
        assert self.gate.wait(LIMIT)
        if self.away:
            raise StoreUnavailable("the database is away")
        commands = [record for record in batch if isinstance(record, CommandRecord)]
        if bad := [each.id for each in commands if each.id in self.poison]:
            raise ValueError(f"{bad} cannot be written")
        known = set(self.ids)
        new = [each.id for each in commands if each.id not in known]
        self.batches.append(new)
        return len(new)


async def test_records_are_in_the_database_when_the_future_is_done(tmp_path: Path) -> None:
    told: list[Record] = []
    with Store.open(f"sqlite:///{tmp_path}/hub.sqlite") as store:
        async with Writer(store, recorded=told.extend) as writer, asyncio.timeout(LIMIT):
            await writer.put([command(1), command(2)])
            assert [each.id for each in store.commands(CommandQuery()).items] == ["2", "1"]
            await writer.put([command(2), command(3)])
            assert (writer.written, writer.repeats, writer.refused, writer.waiting) == (3, 1, 0, 0)
            assert told == [command(1), command(2), command(2), command(3)]


async def test_what_waits_is_written_together_and_in_order() -> None:
    store = Scripted()
    store.gate.clear()
    async with Writer(store, batch=100) as writer:
        first = writer.put([command(0)])
        await until(lambda: store.attempts == 1, LIMIT)
        rest = [writer.put([command(number), command(number + 1)]) for number in range(1, 241, 2)]
        store.gate.set()
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(first, *rest)
    assert store.ids == [str(number) for number in range(241)]
    assert [len(batch) for batch in store.batches] == [1, 100, 100, 40]


async def test_database_that_is_away_is_tried_again_and_nothing_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    store = Scripted()
    store.away = True
    async with Writer(store, pauses=SHORT) as writer:
        first = writer.put([command(1)])
        await until(lambda: writer.failures >= 3, LIMIT)
        second = writer.put([command(2)])
        assert writer.error == writer.last_error == "the database is away"
        assert writer.waiting == 2
        assert not first.done()
        store.away = False
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(first, second)
        assert writer.error is None
        assert writer.last_error == "the database is away"
        assert "the database takes records again" in caplog.text
    assert store.ids == ["1", "2"]
    assert caplog.text.count("the database is away") == 1


async def test_locked_sqlite_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outrider.controller.hub.database.PATIENCE", 0.05)
    file = tmp_path / "hub.sqlite"
    with Store.open(f"sqlite:///{file}") as store:
        async with Writer(store, pauses=SHORT) as writer:
            blocker = sqlite3.connect(file, isolation_level=None)
            blocker.execute("BEGIN IMMEDIATE")
            written = [writer.put([command(number)]) for number in range(50)]
            await until(lambda: writer.failures >= 2, LIMIT)
            assert "locked" in (writer.error or "")
            blocker.execute("ROLLBACK")
            blocker.close()
            async with asyncio.timeout(LIMIT):
                await asyncio.gather(*written)
        assert len(store.commands(CommandQuery()).items) == 50


async def test_queue_is_bounded() -> None:
    store = Scripted()
    store.away = True
    async with Writer(store, most=10, pauses=SHORT) as writer:
        taken = [writer.put([command(number)]) for number in range(10)]
        assert writer.full
        with pytest.raises(QueueFull, match="10 records wait"):
            writer.put([command(11)])
        store.away = False
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*taken)
        assert not writer.full
        await writer.put([command(11)])
    assert store.ids == [str(number) for number in (*range(10), 11)]


async def test_record_that_no_database_takes_is_left_out_and_the_others_are_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Scripted()
    store.poison = {"7", "30"}
    store.gate.clear()
    async with Writer(store, pauses=SHORT) as writer:
        written = [writer.put([command(number)]) for number in range(100)]
        store.gate.set()
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*written)
        assert (writer.written, writer.refused) == (98, 2)
        assert writer.error is None
    assert set(store.ids) == {str(number) for number in range(100)} - store.poison
    assert "CommandRecord(seq=0, id='7'" in caplog.text


async def test_database_that_takes_nothing_at_all_is_waited_for() -> None:
    store = Scripted()
    store.poison = {"1", "2"}
    async with Writer(store, pauses=SHORT) as writer:
        written = writer.put([command(1), command(2)])
        await until(lambda: writer.failures >= 3, LIMIT)
        assert not written.done()
        assert writer.refused == 0
        other = writer.put([command(3)])  # shows that it is the records
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(written, other)
        assert (writer.written, writer.refused) == (1, 2)


async def test_end_writes_what_waits() -> None:
    store = Scripted()
    store.away = True
    async with Writer(store, pauses=(0.01, 60.0)) as writer:
        written = [writer.put([command(number)]) for number in range(20)]
        await until(lambda: writer.failures >= 3, LIMIT)
        store.away = False
    assert all(each.done() and not each.cancelled() for each in written)
    assert store.ids == [str(number) for number in range(20)]
    with pytest.raises(LocalError, match="ended"):
        writer.put([command(1)])


async def test_end_gives_up_after_its_time_and_says_that_it_was_not_written(caplog: pytest.LogCaptureFixture) -> None:
    store = Scripted()
    store.away = True
    async with asyncio.timeout(LIMIT), Writer(store, pauses=SHORT, closing=0.2) as writer:
        written = writer.put([command(1)])
    assert written.cancelled()
    assert "1 records were not written: the database is away" in caplog.text


async def test_failing_listener_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    store = Scripted()

    def fail(_: Sequence[Record]) -> None:
        raise ValueError("no ear")

    async with Writer(store, recorded=fail) as writer, asyncio.timeout(LIMIT):
        await writer.put([command(1)])
        await writer.put([command(2)])
    assert "no ear" in caplog.text
    assert store.ids == ["1", "2"]
