import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
from msgspec import UNSET, Raw, ValidationError, json

from outrider import controller
from outrider.controller import Dispatch, Fleet, value_of
from outrider.controller.broker import BrokerProcess
from outrider.device import Device, Job, Reply, calculate
from outrider.schema import (
    About,
    BrokerUnreachable,
    Code,
    CommandFailed,
    CommandRejected,
    NoAnswer,
    Progress,
    Result,
    Status,
    UnknownTarget,
    digest_of,
)
from tests.brokers import BrokerUnderTest
from tests.peers import Connect, Peer

Open = Callable[[], Fleet]


@pytest.fixture
def open_fleet(broker: BrokerUnderTest, prefix: str) -> Open:
    return lambda: Fleet(broker.address, requester="tester", prefix=prefix)


def lamp(id: str, *groups: str, ready: bool = True) -> Device:
    device = Device(id, groups=groups, initial="ready" if ready else "unready")
    device.include(calculate)

    @device.command
    def divide(a: float, b: float) -> float:
        return a / b

    @device.command
    async def count(job: Job, to: int) -> int:
        async for _ in job.track(range(to)):
            await asyncio.sleep(0.15)
        return to

    return device


@asynccontextmanager
async def serving(broker: BrokerUnderTest, prefix: str, *devices: Device) -> AsyncGenerator[None]:
    """Devices in this process, there when the context is entered."""
    async with asyncio.TaskGroup() as tasks, Fleet(broker.address, requester="opener", prefix=prefix) as fleet:
        for device in devices:
            tasks.create_task(device.serve(broker.address, prefix=prefix), name=device.id)
        await until(fleet, lambda: {device.id for device in devices} <= fleet.roster.states.keys())
        yield
        for device in devices:
            device.stop()


async def until(fleet: Fleet, condition: Callable[[], bool]) -> None:
    """Wait until a state makes the condition true."""
    changed = asyncio.Event()
    with fleet.roster.watch(lambda state: changed.set()):
        async with asyncio.timeout(10):
            while not condition():
                changed.clear()
                await changed.wait()


async def all_of(dispatch: Dispatch) -> list[Reply]:
    async with asyncio.timeout(20):
        return [reply async for reply in dispatch]


def words(result: Result) -> str:
    return result.error.message if result.error else ""


def statuses(dispatch: Dispatch) -> dict[str, Status]:
    return {device: result.status for device, result in dispatch.outcomes.items()}


async def test_result_above_the_default_limit_arrives_from_a_device_that_may_send_it(
    broker: BrokerUnderTest, prefix: str, open_fleet: Open
) -> None:
    library = Device("library", initial="ready", max_size=1_000_000)

    @library.command
    def read(characters: int) -> str:
        return "x" * characters

    async with serving(broker, prefix, library), open_fleet() as fleet:
        assert len(await fleet.call("library", "read", 900_000, type=str)) == 900_000
        with pytest.raises(CommandFailed, match="limit"):
            await fleet.call("library", "read", 1_000_000)


async def test_devices_that_stand_on_the_broker_are_known_at_once(
    broker: BrokerUnderTest, prefix: str, open_fleet: Open
) -> None:
    devices = lamp("lamp-2", "kitchen"), lamp("lamp-1", ready=False)
    async with serving(broker, prefix, *devices), open_fleet() as fleet:
        assert [(each.device, each.status) for each in fleet.devices()] == [("lamp-1", "unready"), ("lamp-2", "ready")]
        assert [each.device for each in fleet.devices("@kitchen")] == ["lamp-2"]


async def test_a_call_returns_the_value_in_the_type_asked_for(
    broker: BrokerUnderTest, prefix: str, open_fleet: Open
) -> None:
    async with serving(broker, prefix, lamp("lamp-1")), open_fleet() as fleet:
        assert await fleet.call("lamp-1", "divide", 1, 4, type=float) == 0.25
        assert await fleet.call("lamp-1", "calculate", x=0, msg="two words") == "two words"


