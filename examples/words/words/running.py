"""A hub with the plugin and some workers as processes that end together: what `make run` starts."""

import asyncio
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

NAME: Final = "words"
"""Who the hub is to the broker. Two of one name would take the connection from each other; others are called `hub`."""

AGAIN: Final = 1.0
"""Seconds before a worker that has crashed is started again."""


async def run(workers: int, http: str | None, broker: str | None, *, port: int = 1883) -> int:
    """Run until Ctrl-C or SIGTERM, or until the hub ends; an exit code.

    :param broker: URL; else that of one on this machine, which is started where there is none.
    :param port: where one on this machine is.
    """
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    needed: list[Process] = []
    async with AsyncExitStack() as stack:  # ends the hub, and then the broker
        if broker is None:
            broker = f"mqtt://127.0.0.1:{port}"
            if not await _answers(port):
                needed.append(await stack.enter_async_context(_broker(port)))
        options = ["--plugin", "words.plugin", "--as", NAME, "--broker", broker, *(["--http", http] if http else [])]
        needed.append(await stack.enter_async_context(_process("outrider", "hub", *options)))
        machine = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:40]
        async with asyncio.TaskGroup() as tasks:
            kept = [tasks.create_task(_keep(f"words-{machine}-{number + 1}", broker)) for number in range(workers)]
            ends = [tasks.create_task(end) for end in (asked.wait(), *(each.wait() for each in needed))]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in (*kept, *ends):
                task.cancel()
    return next((each.returncode for each in needed if each.returncode), 0)


async def _keep(id: str, broker: str) -> None:
    """Run a worker, and start it again where it crashes; `terminate` is an end."""
    while True:
        async with _process("outrider-device", "run", "words.worker:worker", "--id", id, "--broker", broker) as worker:
            if await worker.wait() == 0:
                return
        await asyncio.sleep(AGAIN)


@asynccontextmanager
async def _broker(port: int) -> AsyncGenerator[Process]:
    async with _process("outrider", "broker", "--port", str(port), stdout=PIPE) as broker:
        assert broker.stdout is not None
        await broker.stdout.readline()  # it says where it is as soon as it takes connections
        yield broker


@asynccontextmanager
async def _process(program: str, *arguments: str, stdout: int | None = None) -> AsyncGenerator[Process]:
    path = Path(sys.executable).with_name(program)
    # A group of its own, so that Ctrl-C comes to this process alone, which ends them in order.
    process = await asyncio.create_subprocess_exec(path, *arguments, stdout=stdout, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _answers(port: int) -> bool:
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False
