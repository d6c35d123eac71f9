"""A hub with the plugin and some workers as processes that end together: what `make run` starts."""

import asyncio
import os
import re
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from pathlib import Path
from typing import Final

AGAIN: Final = 1.0
"""Seconds before a worker that has crashed is started again."""


async def run(workers: int, http: str | None, broker: str | None) -> int:
    """Run until Ctrl-C or SIGTERM; the hub's exit code."""
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    where = ["--broker", broker] if broker else []
    hub = await _start("outrider", "hub", "--plugin", "words.plugin", *(["--http", http] if http else []), *where)
    machine = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:40]
    async with asyncio.TaskGroup() as tasks:
        # Workers wait for the broker, which the hub may have to start.
        kept = [tasks.create_task(_keep(f"words-{machine}-{number + 1}", where)) for number in range(workers)]
        ended = tasks.create_task(hub.wait())
        asking = tasks.create_task(asked.wait())
        await asyncio.wait((ended, asking), return_when=asyncio.FIRST_COMPLETED)
        asking.cancel()
        for task in kept:
            task.cancel()
        await asyncio.gather(*kept, return_exceptions=True)  # before the hub, which may have the broker
        _end(hub)
    return ended.result()


async def _keep(id: str, where: Sequence[str]) -> None:
    """Run a worker, and start it again where it crashes; `terminate` is an end."""
    code = -1
    while code != 0:
        worker = await _start("outrider-device", "run", "words.worker:worker", "--id", id, *where)
        try:
            code = await worker.wait()
        except asyncio.CancelledError:
            _end(worker)
            await worker.wait()
            raise
        await asyncio.sleep(AGAIN if code else 0)


async def _start(program: str, *arguments: str) -> Process:
    # A group of its own, so that Ctrl-C comes to this process alone, which ends them in order.
    path = Path(sys.executable).with_name(program)
    return await asyncio.create_subprocess_exec(path, *arguments, start_new_session=True, env=os.environ)


def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
