"""A unicast ping through the public API beside a bare paho echo, with 100 in flight and one by one.

Caller and device are processes of their own, as asker and answerer of the echo are. The broker and both answerers
stay up; the callers of the two sides take turns, and which of them goes first alternates too.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from urllib.parse import urlsplit

from outrider.controller import Fleet

from .children import START_LIMIT, ChildFailed, answering, figure, module, script
from .report import Line

DEVICE = "bench-1"
UNIT = "round trips/s"


@dataclass(frozen=True, slots=True)
class Load:
    """How many are in flight, how many there are in one round, and the ratio to reach."""

    name: str
    window: int
    count: int
    goal: float | None


LOADS = (
    Load("ping, 100 in flight", 100, 10_000, 1.0),
    Load("ping, one by one", 1, 2_000, None),
)


async def measure(broker: str, rounds: int, share: float = 1.0) -> list[Line]:
    """Measure on an MQTT 5 broker; the figures are medians over the rounds.

    :param share: of the calls that a round usually has.
    """
    port = urlsplit(broker).port
    try:
        async with answering(*module("peers.paho_echo", "answer", port), sign="ready\n"), _device(broker):
            return [await _line(load, broker, rounds, share) for load in LOADS]
    except ChildFailed as error:
        return [Line(load.name, UNIT, goal=load.goal, why=str(error)) for load in LOADS]


async def _line(load: Load, broker: str, rounds: int, share: float) -> Line:
    count = max(load.window, round(load.count * share))
    ours = module("caller", broker, DEVICE, count, load.window)
    peer = module("peers.paho_echo", "ask", urlsplit(broker).port, count, load.window)
    figures: dict[tuple[str, ...], list[float]] = {ours: [], peer: []}
    try:
        for number in range(rounds):
            for command in (ours, peer) if number % 2 else (peer, ours):
                figures[command].append(await figure(*command))
    except ChildFailed as error:
        return Line(load.name, UNIT, goal=load.goal, why=str(error))
    return Line(load.name, UNIT, median(figures[ours]), median(figures[peer]), load.goal)


@asynccontextmanager
async def _device(broker: str) -> AsyncGenerator[None]:
    """A device process, from when it is ready."""
    async with answering(*script("outrider-device", "run", "--id", DEVICE, "--ready", "--broker", broker)):
        async with Fleet(broker, requester="bench-setup") as fleet, asyncio.timeout(START_LIMIT):
            seen = asyncio.Event()
            with fleet.roster.watch(lambda state: seen.set()):
                while not any(state.device == DEVICE and state.status == "ready" for state in fleet.devices()):
                    await seen.wait()
                    seen.clear()
        yield
