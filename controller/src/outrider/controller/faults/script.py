"""What is done when: the steps of a script, their times, and the task that takes them."""

import asyncio
import heapq
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct

from .commands import Command
from .proxy import FaultProxy


class Span(NamedTuple):
    """A length of time in seconds between two ends, chosen anew each time."""

    least: float
    most: float


class Step(Struct, frozen=True, kw_only=True):
    """What is done when, in seconds since the script began.

    :ivar every: again and again, with such a pause before the first time, and between the end of one and the next.
    :ivar lasts: it is undone after this time.
    :ivar text: the step as it was written.
    """

    command: Command
    at: float = 0.0
    every: Span | None = None
    lasts: float | None = None
    text: str = ""


class Due(NamedTuple):
    """What is to be done `time` seconds after the beginning: a step, by its place in the script, or to undo it."""

    time: float
    place: int
    undo: bool


def timeline(steps: Sequence[Step], seed: int = 0) -> Iterator[Due]:
    """All that the steps do, in order of time; endless where one has `every`. Its pauses follow from the seed."""
    chances = [random.Random(f"{seed} {place}") for place in range(len(steps))]

    def again(place: int, after: float, every: Span) -> Due:
        return Due(after + chances[place].uniform(*every), place, False)

    coming = [
        Due(step.at, place, False) if step.every is None else again(place, step.at, step.every)
        for place, step in enumerate(steps)
    ]
    heapq.heapify(coming)
    while coming:
        due = heapq.heappop(coming)
        yield due
        step = steps[due.place]
        if not due.undo and step.lasts is not None:
            heapq.heappush(coming, Due(due.time + step.lasts, due.place, True))
        elif step.every is not None:
            heapq.heappush(coming, again(due.place, due.time, step.every))


async def play(
    proxy: FaultProxy,
    steps: Sequence[Step],
    *,
    seed: int = 0,
    told: Callable[[Step, bool], None] = lambda step, undo: None,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Do all that the steps say, each at its time; return when nothing is left to do.

    :param told: called with each step before it is taken, and whether it is to be undone.
    :param now: seconds of a clock that never goes back, and `sleep` waits for it: a `ManualClock` has both.
    """
    undoing: dict[int, Callable[[], None] | None] = {}
    began = now()
    for due in timeline(steps, seed):
        if (pause := began + due.time - now()) > 0:
            await sleep(pause)
        step = steps[due.place]
        told(step, due.undo)
        if not due.undo:
            undoing[due.place] = proxy.do(step.command)
        elif undo := undoing.pop(due.place, None):
            undo()
