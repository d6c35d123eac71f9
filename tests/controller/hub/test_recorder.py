"""From the broker to the database: real brokers, real processes, and faults on both sides of the recorder."""

import asyncio
import contextlib
import json
import shutil
import signal
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

from outrider.controller import Fleet
from outrider.controller.broker import BrokerProcess
from outrider.controller.hub.live import Live
from outrider.controller.hub.recorder import Recorder
from outrider.controller.hub.records import CommandQuery, EventQuery, EventRecord, Record, ResultQuery
from outrider.controller.hub.store import Store, StoreUnavailable
from outrider.controller.hub.transcript import Transcript
from outrider.controller.hub.writer import Writer
from outrider.device import Address, Device, Message
from outrider.schema import Topics
from tests.brokers import BrokerUnderTest
from tests.controller.hub.postgresql import running
from tests.device.mosquitto import mosquitto
from tests.device.scripted import Kind, Wire, encoded, scripted, without_mqtt_5
from tests.peers import Connect, Peer
from tests.processes import Processes, Spawned, until

LIMIT = 20.0
ROOT = Path(__file__).parents[3]
DURABLE = ("max_queued_messages 0", "max_inflight_messages 0")


@pytest.fixture(params=["5", "3.1.1"])
def version(request: pytest.FixtureRequest) -> str:
    param: str = request.param
    return param


@pytest.fixture
async def address(broker: BrokerUnderTest, version: str) -> AsyncIterator[Address]:
    """Where only this version is spoken."""
    address = Address.parse(broker.address_for(version))
    if version == "5" or broker.ports["5"] != broker.ports["3.1.1"]:
        yield address
    else:
        async with without_mqtt_5(address.host, address.port) as port:
            yield replace(address, host="127.0.0.1", port=port)


class Memory:
    """A store in memory that can be away; it keeps events by their keys."""

    def __init__(self) -> None:
        self.away = False
        self.events: dict[tuple[str, str], int] = {}

    def write(self, batch: Sequence[Record]) -> int:
        if self.away:
            raise StoreUnavailable("the database is away")
        new = 0
        for record in batch:
            if isinstance(record, EventRecord):
                key = (record.device, record.id)
                new += key not in self.events
                self.events[key] = self.events.get(key, 0) + 1
        return new


@contextlib.asynccontextmanager
async def recording(
    address: Address, prefix: str, file: Path, tell: Callable[[Sequence[Record]], None] | None = None
) -> AsyncGenerator[tuple[Store, Recorder, Writer]]:
    with Store.open(f"sqlite:///{file}") as store:
        async with (
            Writer(store, recorded=tell) as writer,
            Recorder(address, Topics(prefix), writer, name=f"hub-{prefix}") as recorder,
            asyncio.timeout(LIMIT),
        ):
            await recorder.wait_subscribed()
            yield store, recorder, writer


def event(number: int, **more: object) -> dict[str, object]:
    return {"id": f"e{number}", "device": "lamp-1", "name": "tick", "time": float(number), **more}


def rows(file: Path, count: int) -> list[EventRecord]:
    """All events; more than `count` are found too."""
    with Store.open(f"sqlite:///{file}", read_only=True) as store:
        return store.events(EventQuery(limit=count + 10, after=0)).items


