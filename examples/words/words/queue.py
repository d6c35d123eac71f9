"""The queue of one hub: the table, and what takes jobs, sends them and removes old ones, as long as the hub runs."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from sqlalchemy.exc import SQLAlchemyError

from outrider.controller.hub import Context

from .dispatcher import Dispatcher
from .intake import Intake
from .jobs import Job, Jobs
from .removal import Removal, keep


class Queue:
    """Jobs in, jobs out; open while the hub is."""

    _jobs: Jobs
    _intake: Intake

    @asynccontextmanager
    async def opened(self, hub: Context) -> AsyncGenerator[None]:
        """Open the table, send jobs to workers, and remove old ones, until the hub ends.

        :raises ValueError: the environment says how long to keep them in a way that makes no sense.
        """
        age = keep()
        self._jobs = await asyncio.to_thread(Jobs, hub.database, hub.name)
        dispatcher = Dispatcher(hub.fleet, self._jobs)
        self._intake = Intake(self._jobs, stored=dispatcher.wake)
        parts = (self._intake, dispatcher, Removal(self._jobs, age))
        running = [asyncio.create_task(part.run(), name="words") for part in parts]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            with suppress(SQLAlchemyError):  # then other hubs wait for the ends of the leases
                await asyncio.to_thread(self._jobs.release)
            self._jobs.close()

    async def add(self, url: str) -> str:
        """Write a job down, and return its id."""
        return await self._intake.add(url)

    async def get(self, id: str) -> Job | None:
        """A job; None where there is no such."""
        return await asyncio.to_thread(self._jobs.get, id)
