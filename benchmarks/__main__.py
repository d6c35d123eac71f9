"""`make bench`: measure, show a table, write the results; exit code 0 also where a goal is missed."""

import argparse
import asyncio
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from outrider.controller.broker import BrokerKind, BrokerNotInstalled, find_mosquitto, start_broker

from . import events, http, ping, recorder, report, store

RESULTS = Path(__file__).with_name("results.json")


async def measure(console: Console, rounds: int, share: float) -> list[report.Line]:
    """Start a broker and measure everything on it."""
    if find_mosquitto() is None:
        console.print(
            "[yellow]Mosquitto is not installed (`apt install mosquitto`). On the embedded broker no goal counts: bare "
            "paho waits there for delayed TCP acknowledgements.[/]"
        )
    try:
        async with start_broker() as broker:
            console.print(f"Measuring on the {broker.kind} broker, {rounds} rounds of each, interleaved.")
            lines = [
                *await ping.measure(broker.address, rounds, share),
                *await recorder.measure(broker.address, (rounds + 1) // 2, share),
                *await events.measure(broker.address, rounds, share),
                *await http.measure(broker.address, (rounds + 1) // 2, share),
            ]
            return lines if broker.kind is BrokerKind.MOSQUITTO else [replace(line, goal=None) for line in lines]
    except BrokerNotInstalled as error:
        why = str(error)
        return [
            *(report.Line(load.name, ping.UNIT, goal=load.goal, why=why) for load in ping.LOADS),
            report.Line(recorder.NAME, recorder.UNIT, goal=recorder.GOAL, why=why),
            *(report.Line(load.name, events.UNIT, why=why) for load in events.LOADS),
            report.Line(http.NAME, http.UNIT, goal=http.GOAL, why=why),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure against bare paho, side by side."
    )
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each side; the figures are medians (9)")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of calls in a round (1)")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help=f"where to write ({RESULTS.name} beside the code)"
    )
    options = parser.parse_args()
    console = Console()
    lines = asyncio.run(measure(console, options.rounds, options.share))
    lines += store.measure(console, (options.rounds + 1) // 2, options.share)
    report.write(options.results, lines)
    console.print(
        report.table(
            lines,
            "Ours beside bare paho-mqtt (MQTT 5, QoS 1), executemany, 10,000 events, a bare HTTP handler; medians",
        )
    )
    console.print(f"Written to {options.results}")


if __name__ == "__main__":
    main()
