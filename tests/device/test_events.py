import asyncio
import contextlib
import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from outrider.controller import Fleet
from outrider.controller.broker import BrokerProcess
from outrider.device import Device, Job, JournalFile, ManualClock, MemoryJournal, SqliteJournal
from outrider.device import events as device_events
from outrider.schema import (
    EventsFull,
    InvalidEvent,
    InvalidName,
    JournalError,
    MessageTooLarge,
    NotServed,
    PublishRefused,
    Topics,
)
from outrider.schema.codec import EVENT
from tests.brokers import BrokerUnderTest
from tests.peers import Connect, Peer
from tests.processes import until

LIMIT = 20.0
NOBODY = "mqtt://127.0.0.1:1"
"""Where no broker is."""


Hear = Callable[[str], Awaitable[Peer]]
"""What the `hear` fixture gives."""


class Reading(Struct):
    celsius: float
    rooms: list[str]


@contextlib.asynccontextmanager
async def serving(
    device: Device, address: str, prefix: str = "", clock: Callable[[], float] = time.time
) -> AsyncGenerator[None]:
    """The device, served until the end of the block."""
    served = asyncio.create_task(device.serve(address, prefix=prefix, clock=clock))
    await asyncio.sleep(0)
    try:
        yield
    finally:
        device.stop()
        await asyncio.wait_for(served, LIMIT)


@pytest.fixture
def hear(prefix: str, connect: Connect) -> Hear:
    """Connect a peer that hears the events of all devices under the prefix."""

    async def listening(address: str) -> Peer:
        peer = await connect(Peer(address))
        await peer.subscribe(f"{prefix}/devices/+/event/#")
        return peer

    return listening


def heard(peer: Peer) -> list[str]:
    return [message.json()["id"] for message in peer.messages]


# What goes out


async def test_event_is_published_once_committed(broker: BrokerUnderTest, prefix: str, hear: Hear) -> None:
    lamp, clock = Device("lamp-1"), ManualClock(1_700_000_000.5)
    peer = await hear(broker.address)
    subject = uuid.uuid4()
    async with serving(lamp, broker.address, prefix, clock=clock):
        id = await lamp.emit("initial", key="e", subject=subject, reading=Reading(21.5, ["a"]), name="x")
        message = await peer.wait_for_topic(f"{prefix}/devices/lamp-1/event/initial")
    assert not message.retain
    assert message.qos == 1
    assert message.json() == {
        "id": id,
        "device": "lamp-1",
        "name": "initial",
        "key": "e",
        "subject": str(subject),
        "time": 1_700_000_000.5,
        "data": {"reading": {"celsius": 21.5, "rooms": ["a"]}, "name": "x"},
    }
    EVENT.decode(message.payload)


async def test_event_without_facts_leaves_out_what_says_nothing(
    broker: BrokerUnderTest, prefix: str, hear: Hear
) -> None:
    lamp = Device("lamp-1")
    peer = await hear(broker.address)
    async with serving(lamp, broker.address, prefix):
        await lamp.emit("begun")
        message = await peer.wait_for_topic(f"{prefix}/devices/lamp-1/event/begun")
    assert message.json().keys() == {"id", "device", "name", "time"}


async def test_commands_emit_from_the_loop_and_from_threads(broker: BrokerUnderTest, prefix: str, hear: Hear) -> None:
    lamp = Device("lamp-1", initial="ready")

    @lamp.command
    async def in_loop(job: Job) -> str:
        return await job.emit("told", key="loop")

    @lamp.command
    def in_thread(job: Job) -> list[str]:
        return [job.emit_blocking("told", key="thread"), lamp.emit_blocking("told", key="thread")]

    peer = await hear(broker.address)
    async with (
        serving(lamp, broker.address, prefix),
        Fleet(broker.address, requester="ann", prefix=prefix) as fleet,
    ):
        ids = [
            await fleet.call("lamp-1", "in_loop", type=str),
            *await fleet.call("lamp-1", "in_thread", type=list[str]),
        ]
        await peer.wait_for_count(3)
        stats = await fleet.call("lamp-1", "stats", type=dict[str, object])
    assert heard(peer) == ids
    assert len(set(ids)) == 3
    assert [message.json()["key"] for message in peer.messages] == ["loop", "thread", "thread"]
    assert (stats["events_waiting"], stats["events_sent"]) == (0, 3)


