"""Commands that go out again, over a real broker: what was lost, and to whom a copy is sent."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from outrider.device import Address, Connection, Device, Invocation, Invoker, ManualClock, Message, Pace
from outrider.device.invocation import MOST_REPLIES, Reply
from outrider.schema import (
    UNKNOWN,
    Command,
    Decoder,
    Encoding,
    Error,
    NoAnswer,
    Progress,
    PublishRefused,
    QueueFull,
    Result,
    Status,
    Topics,
    encode,
)
from tests.brokers import BrokerUnderTest
from tests.device.scripted import Kind, Packet, Wire, encoded, scripted
from tests.peers import Connect, Peer, Received

QUICK = Pace(unanswered=(0.3, 0.6), accepted=(0.6,), soon=0.05, quiet=0.05, patience=0.2)


class Asker:
    """A requester whose connection a test may cut."""

    def __init__(self, address: str, prefix: str = "", pace: Pace = QUICK) -> None:
        self.topics = Topics(prefix)
        self.away: set[str] = set()
        self.connection = Connection(
            Address.parse(address),
            client_id=f"asker-{prefix}",
            receive=self._receive,
            on_connect=lambda: self.invoker.reconnected(),
        )
        self.invoker = Invoker(
            self.connection, topics=self.topics, requester="asker", away=self.away.__contains__, pace=pace
        )

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[Invoker]:
        async with self.connection:
            await self.connection.wait_connected(timeout=5)
            await self.invoker.open()
            yield self.invoker

    def _receive(self, batch: Sequence[Message]) -> None:
        for message in batch:
            topic = self.topics.parse(message.topic)
            assert topic is not None
            self.invoker.receive(topic, message.payload)


class Lamp:
    """A device played by hand: it says what a test wants when a test wants it."""

    def __init__(self, peer: Peer, prefix: str, id: str) -> None:
        self.id = id
        self._peer = peer
        self._prefix = prefix

    async def command(self, number: int, timeout: float = 5.0) -> Received:
        """The command's copy with this number, from 1, whichever way it came."""
        await self._peer.wait_for(lambda _: len(self.copies()) >= number, timeout)
        return self.copies()[number - 1]

    def copies(self) -> list[Received]:
        return [message for message in self._peer.messages if "/cmd/" in message.topic]

    async def subscribe(self, *groups: str) -> None:
        of_groups = [f"{self._prefix}/groups/{group}/cmd/#" for group in groups]
        await self._peer.subscribe(f"{self._prefix}/devices/{self.id}/cmd/#", *of_groups)

    async def accept(self, command: Received) -> None:
        progress = Progress(id=str(command.json()["id"]), device=self.id, seq=0, accepted=True)
        await self._peer.publish(f"{self._prefix}/devices/{self.id}/progress/asker", encode(progress, Encoding.JSON))

    async def end(self, command: Received, status: Status = Status.DONE, *, unknown: bool = False) -> None:
        id = str(command.json()["id"])
        error = Error("", "expired", {UNKNOWN: True}) if unknown else None
        result = Result(id=id, device=self.id, command="dim", status=status, error=error, finished=1.0)
        await self._peer.publish(f"{self._prefix}/devices/{self.id}/result/asker", encode(result, Encoding.JSON))


@pytest.fixture
async def lamp(broker: BrokerUnderTest, prefix: str, connect: Connect) -> Lamp:
    return Lamp(await connect(Peer(broker.address)), prefix, "lamp-1")


async def ended(invocation: Invocation, timeout: float = 10.0) -> dict[str, Status]:
    async with asyncio.timeout(timeout):
        while invocation.missing:
            await invocation.next(timeout)
    return {device: result.status for device, result in invocation.results.items()}


async def until_none_is_under_way(asker: Asker, invocation: Invocation) -> None:
    async with asyncio.timeout(10):
        await invocation.sent()
        assert await asker.connection.flush(5)


