"""Turns for so many at once, whichever event loop asks."""

import asyncio
from typing import Final

REST: Final = 2
"""Who has a turn that lasts leaves the event loop alone that many times as long as it has used it."""
STEP: Final = 0.002
"""Seconds that it may use it for before it does."""


class Turns:
    """A semaphore for each event loop: a device may be served more than once in one process, each time in a new one."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._semaphores: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}

    def _here(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if loop not in self._semaphores:
            for other in [each for each in self._semaphores if each.is_closed()]:
                del self._semaphores[other]
            self._semaphores[loop] = asyncio.Semaphore(self._count)
        return self._semaphores[loop]

    async def __aenter__(self) -> None:
        await self._here().acquire()

    async def __aexit__(self, *_: object) -> None:
        self._here().release()


class Pace:
    """What somebody does in small parts on the event loop, so that others are not kept waiting.

    :ivar spent: seconds so far, without the pauses.
    """

    def __init__(self) -> None:
        self.spent = 0.0
        self._time = asyncio.get_running_loop().time
        self._begun = self._time()

    async def pause(self) -> None:
        """Called after each part: pauses once they have taken long enough together."""
        took = self._time() - self._begun
        if took >= STEP:
            self.spent += took
            await asyncio.sleep(took * REST)
            self._begun = self._time()

    def stop(self) -> float:
        """Say what all parts have taken."""
        self.spent += self._time() - self._begun
        self._begun = self._time()
        return self.spent
