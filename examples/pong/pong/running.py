"""`pong run`: a broker where there is none, and two players as processes of their own, until Ctrl-C."""

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path

from outrider.device import Address

from .web import listening, parsed

DEFAULT_PORT = 1883
DEFAULT_BROKER = f"mqtt://localhost:{DEFAULT_PORT}"

AGAIN = 1.0
"""Seconds after which a process that ended by itself is started again."""

GRACE = 10.0
"""Seconds that a process has to end."""

POLL = 0.05
"""Seconds between two looks at whether a broker that was started takes connections."""


async def run(http: str | None, broker: str | None, urls: Mapping[str, str], port: int = DEFAULT_PORT) -> None:
    """Run all of it.

    :param http: where `first` listens; `second` does on the port after it.
    :param broker: URL; else that of one on this machine, which is started where there is none.
    :param urls: of opponents that answer over HTTP only, by their names.
    :param port: of the broker on this machine.
    :raises InvalidAddress: the broker's URL is none.
    :raises OSError: the broker cannot be started, or a port of the players is taken, now or when one is started again.
    :raises ValueError: there is no such port.
    """
    ended = asyncio.Event()
    for ending in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(ending, ended.set)
    url = broker or f"mqtt://localhost:{port}"
    words = _words(url, http)
    os.environ["OUTRIDER_BROKER"] = url  # for the players; as an option, all of the machine would see its password
    at = [part for name, where in urls.items() for part in ("--at", f"{name}={where}")]
    places = {name: _after(http, number) if http else None for number, name in enumerate(("first", "second"))}
    for place in places.values():
        _check_free(place)
    starts_broker = broker is None and not await _answers(port)
    async with _broker(port, ended) if starts_broker else contextlib.nullcontext():
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(_player(name, place, at), name=name) for name, place in places.items()]
                print(words, flush=True)
                await ended.wait()
                for task in running:
                    task.cancel()
        except ExceptionGroup as group:  # one cannot be started again, so the other is ended, too
            raise group.exceptions[0] from None


async def _player(name: str, place: str | None, at: Sequence[str]) -> None:
    """Run a player.

    :raises OSError: somebody else has taken its port meanwhile.
    """
    where = ["--http", place] if place else []
    program = [sys.executable, "-m", "pong", "player", name, *where, *at]
    await _keep(f"pong player {name}", program, before=lambda: _check_free(place))


def _check_free(place: str | None) -> None:
    """A player that cannot listen would be started again and again."""
    if place:
        listening(place).close()


@contextlib.asynccontextmanager
async def _broker(port: int, ended: asyncio.Event) -> AsyncGenerator[None]:
    """A broker on this machine, from when it takes connections."""
    program = [str(Path(sys.executable).with_name("outrider")), "broker", "--port", str(port)]
    process = await _start(program)
    while not await _answers(port) and not ended.is_set():
        if process.returncode is not None:
            raise OSError(f"there is no broker: outrider broker ended with exit code {process.returncode}")
        await asyncio.sleep(POLL)
    keeping = asyncio.create_task(_keep("outrider broker", program, process))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait((keeping,))


async def _keep(
    name: str, program: Sequence[str], process: Process | None = None, before: Callable[[], None] = lambda: None
) -> None:
    """Run a program, and run it again when it ends otherwise than on purpose.

    :param process: it runs already.
    :param before: called before each start; what it raises is the end.
    """
    while True:
        if process is None:
            before()
            process = await _start(program)
        try:
            code = await process.wait()
        finally:
            await _end(process)
        if code == 0:
            print(f"{name} has ended", flush=True)
            return
        print(f"{name} ended with exit code {code}, and is started again", file=sys.stderr, flush=True)
        await asyncio.sleep(AGAIN)
        process = None


async def _start(program: Sequence[str]) -> Process:
    # A session of its own: Ctrl-C is for us, who end it.
    return await asyncio.create_subprocess_exec(*program, stdin=DEVNULL, stdout=DEVNULL, start_new_session=True)


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(GRACE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False


def _after(http: str, ports: int) -> str:
    host, port = parsed(http)
    return f"{host}:{port + ports}"


def _words(url: str, http: str | None) -> str:
    pong = Path(sys.executable).with_name("pong")
    address = Address.parse(url)
    # Neither shows a password.
    option = "" if address == Address.parse(DEFAULT_BROKER) else f" --broker {shlex.quote(str(address))}"
    lines = [
        f"first and second are at {address.place}. In another terminal:",
        f"  {pong} start 1000{option}",
        f"  {pong} status{option}",
        f"  tail -f {Path.cwd() / 'first.log'} {Path.cwd() / 'second.log'}",
    ]
    if http:
        lines += [f"  curl http://{_after(http, number)}/ping" for number in (0, 1)]
    return "\n".join([*lines, "Ctrl-C ends both."])
