"""Devices and brokers that come and go: sessions, their numbers, takeovers, commands held meanwhile."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from outrider.controller.broker import BrokerKind, BrokerProcess
from tests.brokers import BrokerUnderTest, kind_or_skip, started
from tests.peers import Connect, Peer
from tests.processes import Processes, script
from tests.system.conftest import WORKBENCH, Launch, Meet, run_device
from tests.system.outsider import Outsider, RunningDevice


@pytest.fixture
async def lamp(launch: Launch, meet: Meet) -> Outsider:
    """An outsider at a ready device of the test's own."""
    outsider = await meet(launch(WORKBENCH))
    await outsider.state("ready", timeout=10)
    return outsider


async def cut(connect: Connect, device: RunningDevice) -> None:
    """End the device's connection by taking its client id over for a moment."""
    thief = await connect(Peer(device.broker.address, client_id=f"{device.prefix}-{device.id}"))
    await thief.close()


# Numbers


async def test_session_grows_with_each_connect(lamp: Outsider, connect: Connect) -> None:
    session = lamp.states()[-1]["session"]
    for _ in range(3):
        await cut(connect, lamp.device)
        session = (await lamp.state("ready", above=session))["session"]
        assert (await lamp.ask("stats"))["value"]["session"] == session
    sessions = [state["session"] for state in lamp.states() if state["status"] == "ready"]
    assert sessions == sorted(sessions)


async def test_session_grows_over_a_restart(lamp: Outsider, launch: Launch) -> None:
    before = lamp.states()[-1]["session"]
    lamp.device.process.terminate()
    await lamp.device.process.wait()
    launch(WORKBENCH, id=lamp.device.id)
    await lamp.state("ready", above=before, timeout=10)


async def test_late_will_of_an_earlier_session_is_healed(lamp: Outsider) -> None:
    state = lamp.states()[-1]
    for status in ("lost", "unready", "terminated"):
        count = len(lamp.peer.messages)
        older = {**state, "status": status, "session": state["session"] - 1}
        await lamp.send(older, topic=lamp.device.topic("state"), retain=True)
        assert await lamp.state("ready", after=count) == state


async def test_lost_with_the_devices_own_session_is_healed(lamp: Outsider) -> None:
    state = lamp.states()[-1]
    count = len(lamp.peer.messages)
    await lamp.send({**state, "status": "lost"}, topic=lamp.device.topic("state"), retain=True)
    assert await lamp.state("ready", after=count) == state


async def test_newer_session_of_another_is_overtaken(lamp: Outsider) -> None:
    state = lamp.states()[-1]
    foreign = state["session"] + 10**12  # eleven days ahead
    await lamp.send({**state, "status": "lost", "session": foreign}, topic=lamp.device.topic("state"), retain=True)
    healed = await lamp.state("ready", above=foreign)
    assert healed["session"] == foreign + 1
    assert (await lamp.ask("ping"))["status"] == "done"
    await lamp.peer.round_trip()
    assert lamp.states()[-1] == healed


async def test_newer_session_found_at_the_start_is_overtaken(launch: Launch, meet: Meet, lamp: Outsider) -> None:
    await lamp.ask("terminate")
    assert await lamp.device.process.wait() == 0
    state = {**lamp.states()[0], "session": lamp.states()[0]["session"] + 10**12}
    await lamp.send(state, topic=lamp.device.topic("state"), retain=True)
    launch(WORKBENCH, id=lamp.device.id)
    await lamp.state("ready", above=state["session"], timeout=10)
    assert (await lamp.ask("ping"))["status"] == "done"


@pytest.mark.parametrize("session", [2**53 - 1, 2**53, 2**64, 10**400], ids=["last", "over", "64-bit", "400-digits"])
async def test_session_that_no_number_can_overtake_is_replaced(lamp: Outsider, session: int) -> None:
    state = lamp.states()[-1]
    ours = next(each.payload for each in reversed(lamp.peer.messages) if each.topic == lamp.device.topic("state"))
    count = len(lamp.peer.messages)
    payload = json.dumps({**state, "session": session}).encode()
    await lamp.send(payload, topic=lamp.device.topic("state"), retain=True)
    await lamp.peer.wait_for(lambda message: message.payload == ours, after=count)
    assert (await lamp.ask("ping"))["status"] == "done"
    lamp.encoding = "msgpack"
    assert (await lamp.ask("stats"))["value"]["session"] == state["session"]


# One client id, twice


async def test_device_whose_client_id_is_taken_over_comes_back(lamp: Outsider, connect: Connect) -> None:
    session = lamp.states()[-1]["session"]
    job = await lamp.start("calculate", [0.5, "m"])
    await lamp.running(job)
    thief = await connect(Peer(lamp.device.broker.address, client_id=f"{lamp.device.prefix}-{lamp.device.id}"))
    await thief.wait_disconnected(timeout=10)  # the device has its id back
    await lamp.state("ready", above=session)
    assert (await lamp.result(job))["status"] == "done"
    assert (await lamp.ask("ping"))["status"] == "done"


