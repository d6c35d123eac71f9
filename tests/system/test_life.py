"""From the first start to the end of the process: states, groups, terminate, signals, kill."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.system.conftest import WORKBENCH, Launch, Meet
from tests.system.outsider import Outsider, RunningDevice, decoded

WITHIN = 3.0
"""Seconds in which a device has ended. By itself it takes well under one; two cores run other things beside."""

JOBS = 1000


@pytest.fixture
async def lamp(launch: Launch, meet: Meet) -> Outsider:
    """An outsider at an unready device of the test's own."""
    outsider = await meet(launch("--group", "kitchen", "--pool", "words", "--tag", "room=kitchen", "--tag", "floor=1"))
    await outsider.state("unready", timeout=10)
    return outsider


async def ready(launch: Launch, meet: Meet, *arguments: str, id: str | None = None) -> Outsider:
    """An outsider at a ready device of the test's own."""
    outsider = await meet(launch(*arguments, "--ready", id=id))
    await outsider.state("ready", timeout=10)
    return outsider


def status(outsider: Outsider) -> list[str]:
    return [state["status"] for state in outsider.states()]


# States


async def test_state_says_how_the_device_stands_in_the_fleet(lamp: Outsider, meet: Meet) -> None:
    state = lamp.states()[-1]
    assert state["device"] == lamp.device.id
    assert (state["groups"], state["pools"]) == (["kitchen"], ["words"])
    assert state["tags"] == {"room": "kitchen", "floor": "1"}
    assert abs(state["since"] - time.time()) < 20
    assert abs(state["session"] / 1e6 - time.time()) < 20
    other = await meet(lamp.device)
    assert decoded(next(each for each in other.peer.messages if each.retain and "state" in each.topic).payload) == state


async def test_start_and_stop_change_the_state_once(lamp: Outsider) -> None:
    assert (await lamp.ask("start"))["value"] == "ready"
    assert (await lamp.ask("start"))["value"] == "ready"
    assert (await lamp.ask("stop"))["value"] == "unready"
    assert (await lamp.ask("stop"))["value"] == "unready"
    assert (await lamp.ask("start"))["value"] == "ready"
    await lamp.peer.round_trip()
    assert status(lamp) == ["unready", "ready", "unready", "ready"]
    assert len({state["session"] for state in lamp.states()}) == 1
    since = [state["since"] for state in lamp.states()]
    assert since == sorted(since)
    assert len({state["about"] for state in lamp.states()}) == 1


@pytest.mark.parametrize("command", ["ping", "calculate"])
async def test_data_command_in_unready_is_not_ready(lamp: Outsider, command: str) -> None:
    args = [0, "m"] if command == "calculate" else None
    message = {"id": "a", "command": command, **({} if args is None else {"args": args})}
    await lamp.send(message)
    result = await lamp.result("a")
    assert (result["status"], result["error"]["code"]) == ("rejected", "not-ready")
    assert "start" in result["error"]["message"]
    await lamp.peer.round_trip()
    assert status(lamp) == ["unready"]


async def test_data_commands_do_not_change_the_state(lamp: Outsider) -> None:
    await lamp.ask("start")
    count = len(lamp.peer.messages)
    await lamp.ask("ping")
    await lamp.ask("calculate", [0.15, "m"])
    await lamp.peer.round_trip()
    assert not lamp.states(after=count)


async def test_control_commands_work_in_unready(lamp: Outsider) -> None:
    for command, args in (("jobs", []), ("about", []), ("stats", []), ("cancel", ["x"]), ("result", ["x"])):
        assert (await lamp.ask(command, args))["status"] == "done", command


async def test_groups_and_all_reach_every_member(launch: Launch, meet: Meet, unique: str) -> None:
    first = await ready(launch, meet, "--group", "kitchen", id=f"a-{unique}")
    second = await ready(launch, meet, "--group", "kitchen", "--group", "upstairs", id=f"b-{unique}")
    both = {first.device.id, second.device.id}
    for group, members in (("kitchen", both), ("all", both), ("upstairs", {second.device.id})):
        for bare in (False, True):
            id = f"{group}-{bare}"
            levels, more = ([], {"from": first.name}) if bare else ([first.name], {})
            await first.start("ping", id=id, to=group, topic=first.device.group(group, "cmd", *levels), **more)
            results = await answers(first, id, len(members))
            assert {each["device"] for each in results} == members
            assert {each["status"] for each in results} == {"done"}
    await first.ask("ping")
    await second.ask("ping")
    await first.peer.round_trip()
    assert len(first.results("upstairs-False")) == 1


async def answers(outsider: Outsider, id: str, count: int) -> list[dict[str, object]]:
    await outsider.peer.wait_for(lambda _: len(outsider.results(id)) >= count)
    return outsider.results(id)


async def test_command_that_blocks_the_loop_is_named_in_the_log(launch: Launch, meet: Meet, tmp_path: Path) -> None:
    outsider = await ready(launch, meet, WORKBENCH)
    await outsider.start("block", [str(tmp_path / "on")], id="blocking")
    await outsider.device.process.wait_for("the event loop has stood still", 30, errors=True)
    (tmp_path / "on").touch()
    assert (await outsider.result("blocking"))["value"] == "returned"
    assert "in block" in outsider.device.process.errors


# Terminate


async def test_terminate_ends_the_process_with_code_0(lamp: Outsider) -> None:
    result = await lamp.ask("terminate")
    assert (result["status"], result["value"]) == ("done", "terminated")
    state = await lamp.state("terminated")
    assert state["session"] == lamp.states()[0]["session"]
    assert await lamp.device.process.wait() == 0
    await lamp.peer.round_trip()
    assert status(lamp) == ["unready", "terminated"], "no will"


