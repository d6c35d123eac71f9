"""Events that a device emits, journaled and acknowledged, beside bare paho that publishes the same payloads.

Each side is one process; they take turns, and which of them goes first alternates too.
"""

from dataclasses import dataclass
from statistics import median
from urllib.parse import urlsplit

from .children import ChildFailed, figure, module
from .report import Line

UNIT = "events/s"
WINDOW = 200
"""Unacknowledged messages of the peer: as many as a device has of events."""


@dataclass(frozen=True, slots=True)
class Load:
    """How many tasks emit one event after the other, and how many events there are in one round."""

    name: str
    together: int
    count: int


LOADS = (
    Load("events, 100 together", 100, 20_000),
    Load("events, one by one", 1, 5_000),
)


async def measure(broker: str, rounds: int, share: float = 1.0) -> list[Line]:
    """Measure on an MQTT 5 broker; the figures are medians over the rounds.

    :param share: of the events that a round usually has.
    """
    return [await _line(load, broker, rounds, share) for load in LOADS]


async def _line(load: Load, broker: str, rounds: int, share: float) -> Line:
    count = max(WINDOW, load.together, round(load.count * share))
    ours = module("emitter", broker, count, load.together)
    peer = module("peers.paho_publish", urlsplit(broker).port, count, WINDOW)
    figures: dict[tuple[str, ...], list[float]] = {ours: [], peer: []}
    try:
        for number in range(rounds):
            for command in (ours, peer) if number % 2 else (peer, ours):
                figures[command].append(await figure(*command))
    except ChildFailed as error:
        return Line(load.name, UNIT, why=str(error))
    return Line(load.name, UNIT, median(figures[ours]), median(figures[peer]))