@pytest.mark.parametrize("how", ["call", "invoke"])
async def test_command_that_was_lost_after_its_acknowledgement_comes_again_byte_for_byte(
    broker: BrokerUnderTest, prefix: str, lamp: Lamp, connect: Connect, how: str
) -> None:
    onlooker = Lamp(await connect(Peer(broker.address)), prefix, "lamp-1")
    await onlooker.subscribe()
    asker = Asker(broker.address, prefix)
    async with asker.open() as invoker, asyncio.TaskGroup() as tasks:
        invocation = invoker.invoke(["lamp-1"], "dim") if how == "invoke" else None
        answer = None if invocation else tasks.create_task(invoker.call("lamp-1", "dim", [40]))
        first = await onlooker.command(1)
        await lamp.subscribe()  # only now: the broker has acknowledged the first copy and given it to nobody it should
        again = await lamp.command(1)
        assert (again.payload, again.topic) == (first.payload, first.topic)
        assert again.json()["expires"] > time.time()
        await lamp.end(again)
        if invocation is not None:
            assert await ended(invocation) == {"lamp-1": Status.DONE}
        if answer is not None:
            assert (await answer).status is Status.DONE


async def test_reply_that_was_lost_is_asked_for_again(broker: BrokerUnderTest, prefix: str, lamp: Lamp) -> None:
    await lamp.subscribe()
    asker = Asker(broker.address, prefix)
    async with asker.open() as invoker:
        invocation = invoker.invoke(["lamp-1"], "dim")
        await lamp.accept(await lamp.command(1))  # and the result is lost on its way
        again = await lamp.command(2)
        assert invocation.accepted == {"lamp-1"}
        await lamp.end(again)
        assert await ended(invocation) == {"lamp-1": Status.DONE}


