"""How `outrider` ends before its time: Ctrl-C, signals, an output that nobody reads, and what is said of it."""

import asyncio
import shlex
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from outrider.controller import Fleet
from tests.brokers import BrokerUnderTest
from tests.processes import Processes, Spawned, script
from tests.terminals import CTRL_C, open_terminal

OUTRIDER, DEVICE = script("outrider"), script("outrider-device")

PRESS = """
import asyncio
import os
from pathlib import Path

from outrider.device import Device, Job

press = Device(os.environ["PRESS"], groups=["hall"], initial="ready")


@press.command
async def count(job: Job, seconds: float) -> str:
    for number in range(int(seconds * 20)):
        job.report(number / (seconds * 20), "counting")
        job.print(f"at {number}")
        await asyncio.sleep(0.05)
    return "counted"


@press.command
async def second(path: str) -> str:
    while press.id != "press-1" and not Path(path).exists():
        await asyncio.sleep(0.01)
    return "over"
"""

QUESTION = r"^Cancel it on the devices \(c\), .*, or wait on \(w\)\? *$"


class Hall:
    """Two presses that print while they work, on a broker under a prefix of their own."""

    def __init__(self, broker: BrokerUnderTest, prefix: str, spawn: Processes, folder: Path) -> None:
        self.env = {
            "OUTRIDER_BROKER": broker.address,
            "OUTRIDER_PREFIX": prefix,
            "OUTRIDER_NAME": "tester",
            "XDG_CONFIG_HOME": str(folder / "empty"),
        }
        self.spawn = spawn
        self.gone = folder / "gone"
        self._folder = folder

    async def open(self) -> None:
        (self._folder / "press.py").write_text(PRESS)
        presses = [
            self.spawn(DEVICE, "run", "press:press", env={**self.env, "PRESS": f"press-{number}"}, cwd=self._folder)
            for number in (1, 2)
        ]
        for press in presses:
            await press.wait_for("is connected", 20, errors=True)

    def start(self, *words: str) -> Spawned:
        return self.spawn(OUTRIDER, *words, env=self.env)

    def start_before_head(self, *words: str) -> Spawned:
        """A pipe of which only the first line is read, before `gone` is there; the exit code is that of `outrider`."""
        line = shlex.join((OUTRIDER, *words))
        reader = f"(head -1; exec <&-; touch {self.gone})"
        return self.spawn("bash", "-c", f"{line} | {reader}; exit ${{PIPESTATUS[0]}}", env=self.env)

    async def idle(self) -> None:
        """Wait until no device runs anything."""
        async with asyncio.timeout(20):
            while True:
                if not await self.running():
                    return
                await asyncio.sleep(0.02)

    async def running(self) -> list[str]:
        """The devices that run something."""
        async with Fleet(self.env["OUTRIDER_BROKER"], requester="asker", prefix=self.env["OUTRIDER_PREFIX"]) as fleet:
            asked = fleet.send("@hall", "jobs", type=list[object])
            return sorted([outcome.device async for outcome in asked if outcome.value])


@pytest_asyncio.fixture
async def hall(broker: BrokerUnderTest, prefix: str, spawn: Processes, tmp_path: Path) -> AsyncIterator[Hall]:
    hall = Hall(broker, prefix, spawn, tmp_path)
    await hall.open()
    yield hall


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_leaves_the_terminal_of_watch_as_it_was_found(hall: Hall, number: signal.Signals) -> None:
    async with open_terminal(OUTRIDER, "watch", env=hall.env) as terminal:
        await terminal.wait_for("^press-1 ", 20)
        assert not terminal.as_found
        terminal.process.send_signal(number)
        assert await terminal.wait() == 128 + number
        assert terminal.as_found


async def test_sigterm_says_what_goes_on_and_leaves_the_terminal_as_it_was_found(hall: Hall) -> None:
    async with open_terminal(OUTRIDER, "send", "press-1", "count", "30", env=hall.env) as terminal:
        await terminal.wait_for("^press-1  [━╸╺ ]+ +[0-9]+%", 20)
        terminal.process.send_signal(signal.SIGTERM)
        assert await terminal.wait() == 128 + signal.SIGTERM
        assert terminal.as_found
        assert "interrupted; count may still run on press-1\n" in terminal.text
        assert "%" not in terminal.text
    assert await hall.running() == ["press-1"]


