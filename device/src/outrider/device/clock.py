"""A clock for tests, that stands still until it is told to go on."""

import asyncio
import heapq
from typing import Final

BEGINNING: Final = 1_700_000_000.0
"""Unix seconds that a `ManualClock` begins with: 2023-11-14 22:13:20 UTC."""


class ManualClock:
    """Pass it where a `clock` of Unix seconds is asked for: calling it returns them.

    ::

        clock = ManualClock()
        executor = Executor(..., clock=clock)
        clock.advance(60)

    :param unix: the time to begin with, in Unix seconds.
    """

    def __init__(self, unix: float = BEGINNING) -> None:
        self._unix = unix
        self._passed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._slept = 0

    def __call__(self) -> float:
        """Return the Unix time in seconds."""
        return self._unix

    def monotonic(self) -> float:
        """Return the seconds that have passed since the beginning; `set` does not change them."""
        return self._passed

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake who has slept long enough.

        :raises ValueError: less than 0 seconds: only `set` turns a clock back.
        """
        if not seconds >= 0:
            raise ValueError(f"time cannot advance by {seconds:g} s: to turn the clock back use set")
        self._unix += seconds
        self._passed += seconds
        while self._sleepers and self._sleepers[0][0] <= self._passed:
            _, _, sleeper = heapq.heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)

    def set(self, unix: float) -> None:
        """Set the clock, forward or back, as its owner or NTP does. No time passes by it, and nobody wakes."""
        self._unix = unix

    async def sleep(self, seconds: float) -> None:
        """Return once so many seconds have passed, as `advance` says."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._slept += 1
        heapq.heappush(self._sleepers, (self._passed + seconds, self._slept, sleeper))
        await sleeper

    @property
    def sleeping(self) -> int:
        """How many sleep until time passes."""
        return sum(not sleeper.done() for _, _, sleeper in self._sleepers)
