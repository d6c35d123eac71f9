"""Devices that call each other, and any one of a pool, on a real broker."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta

from outrider.device import Connection, Device, Job, MemoryJournal, Subscription
from outrider.device.caller import MOST_CALLS
from outrider.schema import (
    BrokerUnreachable,
    CommandFailed,
    CommandRejected,
    InvalidName,
    NoAnswer,
    NoMember,
    QueueFull,
    Status,
    Topics,
    UnknownTarget,
)
from tests.brokers import BrokerUnderTest
from tests.device.mosquitto import mosquitto
from tests.peers import Connect, Peer


def device(id: str, *, pools: tuple[str, ...] = ()) -> Device:
    return Device(id, pools=pools, initial="ready", journal=MemoryJournal())


class Town:
    """Devices that are served in this process, under one prefix."""

    def __init__(self, broker: str, prefix: str) -> None:
        self._broker = broker
        self._prefix = prefix
        self._served: dict[Device, asyncio.Task[bool]] = {}

    async def serve(self, *devices: Device) -> None:
        """Serve them, and return when each can be called."""
        for each in devices:
            self._served[each] = asyncio.create_task(each.serve(self._broker, prefix=self._prefix))
        for each in devices:
            async with asyncio.timeout(10):
                while True:
                    with contextlib.suppress(UnknownTarget, NoAnswer, BrokerUnreachable):
                        await each.call(each.id, "ping", wait=0.5)
                        break
                    await asyncio.sleep(0.01)

    async def end(self, one: Device) -> None:
        """Stop serving it, cleanly."""
        one.stop()
        assert await self._served.pop(one)

    async def crash(self, one: Device) -> None:
        """End it without a word."""
        one.crash()
        await self._served.pop(one)

    async def end_all(self) -> None:
        for each in list(self._served):
            await self.end(each)


@contextlib.asynccontextmanager
async def town(broker: str, prefix: str) -> AsyncGenerator[Town]:
    made = Town(broker, prefix)
    try:
        yield made
    finally:
        await made.end_all()


def words(id: str) -> Device:
    """A member of the pool `words`."""
    made = device(id, pools=("words",))

    @made.command(idempotent=True)
    async def who() -> str:
        return id

    @made.command
    async def slowly(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return id

    return made


def lamp(id: str = "lamp-2") -> Device:
    made = device(id)

    @made.command
    async def dim(level: Annotated[int, Meta(ge=0, le=100)]) -> int:
        return level

    @made.command
    async def burn() -> None:
        raise ValueError("burnt out")

    return made


async def test_call_gives_the_value_as_the_type_that_is_named(broker: BrokerUnderTest, prefix: str) -> None:
    async with town(broker.address, prefix) as served:
        caller = device("caller")
        await served.serve(caller, lamp())
        assert await caller.call("lamp-2", "dim", 40, type=int) == 40
        assert await caller.call("lamp-2", "dim", level=60, wait=5) == 60


async def test_what_the_other_device_answers_is_raised_as_in_a_fleet(broker: BrokerUnderTest, prefix: str) -> None:
    async with town(broker.address, prefix) as served:
        caller = device("caller")
        await served.serve(caller, lamp())
        with pytest.raises(CommandFailed, match="burnt out"):
            await caller.call("lamp-2", "burn")
        with pytest.raises(CommandRejected) as rejected:
            await caller.call("lamp-2", "dim", 400)
        assert rejected.value.code == "invalid-arguments"
        with pytest.raises(TypeError):
            await caller.call("lamp-2", "dim", 4, level=4)


async def test_device_that_nobody_has_seen_is_told_at_once(broker: BrokerUnderTest, prefix: str) -> None:
    async with town(broker.address, prefix) as served:
        caller = device("caller")
        await served.serve(caller)
        with pytest.raises(UnknownTarget, match="caller cannot call lamp-7"):
            await caller.call("lamp-7", "ping")
        with pytest.raises(InvalidName, match="@kitchen"):
            await caller.call("@kitchen", "ping")


async def test_device_that_has_ended_is_told_at_once(broker: BrokerUnderTest, prefix: str) -> None:
    async with town(broker.address, prefix) as served:
        caller, other = device("caller"), lamp()
        await served.serve(caller, other)
        assert await caller.call("lamp-2", "dim", 1) == 1
        await served.end(other)

        async def told() -> bool:
            with contextlib.suppress(NoAnswer):
                await caller.call("lamp-2", "dim", 1, wait=0.1)
                return False
            return True

        async with asyncio.timeout(5):
            while not await told():
                pass
        with pytest.raises(NoAnswer, match="nothing was sent to it") as raised:
            await caller.call("lamp-2", "dim", 1)
        assert raised.value.status is Status.OFFLINE


async def test_device_that_is_slow_is_named_with_what_is_known(broker: BrokerUnderTest, prefix: str) -> None:
    async with town(broker.address, prefix) as served:
        caller = device("caller")
        await served.serve(caller, words("words-1"))
        for target in ("words-1", "any:words"):
            with pytest.raises(NoAnswer, match="words-1 gave no final answer to slowly") as raised:
                await caller.call(target, "slowly", 5, wait=0.4)
            assert raised.value.status is Status.RUNNING


async def test_pool_shares_calls_among_its_members(broker: BrokerUnderTest, prefix: str) -> None:
    async with town(broker.address, prefix) as served:
        caller = device("caller")
        await served.serve(caller, *(words(f"words-{number}") for number in range(3)))
        calls = [caller.call("any:words", "slowly", 0.3, type=str) for _ in range(30)]
        answers = await asyncio.gather(*calls)
        assert sorted(answers) == sorted([f"words-{number}" for number in range(3)] * 10)


async def test_pool_without_a_member_is_told_at_once(broker: BrokerUnderTest, prefix: str) -> None:
    async with town(broker.address, prefix) as served:
        caller, member = device("caller"), words("words-1")
        await served.serve(caller, member)
        with pytest.raises(NoMember, match="no member of any:poets is ready: no device is in this pool"):
            await caller.call("any:poets", "who")
        assert await caller.call("any:words", "who") == "words-1"
        await caller.call("words-1", "stop")

        async def refused() -> str:
            with pytest.raises(NoMember) as raised:
                await caller.call("any:words", "who")
            return str(raised.value)

        assert await refused() == "no member of any:words is ready (members: 1 unready)"


async def test_member_that_joins_later_is_found(broker: BrokerUnderTest, prefix: str) -> None:
    async with town(broker.address, prefix) as served:
        caller, first, second = device("caller"), words("words-1"), words("words-2")
        await served.serve(caller, first)
        assert await caller.call("any:words", "who") == "words-1"
        await served.serve(second)
        await served.end(first)
        async with asyncio.timeout(5):
            while await caller.call("any:words", "who") != "words-2":
                pass


async def test_members_that_reject_are_passed_over(broker: BrokerUnderTest, prefix: str) -> None:
    async with town(broker.address, prefix) as served:
        caller, able, unable = device("caller"), words("words-1"), device("words-2", pools=("words",))
        await served.serve(caller, able, unable)
        assert [await caller.call("any:words", "who") for _ in range(10)] == ["words-1"] * 10
        with pytest.raises(CommandRejected) as raised:
            await caller.call("any:words", "sing")
        assert raised.value.code == "unknown-command"


async def test_command_calls_the_pool_that_its_device_is_in(broker: BrokerUnderTest, prefix: str) -> None:
    async with town(broker.address, prefix) as served:
        member = words("words-1")

        @member.command
        async def ask(job: Job, depth: int) -> int:
            return 0 if depth == 0 else 1 + await job.call("any:words", "ask", depth - 1, type=int)

        await served.serve(member)
        assert await member.call("words-1", "ask", 20, type=int) == 20


async def test_plain_function_calls_from_its_thread(broker: BrokerUnderTest, prefix: str) -> None:
    async with town(broker.address, prefix) as served:
        caller = device("caller")

        @caller.command
        def twice(job: Job, level: int) -> int:
            return job.call_blocking("lamp-2", "dim", level, type=int) + caller.call_blocking(
                "lamp-2", "dim", level, type=int
            )

        await served.serve(caller, lamp())
        assert await caller.call("caller", "twice", 21, type=int) == 42
        with pytest.raises(RuntimeError, match="await call instead"):
            caller.call_blocking("lamp-2", "dim", 1)


async def test_cancelled_job_ends_the_call_that_its_thread_waits_for(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    async with town(broker.address, prefix) as served:
        caller = device("caller")
        began = asyncio.Event()
        loop = asyncio.get_running_loop()

        @caller.command
        def wait(job: Job) -> None:
            loop.call_soon_threadsafe(began.set)
            job.call_blocking("words-1", "slowly", 60)

        await served.serve(caller, words("words-1"))
        peer = await connect(Peer(broker.address))
        await peer.subscribe(f"{prefix}/devices/caller/result/me")
        await peer.publish(f"{prefix}/devices/caller/cmd/me", b'{"id": "w1", "command": "wait"}')
        await asyncio.wait_for(began.wait(), 5)
        await peer.publish(f"{prefix}/devices/caller/cmd/me", b'{"id": "w2", "command": "cancel", "args": ["w1"]}')
        result = await peer.wait_for(lambda message: message.json()["id"] == "w1", timeout=5)
        assert result.json()["status"] == "cancelled"


async def test_device_that_is_not_served_or_has_ended_calls_nobody(broker: BrokerUnderTest, prefix: str) -> None:
    caller = device("caller")
    with pytest.raises(BrokerUnreachable, match="not being served"):
        await caller.call("lamp-2", "ping")
    async with town(broker.address, prefix) as served:
        await served.serve(caller, words("words-1"))
        calls = [asyncio.create_task(caller.call(target, "slowly", 60)) for target in ("words-1", "any:words")]
        async with asyncio.timeout(5):
            while len(await caller.call("words-1", "jobs", type=list[object])) < 2:
                pass
        await served.end(caller)
        for call in calls:
            with pytest.raises(BrokerUnreachable, match="caller has ended"):
                await call


async def test_calls_beyond_the_bound_are_refused(broker: BrokerUnderTest, prefix: str) -> None:
    async with town(broker.address, prefix) as served:
        caller, member = device("caller"), words("words-1")
        await served.serve(caller, member)
        calls = [asyncio.create_task(caller.call("words-1", "slowly", 60)) for _ in range(MOST_CALLS)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull, match="caller waits for the answers to 1000 calls"):
            await caller.call("words-1", "who")
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert await caller.call("words-1", "ping", type=int) > 0


async def test_device_follows_those_alone_that_it_calls(
    broker: BrokerUnderTest, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    subscribe = Connection.subscribe

    async def noting(self: Connection, *subscriptions: Subscription, anew: bool = False) -> None:
        seen.extend(each.filter.removeprefix(f"{prefix}/") for each in subscriptions if "caller" in self.client_id)
        await subscribe(self, *subscriptions, anew=anew)

    monkeypatch.setattr(Connection, "subscribe", noting)
    async with town(broker.address, prefix) as served:
        caller = device("caller")
        served_before = asyncio.create_task(caller.serve(broker.address, prefix=prefix))
        await served.serve(words("words-1"), words("words-2"), lamp("lamp-1"), lamp("lamp-2"))
        assert seen == ["devices/caller/cmd/#", "groups/all/cmd/#", "devices/caller/state"]
        seen.clear()
        await caller.call("lamp-2", "dim", 1)
        assert seen == ["devices/+/result/caller", "devices/+/progress/caller", "devices/lamp-2/state"]
        seen.clear()
        for _ in range(3):
            await caller.call("any:words", "who")
        assert [seen[0], *sorted(seen[1:])] == ["pools/words/+", "devices/words-1/state", "devices/words-2/state"]
        caller.stop()
        assert await served_before


@pytest.mark.parametrize("ends", [Town.end, Town.crash])
async def test_device_that_comes_back_finds_whom_it_called_before(
    broker: BrokerUnderTest, prefix: str, ends: Callable[[Town, Device], Awaitable[None]]
) -> None:
    async with town(broker.address, prefix) as served:
        before, after = device("caller"), device("caller")
        await served.serve(before, lamp(), words("words-1"))
        for caller in (before, after):
            assert await caller.call("lamp-2", "dim", 1, type=int) == 1
            assert await caller.call("any:words", "who") == "words-1"
            if caller is before:
                await ends(served, before)
                await served.serve(after)


async def test_pointer_goes_with_the_member(broker: BrokerUnderTest, prefix: str, connect: Connect) -> None:
    topics = Topics(prefix)
    peer = await connect(Peer(broker.address))
    await peer.subscribe(topics.member("words", "+"))
    async with town(broker.address, prefix) as served:
        member = words("words-1")
        await served.serve(member)
        pointer = await peer.wait_for(lambda message: bool(message.payload), timeout=5)
        assert pointer.topic == f"{prefix}/pools/words/words-1"
        assert pointer.json() == {"device": "words-1", "idempotent": ["ping", "who"]}
        await served.end(member)
        await peer.wait_for(lambda message: not message.payload, timeout=5)


async def test_pool_that_a_device_is_no_longer_in_is_cleared(tmp_path: Path, prefix: str, connect: Connect) -> None:
    """On Mosquitto: rumqttd does not tell a device again what stands in its state, and the pointer stays."""
    topics = Topics(prefix)
    async with mosquitto(tmp_path) as port, town(f"mqtt://127.0.0.1:{port}", prefix) as served:
        before = words("words-1")
        await served.serve(before)
        await served.crash(before)
        await served.serve(device("words-1", pools=("poets",)))

        async def standing() -> set[str]:
            peer = await connect(Peer(f"mqtt://127.0.0.1:{port}"))
            await peer.subscribe(topics.member("+", "words-1"))
            await peer.round_trip()
            return {message.topic for message in peer.messages if "/pools/" in message.topic}

        async with asyncio.timeout(5):
            while await standing() != {topics.member("poets", "words-1")}:
                pass


@pytest.mark.parametrize(
    "payload", [b'{"device": "lamp-2"}', b'{"device": "words-1"}', b"{", b"\xff", b'{"device": 7}']
)
async def test_pointer_is_not_believed(broker: BrokerUnderTest, prefix: str, connect: Connect, payload: bytes) -> None:
    peer = await connect(Peer(broker.address))
    pointer = Topics(prefix).member("words", "lamp-2")
    async with town(broker.address, prefix) as served:
        caller = device("caller")
        await served.serve(caller, lamp())
        await peer.publish(pointer, payload, retain=True)
        with pytest.raises(NoMember):
            await caller.call("any:words", "ping")
        assert await caller.call("lamp-2", "ping", type=int) > 0
    await peer.publish(pointer, b"", retain=True)


async def test_first_call_of_a_device_may_come_from_a_thread(broker: BrokerUnderTest, prefix: str) -> None:
    first = device("first")

    @first.command
    def relay(job: Job, level: int) -> int:
        return job.call_blocking("lamp-2", "dim", level, type=int)

    async with town(broker.address, prefix) as served:
        asking = device("asking")
        await served.serve(lamp(), asking)
        serving = asyncio.create_task(first.serve(broker.address, prefix=prefix))
        try:
            async with asyncio.timeout(10):
                while True:  # it must not be asked by itself, as `serve` does
                    with contextlib.suppress(UnknownTarget, NoAnswer):
                        assert await asking.call("first", "relay", 40, type=int) == 40
                        break
                    await asyncio.sleep(0.01)
        finally:
            first.stop()
            assert await serving