async def test_event_of_another_event_loop_is_taken(broker: BrokerUnderTest, prefix: str, hear: Hear) -> None:
    lamp = Device("lamp-1")
    peer = await hear(broker.address)
    async with serving(lamp, broker.address, prefix):
        id = await asyncio.to_thread(lambda: asyncio.run(lamp.emit("told")))
        await peer.wait_for_count(1)
    assert heard(peer) == [id]


async def test_blocking_form_in_the_event_loop_is_refused() -> None:
    lamp = Device("lamp-1")
    async with serving(lamp, NOBODY):
        with pytest.raises(RuntimeError, match="await emit instead"):
            lamp.emit_blocking("told")


# Together, and in order


async def test_events_emitted_together_share_a_commit_and_keep_their_order(
    broker: BrokerUnderTest, prefix: str, hear: Hear, tmp_path: Path
) -> None:
    peer = await hear(broker.address)
    with contextlib.closing(JournalFile(tmp_path / "lamp-1.sqlite")) as file:
        lamp = Device("lamp-1", journal=SqliteJournal(file, "lamp-1"))
        async with serving(lamp, broker.address, prefix):
            statements: list[str] = []
            file.connection.set_trace_callback(statements.append)
            ids = await asyncio.gather(*(lamp.emit("told", number=number) for number in range(1000)))
            await peer.wait_for_count(1000, LIMIT)
            file.connection.set_trace_callback(None)
    inserts = [number for number, each in enumerate(statements) if each.startswith("INSERT INTO events")]
    assert len(inserts) == 1000
    assert "COMMIT" not in statements[inserts[0] : inserts[-1]]
    assert heard(peer) == ids


async def test_threads_emit_at_the_same_time_without_loss(broker: BrokerUnderTest, prefix: str, hear: Hear) -> None:
    lamp = Device("lamp-1")
    peer = await hear(broker.address)
    ids: list[str] = []

    def tell() -> None:
        ids.extend(lamp.emit_blocking("told") for _ in range(50))

    async with serving(lamp, broker.address, prefix):
        await asyncio.gather(*(asyncio.to_thread(tell) for _ in range(4)))
        await peer.wait_for_count(200, LIMIT)
    assert sorted(heard(peer)) == sorted(ids)
    assert len(set(ids)) == 200


# Kept until the broker has it


@pytest.mark.parametrize("kind", ["file", "memory"])
async def test_event_emitted_while_the_broker_is_away_is_sent_by_the_next_life(
    broker: BrokerUnderTest, prefix: str, hear: Hear, tmp_path: Path, kind: str
) -> None:
    journal = MemoryJournal() if kind == "memory" else tmp_path / "lamp-1.sqlite"
    lamp = Device("lamp-1", journal=journal)
    peer = await hear(broker.address)
    async with serving(lamp, NOBODY, prefix):
        ids = [await lamp.emit("told", number=number) for number in range(500)]
    again = Device("lamp-1", journal=journal)
    async with serving(again, broker.address, prefix):
        ids.append(await again.emit("told", number=500))
        await until(lambda: again.telling().waiting == 0, LIMIT)
        await until(lambda: ids[-1] in heard(peer), LIMIT)
    assert list(dict.fromkeys(heard(peer))) == ids
    third = Device("lamp-1", journal=journal)
    async with serving(third, NOBODY, prefix):
        assert third.telling().waiting == 0