async def test_what_devices_and_requesters_say_is_recorded(
    address: Address, broker: BrokerUnderTest, prefix: str, tmp_path: Path
) -> None:
    device = Device("lamp-1", groups=["kitchen"], initial="ready")

    @device.command
    def dim(level: int) -> int:
        return level

    live = Live()
    async with recording(address, prefix, tmp_path / "hub.sqlite", live.recorded) as (store, recorder, _):
        with live.follow(lambda record: record.__class__.__name__ == "ResultRecord") as results:
            running = asyncio.create_task(device.serve(broker.address, prefix=prefix))
            async with Fleet(broker.address, requester="alice", prefix=prefix) as fleet:
                await until(lambda: any(state.status == "ready" for state in fleet.devices()), LIMIT)
                assert await fleet.call("lamp-1", "dim", 40) == 40
                async for outcome in fleet.send("@kitchen", "dim", level=60):
                    assert outcome.done
            said = [await anext(results), await anext(results)]
            device.stop()
            await running
        assert recorder.connected
        assert not recorder.dropped
        commands = store.commands(CommandQuery(requester="alice", command="dim")).items
        assert [(each.device, each.group) for each in commands] == [(None, "kitchen"), ("lamp-1", None)]
        found = store.results(ResultQuery(requester="alice", device="lamp-1")).items
        assert [each.value for each in found] == [Raw(b"60"), Raw(b"40")]
        assert [getattr(each, "id", None) for each in said] == [each.id for each in reversed(found)]
        assert {each.status for each in store.states("lamp-1").items} >= {"ready"}


async def test_commands_by_plain_mosquitto_pub_are_in_the_audit(
    broker: BrokerUnderTest, prefix: str, tmp_path: Path
) -> None:
    program = shutil.which("mosquitto_pub")
    if program is None:
        pytest.skip("mosquitto_pub is not installed: apt install mosquitto-clients")
    address = Address.parse(broker.address)

    async def say(topic: str, payload: dict[str, object]) -> None:
        at = ("-h", broker.host, "-p", str(broker.ports["3.1.1"]), "-q", "1")
        process = await asyncio.create_subprocess_exec(
            program, *at, "-t", f"{prefix}/{topic}", "-m", json.dumps(payload)
        )
        assert await process.wait() == 0

    async with recording(address, prefix, tmp_path / "hub.sqlite") as (store, _, writer):
        await say("devices/lamp-1/cmd/alice", {"command": "ping", "id": "c1"})
        await say("devices/lamp-1/cmd", {"command": "dim", "id": "c2", "from": "bob", "args": {"level": 40}})
        await say("groups/kitchen/cmd", {"command": "dim", "args": [60]})
        await say("devices/lamp-1/cmd/alice", {"command": "ping", "id": "c1"})
        await until(lambda: writer.written + writer.repeats == 4, LIMIT)
        found = [
            (each.id, each.requester, each.device, each.group, each.command, each.args and bytes(each.args))
            for each in reversed(store.commands(CommandQuery()).items)
        ]
    assert found == [
        ("c1", "alice", "lamp-1", None, "ping", None),
        ("c2", "bob", "lamp-1", None, "dim", b'{"level": 40}'),
        ("", "", None, "kitchen", "dim", b"[60]"),
    ]