async def test_two_devices_with_one_id_do_not_flood_the_broker(lamp: Outsider, launch: Launch) -> None:
    count = len(lamp.peer.messages)
    second = launch(WORKBENCH, "--journal", "memory", id=lamp.device.id)  # else it would not start
    await second.process.wait_for("connected", errors=True)
    seconds = 2
    await lamp.peer.wait_for(lambda _: len(lamp.states(after=count)) >= 2)
    with pytest.raises(AssertionError, match="no such message"):
        await lamp.peer.wait_for(lambda _: len(lamp.states(after=count)) > 150, timeout=seconds)
    for device in (lamp.device, second):
        assert device.process.running
        assert device.process.errors.count("is connected to") < 25
    second.process.kill()
    await second.process.wait()
    settled = len(lamp.peer.messages)
    await lamp.send(b"", topic=lamp.device.topic("state"), retain=True)
    await lamp.state("ready", after=settled, timeout=20)


# Held by the broker


async def test_command_sent_while_away_is_run_after_a_restart(lamp: Outsider, launch: Launch, tmp_path: Path) -> None:
    lamp.device.process.terminate()
    assert await lamp.device.process.wait() == 0
    marks = tmp_path / "marks"
    id = await lamp.start("mark", [str(marks)], expires=time.time() + 60)
    late = await lamp.start("mark", [str(marks)], expires=time.time() - 31)
    launch(WORKBENCH, id=lamp.device.id)
    assert (await lamp.result(id, timeout=10))["status"] == "done"
    assert (await lamp.result(late))["status"] == "expired"
    assert marks.read_text() == "ran\n"


async def test_command_sent_while_a_killed_device_is_away_is_run_after_a_restart(
    lamp: Outsider, launch: Launch, tmp_path: Path
) -> None:
    lamp.device.process.kill()
    await lamp.state("lost")
    marks = tmp_path / "marks"
    id = await lamp.start("mark", [str(marks)])
    launch(WORKBENCH, id=lamp.device.id)
    assert (await lamp.result(id, timeout=10))["status"] == "done"


async def test_every_command_sent_around_a_restart_gets_its_result(lamp: Outsider, launch: Launch) -> None:
    sent: list[str] = []
    lamp.device.process.terminate()
    while lamp.device.process.running:
        for _ in range(20):
            sent.append(f"job-{len(sent)}")
            lamp.peer.send(lamp.cmd, lamp.encode({"id": sent[-1], "command": "calculate", "args": [0.05, "m"]}))
        await lamp.peer.round_trip()
    launch(WORKBENCH, "--max-jobs", "10000", id=lamp.device.id)
    async with asyncio.timeout(10):
        for id in sent:
            await lamp.result(id)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_command_sent_after_terminate_is_not_held(
    launch: Launch, meet: Meet, tmp_path: Path, version: str
) -> None:
    lamp = await meet(launch(WORKBENCH, version=version))
    await lamp.state("ready", timeout=10)
    await lamp.ask("terminate")
    assert await lamp.device.process.wait() == 0
    marks = tmp_path / "marks"
    id = await lamp.start("mark", [str(marks)])
    count = len(lamp.peer.messages)
    launch(WORKBENCH, id=lamp.device.id, version=version)
    await lamp.state("ready", after=count, timeout=10)
    assert (await lamp.ask("ping"))["status"] == "done"
    await lamp.peer.round_trip()
    assert not lamp.results(id)
    assert not marks.exists()


# MQTT 3.1.1, prefixes


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_device_on_3_1_1_serves_alike(launch: Launch, meet: Meet, version: str, encoding: str) -> None:
    lamp = await meet(launch(WORKBENCH, version="3.1.1"), version=version, encoding=encoding)
    await lamp.state("ready", timeout=10)
    assert (await lamp.ask("calculate", {"x": 0.15, "msg": "two words"}))["value"] == "two words"
    assert (await lamp.ask("ping", topic=lamp.device.group("all", "cmd", lamp.name)))["status"] == "done"
    if lamp.device.broker.kind == "embedded":  # Mosquitto speaks 5 on the same port
        assert (await lamp.ask("stats"))["value"]["protocol"] == 4
    lamp.device.process.kill()
    await lamp.state("lost")