async def test_a_call_raises_what_the_device_said(broker: BrokerUnderTest, prefix: str, open_fleet: Open) -> None:
    async with serving(broker, prefix, lamp("lamp-1"), lamp("lamp-2", ready=False)), open_fleet() as fleet:
        with pytest.raises(CommandFailed, match="division by zero") as failed:
            await fleet.call("lamp-1", "divide", 1, 0)
        assert failed.value.code == Code.ERROR
        with pytest.raises(CommandRejected) as rejected:
            await fleet.call("lamp-2", "divide", 1, 1)
        assert (rejected.value.device, rejected.value.code) == ("lamp-2", Code.NOT_READY)


async def test_arguments_by_position_and_by_name_at_once_are_refused(
    broker: BrokerUnderTest, prefix: str, open_fleet: Open
) -> None:
    async with open_fleet() as fleet:
        with pytest.raises(TypeError, match="not both"):
            await fleet.call("lamp-1", "divide", 1, b=2)


async def test_a_group_command_has_one_outcome_for_each_member(
    broker: BrokerUnderTest, prefix: str, open_fleet: Open
) -> None:
    devices = lamp("lamp-1", "kitchen"), lamp("lamp-2", "kitchen", ready=False), lamp("oven-1")
    async with serving(broker, prefix, *devices), open_fleet() as fleet:
        outcomes = [outcome async for outcome in fleet.send("@kitchen", "calculate", 0, "hi")]
        assert {outcome.device: outcome.status for outcome in outcomes} == {
            "lamp-1": Status.DONE,
            "lamp-2": Status.REJECTED,
        }
        dispatch = fleet.dispatch("all", "ping")
        await all_of(dispatch)
        assert list(dispatch.outcomes) == ["lamp-1", "lamp-2", "oven-1"]


async def test_progress_comes_before_the_result(broker: BrokerUnderTest, prefix: str, open_fleet: Open) -> None:
    async with serving(broker, prefix, lamp("lamp-1")), open_fleet() as fleet:
        replies = [reply.message for reply in await all_of(fleet.dispatch("lamp-1", "count", [3]))]
        assert isinstance(replies[-1], Result)
        progress = [each for each in replies[:-1] if isinstance(each, Progress)]
        assert len(progress) == len(replies) - 1
        assert [each.seq for each in progress] == sorted({each.seq for each in progress})
        assert max(each.fraction or 0 for each in progress) > 0


async def test_what_still_runs_at_the_end_of_the_wait_is_running(
    broker: BrokerUnderTest, prefix: str, open_fleet: Open
) -> None:
    async with serving(broker, prefix, lamp("lamp-1")), open_fleet() as fleet:
        dispatch = fleet.dispatch("lamp-1", "calculate", [60, "hi"], wait=0.8)
        await all_of(dispatch)
        assert statuses(dispatch) == {"lamp-1": Status.RUNNING}


async def test_a_timeout_ends_it_on_the_device(broker: BrokerUnderTest, prefix: str, open_fleet: Open) -> None:
    async with serving(broker, prefix, lamp("lamp-1")), open_fleet() as fleet:
        dispatch = fleet.dispatch("lamp-1", "calculate", [60, "hi"], timeout=0.2)
        await all_of(dispatch)
        assert statuses(dispatch) == {"lamp-1": Status.TIMED_OUT}


