"""The device that scenarios try, as `tests.faults.subject:device` too. What it runs it writes to a file."""

import asyncio
import time
from pathlib import Path

from outrider.device import Device, Job, Journal

ID = "lamp-1"


def made(journal: Journal | Path | None = None) -> Device:
    """A device with few threads, jobs and events, so that these bounds are near."""
    device = Device(ID, initial="ready", journal=journal, max_threads=1, max_jobs=8, max_events=3)
    device.include(work, plain, hold, tell)
    device.command(name="again", idempotent=True)(work)
    return device


async def work(path: str, seconds: float = 0.0, size: int = 0) -> str:
    """Write a line to a file, take some seconds and return so many letters. Not idempotent: twice leaves two lines."""
    _ran(path)
    await asyncio.sleep(seconds)
    return "x" * size


def plain(path: str) -> None:
    """Write a line to a file, in a thread."""
    _ran(path)


def hold(path: str) -> None:
    """Keep a thread until the file is there."""
    while not Path(path).exists():
        time.sleep(0.005)


async def tell(job: Job, path: str) -> None:
    """Emit an event, and write a line to a file."""
    await job.emit("told", subject=job.id)
    _ran(path)


def _ran(path: str) -> None:
    with Path(path).open("a") as file:
        file.write("ran\n")


device = made()
