"""Removes jobs that ended long ago, so that the table does not grow for ever."""

import asyncio
import logging
import os
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from .jobs import Jobs

DAY: Final = 86_400.0
INTERVAL: Final = 3600.0
"""Seconds between two looks for old jobs; the first is when the hub begins."""

MOST: Final = 100
"""Jobs that one transaction removes, so that nobody waits for it: each may have a result of a megabyte."""

logger = logging.getLogger("words")


def keep() -> float:
    """For how many seconds a job is kept after its end: WORDS_KEEP_DAYS in the environment, 30 days else.

    :raises ValueError: that is no number above 0.
    """
    given = os.environ.get("WORDS_KEEP_DAYS") or "30"
    try:
        days = float(given)
    except ValueError:
        days = 0.0
    if not days > 0:
        raise ValueError(f"WORDS_KEEP_DAYS is a number of days above 0, as 7 or 0.5, not {given!r}")
    return days * DAY


class Removal:
    """Removes jobs that ended more than `age` seconds ago."""

    def __init__(self, jobs: Jobs, age: float) -> None:
        self._jobs = jobs
        self._age = age

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                while await asyncio.to_thread(self._jobs.remove, self._age, MOST) == MOST:
                    pass
            except SQLAlchemyError as error:
                logger.warning("old jobs cannot be removed: %s", error)
            await asyncio.sleep(INTERVAL)
