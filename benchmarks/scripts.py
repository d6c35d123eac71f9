"""What the sandboxes of scripts cost: python -m benchmarks.scripts

Start-up: the same interpreter runs `pass` plainly, in each sandbox from its command line alone, and in each through
`execute`, which also watches and reads, in turns. Then 100 scripts at once, and one that writes 100 MB.
"""

import argparse
import asyncio
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final, Literal

from rich.console import Console
from rich.table import Table

from outrider.device.scripts.contract import MIB, Limits
from outrider.device.scripts.sandbox import Ended, Run, Sandbox, SandboxMissing, execute, find_sandbox, script_user

GOAL: Final = 10.0
"""Milliseconds that a sandbox may add to a start."""
AT_ONCE: Final = 100
FLOOD: Final = 100_000_000
PYTHON: Final = shutil.which("python3", path="/usr/bin:/bin") or sys.executable


@contextmanager
def workspace() -> Generator[Path]:
    """A folder that scripts may write."""
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as name:
        user = script_user()
        if user is not None:
            os.chown(name, user, user)
        yield Path(name)


def script(folder: Path, source: str) -> Run:
    return Run([PYTHON, "-c", source], folder, Limits(), quota=100 * MIB, files=1000)


def ignored(stream: Literal["stdout", "stderr"], data: bytes) -> None:
    """Take the output, and keep nothing."""


def plain() -> None:
    pid = os.posix_spawn(PYTHON, [PYTHON, "-c", "pass"], {"PATH": "/usr/bin:/bin"})
    os.waitpid(pid, 0)


async def start_up(sandboxes: list[Sandbox], folder: Path, rounds: int) -> dict[str, float]:
    """Milliseconds from the order to the end, medians."""
    taken: dict[str, list[float]] = {}

    def note(name: str, began: float) -> None:
        taken.setdefault(name, []).append((time.perf_counter() - began) * 1000)

    for _ in range(rounds):
        began = time.perf_counter()
        plain()
        note("plain", began)
        for sandbox in sandboxes:
            began = time.perf_counter()
            ended = await execute(sandbox, script(folder, "pass"), ignored)
            note(sandbox.name, began)
            assert ended.exit_code == 0
    return {name: median(times) for name, times in taken.items()}


async def at_once(sandbox: Sandbox, folder: Path, count: int) -> tuple[float, float]:
    """Seconds until so many scripts that sleep for one have ended, and the longest pause of the event loop."""
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.01)
            longest = max(longest, time.perf_counter() - before - 0.01)

    beating = asyncio.create_task(beat())
    began = time.perf_counter()
    run = script(folder, "import time; time.sleep(1)")
    ended: list[Ended] = await asyncio.gather(*(execute(sandbox, run, ignored) for _ in range(count)))
    took = time.perf_counter() - began
    beating.cancel()
    assert {one.exit_code for one in ended} == {0}, {one.killed_by for one in ended}
    return took, longest


async def flood(sandbox: Sandbox, folder: Path) -> tuple[float, float]:
    """Seconds to read it, and by how many MB the most memory of this process grew."""
    read = 0

    def count(stream: Literal["stdout", "stderr"], data: bytes) -> None:
        nonlocal read
        read += len(data)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    await execute(
        sandbox, script(folder, f"import os\nfor _ in range({FLOOD // 50_000}): os.write(1, bytes(50_000))"), count
    )
    took = time.perf_counter() - began
    assert read == FLOOD
    return took, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000


async def measure(rounds: int, count: int) -> Table:
    """Measure whatever sandbox works here."""
    sandboxes: list[Sandbox] = []
    for name in ("bubblewrap", "landlock"):
        try:
            sandboxes.append(find_sandbox(name))
        except SandboxMissing as error:
            print(error, file=sys.stderr)
    table = Table(
        "sandbox", "pass", "over plain", f"goal ≤ {GOAL:g} ms", f"{count} at once", "longest pause", "100 MB", "memory"
    )
    with workspace() as folder:
        medians = await start_up(sandboxes, folder, rounds)
        table.add_row("none", f"{medians['plain']:.1f} ms", *[""] * 6)
        for sandbox in sandboxes:
            more = medians[sandbox.name] - medians["plain"]
            whole, pause = await at_once(sandbox, folder, count)
            took, grown = await flood(sandbox, folder)
            table.add_row(
                sandbox.name,
                f"{medians[sandbox.name]:.1f} ms",
                f"{more:+.1f} ms",
                "met" if more <= GOAL else "missed",
                f"{whole:.1f} s",
                f"{pause * 1000:.0f} ms",
                f"{took:.2f} s",
                f"{grown:+.1f} MB",
            )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what the sandboxes of scripts cost.")
    parser.add_argument("--rounds", type=int, default=50, help="starts of each")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="scripts at once")
    arguments = parser.parse_args()
    Console(width=120).print(asyncio.run(measure(arguments.rounds, arguments.at_once)))
    Console().print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
