"""Devices that call each other: `outrider-device run tests.system.town:caller`, and members of a pool."""

import asyncio
from pathlib import Path

from outrider.device import Device, Job

caller = Device("caller", initial="ready")
worker = Device("words", pools=["words"], initial="ready")


@caller.command
async def ask(job: Job, target: str, command: str, args: list[str | float], wait: float = 25.0) -> object:
    """Call another device."""
    return await job.call(target, command, *args, wait=wait)


@caller.command
def ask_plain(job: Job, target: str, command: str, args: list[str | float]) -> object:
    """Call another device from a thread."""
    return job.call_blocking(target, command, *args)


async def once(folder: str, seconds: float) -> str:
    """Leave a file with this device's name, take some seconds, and tell the name."""
    with (Path(folder) / worker.id).open("a") as file:
        file.write("ran\n")
    await asyncio.sleep(seconds)
    return worker.id


@worker.command(idempotent=True)
async def again(folder: str, seconds: float) -> str:
    """As `once`; it may be run again."""
    return await once(folder, seconds)


worker.include(once)