async def test_events_of_a_broker_that_is_killed_and_comes_back_empty_all_arrive(
    restartable_broker: BrokerProcess, prefix: str, hear: Hear
) -> None:
    broker = restartable_broker
    lamp = Device("lamp-1")
    async with serving(lamp, broker.address, prefix):
        first = await lamp.emit("told")
        await until(lambda: lamp.telling().sent == 1)
        await broker.kill()
        kept = [await lamp.emit("told", number=number) for number in range(300)]
        assert lamp.telling().waiting == 300
        await broker.start()
        peer = await hear(broker.address)
        await until(lambda: lamp.telling().waiting == 0, LIMIT)
        last = await lamp.emit("told")
        await until(lambda: heard(peer)[-1:] == [last])
    # Those which the broker took before anybody listened went to nobody, in order.
    assert heard(peer) == [first, *kept, last][-len(peer.messages) :]


async def test_lost_connection_loses_no_event(broker: BrokerUnderTest, prefix: str, hear: Hear) -> None:
    lamp = Device("lamp-1")
    peer = await hear(broker.address)
    ids: list[str] = []
    async with serving(lamp, broker.address, prefix):
        for round in range(5):
            ids += await asyncio.gather(*(lamp.emit("told", round=round) for _ in range(100)))
            lamp.drop()
        await until(lambda: lamp.telling().waiting == 0, LIMIT)
        await until(lambda: len(set(heard(peer))) == 500, LIMIT)
    assert list(dict.fromkeys(heard(peer))) == ids


async def test_cancelled_emit_takes_no_event_back(broker: BrokerUnderTest, prefix: str, hear: Hear) -> None:
    lamp = Device("lamp-1")
    peer = await hear(broker.address)
    async with serving(lamp, broker.address, prefix):
        emitting = asyncio.create_task(lamp.emit("told"))
        await asyncio.sleep(0)
        emitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await emitting
        await peer.wait_for_count(1)


# What is refused


async def test_event_more_than_the_device_keeps_is_refused_and_the_others_are_kept(
    broker: BrokerUnderTest, prefix: str, hear: Hear, tmp_path: Path
) -> None:
    lamp = Device("lamp-1", max_events=3, journal=tmp_path / "lamp-1.sqlite")
    peer = await hear(broker.address)
    async with serving(lamp, NOBODY, prefix):
        ids = [await lamp.emit("told") for _ in range(3)]
        with pytest.raises(EventsFull, match=r"keeps 3 events .*emit fewer, or raise max_events"):
            await lamp.emit("told")
        with pytest.raises(EventsFull):
            await asyncio.to_thread(lamp.emit_blocking, "told")
    async with serving(lamp, broker.address, prefix):
        await peer.wait_for_count(3)
        await until(lambda: lamp.telling().waiting == 0)
        ids.append(await lamp.emit("told"))
        await peer.wait_for_count(4)
    assert heard(peer) == ids


