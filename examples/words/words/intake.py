"""Takes new jobs: those that come in the same moment are written down with one commit."""

import asyncio
from collections.abc import Callable

from .jobs import Jobs


class Intake:
    """Writes jobs down while `run` does.

    :param stored: called when there are new ones.
    """

    def __init__(self, jobs: Jobs, stored: Callable[[], None]) -> None:
        self._jobs = jobs
        self._stored = stored
        self._waiting: list[tuple[str, asyncio.Future[str]]] = []
        self._some = asyncio.Event()

    async def add(self, url: str) -> str:
        """Write a job down, and return its id when that has been committed."""
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((url, future))
        self._some.set()
        return await future

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            batch, self._waiting = self._waiting, []
            try:
                ids = await asyncio.to_thread(self._jobs.add, [url for url, _ in batch])
            except Exception as error:  # whoever asked is told
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), id in zip(batch, ids, strict=True):
                if not future.done():
                    future.set_result(id)
            self._stored()