async def test_outrider_commands_a_device_on_3_1_1(
    launch: Launch, meet: Meet, broker: BrokerUnderTest, prefix: str, spawn: Processes
) -> None:
    lamp = await meet(launch(WORKBENCH, version="3.1.1"), version="3.1.1")
    await lamp.state("ready", timeout=10)
    for words in ("twice", "in a row"):  # the first might be the last thing that a broker does
        address = ("--broker", broker.address, "--prefix", prefix)
        send = spawn(script("outrider"), "send", *address, lamp.device.id, "calculate", "0", words)
        assert await send.wait(10) == 0, send
        assert f"done  {words}" in send.output


async def test_device_hears_only_what_is_under_its_prefix(launch: Launch, meet: Meet, prefix: str) -> None:
    inner = await meet(launch("--ready", prefix=f"{prefix}/site1"))
    other = await meet(launch("--ready", prefix=f"{prefix}/site2"))
    await inner.state("ready", timeout=10)
    await other.state("ready", timeout=10)
    await inner.ask("stop")
    await inner.ask("stop", topic=inner.device.group("all", "cmd", inner.name))
    for topic in (f"{prefix}/devices/{inner.device.id}/cmd", f"{prefix}/groups/all/cmd"):
        await inner.send({"command": "terminate"}, topic=topic)
    assert (await other.ask("ping"))["status"] == "done"
    assert [state["status"] for state in other.states()] == ["ready"]
    assert [state["status"] for state in inner.states()] == ["ready", "unready"]
    assert inner.device.process.running


# A broker that is not there


@pytest.fixture
def on(spawn: Processes, unique: str, prefix: str) -> Callable[[BrokerProcess], RunningDevice]:
    """Start a ready device on a broker of the test's own."""

    def start(process: BrokerProcess) -> RunningDevice:
        id = f"device-{unique}"
        spawned = run_device(spawn, WORKBENCH, "--id", id, address=process.address, prefix=prefix)
        return RunningDevice(id, prefix, started(process), spawned)

    return start


async def test_device_comes_back_after_a_restart_of_the_broker(
    restartable_broker: BrokerProcess, on: Callable[[BrokerProcess], RunningDevice], meet: Meet
) -> None:
    device = on(restartable_broker)
    before = await (await meet(device)).state("ready", timeout=10)
    for restart in (restartable_broker.restart, lambda: killed_and_started(restartable_broker)):
        await restart()
        lamp = await meet(device)
        state = await lamp.state("ready", above=before["session"], timeout=15)
        assert (await lamp.ask("ping"))["status"] == "done"
        assert (await lamp.ask("ping", topic=device.group("all", "cmd", lamp.name)))["status"] == "done"
        later = await meet(device)
        assert later.states()[0] == state, "retained again"
        await later.peer.wait_for(lambda each: each.topic == device.topic("about") and each.retain)
        before = state


async def test_job_running_while_the_broker_restarts_gives_its_result(
    restartable_broker: BrokerProcess, on: Callable[[BrokerProcess], RunningDevice], meet: Meet
) -> None:
    device = on(restartable_broker)
    lamp = await meet(device)
    await lamp.state("ready", timeout=10)
    id = await lamp.start("calculate", [0.3, "m"])
    await lamp.running(id)
    await restartable_broker.restart()
    again = await meet(device, name=lamp.name)
    assert (await again.result(id, timeout=15))["status"] == "done"


async def killed_and_started(broker: BrokerProcess) -> None:
    await broker.kill()
    await broker.start()


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
async def test_device_without_a_broker_says_so_and_serves_when_it_comes(
    kind: str, unused_tcp_port_factory: Callable[[], int], spawn: Processes, prefix: str, meet: Meet
) -> None:
    chosen = kind_or_skip(kind)
    port = unused_tcp_port_factory()
    ports = {"5": port, "3.1.1": port if chosen is BrokerKind.MOSQUITTO else unused_tcp_port_factory()}
    broker = BrokerProcess(chosen, "127.0.0.1", ports)
    process = run_device(spawn, WORKBENCH, address=broker.address, prefix=prefix)
    said = await process.wait_for(f"No connection to the broker at 127.0.0.1:{port}: .*", errors=True)
    assert "Check that it runs" in said[0]
    assert process.errors.count("No connection") == 1
    await broker.start()
    try:
        lamp = await meet(RunningDevice("bench", prefix, started(broker), process))
        await lamp.state("ready", timeout=15)
        assert (await lamp.ask("ping"))["status"] == "done"
    finally:
        await broker.stop()


async def test_device_without_a_broker_ends_on_a_signal(unused_tcp_port: int, spawn: Processes, prefix: str) -> None:
    process = run_device(spawn, WORKBENCH, address=f"mqtt://127.0.0.1:{unused_tcp_port}", prefix=prefix)
    await process.wait_for("No connection", errors=True)
    began = time.monotonic()
    process.terminate()
    assert await process.wait() == 0
    assert time.monotonic() - began < 3  # the machine may be busy
