"""`outrider demo` as a process: what it shows, and that nothing of it stays behind."""

import asyncio
import re
import signal
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from outrider.controller import Fleet
from tests.brokers import STARTED, kind_or_skip
from tests.processes import Processes, Spawned, script
from tests.terminals import CTRL_C, open_terminal

MARK = "OUTRIDER_DEMO_TEST"
"""An environment variable by which a test finds all descendants of its demo."""

SHOWN = (
    r"^\$ export OUTRIDER_BROKER=mqtt://127\.0\.0\.1:\d+$",
    r"^\$ outrider-device run --id lamp-3 .*&$",
    r"^\$ outrider devices$",
    r"^lamp-2 +unready ",
    r"^\$ outrider send all start$",
    r"^3 targets: 3 done$",
    r"^\$ outrider send lamp-1 ping$",
    r"^lamp-1 +done +\d{10} ",
    r"^\$ outrider send all calculate \d+ 'hello fleet'$",
    r"^lamp-\d +done +hello fleet ",
    r"^3 targets: 3 done$",
    r"^\$ outrider send lamp-2 ping$",
    r"^lamp-2 +done +\d{10} ",
    r"^\$ outrider send @kitchen stop$",
    r"^2 targets: 2 done$",
    r"^\$ outrider send lamp-1 ping$",
    r"^lamp-1 +rejected +not-ready: ",
    r"^\$ outrider send lamp-2 terminate$",
    r"lamp-2: the process ended with exit code 0; its state is now terminated",
    r"^\$ kill -9 \d+$",
    r"lamp-3: the process ended with exit code 137; its state is now lost",
    r"^lamp-2 +terminated ",
    r"^lamp-3 +lost ",
    r"^\$ outrider-device run --id lamp-3 .*&$",
    r"^3 targets: 3 done$",
    r"^Everything that the demo started has ended\.$",
)


class Demo:
    """Starts the demo, and knows which processes it has left."""

    def __init__(self, spawn: Processes, mark: str, folder: Path) -> None:
        self._spawn = spawn
        # A demo that is killed leaves its logs: let them go with the test.
        self.environment = {MARK: mark, "TMPDIR": str(folder)}

    def __call__(self, *arguments: str, **environment: str) -> Spawned:
        return self._spawn(script("outrider"), "demo", *arguments, env={**self.environment, **environment})

    def processes(self) -> list[int]:
        mark = f"{MARK}={self.environment[MARK]}".encode()
        return [int(each.parent.name) for each in Path("/proc").glob("[0-9]*/environ") if mark in _content(each)]

    async def gone(self, timeout: float = 10.0) -> None:
        """Wait until none of its processes is left."""
        deadline = time.monotonic() + timeout
        while left := self.processes():
            assert time.monotonic() < deadline, [_content(Path(f"/proc/{pid}/cmdline")) for pid in left]
            await asyncio.sleep(0.02)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


@pytest.fixture
def _proc() -> None:
    if not Path("/proc/self/environ").exists():
        pytest.skip("platform: finds processes by their environment in /proc")


@pytest_asyncio.fixture
async def demo(spawn: Processes, unique: str, tmp_path: Path, _proc: None) -> AsyncGenerator[Demo]:
    demo = Demo(spawn, unique, tmp_path)
    yield demo
    spawn.close()
    await demo.gone()


@pytest.mark.parametrize("kind", STARTED)
async def test_demo_shows_all_steps_in_order_and_leaves_nothing(demo: Demo, kind: str) -> None:
    process = demo("--kind", kind_or_skip(kind))
    assert await process.wait(45) == 0, process
    at = 0
    for pattern in SHOWN:
        found = re.compile(pattern, re.MULTILINE).search(process.output, at)
        assert found, f"{pattern} is not shown, or not in its place:\n{process}"
        at = found.end()
    assert demo.processes() == []


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_demo_takes_its_time_on_a_slow_machine(demo: Demo, tmp_path: Path) -> None:
    slow = "import sys, time\ntime.sleep(3 * ('ping' in sys.orig_argv))\n"
    (tmp_path / "sitecustomize.py").write_text(slow)
    process = demo("--no-interactive", PYTHONPATH=str(tmp_path))
    assert await process.wait(150) == 0, process
    assert re.search("^lamp-2  done  .*\n\n# The kitchen stops", process.output, re.MULTILINE), process


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_demo_calculates_once_more_where_the_ping_came_too_late(demo: Demo, tmp_path: Path) -> None:
    once = """\
import pathlib, sys, time
if sys.orig_argv[-2:] == ["lamp-2", "ping"]:
    try:
        pathlib.Path(__file__).with_name("late").touch(exist_ok=False)
        time.sleep(5)
    except FileExistsError:
        pass
"""
    (tmp_path / "sitecustomize.py").write_text(once)
    process = demo("--no-interactive", PYTHONPATH=str(tmp_path))
    assert await process.wait(100) == 0, process
    assert re.search(r"calculate 3 .*\n\n# This machine was too busy.*\n\$ .* calculate 9 ", process.output, re.DOTALL)
    assert re.search("^lamp-2  done  .*\n\n# The kitchen stops", process.output, re.MULTILINE), process


async def test_step_that_fails_is_named_and_ends_all(demo: Demo) -> None:
    process = demo("--no-interactive")
    async with Fleet((await process.wait_for(r"OUTRIDER_BROKER=(\S+)"))[1]) as fleet:
        await process.wait_for("send all calculate", 30)
        while not await fleet.call("lamp-3", "jobs"):  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(0.02)
        await fleet.call("lamp-3", "terminate")
    assert await process.wait(15) == 1
    assert "'hello fleet' ended with exit code 1 instead of 0" in process.errors
    assert demo.processes() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_in_the_middle_ends_all(demo: Demo, number: signal.Signals) -> None:
    process = demo()
    await process.wait_for("send all calculate", 30)
    process.send_signal(number)
    assert await process.wait() == 128 + number
    assert "Interrupted" in process.errors
    assert demo.processes() == []


async def test_kill_ends_devices_and_broker(demo: Demo) -> None:
    process = demo()
    await process.wait_for("send all start")
    process.kill()
    await demo.gone()


async def test_broker_of_no_known_kind_is_a_usage_error(demo: Demo) -> None:
    process = demo("--kind", "nonsense")
    assert await process.wait() == 2
    assert "mosquitto" in process.errors


@pytest.mark.timeout(150)
async def test_demo_in_a_terminal_leaves_the_fleet_until_ctrl_c(demo: Demo) -> None:
    async with open_terminal(script("outrider"), "demo", env=demo.environment, lines=100) as terminal:
        await terminal.wait_for(r"^lamp-2 +[━╸╺ ]+ \d+%  \d", 60)
        await terminal.wait_for("^Ctrl-C ends the devices, the hub and the broker.$", 60)
        address = (await terminal.wait_for(r"^  export OUTRIDER_BROKER=(\S+)$"))[1]
        async with Fleet(address) as fleet:
            assert [state.status for state in fleet.devices()] == ["ready"] * 3
            assert isinstance(await fleet.call("lamp-3", "ping"), int)
        terminal.type(CTRL_C)
        assert await terminal.wait() == 0
    assert demo.processes() == []