async def test_terminate_cancels_a_thousand_jobs_within_a_second(launch: Launch, meet: Meet) -> None:
    outsider = await ready(launch, meet, "--max-jobs", str(JOBS))
    for number in range(JOBS):
        message = {"id": f"job-{number}", "command": "calculate", "args": [60, "m"]}
        outsider.peer.send(outsider.cmd, outsider.encode(message))
    jobs = 0
    while jobs < JOBS:
        jobs = (await outsider.ask("stats"))["value"]["jobs"]
    busy = await outsider.ask("calculate", [0, "m"])
    assert busy["error"]["code"] == "busy"
    count = len(outsider.peer.messages)
    began = time.monotonic()
    await outsider.ask("terminate", id="end")
    assert await outsider.device.process.wait() == 0
    took = time.monotonic() - began
    await outsider.peer.round_trip()
    results = [
        decoded(each.payload)
        for each in outsider.peer.messages[count:]
        if each.topic == outsider.device.topic("result", outsider.name)
    ]
    assert {each["id"] for each in results} == {"end", *(f"job-{number}" for number in range(JOBS))}
    assert len(results) == JOBS + 1
    assert {each["status"] for each in results if each["id"] != "end"} == {"cancelled"}
    assert outsider.states()[-1]["status"] == "terminated"
    assert took < WITHIN


@pytest.mark.parametrize(
    ("command", "end"), [("stubborn", "terminate"), ("deaf", "terminate"), ("stubborn", "SIGTERM")]
)
async def test_job_that_ignores_cancel_ends_interrupted_and_the_process_all_the_same(
    launch: Launch, meet: Meet, tmp_path: Path, command: str, end: str
) -> None:
    outsider = await ready(launch, meet, WORKBENCH)
    id = await outsider.start(command, [str(tmp_path / "never")])
    waiting = [await outsider.start("hold", [60]) for _ in range(3)]
    await outsider.running(waiting[-1])
    began = time.monotonic()
    if end == "terminate":
        await outsider.start("terminate")
    else:
        outsider.device.process.terminate()
    assert await outsider.device.process.wait() == 0
    took = time.monotonic() - began
    assert (await outsider.result(id))["status"] == "interrupted"
    for each in waiting:
        assert (await outsider.result(each))["status"] == "cancelled"
    await outsider.peer.round_trip()
    assert status(outsider)[-1] == "terminated"
    assert 0.5 <= took < 0.5 + WITHIN


async def test_what_comes_after_terminate_is_not_run(launch: Launch, meet: Meet, tmp_path: Path) -> None:
    outsider = await ready(launch, meet, WORKBENCH)
    marks = tmp_path / "marks"
    outsider.peer.send(outsider.cmd, outsider.encode({"id": "end", "command": "terminate"}))
    for number in range(20):
        message = {"id": f"late-{number}", "command": "mark", "args": [str(marks)]}
        outsider.peer.send(outsider.cmd, outsider.encode(message))
    assert await outsider.device.process.wait() == 0
    assert (await outsider.result("end"))["status"] == "done"
    await outsider.peer.round_trip()
    assert not marks.exists()
    late = [result for number in range(20) for result in outsider.results(f"late-{number}")]
    assert {(each["status"], each["error"]["code"]) for each in late} <= {("rejected", "not-ready")}


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_ends_the_process_as_cleanly(launch: Launch, meet: Meet, number: signal.Signals) -> None:
    outsider = await ready(launch, meet)
    jobs = [await outsider.start("calculate", [60, "m"]) for _ in range(5)]
    await outsider.running(jobs[-1])
    began = time.monotonic()
    outsider.device.process.send_signal(number)
    assert await outsider.device.process.wait() == 0
    assert time.monotonic() - began < WITHIN
    for id in jobs:
        assert (await outsider.result(id))["status"] == "cancelled"
    await outsider.peer.round_trip()
    assert status(outsider) == ["ready", "terminated"]
    assert "Traceback" not in outsider.device.process.errors


async def test_second_signal_changes_nothing(launch: Launch, meet: Meet, tmp_path: Path) -> None:
    outsider = await ready(launch, meet, WORKBENCH)
    await outsider.running(await outsider.start("stubborn", [str(tmp_path / "never")]))
    for _ in range(3):
        outsider.device.process.send_signal(signal.SIGINT)
    assert await outsider.device.process.wait() == 0
    assert (await outsider.state("terminated"))["status"] == "terminated"
    assert "Traceback" not in outsider.device.process.errors


async def test_killed_device_is_lost(launch: Launch, meet: Meet) -> None:
    outsider = await ready(launch, meet, "--group", "kitchen")
    outsider.device.process.kill()
    lost = await outsider.state("lost")
    before = outsider.states()[0]
    assert lost["session"] == before["session"]
    assert lost["groups"] == ["kitchen"]
    later = await meet(outsider.device)
    assert status(later) == ["lost"], "the will is retained"


async def test_device_started_again_after_a_kill_takes_its_place(launch: Launch, meet: Meet) -> None:
    outsider = await ready(launch, meet)
    outsider.device.process.kill()
    lost = await outsider.state("lost")
    again: RunningDevice = launch("--ready", id=outsider.device.id)
    count = len(outsider.peer.messages)
    state = await outsider.state("ready", after=count, timeout=10)
    assert state["session"] > lost["session"]
    assert (await outsider.ask("ping"))["status"] == "done"
    again.process.terminate()
    assert await asyncio.wait_for(again.process.wait(), 5) == 0
