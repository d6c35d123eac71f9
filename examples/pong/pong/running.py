"""`pong run`: a broker where there is none, and two players as processes of their own, until Ctrl-C."""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from outrider.device import Address

from .web import parsed

AGAIN = 2.0
"""Seconds after which a process that ended by itself is started again."""

GRACE = 10.0
"""Seconds that a process has to end."""


async def run(http: str | None, broker: str | None) -> None:
    """Run all of it.

    :param http: where `first` listens; `second` does on the port after it.
    :param broker: URL; else that of one on this machine, which is started where there is none.
    """
    ended = asyncio.Event()
    for ending in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(ending, ended.set)
    programs: list[list[str]] = []
    if broker is None and not await _answers("127.0.0.1", 1883):
        programs.append(["outrider.controller.cli.main", "broker"])
    url = broker or "mqtt://localhost:1883"
    for number, name in enumerate(("first", "second")):
        where = ["--http", _after(http, number)] if http else []
        programs.append(["pong", "player", name, "--broker", url, *where])
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(_keep(program), name=" ".join(program)) for program in programs]
        print(_words(url, http, broker is None), flush=True)
        await ended.wait()
        for task in running:
            task.cancel()


async def _keep(program: list[str]) -> None:
    """Run a module, and run it again when it ends otherwise than on purpose."""
    while True:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *program),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us, who end it
        )
        try:
            code = await process.wait()
        finally:
            await _end(process)
        if code == 0:
            print(f"{' '.join(program)} has ended", flush=True)
            return
        print(f"{' '.join(program)} ended with exit code {code}, and is started again", file=sys.stderr, flush=True)
        await asyncio.sleep(AGAIN)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(GRACE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _answers(host: str, port: int) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        return True
    return False


def _after(http: str, ports: int) -> str:
    host, port = parsed(http)
    return f"{host}:{port + ports}"


def _words(url: str, http: str | None, default: bool) -> str:
    pong = Path(sys.executable).with_name("pong")
    option = "" if default else f" --broker {url}"
    lines = [
        f"first and second are at {Address.parse(url).place}. In another terminal:",
        f"  {pong} start 1000{option}",
        f"  {pong} status{option}",
        f"  tail -f {Path.cwd() / 'first.log'} {Path.cwd() / 'second.log'}",
    ]
    if http:
        lines += [f"  curl http://{_after(http, number)}/ping" for number in (0, 1)]
    return "\n".join([*lines, "Ctrl-C ends both."])