async def test_stored_states_are_recorded_once(
    address: Address, broker: BrokerUnderTest, prefix: str, tmp_path: Path, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    state = {"device": "lamp-1", "status": "ready", "session": 1, "since": 1.0}
    await peer.publish(f"{prefix}/devices/lamp-1/state", state, retain=True)
    for new in (1, 0):
        async with recording(address, prefix, tmp_path / "hub.sqlite") as (store, recorder, writer):
            await until(lambda: recorder.received or new == 0, LIMIT)  # noqa: B023  # awaited at once
            await peer.publish(f"{prefix}/devices/lamp-1/event/tick", event(new))
            await until(lambda: any(each.id == f"e{new}" for each in store.events(EventQuery()).items), LIMIT)  # noqa: B023  # as above
            assert len(store.states("lamp-1").items) == 1
            assert writer.written == 1 + new


async def test_hostile_messages_are_counted_and_change_nothing(
    address: Address, broker: BrokerUnderTest, prefix: str, tmp_path: Path, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    topic = f"{prefix}/devices/lamp-1/event/tick"
    async with recording(address, prefix, tmp_path / "hub.sqlite") as (store, recorder, writer):
        for payload in (
            b"\x00\xff",
            b'{"id":"x"',
            b'{"a":' + b"[" * 50_000,
            msgspec.msgpack.encode(event(1, data=float("nan"))),
            json.dumps({**event(1), "device": "lamp-2"}).encode(),
            b"{" + b" " * 300_000,
            b"eyJhbGciOiJFZERTQSJ9.e30.x",
        ):
            await peer.publish(topic, payload)
        await peer.publish(topic, event(1, key="a\0b", subject="'; DROP TABLE events; --", data={"html": "<script>"}))
        await peer.publish(topic, msgspec.msgpack.encode(event(2, data={"level": 40})))
        await until(lambda: writer.written == 2, LIMIT)
        assert recorder.dropped == {"invalid-message": 4, "unauthorized": 1, "too-large": 1, "unsupported": 1}
        second, first = store.events(EventQuery()).items
        assert first.subject == "'; DROP TABLE events; --"
        assert first.data == Raw(b'{"html": "<script>"}')
        assert second.data == Raw(b'{"level":40}')


async def test_what_is_said_while_the_recorder_is_away_is_recorded_later(
    address: Address, broker: BrokerUnderTest, prefix: str, tmp_path: Path, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    file = tmp_path / "hub.sqlite"
    async with recording(address, prefix, file):
        pass
    for number in range(100):
        await peer.publish(f"{prefix}/devices/lamp-1/event/tick", event(number))
    async with recording(address, prefix, file) as (_, _, writer):
        await until(lambda: writer.written == 100, LIMIT)
    assert len(rows(file, 100)) == 100


async def test_clean_stop_writes_all_out(
    address: Address, broker: BrokerUnderTest, prefix: str, tmp_path: Path, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    file = tmp_path / "hub.sqlite"
    async with recording(address, prefix, file) as (_, recorder, _):
        for number in range(500):
            peer.send(f"{prefix}/devices/lamp-1/event/tick", event(number))
        await until(lambda: recorder.received, LIMIT)
    received = recorder.received
    assert len(rows(file, 500)) == received
    async with recording(address, prefix, file) as (_, _, writer):
        await until(lambda: writer.written == 500 - received, LIMIT)
        await peer.publish(f"{prefix}/devices/lamp-1/event/tick", event(500))
        await until(lambda: writer.written == 501 - received, LIMIT)
        # What was written had been acknowledged; a relay may lose that where a connection ends while more comes.
        assert writer.repeats == 0 or address.port != broker.ports["5"]


async def test_what_comes_after_the_writer_has_ended_stays_at_the_broker(
    address: Address, broker: BrokerUnderTest, prefix: str, tmp_path: Path, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    file = tmp_path / "hub.sqlite"
    with Store.open(f"sqlite:///{file}") as store:
        async with Writer(store) as writer:
            recorder = Recorder(address, Topics(prefix), writer, name=f"hub-{prefix}")
            await recorder.__aenter__()
            async with asyncio.timeout(LIMIT):
                await recorder.wait_subscribed()
        await peer.publish(f"{prefix}/devices/lamp-1/event/tick", event(1))
        await until(lambda: recorder.received, LIMIT)
        await recorder.__aexit__(None, None, None)
        assert writer.written == 0
    async with recording(address, prefix, file) as (_, _, writer):
        await until(lambda: writer.written == 1, LIMIT)


async def test_message_that_nobody_thought_of_takes_nothing_along(
    broker: BrokerUnderTest,
    prefix: str,
    tmp_path: Path,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    record = Transcript.record

    def fail(self: Transcript, message: Message, received: float) -> Record | None:
        if b"e13" in message.payload:
            raise ZeroDivisionError("thirteen")
        return record(self, message, received)

    monkeypatch.setattr(Transcript, "record", fail)
    peer = await connect(Peer(broker.address))
    async with recording(Address.parse(broker.address), prefix, tmp_path / "hub.sqlite") as (_, recorder, writer):
        for number in range(20):
            peer.send(f"{prefix}/devices/lamp-1/event/tick", event(number))
        await until(lambda: writer.written == 19, LIMIT)
        assert recorder.dropped == {"internal": 1}
    assert "thirteen" in caplog.text


async def test_filter_that_the_broker_refuses_is_named_and_the_others_are_heard(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse_commands(wire: Wire) -> None:
        await wire.accept()
        for _ in range(6):
            packet = await wire.expect(Kind.SUBSCRIBE)
            if b"/cmd/#" in packet.body:
                wire.send(encoded(Kind.SUBACK, packet.body[:2] + b"\0\x87"))
            else:
                wire.granted(packet)
        wire.send(wire.publish(b"devices/lamp-1/event/tick", json.dumps(event(1)).encode()))
        await wire.expect(Kind.PUBACK)
        await wire.read()

    async with (
        scripted(refuse_commands) as port,
        recording(Address("127.0.0.1", port), "", tmp_path / "hub.sqlite") as (_, recorder, writer),
    ):
        await until(lambda: writer.written == 1, LIMIT)
        assert recorder.deaf == ["devices/+/cmd/#", "groups/+/cmd/#"]
        assert recorder.connected
    assert "devices/+/cmd/# (Not authorized)" in caplog.text


async def test_restarted_broker_is_listened_to_again(
    restartable_broker: BrokerProcess, prefix: str, tmp_path: Path, connect: Connect
) -> None:
    file = tmp_path / "hub.sqlite"
    address = Address.parse(restartable_broker.address)
    async with recording(address, prefix, file) as (_, recorder, writer):
        for number in range(2):
            async with Peer(restartable_broker.address) as peer:
                for each in range(100):
                    await peer.publish(f"{prefix}/devices/lamp-1/event/tick", event(100 * number + each))
            await until(lambda: writer.written == 100 * (number + 1), LIMIT)  # noqa: B023  # awaited at once
            if number == 0:
                await restartable_broker.kill()
                await restartable_broker.start()
                await until(lambda: recorder.connected, LIMIT)
    assert len(rows(file, 200)) == 200


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_memory_is_bounded_while_the_database_is_away_and_connections_are_lost(
    tmp_path: Path, version: str, connect: Connect
) -> None:
    store = Memory()
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(mosquitto(tmp_path, *DURABLE))
        peer = await connect(Peer(f"mqtt://127.0.0.1:{port}"))
        at = port if version == "5" else await stack.enter_async_context(without_mqtt_5("127.0.0.1", port))
        await stack.enter_async_context(asyncio.timeout(LIMIT))
        writer = await stack.enter_async_context(Writer(store, most=600, pauses=(0.01, 0.05)))
        recorder = Recorder(Address("127.0.0.1", at), Topics(), writer, name="hub", receive_maximum=200)
        await stack.enter_async_context(recorder)
        await recorder.wait_subscribed()
        store.away = True
        most = 0
        for number in range(3000):
            peer.send("devices/lamp-1/event/tick", event(number, data="-" * 1000))
        for _ in range(8):
            await until(lambda: writer.waiting >= 200 and recorder.connected, LIMIT)
            most = max(most, writer.waiting)
            recorder._connection.reconnect()  # pyright: ignore[reportPrivateUsage]  # as a network that fails would
            await until(lambda: not recorder.connected, LIMIT)
        await until(lambda: recorder.connected, LIMIT)
        most = max(most, writer.waiting)
        assert 200 <= most <= 600 + 200 + 64
        store.away = False
        await until(lambda: len(store.events) == 3000, LIMIT)


async def test_nothing_is_missing_or_there_twice_after_kills_under_load(
    tmp_path: Path, spawn: Processes, connect: Connect
) -> None:
    file = tmp_path / "hub.sqlite"
    count = 8_000
    async with mosquitto(tmp_path, *DURABLE) as port, asyncio.timeout(50):
        broker = f"mqtt://127.0.0.1:{port}"

        async def publish() -> None:
            for begin in range(0, count, 100):
                await asyncio.gather(
                    *(
                        peer.publish("site/devices/lamp-1/event/tick", event(number))
                        for number in range(begin, begin + 100)
                    )
                )

        recorder = await record_in(spawn, broker, file)
        peer = await connect(Peer(broker))
        publishing = asyncio.create_task(publish())
        for kill in range(1, 5):
            written = kill * count // 8
            await until(lambda: stored(file) >= written, LIMIT)  # noqa: B023  # awaited at once
            recorder.kill()
            assert await recorder.wait() == -signal.SIGKILL
            recorder = await record_in(spawn, broker, file)
        await publishing
        await until(lambda: stored(file) >= count, LIMIT)
        recorder.terminate()
        assert await recorder.wait() == 0
    assert sorted(int(each.id[1:]) for each in rows(file, count)) == list(range(count))


async def test_stopped_postgresql_loses_nothing(
    tmp_path: Path, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    with running() as server:
        async with contextlib.AsyncExitStack() as stack:
            port = await stack.enter_async_context(mosquitto(tmp_path, *DURABLE))
            peer = await connect(Peer(f"mqtt://127.0.0.1:{port}"))
            await stack.enter_async_context(asyncio.timeout(50))
            store = stack.enter_context(Store.open(await asyncio.to_thread(server.create)))
            live = Live()
            writer = await stack.enter_async_context(Writer(store, recorded=live.recorded))
            recorder = Recorder(Address("127.0.0.1", port), Topics(), writer, name="hub", receive_maximum=500)
            await stack.enter_async_context(recorder)
            await recorder.wait_subscribed()

            async def publish(begin: int, end: int) -> None:
                await asyncio.gather(
                    *(peer.publish("devices/lamp-1/event/tick", event(number)) for number in range(begin, end))
                )

            await publish(0, 500)
            await until(lambda: writer.written == 500, LIMIT)
            await asyncio.to_thread(server.stop)
            await publish(500, 3000)
            await until(lambda: writer.failures >= 3, LIMIT)
            assert writer.error is not None
            assert writer.waiting <= 500 + 64  # the broker has the rest
            await asyncio.to_thread(server.start)
            await until(lambda: writer.written + writer.repeats >= 3000, LIMIT)
            assert writer.error is None
            found = store.events(EventQuery(limit=4000, after=0)).items
            assert sorted(int(each.id[1:]) for each in found) == list(range(3000))
    assert caplog.text.count("Trying again") <= 3  # said once for each reason, not for each attempt


async def test_locked_sqlite_of_a_process_loses_nothing(tmp_path: Path, spawn: Processes, connect: Connect) -> None:
    file = tmp_path / "hub.sqlite"
    async with mosquitto(tmp_path, *DURABLE) as port, asyncio.timeout(50):
        broker = f"mqtt://127.0.0.1:{port}"
        recorder = await record_in(spawn, broker, file)
        peer = await connect(Peer(broker))
        for number in range(50):
            await peer.publish("site/devices/lamp-1/event/tick", event(number))
        await until(lambda: stored(file) == 50, LIMIT)
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            for number in range(50, 100):
                await peer.publish("site/devices/lamp-1/event/tick", event(number))
            await recorder.wait_for("locked", LIMIT, errors=True)  # after the five seconds that a lock is waited for
            assert stored(file) == 50
            blocker.execute("ROLLBACK")
        await until(lambda: stored(file) == 100, LIMIT)
        recorder.terminate()
        assert await recorder.wait() == 0
        assert "100 new, 0 repeats" in recorder.output


def stored(file: Path) -> int:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        found: int = connection.execute("SELECT count(*) FROM events").fetchone()[0]
        return found


async def record_in(spawn: Processes, broker: str, file: Path) -> Spawned:
    """A recorder in a process, from when it records."""
    process = spawn.python(
        *("-m", "tests.controller.hub.recording", broker, "site", f"sqlite:///{file}", "hub"), cwd=ROOT
    )
    await process.wait_for("recording", LIMIT)
    return process