async def test_only_the_member_that_missed_it_gets_what_went_to_a_group_again(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    lamps = [Lamp(await connect(Peer(broker.address)), prefix, f"lamp-{n}") for n in range(3)]
    for each in lamps:
        await each.subscribe(*(["kitchen"] if each.id != "lamp-2" else []))
    asker = Asker(broker.address, prefix)
    async with asker.open() as invoker:
        invocation = invoker.invoke([each.id for each in lamps], "dim", group="kitchen")
        for each in lamps[:2]:
            await each.end(await each.command(1))
        again = await lamps[2].command(1)
        assert again.topic == f"{prefix}/devices/lamp-2/cmd/asker"
        assert again.payload == lamps[0].copies()[0].payload
        await lamps[2].command(2)
        await lamps[2].end(again)
        assert len(await ended(invocation)) == 3
        assert [len(each.copies()) for each in lamps[:2]] == [1, 1]


async def test_answer_missed_while_the_requester_was_away_is_asked_for_at_once(
    broker: BrokerUnderTest, prefix: str, lamp: Lamp
) -> None:
    await lamp.subscribe()
    slow = QUICK._replace(unanswered=(60.0,), accepted=(60.0,))
    asker = Asker(broker.address, prefix, slow)
    async with asker.open() as invoker:
        invocation = invoker.invoke(["lamp-1"], "dim")
        command = await lamp.command(1)
        await until_none_is_under_way(asker, invocation)
        asker.connection.drop()
        await lamp.end(command, Status.FAILED)  # heard or not: the session may be gone already
        if not invocation.results:
            await lamp.end(await lamp.command(2), Status.FAILED)
        assert await ended(invocation) == {"lamp-1": Status.FAILED}


async def test_device_that_is_away_is_asked_when_it_returns(broker: BrokerUnderTest, prefix: str, lamp: Lamp) -> None:
    await lamp.subscribe()
    asker = Asker(broker.address, prefix)
    asker.away = {"lamp-1"}
    asker.invoker = Invoker(
        asker.connection, topics=asker.topics, requester="asker", away=lambda device: device in asker.away, pace=QUICK
    )
    async with asker.open() as invoker:
        invocation = invoker.invoke(["lamp-1"], "dim")
        await lamp.command(1)
        assert await invocation.next(2.0) is None  # time for three copies
        assert len(lamp.copies()) == 1
        asker.away.clear()
        invoker.returned("lamp-1")
        await lamp.end(await lamp.command(2, timeout=1.0))
        assert await ended(invocation) == {"lamp-1": Status.DONE}


@pytest.mark.parametrize("how", ["call", "invoke"])
async def test_device_that_has_forgotten_what_it_accepted_is_taken_for_interrupted(
    broker: BrokerUnderTest, prefix: str, lamp: Lamp, how: str
) -> None:
    await lamp.subscribe()
    asker = Asker(broker.address, prefix)
    async with asker.open() as invoker, asyncio.TaskGroup() as tasks:
        invocation = invoker.invoke(["lamp-1"], "dim") if how == "invoke" else None
        call = None if invocation else tasks.create_task(invoker.call("lamp-1", "dim"))
        await lamp.accept(await lamp.command(1))
        await lamp.end(await lamp.command(2), Status.EXPIRED, unknown=True)
        if invocation is not None:
            assert await ended(invocation) == {"lamp-1": Status.INTERRUPTED}
        result = invocation.results["lamp-1"] if invocation else await call if call else None
        assert result is not None
        assert result.status is Status.INTERRUPTED
        assert result.error is not None
        assert result.error.details == {UNKNOWN: True}
        assert "knows nothing of it any more" in result.error.message


async def test_expired_is_believed_of_a_device_that_has_accepted_and_not_started_it(
    broker: BrokerUnderTest, prefix: str, lamp: Lamp
) -> None:
    await lamp.subscribe()
    asker = Asker(broker.address, prefix)
    async with asker.open() as invoker:
        call = asyncio.create_task(invoker.call("lamp-1", "dim"))
        await lamp.accept(await lamp.command(1))
        await lamp.end(await lamp.command(2), Status.EXPIRED)
        assert (await asyncio.wait_for(call, 5)).status is Status.EXPIRED


async def test_nothing_is_repeated_once_nobody_waits(broker: BrokerUnderTest, prefix: str, lamp: Lamp) -> None:
    await lamp.subscribe()
    asker = Asker(broker.address, prefix)
    async with asker.open() as invoker:
        with pytest.raises(NoAnswer):
            await invoker.call("lamp-1", "dim", wait=0.1)
        invocation = invoker.invoke(["lamp-1"], "dim")
        await lamp.command(2)
        invoker.forget(invocation)
        assert await invocation.next(1.5) is None
        assert len(lamp.copies()) == 2


async def test_repeat_of_a_command_that_ran_does_not_run_it_again(broker: BrokerUnderTest, prefix: str) -> None:
    ran: list[int] = []
    device = Device("lamp-1", initial="ready")

    @device.command
    async def dim(level: int) -> int:
        ran.append(level)
        await asyncio.sleep(1.5)  # several copies come meanwhile
        return level

    asker = Asker(broker.address, prefix, QUICK._replace(accepted=(0.3,)))
    serving = asyncio.create_task(device.serve(broker.address, prefix=prefix))
    async with asker.open() as invoker:
        invocation = invoker.invoke(["lamp-1"], "dim", [40])
        assert await ended(invocation) == {"lamp-1": Status.DONE}
        stats = await invoker.call("lamp-1", "stats")
    device.stop()
    await serving
    assert stats.status is Status.DONE
    assert ran == [40]


async def test_silent_device_is_asked_without_starting_it_after_it_expired(
    broker: BrokerUnderTest, prefix: str, lamp: Lamp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.device.repeats.OVER", 1.0)
    await lamp.subscribe()
    asker = Asker(broker.address, prefix)
    async with asker.open() as invoker:
        invocation = invoker.prepare("dim", [40])
        invoker.send(invocation, ["lamp-1"], expires_in=1.0)
        first = await lamp.command(1)
        async with asyncio.timeout(10):
            while lamp.copies()[-1].json()["expires"] != 0:
                await lamp.command(len(lamp.copies()) + 1)
        question = lamp.copies()[-1].json()
        assert question["issued"] >= first.json()["expires"] + 1
        assert {**question, "issued": 0, "expires": 0} == {**first.json(), "issued": 0, "expires": 0}
        await lamp.end(first)  # its answer of before, which was lost
        assert await ended(invocation) == {"lamp-1": Status.DONE}


@pytest.mark.parametrize("behind", [0.0, 3600.0])
async def test_device_that_never_got_an_expired_command_says_so_whatever_its_clock(
    broker: BrokerUnderTest, prefix: str, behind: float
) -> None:
    ran: list[int] = []
    device = Device("lamp-1", initial="ready")

    @device.command
    async def dim(level: int) -> None:
        ran.append(level)

    asker = Asker(broker.address, prefix)
    clock = ManualClock(time.time() - behind)
    serving = asyncio.create_task(device.serve(broker.address, prefix=prefix, clock=clock))
    async with asker.open() as invoker:
        assert (await invoker.call("lamp-1", "ping")).status is Status.DONE
        expires = time.time() - 100
        payload = b'{"id":"a1","command":"dim","args":[40],"from":"asker","issued":%f,"expires":%f}'
        command = Decoder(Command).decode(payload % (expires - 30, expires))[0]
        invocation = invoker.resume(command)
        invoker.send_again(invocation, ["lamp-1"], payload, expires)
        assert await ended(invocation) == {"lamp-1": Status.EXPIRED}
    device.stop()
    await serving
    assert ran == []


@pytest.mark.parametrize(("tolerance", "status"), [(30.0, Status.EXPIRED), (2000.0, Status.DONE)])
async def test_clock_that_is_ahead_is_borne_within_the_devices_tolerance(
    broker: BrokerUnderTest, prefix: str, tmp_path: Path, tolerance: float, status: Status
) -> None:
    device = Device("lamp-1", initial="ready", clock_tolerance=tolerance, journal=tmp_path / "journal.sqlite")
    asker = Asker(broker.address, prefix)
    clock = ManualClock(time.time() + 1000)
    serving = asyncio.create_task(device.serve(broker.address, prefix=prefix, clock=clock))
    async with asker.open() as invoker:
        assert (await invoker.call("lamp-1", "ping", wait=15)).status is status
    device.stop()
    await serving


async def subscriptions(wire: Wire) -> None:
    """Accept, and grant the two filters of an invoker's one SUBSCRIBE."""
    await wire.accept()
    packet = await wire.expect(Kind.SUBSCRIBE)
    wire.send(encoded(Kind.SUBACK, packet.packet_id.to_bytes(2, "big") + b"\0\x01\x01"))


async def test_refusal_counts_only_where_nothing_was_acknowledged_before() -> None:
    copies: list[Packet] = []

    async def refuse_copies(wire: Wire) -> None:
        await subscriptions(wire)
        for code in (None, 0x87, 0x87):
            packet = await wire.expect(Kind.PUBLISH)
            copies.append(packet)
            wire.acknowledge(packet, code)
        answer = Result(id=invocation.id, device="lamp-1", command="dim", status=Status.DONE, finished=1.0)
        wire.send(wire.publish(b"devices/lamp-1/result/asker", encode(answer, Encoding.JSON)))
        await wire.expect(Kind.PUBACK)

    async with scripted(refuse_copies) as port:
        asker = Asker(f"mqtt://127.0.0.1:{port}")
        async with asker.open() as invoker:
            invocation = invoker.invoke(["lamp-1"], "dim")
            assert await ended(invocation) == {"lamp-1": Status.DONE}
    assert invocation.refused == {}
    assert len({packet.rest[-60:] for packet in copies}) == 1
    assert len(copies) == 3


async def test_refusal_of_the_first_copy_ends_it() -> None:
    async def refuse(wire: Wire) -> None:
        await subscriptions(wire)
        wire.acknowledge(await wire.expect(Kind.PUBLISH), 0x87)

    async with scripted(refuse) as port:
        asker = Asker(f"mqtt://127.0.0.1:{port}")
        async with asker.open() as invoker:
            invocation = invoker.invoke(["lamp-1"], "dim")
            await asyncio.wait_for(invocation.sent(), 5)
            assert await invocation.next(1.0) is None
            assert isinstance(invocation.refused["lamp-1"], PublishRefused)
            assert list(invocation.missing) == []


async def test_nothing_is_repeated_that_the_broker_has_not_acknowledged() -> None:
    silent = asyncio.Event()

    async def acknowledge_late(wire: Wire) -> None:
        await subscriptions(wire)
        first = await wire.expect(Kind.PUBLISH)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.expect(Kind.PUBLISH), 2.0)  # time for three copies
        silent.set()
        wire.acknowledge(first)
        await wire.expect(Kind.PUBLISH)

    async with scripted(acknowledge_late) as port:
        asker = Asker(f"mqtt://127.0.0.1:{port}")
        async with asker.open() as invoker:
            invocation = invoker.invoke(["lamp-1"], "dim")
            await asyncio.wait_for(silent.wait(), 10)
            assert await invocation.next(1.0) is None


async def test_more_commands_than_may_wait_are_refused_before_anything_is_sent_or_written_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("outrider.device.backlog.MOST_PENDING", 2)
    monkeypatch.setattr("outrider.device.backlog.MOST_HELD", 3)
    asker = Asker("mqtt://127.0.0.1:1")
    written: list[Sequence[str]] = []

    def write_down(devices: Sequence[str], payload: bytes, expires: float) -> None:
        written.append(devices)

    invoker = asker.invoker
    first = invoker.invoke([f"lamp-{n}" for n in range(4)], "dim")  # two in the connection, two wait
    refused = invoker.prepare("dim")
    with pytest.raises(QueueFull, match="2 commands wait to be sent to the broker"):
        invoker.send(refused, ["lamp-1", "lamp-2"], before=write_down)
    assert (refused.devices, written) == ((), [])
    invoker.send(refused, ["lamp-1"], before=write_down)
    assert (refused.devices, written) == (("lamp-1",), [("lamp-1",)])
    assert len(first.missing) == 4


async def test_progress_that_nobody_reads_is_left_out_and_outcomes_are_not() -> None:
    invocation = Invocation("a1", Command(id="a1", command="dim"))
    sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    invocation.address(["lamp-1", "lamp-2"], sent)
    for seq in range(2 * MOST_REPLIES):
        invocation.take(Reply("lamp-1", Progress(id="a1", device="lamp-1", seq=seq, fraction=0.5)))
        invocation.wake()
    for device in ("lamp-1", "lamp-2", "lamp-2"):
        invocation.take(Reply(device, Result(id="a1", device=device, command="dim", status=Status.DONE)))
    read: list[Reply] = []
    while reply := await invocation.next(0):
        read.append(reply)
    assert len(read) == MOST_REPLIES + 2
    assert [reply.device for reply in read if isinstance(reply.message, Result)] == ["lamp-1", "lamp-2"]
    assert invocation.left_out == MOST_REPLIES + 1
    sent.cancel()


async def test_more_commands_than_the_connection_queues_are_held_back_and_all_arrive(
    broker: BrokerUnderTest, prefix: str
) -> None:
    asker = Asker(broker.address, prefix, Pace())
    devices = [f"lamp-{n}" for n in range(20_000)]
    async with asker.open() as invoker:
        invocation = invoker.invoke(devices, "dim", expires_in=600)
        assert asker.connection.pending <= 5000
        assert len(invocation.missing) == 20_000
        result = asyncio.create_task(invoker.call("lamp-1", "dim", wait=0.01))  # there is room for others
        with pytest.raises(NoAnswer):
            await result
        await asyncio.wait_for(invocation.sent(), 60)
        assert all(invocation.acknowledged(device) for device in devices)
        assert invocation.refused == {}
