"""Commands taken by the hub over HTTP a second, beside a bare Litestar handler: python -m benchmarks.http

The hub writes each command down, sends it to a device over MQTT, follows its answer and records both; the peer writes a
row, committed in groups. Hub and peer stay up; they take turns, and which goes first alternates too.
"""

import argparse
import asyncio
import contextlib
import os
import tempfile
import urllib.request
from collections.abc import AsyncGenerator
from statistics import median
from urllib.parse import urlsplit

from rich.console import Console

from outrider.controller.broker import start_broker

from .children import ROUND_LIMIT, START_LIMIT, ChildFailed, answering, child, figure, module, script
from .report import Line, table

NAME = "commands over HTTP, 64 connections"
UNIT = "commands/s"
GOAL = 0.4
COUNT = 4000
CONNECTIONS = 64
DEVICE = "bench-1"


async def measure(broker: str, rounds: int, share: float = 1.0) -> list[Line]:
    """Measure; the figures are medians over the rounds.

    :param share: of the commands that a round usually has.
    """
    count = max(CONNECTIONS, round(COUNT * share))
    figures: dict[str, list[float]] = {"hub": [], "peer": []}
    try:
        async with _hub(broker) as hub, _peer() as peer, _device(broker, hub):
            ports = {"hub": hub, "peer": peer}
            for number in range(rounds):
                for side in ("hub", "peer") if number % 2 else ("peer", "hub"):
                    figures[side].append(await figure(*module("poster", ports[side], count, CONNECTIONS)))
    except ChildFailed as error:
        return [Line(NAME, UNIT, goal=GOAL, why=str(error))]
    return [Line(NAME, UNIT, median(figures["hub"]), median(figures["peer"]), GOAL)]


@contextlib.asynccontextmanager
async def _hub(broker: str) -> AsyncGenerator[int]:
    """A hub with a database of its own, and its port."""
    with tempfile.TemporaryDirectory(prefix="bench-hub-") as folder:
        command = ("env", f"XDG_STATE_HOME={folder}", *script("outrider", "hub", "--broker", broker))
        async with child(*command, "--http", "127.0.0.1:0", "--as", f"bench-hub-{os.getpid()}") as output:
            async with asyncio.timeout(ROUND_LIMIT):
                line = await output.readuntil(b"\n")
            yield urlsplit(line.split()[-1].decode()).port or 0


@contextlib.asynccontextmanager
async def _peer() -> AsyncGenerator[int]:
    """The bare handler, and its port."""
    async with child(*module("peers.bare_handler")) as output:
        async with asyncio.timeout(START_LIMIT):
            port = int(await output.readuntil(b"\n"))
        yield port


@contextlib.asynccontextmanager
async def _device(broker: str, hub: int) -> AsyncGenerator[None]:
    """A device, from when the hub has seen it."""
    async with answering(*script("outrider-device", "run", "--id", DEVICE, "--ready", "--broker", broker)):
        url = f"http://127.0.0.1:{hub}/api/v1/devices?target=is:ready"
        async with asyncio.timeout(START_LIMIT):
            while not await asyncio.to_thread(_answers, url):  # noqa: ASYNC110 - nothing but asking tells
                await asyncio.sleep(0.05)
        yield


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side; the figures are medians (5)")
    parser.add_argument("--share", type=float, default=1.0, help=f"of {COUNT:,} commands in a round (1)")
    options = parser.parse_args()
    console = Console()
    async with start_broker() as broker:
        console.print(f"Measuring on the {broker.kind} broker, {options.rounds} rounds of each, interleaved.")
        lines = await measure(broker.address, options.rounds, options.share)
    console.print(table(lines, "The hub beside a bare handler that commits in groups, medians"))


if __name__ == "__main__":
    asyncio.run(main())