async def test_a_lost_device_is_queued_and_holds_up_nobody(
    broker: BrokerUnderTest, prefix: str, open_fleet: Open, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    lost = {"device": "lamp-2", "status": "lost", "session": 1, "since": 0, "groups": ["kitchen"]}
    async with serving(broker, prefix, lamp("lamp-1", "kitchen")):
        await peer.publish(f"{prefix}/devices/lamp-2/state", lost, retain=True)
        async with open_fleet() as fleet:
            dispatch = fleet.dispatch("@kitchen", "ping")
            began = time.monotonic()
            await all_of(dispatch)
            assert time.monotonic() - began < 10
            assert statuses(dispatch) == {"lamp-1": Status.DONE, "lamp-2": Status.QUEUED}


async def test_what_the_broker_has_not_acknowledged_is_said_so(
    restartable_broker: BrokerProcess, prefix: str, connect: Connect
) -> None:
    peer = await connect(Peer(restartable_broker.address))
    for number in (1, 2):
        there = {"device": f"lamp-{number}", "status": "ready", "session": 1, "since": 0, "groups": ["kitchen"]}
        await peer.publish(f"{prefix}/devices/lamp-{number}/state", there, retain=True)
    async with Fleet(restartable_broker.address, requester="tester", prefix=prefix) as fleet:
        taken = fleet.dispatch("lamp-1", "ping", wait=0.3)
        await all_of(taken)
        os.kill(restartable_broker.pid, signal.SIGSTOP)
        try:
            dispatches = [fleet.dispatch(target, "ping", wait=0.3) for target in ("lamp-1", "@kitchen")]
            for dispatch in dispatches:
                await all_of(dispatch)
        finally:
            os.kill(restartable_broker.pid, signal.SIGCONT)
    assert {device: words(result) for device, result in taken.outcomes.items()} == {
        "lamp-1": "sent, not taken yet; the device is ready; it may still run"
    }
    for dispatch in dispatches:
        assert set(statuses(dispatch).values()) == {Status.QUEUED}
        assert {words(result) for result in dispatch.outcomes.values()} == {
            "the broker has not acknowledged it; the device is ready; it may still run"
        }


async def test_a_wait_of_more_than_a_week_is_kept_to(broker: BrokerUnderTest, prefix: str, open_fleet: Open) -> None:
    async with serving(broker, prefix, lamp("lamp-1")), open_fleet() as fleet:
        dispatch = fleet.dispatch("lamp-1", "calculate", [0.1, "hi"], wait=1e6)
        await all_of(dispatch)
        assert statuses(dispatch) == {"lamp-1": Status.DONE}


async def test_a_terminated_device_is_offline_and_nothing_is_sent_to_it(
    broker: BrokerUnderTest, prefix: str, open_fleet: Open, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    await peer.subscribe(f"{prefix}/devices/+/cmd/#")
    gone = {"device": "lamp-2", "status": "terminated", "session": 1, "since": 0}
    await peer.publish(f"{prefix}/devices/lamp-2/state", gone, retain=True)
    async with open_fleet() as fleet:
        dispatch = fleet.dispatch("lamp-2", "ping")
        await all_of(dispatch)
        assert statuses(dispatch) == {"lamp-2": Status.OFFLINE}
        with pytest.raises(UnknownTarget, match="ended with terminate"):
            fleet.dispatch("all", "ping")
    assert [message.topic for message in peer.messages] == []


async def test_an_answer_of_a_device_outside_the_target_is_shown_and_not_counted(
    broker: BrokerUnderTest, prefix: str, open_fleet: Open, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    async with serving(broker, prefix, lamp("lamp-1")), open_fleet() as fleet:
        dispatch = fleet.dispatch("lamp-1", "calculate", [0.5, "hi"])
        stray = {"id": dispatch.id, "device": "lamp-9", "command": "calculate", "status": "done", "value": 1}
        await peer.publish(f"{prefix}/devices/lamp-9/result/tester", stray)
        replies = await all_of(dispatch)
        assert "lamp-9" in {reply.device for reply in replies}
        assert statuses(dispatch) == {"lamp-1": Status.DONE}


async def test_two_processes_of_one_requester_each_get_their_own(
    broker: BrokerUnderTest, prefix: str, open_fleet: Open
) -> None:
    async with serving(broker, prefix, lamp("lamp-1")), open_fleet() as one, open_fleet() as two:
        values = await asyncio.gather(
            *(fleet.call("lamp-1", "calculate", 0.1, name, type=str) for fleet, name in ((one, "one"), (two, "two")))
        )
        assert values == ["one", "two"]


def blink() -> None: ...


async def test_a_device_that_claims_the_digest_of_others_does_not_speak_for_them(
    broker: BrokerUnderTest, prefix: str, open_fleet: Open, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    honest, lie = About(versions={"outrider": "1"}, commands={}), About(versions={"outrider": "666"}, commands={})
    for device in ("a-liar", "b-silent", "lamp-1", "lamp-2"):
        state = {"device": device, "status": "ready", "session": 1, "since": 0, "about": digest_of(honest)}
        await peer.publish(f"{prefix}/devices/{device}/state", state, retain=True)
        if device != "b-silent":
            about = json.encode(lie if device == "a-liar" else honest)
            await peer.publish(f"{prefix}/devices/{device}/about", about, retain=True)
    async with open_fleet() as fleet:
        claimed = await fleet.abouts(["a-liar", "lamp-1", "lamp-2"], wait=5)
        assert claimed == {"a-liar": lie, "lamp-1": honest, "lamp-2": honest}
    async with open_fleet() as fleet:
        assert await fleet.abouts(["b-silent", "lamp-1"], wait=0.5) == {"lamp-1": honest}
    async with open_fleet() as fleet:
        assert set(await fleet.abouts(["lamp-1", "lamp-2", "a-liar"])) == {"lamp-1", "lamp-2", "a-liar"}
        assert fleet.roster.about("lamp-2") is None


async def test_like_devices_share_one_about(broker: BrokerUnderTest, prefix: str, open_fleet: Open) -> None:
    plain = Device("oven-1")
    lamps = lamp("lamp-1"), lamp("lamp-2")
    for each in lamps:
        each.command(name="blink", timeout=3)(blink)
    async with serving(broker, prefix, *lamps, plain), open_fleet() as fleet:
        abouts = await fleet.abouts(["lamp-1", "lamp-2", "oven-1"])
        assert abouts["lamp-1"] is abouts["lamp-2"]
        assert "divide" in abouts["lamp-1"].commands
        assert "divide" not in abouts["oven-1"].commands
        assert fleet.roster.about("lamp-2") is None


async def test_about_that_is_asked_for_twice_at_once_comes_to_both(
    broker: BrokerUnderTest, prefix: str, open_fleet: Open
) -> None:
    async with serving(broker, prefix, lamp("lamp-1")), open_fleet() as fleet, asyncio.timeout(10):
        one, other = await asyncio.gather(fleet.about("lamp-1"), fleet.abouts(["lamp-1"]))
        assert other == {"lamp-1": one}


async def test_a_device_that_told_no_about_is_named_or_left_out(
    broker: BrokerUnderTest, prefix: str, open_fleet: Open, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    state = {"device": "plain-1", "status": "ready", "session": 1, "since": 0}
    await peer.publish(f"{prefix}/devices/plain-1/state", state, retain=True)
    async with open_fleet() as fleet:
        assert await fleet.abouts(["plain-1"], wait=0.2) == {}
        with pytest.raises(UnknownTarget, match="plain-1 has not told its commands"):
            await fleet.about("plain-1", wait=0.2)
        with pytest.raises(UnknownTarget, match="did you mean plain-1"):
            await fleet.about("plain-2")


async def test_no_broker_is_told_at_once() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with pytest.raises(BrokerUnreachable, match=f"127.0.0.1:{port}"):
            async with Fleet(f"mqtt://127.0.0.1:{port}"):
                pass


def test_public_names_of_the_package() -> None:
    assert sorted(controller.__all__) == [
        "Dispatch",
        "Fleet",
        "Outcome",
        "Plan",
        "Rollout",
        "Roster",
        "Share",
        "Target",
        "TargetSyntax",
        "Targets",
        "parse",
        "resolve",
        "value_of",
    ]
    assert all(hasattr(controller, name) for name in controller.__all__)


def test_a_value_is_decoded_as_asked() -> None:
    done = Result(id="1", device="d", command="c", status=Status.DONE, value=Raw(b"[1, 2]"))
    assert value_of(done) == [1, 2]
    assert value_of(done, tuple[int, int]) == (1, 2)
    with pytest.raises(ValidationError):
        value_of(done, str)
    assert value_of(Result(id="1", device="d", command="c", status=Status.DONE, value=UNSET)) is None


async def test_call_of_who_is_not_there_says_so_at_once(broker: BrokerUnderTest, prefix: str) -> None:
    lamp = Device("lamp-1", groups=["kitchen"], initial="ready")
    async with Fleet(broker.address, requester="me", prefix=prefix) as fleet:
        served = asyncio.create_task(lamp.serve(broker.address, prefix=prefix))
        await until(fleet, lambda: bool(fleet.devices()))
        for target, words in {"lamp-9": "did you mean lamp-1", "@kitchen": "use send", "all": "use send"}.items():
            with pytest.raises(UnknownTarget, match=words):
                await fleet.call(target, "ping")
        await fleet.call("lamp-1", "terminate")
        assert await served
        await until(fleet, lambda: fleet.devices()[0].status == "terminated")
        with pytest.raises(NoAnswer, match="nothing was sent") as caught:
            await fleet.call("lamp-1", "ping")
        assert caught.value.status is Status.OFFLINE
