"""Scripts that no device had room for stand in line, and are sent again until their time to begin is over.

A device remembers the id of what it rejected, so each attempt has one of its own: the script's, and a number after it.
All attempts stand in the outbox, and the next one is written there only when the one before has been rejected. So after
a restart of the hub the last one says how things are, and nothing is lost or runs twice.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable
from typing import Final

from outrider.device.pool import TRIED_ELSEWHERE
from outrider.schema import Code, Result, Status

FRONT: Final = 10
"""How many of those in line are tried at a time; the others wait behind them, and cost nothing meanwhile."""

PAUSE: Final = 0.5
"""Seconds after which a script is sent again; doubled each time, up to `LONGEST_PAUSE`."""

LONGEST_PAUSE: Final = 4.0

_ROOM: Final = frozenset({Code.BUSY, Code.NOT_READY})


def had_no_room(results: Iterable[Result]) -> bool:
    """Whether every device that was asked has refused it, and one of them may take it later."""
    codes = [each.error.code if each.status is Status.REJECTED and each.error is not None else None for each in results]
    return not _ROOM.isdisjoint(codes) and all(code in TRIED_ELSEWHERE for code in codes)


class Line:
    """Those that wait for room, in order."""

    def __init__(self) -> None:
        self._front = asyncio.Semaphore(FRONT)
        self._pausing: list[asyncio.Event] = []

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait until one is among the first."""
        async with self._front:
            yield

    async def pause(self, times: int, changed: asyncio.Event) -> None:
        """Wait before the next attempt, or until something has ended that had room.

        :param times: how many attempts there were.
        :param changed: set to wait no longer.
        """
        self._pausing.append(changed)
        try:
            async with asyncio.timeout(min(PAUSE * 2 ** min(times - 1, 10), LONGEST_PAUSE)):
                await changed.wait()
        except TimeoutError:
            pass
        finally:
            self._pausing.remove(changed)
            changed.clear()

    def room(self) -> None:
        """Say that there is room for one more."""
        for changed in self._pausing:
            if not changed.is_set():
                changed.set()
                return
