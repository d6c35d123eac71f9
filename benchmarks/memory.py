"""Whether a device's memory stays flat: python -m benchmarks.memory

Sends a million journaled commands to one device process, and shows what it takes meanwhile, of memory and on the disk.
The pace is even: what a device remembers are the commands of the last 35 s, so more in a second would be more of them.
"""

import argparse
import asyncio
import contextlib
import tempfile
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from outrider.controller import Fleet
from outrider.controller.broker import start_broker
from outrider.schema import Code, RemoteError

from .children import ROOT, START_LIMIT, script

DEVICE = "memory-1"
WINDOW = 100
LOOKS = 10


class Look(NamedTuple):
    """What the device took after so many commands: resident memory, and its journal with its log, in bytes."""

    commands: int
    seconds: float
    resident: int
    journal: int


async def measure(broker: str, journal: Path, commands: int, rate: float, console: Console) -> list[Look]:
    """Send all commands and look at the device ten times."""
    looks: list[Look] = []
    async with _device(broker, journal) as pid, Fleet(broker, requester="bench-memory") as fleet:
        await _ready(fleet)
        began = time.monotonic()
        done = started = 0

        async def keep_calling() -> None:
            nonlocal done, started
            while started < commands:
                number = started = started + 1
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                await _note(fleet, number)
                done += 1
                if done % (commands // LOOKS) == 0:
                    looks.append(_look(pid, journal, done, time.monotonic() - began))
                    console.print(f"{done:,} done after {looks[-1].seconds:.0f} s")

        async with asyncio.TaskGroup() as callers:
            for _ in range(WINDOW):
                callers.create_task(keep_calling())
    return looks


async def _note(fleet: Fleet, number: int) -> None:
    """Have it done, and wait while the journal is full."""
    while True:
        try:
            await fleet.call(DEVICE, "note", number, type=int)
        except RemoteError as error:
            if error.code != Code.BUSY:
                raise
            await asyncio.sleep(1.0)
        else:
            return


def table(looks: list[Look]) -> Table:
    """What to show."""
    shown = Table(title="A device's memory", title_justify="left")
    for heading in ("commands", "seconds", "resident memory", "journal on disk"):
        shown.add_column(heading, justify="right")
    for look in looks:
        shown.add_row(f"{look.commands:,}", f"{look.seconds:.0f}", _mebibytes(look.resident), _mebibytes(look.journal))
    return shown


@contextlib.asynccontextmanager
async def _device(broker: str, journal: Path) -> AsyncGenerator[int]:
    command = script("outrider-device", "run", "benchmarks.noting:device", "--broker", broker, "--journal", journal)
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, cwd=ROOT)
    try:
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


async def _ready(fleet: Fleet) -> None:
    seen = asyncio.Event()
    with fleet.roster.watch(lambda state: seen.set()):
        async with asyncio.timeout(START_LIMIT):
            while not any(state.device == DEVICE and state.status == "ready" for state in fleet.devices()):
                await seen.wait()
                seen.clear()


def _look(pid: int, journal: Path, commands: int, seconds: float) -> Look:
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    files = [journal, journal.with_name(f"{journal.name}-wal")]
    return Look(commands, seconds, resident, sum(file.stat().st_size for file in files if file.exists()))


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


async def _main(commands: int, rate: float, console: Console) -> None:
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        async with start_broker() as broker:
            looks = await measure(broker.address, Path(folder, "journal.sqlite"), commands, rate, console)
    console.print(table(looks))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description="Watch a device's memory.")
    parser.add_argument("--commands", type=int, default=1_000_000, help="commands to send (1,000,000)")
    parser.add_argument("--rate", type=float, default=2000.0, help="of them a second at most (2,000)")
    options = parser.parse_args()
    asyncio.run(_main(options.commands, options.rate, Console()))


if __name__ == "__main__":
    main()