async def test_events_are_bounded_by_their_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_events, "MAX_BYTES", 1000)
    lamp = Device("lamp-1")
    async with serving(lamp, NOBODY):
        await lamp.emit("told", text="x" * 1000)
        with pytest.raises(EventsFull, match="1 events"):
            await lamp.emit("told")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"name": "two words"}, InvalidName, "event name 'two words'"),
        ({"name": "x" * 65}, InvalidName, "event name"),
        ({"name": "all"}, InvalidName, "reserved"),
        ({"key": ""}, InvalidEvent, "key of event 'told' cannot be ''"),
        ({"key": "k" * 257}, InvalidEvent, "text of 257 characters: give 1 to 256"),
        ({"key": 5}, InvalidEvent, "key of event 'told' cannot be 5"),
        ({"key": "\ud800"}, InvalidEvent, "surrogates"),
        ({"subject": "s" * 257}, InvalidEvent, "subject of event 'told'"),
        ({"fact": object()}, InvalidEvent, "data of event 'told' cannot be sent.*object"),
        ({"fact": "x" * 5000}, MessageTooLarge, "has 5,1.. bytes; the limit is 4,096"),
        ({"fact": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}, InvalidEvent, "nested"),
    ],
)
async def test_event_that_no_message_carries_is_refused_before_it_is_kept(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    lamp = Device("lamp-1", max_size=4096)
    name = arguments.pop("name", "told")
    async with serving(lamp, NOBODY):
        with pytest.raises(error, match=words):
            await lamp.emit(name, **arguments)
        with pytest.raises(error, match=words):
            await asyncio.to_thread(lambda: lamp.emit_blocking(name, **arguments))
        assert lamp.telling().waiting == 0


async def test_device_that_is_not_served_says_so() -> None:
    lamp = Device("lamp-1")
    with pytest.raises(NotServed, match=r"lamp-1 is not being served.*emit it while serve runs"):
        await lamp.emit("told")
    async with serving(lamp, NOBODY):
        await lamp.emit("told")
    with pytest.raises(NotServed):
        await asyncio.to_thread(lamp.emit_blocking, "told")


async def test_thread_that_emits_while_the_device_ends_is_not_left_waiting() -> None:
    lamp = Device("lamp-1", journal=MemoryJournal())
    ended = threading.Event()

    def tell() -> None:
        with contextlib.suppress(NotServed, EventsFull):
            while True:
                lamp.emit_blocking("told")
        ended.set()

    async with serving(lamp, NOBODY):
        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        await until(lambda: lamp.telling().waiting > 10)
    await until(ended.is_set)


async def test_journal_that_cannot_be_written_keeps_no_event_and_says_so(tmp_path: Path) -> None:
    with contextlib.closing(JournalFile(tmp_path / "lamp-1.sqlite")) as file:
        journal = SqliteJournal(file, "lamp-1")
        lamp = Device("lamp-1", journal=journal)
        async with serving(lamp, NOBODY):
            await lamp.emit("told")
            (pages,) = file.connection.execute("PRAGMA page_count").fetchone()
            file.connection.execute(f"PRAGMA max_page_count={pages}")
            with pytest.raises(JournalError, match="cannot be written"):
                await lamp.emit("told", text="x" * 100_000)
            with pytest.raises(JournalError, match="cannot be written"):
                await asyncio.to_thread(lambda: lamp.emit_blocking("told", text="x" * 100_000))
            file.connection.execute("PRAGMA max_page_count=100000")
            assert lamp.telling().waiting == 1
            await lamp.emit("told", text="x" * 100_000)
            assert lamp.telling().waiting == 2
        assert len(list(journal.events())) == 2


async def test_event_that_the_broker_refuses_is_given_up_and_those_behind_it_are_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As an access list does it, on MQTT 5."""
    loop = asyncio.get_running_loop()
    published: list[tuple[str, asyncio.Future[None]]] = []

    def publish(topic: str, payload: bytes) -> asyncio.Future[None]:
        published.append((topic, loop.create_future()))
        return published[-1][1]

    dropped: Counter[str] = Counter()
    async with device_events.Events(
        "lamp-1",
        Topics(),
        MemoryJournal(),
        publish=publish,
        connected=lambda: True,
        clock=time.time,
        dropped=dropped,
    ) as events:
        id = await events.emit("secret", None, None, {})
        await events.emit("told", None, None, {})
        with caplog.at_level(logging.ERROR):
            published[0][1].set_exception(PublishRefused("refused (Not authorized)"))
            published[1][1].set_result(None)
            await until(lambda: events.waiting == 0)
    assert [topic for topic, _ in published] == ["devices/lamp-1/event/secret", "devices/lamp-1/event/told"]
    assert (events.sent, dropped) == (1, {"event": 1})
    assert f"gives up event secret {id}" in caplog.text


async def test_answer_of_a_command_does_not_wait_behind_all_events(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    lamp = Device("lamp-1", initial="ready")
    peer = await connect(Peer(broker.address))
    await peer.subscribe(f"{prefix}/devices/#")
    async with (
        serving(lamp, broker.address, prefix),
        Fleet(broker.address, requester="ann", prefix=prefix) as fleet,
    ):
        await fleet.call("lamp-1", "ping")
        emitting = asyncio.gather(*(lamp.emit("told", number=number) for number in range(5000)))
        await fleet.call("lamp-1", "ping")
        await emitting
        topics = [message.topic for message in peer.messages]
        assert lamp.telling().waiting > 0 or topics.count(f"{prefix}/devices/lamp-1/event/told") < 5000
        await until(lambda: lamp.telling().waiting == 0, LIMIT)
