"""What a device remembers across `kill -9`, a restart and a disk that cannot be written."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from outrider.device.journal import CLOCK_TOLERANCE
from tests.processes import until
from tests.system.conftest import Launch, Meet, at_ready
from tests.system.outsider import Decoded, Outsider, RunningDevice

WORKBENCH = "tests.system.workbench:bench"
PROMPT = 20.0
"""Seconds for a device to come back."""


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


async def killed(device: RunningDevice) -> None:
    os.kill(device.process.pid, signal.SIGKILL)
    await device.process.wait()


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    return tmp_path / "marks"


async def test_command_that_a_kill_interrupted_is_interrupted_and_does_not_run_again(
    launch: Launch, meet: Meet, marks: Path
) -> None:
    device = launch(WORKBENCH)
    ann = await at_ready(meet(device))
    id = await ann.start("mark_after", [str(marks), 60], expires=time.time() + 100)
    await until(lambda: lines(marks) == 1)
    await killed(device)
    launch(WORKBENCH)
    answer = await ann.result(id, timeout=PROMPT)
    assert answer["status"] == "interrupted"
    assert "restarted while it ran" in answer["error"]["message"]
    assert (await repeated(ann, "mark_after", [str(marks), 60], id))["status"] == "interrupted"
    assert lines(marks) == 1


async def repeated(ann: Outsider, command: str, args: object, id: str) -> Decoded:
    count = len(ann.peer.messages)
    await ann.start(command, args, id=id)
    return await ann.result(id, after=count)


async def test_idempotent_command_that_a_kill_interrupted_runs_again(launch: Launch, meet: Meet, marks: Path) -> None:
    device = launch(WORKBENCH)
    ann = await at_ready(meet(device))
    id = await ann.start("mark_again", [str(marks), 2], expires=time.time() + 100)
    await until(lambda: lines(marks) == 1)
    await killed(device)
    launch(WORKBENCH)
    assert (await ann.result(id, timeout=PROMPT))["status"] == "done"
    assert lines(marks) == 2


async def test_command_that_waited_for_a_thread_when_it_was_killed_runs_once(
    launch: Launch, meet: Meet, tmp_path: Path
) -> None:
    device = launch(WORKBENCH)
    ann = await at_ready(meet(device))
    go_on = tmp_path / "go-on"
    blocking = [await ann.start("stubborn", [str(go_on)], expires=time.time() + 100) for _ in range(2)]
    waiting = await ann.start("hold", [0.01], expires=time.time() + 100)
    await ann.running(waiting)
    await killed(device)
    again = launch(WORKBENCH)
    assert (await ann.result(waiting, timeout=PROMPT))["status"] == "done"
    assert [(await ann.result(id))["status"] for id in blocking] == ["interrupted", "interrupted"]
    assert "was ended with 3 commands under way: 2 interrupted, 1 started again" in again.process.errors


async def test_command_that_expired_while_the_device_was_down_does_not_start(
    launch: Launch, meet: Meet, tmp_path: Path
) -> None:
    device = launch(WORKBENCH)
    ann = await at_ready(meet(device))
    for _ in range(2):
        await ann.start("stubborn", [str(tmp_path / "never")])
    # So old that it is within the clock tolerance now, and beyond it once the device is back.
    expires = time.time() - CLOCK_TOLERANCE + 2
    waiting = await ann.start("hold", [0.01], expires=expires)
    await ann.running(waiting)
    await killed(device)
    await until(lambda: time.time() > expires + CLOCK_TOLERANCE + 1)
    launch(WORKBENCH)
    assert (await ann.result(waiting, timeout=PROMPT))["status"] == "expired"


async def test_repeat_after_a_restart_gets_the_stored_result(launch: Launch, meet: Meet, marks: Path) -> None:
    device = launch(WORKBENCH)
    ann = await at_ready(meet(device))
    first = await ann.ask("mark", [str(marks), "once"], id="m1")
    await killed(device)
    second = launch(WORKBENCH)
    again = await meet(second, name=ann.name)
    await again.state("ready", timeout=PROMPT)
    assert await repeated(again, "mark", [str(marks), "once"], "m1") == first
    await again.start("mark", [str(marks), "twice"], id="m1")
    await until(lambda: again.results("m1")[-1]["status"] == "rejected")
    assert again.results("m1")[-1]["error"]["code"] == "invalid-message"
    assert lines(marks) == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_device_comes_back_with_the_status_it_had(launch: Launch, meet: Meet, how: signal.Signals) -> None:
    device = launch()
    ann = await meet(device)
    before = await ann.state("unready", timeout=PROMPT)
    assert (await ann.ask("start"))["value"] == "ready"
    os.kill(device.process.pid, how)
    await device.process.wait()
    launch()
    after = await ann.state("ready", above=before["session"], timeout=PROMPT)
    assert after["session"] > before["session"]


async def test_device_that_was_terminated_begins_anew_and_remembers_what_it_ran(
    launch: Launch, meet: Meet, marks: Path
) -> None:
    device = launch(WORKBENCH)
    ann = await at_ready(meet(device))
    assert (await ann.ask("stop"))["value"] == "unready"
    assert (await ann.ask("start"))["value"] == "ready"
    first = await ann.ask("mark", [str(marks)], id="m1")
    await ann.ask("stop")
    await ann.ask("terminate")
    assert await device.process.wait() == 0
    count = len(ann.peer.messages)
    launch(WORKBENCH)
    await ann.state("ready", after=count, timeout=PROMPT)
    assert await repeated(ann, "mark", [str(marks)], "m1") == first
    assert lines(marks) == 1


async def test_second_process_of_the_same_device_is_refused(launch: Launch, meet: Meet) -> None:
    device = launch()
    await (await meet(device)).state("unready", timeout=PROMPT)
    second = launch()
    assert await second.process.wait(20) == 1
    assert "this device runs already" in second.process.errors
    assert "Traceback" not in second.process.errors
    assert device.process.running


async def test_broken_journal_is_reported_and_older_commands_are_expired(
    launch: Launch, meet: Meet, tmp_path: Path, marks: Path
) -> None:
    journal = tmp_path / "lamp.sqlite"
    journal.write_bytes(os.urandom(5000))
    issued = time.time()
    device = launch(WORKBENCH, "--journal", str(journal))
    ann = await at_ready(meet(device))
    assert f"the journal {journal} cannot be read" in device.process.errors
    old = await ann.ask("mark", [str(marks)], issued=issued, expires=issued + 60)
    assert old["status"] == "expired"
    assert "lost its journal" in old["error"]["message"]
    assert (await ann.ask("mark", [str(marks)]))["status"] == "done"


async def test_disk_that_cannot_be_written_refuses_commands_and_lets_the_device_be_stopped(
    launch: Launch, meet: Meet, tmp_path: Path, marks: Path
) -> None:
    journal = tmp_path / "lamp.sqlite"
    device = launch(WORKBENCH, "--journal", str(journal))
    ann = await at_ready(meet(device))
    running = await ann.start("mark_after", [str(marks), 0.5])
    await ann.running(running)
    limit_file_size(device.process.pid, 0)
    refused = await ann.ask("mark", [str(marks)])
    assert (refused["status"], refused["error"]["code"]) == ("rejected", "busy")
    assert "cannot be written" in refused["error"]["message"]
    assert (await ann.result(running))["status"] == "done", "what ran already is answered"
    assert (await ann.ask("ping"))["status"] == "done"
    stats = await ann.stats()
    assert stats["journal_error"] == refused["error"]["message"].removeprefix("not taken: ")
    assert (stats["journal"]["path"], stats["journal"]["max_commands"]) == (str(journal), 100_000)
    assert (await ann.ask("stop"))["value"] == "unready"
    limit_file_size(device.process.pid, -1)
    await until(lambda: "takes commands again" in device.process.errors)
    assert (await ann.ask("start"))["value"] == "ready"
    assert (await ann.ask("mark", [str(marks)]))["status"] == "done"
    assert (await ann.stats())["journal_error"] is None
    assert lines(marks) == 2


def limit_file_size(pid: int, size: int) -> None:
    """Let a process write no file beyond so many bytes: what the kernel then says is what a failing disk says."""
    import resource

    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, -1))


async def test_memory_journal_leaves_no_file(launch: Launch, meet: Meet, state_home: Path) -> None:
    device = launch("--journal", "memory")
    await (await meet(device)).state("unready", timeout=PROMPT)
    assert not state_home.exists()
    assert "keeps its journal in memory only: a restart forgets what ran" in device.process.errors
    assert (await (await meet(device)).stats())["journal"]["path"] is None


async def test_journal_is_found_by_a_path_from_the_home_folder(
    launch: Launch, meet: Meet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell leaves the ~ in `--journal=~/lamp.sqlite` as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    device = launch("--journal=~/lamp.sqlite")
    await (await meet(device)).state("unready", timeout=PROMPT)
    assert (tmp_path / "lamp.sqlite").exists()


async def test_journal_is_found_under_the_state_home_by_prefix_and_id(
    launch: Launch, meet: Meet, state_home: Path
) -> None:
    device = launch()
    await (await meet(device)).state("unready", timeout=PROMPT)
    assert (state_home / "outrider" / "devices" / device.prefix / f"{device.id}.sqlite").exists()


async def test_clock_that_is_behind_is_told(launch: Launch, meet: Meet) -> None:
    device = launch()
    ann = await meet(device)
    await ann.state("unready", timeout=PROMPT)
    assert (await ann.stats())["clock_ahead"] is None
    now = time.time()
    await ann.ask("ping", issued=now + 3600, expires=now + 3700)
    ahead = (await ann.stats())["clock_ahead"]
    assert ahead == pytest.approx(-3600, abs=30)
    assert json.dumps(ahead)
