"""How well the players of examples/pong keep their interval: python -m benchmarks.pong

Two players, processes of their own, ping each other. Each writes to its log when it sends a ping; both are on this
machine and so on one clock. Reported is by how much the time from one ping to the next differs from the interval, and
the drift: how far the last ping is from where so many intervals after the first would be.
"""

import argparse
import asyncio
import os
import re
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from outrider.controller.broker import start_broker

from .children import ROOT, ChildFailed

GOAL: Final = 5.0
"""Milliseconds by which an interval may be off, at the median."""

SENT: Final = re.compile(r"^(\S+) .*: ping (\d+) to ", re.MULTILINE)

START_LIMIT: Final = 30.0
"""Seconds until the players must be there."""


class Figures(NamedTuple):
    """All in milliseconds."""

    error: float
    error_95: float
    longest: float
    drift: float


def figures(logs: list[str], interval: float, pings: int) -> Figures:
    """What the players' logs say."""
    sent = {int(number): datetime.fromisoformat(time).timestamp() for log in logs for time, number in SENT.findall(log)}
    times = [sent[number] * 1000 for number in range(1, pings + 1)]
    errors = [abs(later - earlier - interval) for earlier, later in pairwise(times)]
    drift = times[-1] - times[0] - interval * (len(times) - 1)
    return Figures(median(errors), quantiles(errors, n=20)[-1], max(errors), drift)


async def measure(transport: str, interval: int, rounds: int) -> Figures:
    """Play so many rounds, a ping of each player, and return how the interval was kept."""
    pings = 2 * rounds
    with tempfile.TemporaryDirectory(prefix="pong-") as name:
        folder = Path(name)
        environment = {**os.environ, "XDG_STATE_HOME": name, "PYTHONPATH": str(ROOT / "examples" / "pong")}
        async with AsyncExitStack() as stack:
            urls = {player: f"127.0.0.1:{_free_port()}" for player in ("first", "second")}
            if transport == "http":
                where = ["--transport", "http"]
                where += [part for player, url in urls.items() for part in ("--at", f"{player}=http://{url}")]
            else:
                where = ["--broker", (await stack.enter_async_context(start_broker())).address]
            for player, url in urls.items():
                options = [*where, "--http", url]
                await stack.enter_async_context(_program(folder, environment, "player", player, *options))
            async with asyncio.timeout(START_LIMIT):
                while not await _ends_well(folder, environment, "start", str(interval), *where):  # noqa: ASYNC110
                    await asyncio.sleep(0.5)
            logs = [folder / "first.log", folder / "second.log"]
            async with asyncio.timeout(START_LIMIT + 2 * pings * interval / 1000):
                # Looked at seldom, since whoever looks takes time from the players.
                while f": ping {pings + 1} " not in logs[0].read_text():  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(1)
        return figures([log.read_text() for log in logs], interval, pings)


@asynccontextmanager
async def _program(folder: Path, environment: Mapping[str, str], *arguments: str) -> AsyncGenerator[None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pong", *arguments), cwd=folder, env=environment
    )
    try:
        yield
        if process.returncode is not None:
            raise ChildFailed(f"pong {' '.join(arguments)} ended with exit code {process.returncode}")
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _ends_well(folder: Path, environment: Mapping[str, str], *arguments: str) -> bool:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pong", *arguments),
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait() == 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pong", description="Measure the interval of pong.")
    parser.add_argument("--interval", type=int, default=10, help="milliseconds (10)")
    parser.add_argument("--rounds", type=int, default=1000, help="pings of each player (1,000)")
    options = parser.parse_args()
    table = Table("transport", "error, median", "95 of 100 within", "longest", "drift at the end", box=None)
    for transport in ("mqtt", "http"):
        found = asyncio.run(measure(transport, options.interval, options.rounds))
        table.add_row(transport, *(f"{figure:.2f} ms" for figure in found))
    console = Console()
    console.print(f"{options.rounds:,} rounds of two pings, {options.interval} ms; goal: {GOAL:g} ms at the median")
    console.print(table)


if __name__ == "__main__":
    main()
