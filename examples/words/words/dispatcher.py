"""Sends waiting jobs to the pool as its workers are ready, and writes down what came of them."""

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncGenerator
from typing import Final

from msgspec import Raw, Struct, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from outrider.controller import Fleet, Outcome
from outrider.schema import Code, LocalError, NoMember, Status, UnknownTarget

from .fetching import CannotFetch
from .jobs import LEASE, Claim, Jobs
from .worker import PARALLEL

POOL: Final = "any:words"
LOOK: Final = 1.0
"""Seconds between two looks for jobs of other hubs, and for workers that have come."""

MOST_ATTEMPTS: Final = 5
"""Workers that a job may outlive: one that ends every worker must not end all of them for ever."""

logger = logging.getLogger("words")


class _Counted(Struct):
    """A worker's `Counts`, of which the words are passed on as they came."""

    counts: Raw


class Dispatcher:
    """Has at most `PARALLEL` jobs under way for each ready worker; all others wait in the table."""

    def __init__(self, fleet: Fleet, jobs: Jobs) -> None:
        self._fleet = fleet
        self._jobs = jobs
        self._running: set[str] = set()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There are new jobs."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew(), name="leases")
            while True:
                self._wake.clear()
                async with _logged("jobs cannot be taken"):
                    for claim in await self._claims():
                        self._running.add(claim.id)
                        tasks.create_task(self._do(claim), name=f"job {claim.id}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), LOOK)

    async def _claims(self) -> list[Claim]:
        room = PARALLEL * self._ready() - len(self._running)
        return await asyncio.to_thread(self._jobs.claim, room) if room > 0 else []

    def _ready(self) -> int:
        try:
            return sum(state.status == "ready" for state in self._fleet.devices(POOL))
        except UnknownTarget:
            return 0

    async def _do(self, claim: Claim) -> None:
        try:
            async with _logged(f"job {claim.id} will be done again"):
                await self._settle(claim, await self._asked(claim))
        finally:
            self._running.discard(claim.id)
            self._wake.set()

    async def _asked(self, claim: Claim) -> Outcome[_Counted] | None:
        """What a worker said; None where there was none after all."""
        try:
            await self._fleet.abouts([state.device for state in self._fleet.devices(POOL)])  # is it idempotent there?
            # For as long as a worker that is there works on it, which ends by the command's own timeout.
            dispatch = self._fleet.dispatch(POOL, "count_words", {"url": claim.url}, wait=math.inf)
        except NoMember:
            return None
        try:
            async for outcome in dispatch.each(_Counted):
                return outcome
            return None
        finally:
            dispatch.let_go()

    async def _settle(self, claim: Claim, outcome: Outcome[_Counted] | None) -> None:
        status = Status.CANCELLED if outcome is None else outcome.status
        error = None if outcome is None else outcome.error
        if outcome is not None and status is Status.DONE:
            try:
                counts = bytes(outcome.value.counts).decode()
            except ValidationError:  # a device of somebody else's is in the pool
                await asyncio.to_thread(
                    self._jobs.fail, claim.id, f"{outcome.device} answered what is no count: {error}"
                )
            else:
                await asyncio.to_thread(self._jobs.complete, claim.id, counts)
        elif status is Status.FAILED and error is not None:
            why = error.message.removeprefix(f"{CannotFetch.__name__}: ")  # the words say it
            await asyncio.to_thread(self._jobs.fail, claim.id, why)
        elif status is Status.TIMED_OUT:
            await asyncio.to_thread(self._jobs.fail, claim.id, "it took too long")
        elif status is Status.REJECTED and error is not None and error.code == Code.INVALID_ARGUMENTS:
            await asyncio.to_thread(self._jobs.fail, claim.id, error.message)
        else:  # no worker has done it; another one may
            attempts = claim.attempts + (status in (Status.INTERRUPTED, Status.RUNNING))
            if attempts >= MOST_ATTEMPTS:
                await asyncio.to_thread(self._jobs.fail, claim.id, f"{attempts} workers ended in the middle of it")
                return
            logger.info("job %s waits again: %s", claim.id, error.message if error else status)
            await asyncio.to_thread(self._jobs.put_back, claim.id, attempts=attempts)
            await asyncio.sleep(LOOK)  # where it was refused at once it would be again

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(LEASE / 3)
            async with _logged("leases cannot be renewed"):
                await asyncio.to_thread(self._jobs.renew, list(self._running))


@contextlib.asynccontextmanager
async def _logged(what: str) -> AsyncGenerator[None]:
    """Go on, whatever was wrong with one job or with the database; a job's lease ends by itself."""
    try:
        yield
    except (SQLAlchemyError, LocalError) as error:
        logger.warning("%s: %s", what, error)
    except Exception:
        logger.exception("%s", what)
