"""What may come back instead of a good answer, or go wrong while answers are waited for."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import json

from outrider.controller import Dispatch, Fleet, value_of
from outrider.controller.broker import BrokerProcess
from outrider.device import Device, Reply
from outrider.schema import CommandFailed, Result, State, Status
from outrider.schema.codec import MAX_RESULT
from tests.brokers import BrokerUnderTest
from tests.device.mosquitto import mosquitto
from tests.device.scripted import without_mqtt_5
from tests.peers import Connect, Peer
from tests.processes import Processes, script

SLOW = """
import asyncio
from outrider.device import Device, Reply

slow = Device("slow-1", initial="ready")

@slow.command
async def work(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "worked"
"""
TEN_THOUSAND = 10_000


@asynccontextmanager
async def a_fleet(address: str, prefix: str, *ids: str) -> AsyncGenerator[Fleet]:
    """A fleet that sees these devices."""
    async with Fleet(address, requester="tester", prefix=prefix) as fleet:
        await there(fleet, *ids)
        yield fleet


async def there(fleet: Fleet, *ids: str) -> None:
    changed = asyncio.Event()
    with fleet.roster.watch(lambda state: changed.set()):
        async with asyncio.timeout(20):
            for id in ids:
                while (state := fleet.roster.states.get(id)) is None or state.status != "ready":
                    changed.clear()
                    await changed.wait()


async def announce(peer: Peer, prefix: str, id: str, status: str = "ready", session: int = 1, *groups: str) -> None:
    state = {"device": id, "status": status, "session": session, "since": 0, "groups": groups}
    await peer.publish(f"{prefix}/devices/{id}/state", state, retain=True)


async def answer(peer: Peer, prefix: str, dispatch: Dispatch, id: str, /, **fields: object) -> None:
    result = {"id": dispatch.id, "device": id, "command": dispatch.command, "status": "done", "value": 1}
    await peer.publish(f"{prefix}/devices/{id}/result/tester", result | fields)


async def to_its_end(dispatch: Dispatch, timeout: float = 30) -> dict[str, Status]:
    async with asyncio.timeout(timeout):
        async for _ in dispatch:
            pass
    return {device: result.status for device, result in dispatch.outcomes.items()}


async def test_device_that_lies_about_its_id_gives_no_outcome_for_another(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    for id in ("honest", "liar"):
        await announce(peer, prefix, id)
    async with a_fleet(broker.address, prefix, "honest", "liar") as fleet:
        dispatch = fleet.dispatch("all", "work", wait=1)
        # In the name of the honest one: on its own topic, then on the other's topic with its own name inside.
        await peer.publish(
            f"{prefix}/devices/liar/result/tester",
            {"id": dispatch.id, "device": "honest", "command": "work", "status": "done"},
        )
        await answer(peer, prefix, dispatch, "liar")
        outcomes = await to_its_end(dispatch)
    assert outcomes == {"honest": Status.QUEUED, "liar": Status.DONE}


async def test_result_for_an_id_never_sent_changes_nothing(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    await announce(peer, prefix, "lamp-1")
    async with a_fleet(broker.address, prefix, "lamp-1") as fleet:
        dispatch = fleet.dispatch("lamp-1", "work", wait=20)
        await answer(peer, prefix, dispatch, "lamp-1", id="never-sent", status="failed")
        await answer(peer, prefix, dispatch, "lamp-1")
        assert await to_its_end(dispatch) == {"lamp-1": Status.DONE}


async def test_second_final_answer_does_not_replace_the_first(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    for id in ("lamp-1", "lamp-2"):
        await announce(peer, prefix, id)
    async with a_fleet(broker.address, prefix, "lamp-1", "lamp-2") as fleet:
        dispatch = fleet.dispatch("all", "work", wait=20)
        await answer(peer, prefix, dispatch, "lamp-1")
        await answer(peer, prefix, dispatch, "lamp-1", status="failed")
        await answer(peer, prefix, dispatch, "lamp-2")
        assert await to_its_end(dispatch) == {"lamp-1": Status.DONE, "lamp-2": Status.DONE}


@pytest.mark.parametrize("size", [2_000_000, MAX_RESULT])
async def test_a_result_over_the_size_limit_is_dropped_and_the_real_one_counts(
    prefix: str, connect: Connect, size: int, tmp_path: Path
) -> None:
    # MQTT 3.1.1 cannot tell a broker how large a packet may be, and this one passes on any.
    async with mosquitto(tmp_path) as behind, without_mqtt_5("127.0.0.1", behind) as port:
        address = f"mqtt://127.0.0.1:{port}"
        peer = await connect(Peer(address, version="3.1.1"))
        await announce(peer, prefix, "lamp-1")
        async with a_fleet(address, prefix, "lamp-1") as fleet:
            dispatch = fleet.dispatch("lamp-1", "work", wait=20)
            await answer(peer, prefix, dispatch, "lamp-1", value="x" * size)
            await answer(peer, prefix, dispatch, "lamp-1", value="small")
            assert await to_its_end(dispatch) == {"lamp-1": Status.DONE}
            assert value_of(dispatch.outcomes["lamp-1"]) == "small"


async def test_a_one_megabyte_result_of_a_device_fails_as_too_large(broker: BrokerUnderTest, prefix: str) -> None:
    device = Device("lamp-1", initial="ready")

    @device.command
    async def dump() -> str:
        return "x" * 1_000_000

    async with asyncio.TaskGroup() as tasks, a_fleet(broker.address, prefix) as fleet:
        tasks.create_task(device.serve(broker.address, prefix=prefix))
        await there(fleet, "lamp-1")
        with pytest.raises(CommandFailed, match="too-large"):
            await fleet.call("lamp-1", "dump")
        assert isinstance(await fleet.call("lamp-1", "ping"), int)
        device.stop()


async def test_device_that_appears_after_the_sending_is_no_target(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    await announce(peer, prefix, "lamp-1", "ready", 1, "kitchen")
    async with a_fleet(broker.address, prefix, "lamp-1") as fleet:
        dispatch = fleet.dispatch("@kitchen", "work", wait=20)
        await announce(peer, prefix, "lamp-2", "ready", 1, "kitchen")
        await answer(peer, prefix, dispatch, "lamp-2")
        await answer(peer, prefix, dispatch, "lamp-1")
        async with asyncio.timeout(20):
            heard: list[Reply] = [reply async for reply in dispatch]
    assert list(dispatch.outcomes) == ["lamp-1"]
    assert {reply.device for reply in heard} == {"lamp-1", "lamp-2"}


async def test_device_that_vanishes_in_the_middle_is_said_to_have_been_running(
    broker: BrokerUnderTest, prefix: str, spawn: Processes, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    at = ("--broker", broker.address, "--prefix", prefix)
    device = spawn(script("outrider-device"), "run", "slow:slow", *at, cwd=tmp_path)
    async with a_fleet(broker.address, prefix, "slow-1") as fleet:
        dispatch = fleet.dispatch("slow-1", "work", [60])
        async with asyncio.timeout(30):
            async for reply in dispatch:
                if not isinstance(reply.message, Result):
                    device.kill()
    result = dispatch.outcomes["slow-1"]
    assert result.status is Status.RUNNING
    assert result.error is not None
    assert result.error.message == "it was running when the device was lost; whether it finished is not known"


async def test_device_whose_id_is_taken_over_in_the_middle_still_has_one_outcome(
    broker: BrokerUnderTest, prefix: str, spawn: Processes, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    at = ("--broker", broker.address, "--prefix", prefix)
    run = (script("outrider-device"), "run", "slow:slow", *at)
    first = spawn(*run, cwd=tmp_path)
    async with a_fleet(broker.address, prefix, "slow-1") as fleet:
        dispatch = fleet.dispatch("slow-1", "work", [1.5], wait=20)
        second = None
        async with asyncio.timeout(40):
            async for reply in dispatch:
                if second is None and not isinstance(reply.message, Result):
                    second = spawn(*run, cwd=tmp_path)
    assert list(dispatch.outcomes) == ["slow-1"]
    assert dispatch.outcomes["slow-1"].status in (Status.DONE, Status.RUNNING)
    assert first.pid != (second.pid if second else 0)


async def test_broker_lost_and_back_while_waiting_loses_no_answer(
    restartable_broker: BrokerProcess, prefix: str, spawn: Processes, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    at = ("--broker", restartable_broker.address, "--prefix", prefix)
    spawn(script("outrider-device"), "run", "slow:slow", *at, cwd=tmp_path)
    async with a_fleet(restartable_broker.address, prefix, "slow-1") as fleet:
        dispatch = fleet.dispatch("slow-1", "work", [2.0], wait=40)
        restarted = False
        async with asyncio.timeout(50):
            async for reply in dispatch:
                if not restarted and not isinstance(reply.message, Result):
                    restarted = True
                    await restartable_broker.restart()
    assert restarted
    assert dispatch.outcomes["slow-1"].status is Status.DONE


@pytest.mark.slow
async def test_ten_thousand_devices_that_answer_at_once_have_ten_thousand_outcomes(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    if broker.kind == "embedded":
        # It sends at most 100 retained messages for one subscription, so that ten thousand devices would not be seen.
        ids = [f"lamp-{number:05}" for number in range(100)]
    else:
        ids = [f"lamp-{number:05}" for number in range(TEN_THOUSAND)]
    peer = await connect(Peer(broker.address))
    for id in ids:
        peer.send(
            f"{prefix}/devices/{id}/state",
            json.encode(State(device=id, status="ready", session=1, since=0)),
            retain=True,
        )
    await peer.round_trip(timeout=30)
    async with a_fleet(broker.address, prefix, *ids) as fleet:
        dispatch = fleet.dispatch("all", "work", wait=50)
        for id in ids:
            done = json.encode(Result(id=dispatch.id, device=id, command="work", status=Status.DONE))
            peer.send(f"{prefix}/devices/{id}/result/tester", done, qos=0)
        outcomes = await to_its_end(dispatch, 55)
    assert outcomes == dict.fromkeys(ids, Status.DONE)
    for id in ids:
        state = json.encode(State(device=id, status="ready", session=1, since=0))
        peer.send(f"{prefix}/devices/{id}/state", state, qos=0, retain=True)
    await peer.round_trip(timeout=30)
    async with a_fleet(broker.address, prefix, *ids) as fleet:
        dispatch = fleet.dispatch("all", "work", wait=50)
        for id in ids:
            peer.send(
                f"{prefix}/devices/{id}/result/tester",
                json.encode(Result(id=dispatch.id, device=id, command="work", status=Status.DONE)),
            )
        outcomes = await to_its_end(dispatch, 55)
    assert outcomes == dict.fromkeys(ids, Status.DONE)
    for id in ids:
        peer.send(f"{prefix}/devices/{id}/state", b"", qos=0, retain=True)
    await peer.round_trip(timeout=20)
