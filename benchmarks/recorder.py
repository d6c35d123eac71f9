"""Recording from MQTT to SQLite beside a bare paho subscriber that only counts: python -m benchmarks.recorder

A source publishes events as fast as the broker takes them. Each side is a process of its own, and is timed from the
first event that it hears; ours is done when the last is in the database and acknowledged.
"""

import argparse
import asyncio
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from rich.console import Console

from outrider.controller.broker import start_broker

from .children import ROUND_LIMIT, START_LIMIT, ChildFailed, child, figure, module
from .report import Line, table

NAME = "events recorded, MQTT to SQLite"
UNIT = "messages/s"
COUNT = 50_000
GOAL = 0.8


async def measure(broker: str, rounds: int, share: float = 1.0) -> list[Line]:
    """Measure on a broker that speaks MQTT 5 and 3.1.1 on one port; the figures are medians over the rounds.

    :param share: of the messages that a round usually has.
    """
    count = max(1_000, round(COUNT * share))
    port = urlsplit(broker).port
    ours: list[float] = []
    peer: list[float] = []
    try:
        for number in range(rounds):
            with TemporaryDirectory() as folder:
                sides = [
                    (peer, module("peers.paho_count", port, count)),
                    (ours, module("recording", broker, Path(folder, "hub.sqlite"), f"bench-hub-{number}", count)),
                ]
                for figures, command in sides if number % 2 else reversed(sides):
                    figures.append(await _round(command, module("source", port, count)))
    except ChildFailed as error:
        return [Line(NAME, UNIT, goal=GOAL, why=str(error))]
    return [Line(NAME, UNIT, median(ours), median(peer), GOAL)]


async def _round(subscriber: tuple[str, ...], source: tuple[str, ...]) -> float:
    async with child(*subscriber) as output:
        async with asyncio.timeout(START_LIMIT):
            await output.readuntil(b"ready\n")
        await figure(*source)
        async with asyncio.timeout(ROUND_LIMIT):
            return float(await output.readuntil(b"\n"))


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recorder")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each side; the figures are medians (7)")
    parser.add_argument("--share", type=float, default=1.0, help=f"of {COUNT:,} messages in a round (1)")
    options = parser.parse_args()
    console = Console()
    async with start_broker() as broker:
        console.print(f"Measuring on the {broker.kind} broker, {options.rounds} rounds of each, interleaved.")
        lines = await measure(broker.address, options.rounds, options.share)
    console.print(table(lines, "Ours beside bare paho-mqtt that counts (MQTT 5, QoS 1), medians"))


if __name__ == "__main__":
    asyncio.run(main())
