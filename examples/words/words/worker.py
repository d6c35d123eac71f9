"""A worker: a device in the pool `words`. Start as many as there are processors, on as many machines as one likes.

outrider-device run words.worker:worker --id words-1
"""

import asyncio
import logging
import os
import re
import socket
from typing import Annotated, Final

from msgspec import Meta

from outrider.device import Device, Job

from .counting import Counts, count, visible
from .fetching import LONGEST, CannotFetch, fetch

PARALLEL: Final = 8
"""Pages that a worker takes on at once: while some are fetched, another one is counted."""

worker = Device(
    "words-" + re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:40],
    pools=["words"],
    initial="ready",
    max_size=1_000_000,  # the counts of a book; what brokers take ends at 1,048,576
)


@worker.command(idempotent=True, timeout=60, max_parallel=PARALLEL)
async def count_words(job: Job, url: Annotated[str, Meta(max_length=LONGEST, description="of a page")]) -> Counts:
    """Fetch a page and count the words of its visible text."""
    page = await fetch(url, private=os.environ.get("ALLOW_PRIVATE") == "1")
    job.report(0.5, f"counting {len(page.text):,} characters")
    # In a thread, so that the worker goes on answering meanwhile.
    return await asyncio.to_thread(_counted, page.text, page.html)


@worker.command(idempotent=True, timeout=60, max_parallel=PARALLEL)
def count_text(text: str) -> Counts:
    """Count the words of a text, or of one part of a long one."""
    return count(text)


def _briefly(record: logging.LogRecord) -> bool:
    """A page that cannot be fetched is no fault of the worker's: a line in its log, without a traceback."""
    raised = record.exc_info[1] if record.exc_info else None
    if isinstance(raised, CannotFetch):
        words = " ".join(str(raised).split())
        record.msg, record.args, record.exc_info = "%s: %s", (record.getMessage(), words), None
    return True


def _counted(text: str, html: bool) -> Counts:
    return count(visible(text) if html else text)


logging.getLogger("outrider.executor").addFilter(_briefly)