@pytest.mark.parametrize("form", ["--ndjson", "--wait=20s"])
async def test_a_closed_output_ends_it_without_a_traceback(hall: Hall, form: str) -> None:
    process = hall.start_before_head("send", "@hall", "second", str(hall.gone), form)
    assert await process.wait(20) == 128 + signal.SIGPIPE, process
    assert process.output.count("\n") == 1
    assert "Traceback" not in process.errors
    assert "interrupted; all targets have answered" in process.errors


@pytest.mark.parametrize("words", [["devices", "--json"], ["results"], ["jobs", "--ndjson"], ["watch", "--json"]])
async def test_a_closed_output_is_no_failure_of_a_question(hall: Hall, words: list[str]) -> None:
    line = shlex.join((OUTRIDER, *words))
    # Closed before it is written to, whatever the system buffers.
    process = hall.spawn("bash", "-c", f"({line}; echo $? >&2) | true", env=hall.env)
    assert await process.wait(20) == 0
    assert process.errors.split()[-1] in ("0", str(128 + signal.SIGPIPE))
    assert "Traceback" not in process.errors


async def test_a_closed_output_ends_a_rollout_and_names_whom_it_did_not_reach(hall: Hall) -> None:
    process = hall.start_before_head(
        "send", "press-2,press-1,press-9", "count", "0.1", "--batch=1", "--if-offline=queue"
    )
    assert await process.wait(20) == 128 + signal.SIGPIPE, process
    assert "interrupted; all targets addressed have answered; 1 never addressed: press-9\n" in process.errors


async def test_ctrl_c_in_a_rollout_says_who_was_never_addressed(hall: Hall) -> None:
    process = hall.start("send", "@hall", "count", "30", "--batch=1")
    await process.wait_for("^press-1  [|] at 0$", 20, errors=True)
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130
    assert "count may still run on press-1; 1 never addressed: press-2\n" in process.errors
    assert await hall.running() == ["press-1"]


async def test_what_devices_print_waits_while_ctrl_c_is_answered(hall: Hall) -> None:
    async with open_terminal(OUTRIDER, "send", "press-1", "count", "2", env=hall.env, lines=60) as terminal:
        await terminal.wait_for("^press-1  [|] at 3$", 20)
        terminal.type(CTRL_C)
        await terminal.wait_for(QUESTION)
        printed = terminal.text
        await hall.idle()
        assert terminal.text == printed
        terminal.type("w")
        assert await terminal.wait() == 0
        *lines, outcome = [line for line in terminal.text.splitlines() if line]
        assert lines == [f"press-1  | at {number}" for number in range(40)]
        assert outcome.startswith("press-1  done  counted")


@pytest.mark.parametrize(
    "line",
    [
        "--version",
        "--help",
        "devices",
        "watch --once",
        "send press-1 ping",
        "send press-1 ping --json",
        "send press-1 ping --no-wait",
        "demo --no-interactive",
    ],
)
async def test_an_output_that_cannot_be_written_ends_it_in_words(hall: Hall, line: str) -> None:
    process = hall.spawn("bash", "-c", f"exec {OUTRIDER} {line} > /dev/full", env=hall.env)
    assert await process.wait(20) == 1
    assert process.errors.endswith("error: standard output cannot be written: No space left on device\n")
    assert "Traceback" not in process.errors


async def test_a_script_whose_output_cannot_be_written_ends_in_words(hall: Hall) -> None:
    line = f"echo send press-1 ping | {OUTRIDER} repl > /dev/full; exit ${{PIPESTATUS[1]}}"
    process = hall.spawn("bash", "-c", line, env=hall.env)
    assert await process.wait(20) == 1
    assert process.errors == "error: standard output cannot be written: No space left on device\n"


async def test_what_goes_on_is_said_where_the_id_cannot_be_written(hall: Hall) -> None:
    process = hall.spawn("bash", "-c", f"exec {OUTRIDER} send press-1 count 9 --no-wait > /dev/full", env=hall.env)
    assert await process.wait(20) == 1
    assert "to cancel it: outrider cancel " in process.errors


async def test_standard_error_that_cannot_be_written_changes_no_exit_code(hall: Hall) -> None:
    process = hall.spawn("bash", "-c", f"exec {OUTRIDER} send nobody ping 2> /dev/full", env=hall.env)
    assert await process.wait(20) == 2
