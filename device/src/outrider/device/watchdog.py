"""Notices an event loop that stands still: what blocks it keeps the device from answering anybody."""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

logger = logging.getLogger("outrider.device")

BEAT: Final = 0.5
"""Seconds between two signs of life of the loop."""

STALLED: Final = 5.0
"""Seconds without one after which it is said that, and where, the loop is blocked."""


@contextmanager
def watch_loop(name: str, *, stalled: float = STALLED) -> Generator[None]:
    """Watch the running event loop from a thread: log once for each stall, with the stack of what blocks.

    :param name: whose loop it is.
    :param stalled: seconds.
    """
    loop = asyncio.get_running_loop()
    thread = threading.get_ident()
    ended = threading.Event()
    beat = time.monotonic()
    timer: asyncio.TimerHandle

    def live() -> None:
        nonlocal beat, timer
        beat = time.monotonic()
        timer = loop.call_later(BEAT, live)

    def look() -> None:
        told = False
        while not ended.wait(BEAT):
            still = time.monotonic() - beat
            if still < stalled:
                if told:
                    logger.warning("%s: the event loop goes on", name)
                told = False
            elif not told:
                told = True
                frame = sys._current_frames().get(thread)  # pyright: ignore[reportPrivateUsage]  # documented
                where = "".join(traceback.format_stack(frame)[-8:]) if frame else ""
                logger.error(
                    "%s: the event loop has stood still for %.0f s, so nobody gets an answer, and the broker may take "
                    "the device for lost. A command that blocks must be a plain function, not async. It is at:\n%s",
                    name,
                    still,
                    where,
                )

    timer = loop.call_later(BEAT, live)
    threading.Thread(target=look, name=f"watchdog of {name}", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        timer.cancel()
