"""The processes of a measurement: started, listened to, ended."""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

ROOT = Path(__file__).parent.parent

START_LIMIT = 15.0
"""Seconds until an answerer must be ready."""

END_LIMIT = 5.0
"""Seconds that a process may take to end."""

ROUND_LIMIT = 60.0
"""Seconds that one round may take."""


class ChildFailed(Exception):
    """A process of the measurement ended early, failed, or was too slow; the message says which and why."""


@contextlib.asynccontextmanager
async def child(*command: str) -> AsyncGenerator[asyncio.StreamReader]:
    """Run a command as long as the block lasts and give its standard output; at the end it gets SIGTERM.

    :raises ChildFailed: with the end of its standard error, for anything that went wrong while it ran.
    """
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=errors, cwd=ROOT
        )
        assert process.stdout is not None
        try:
            yield process.stdout
        except (TimeoutError, asyncio.IncompleteReadError) as error:
            if process.stdout.at_eof():
                await _ended(process)
            ended = "" if process.returncode is None else f" and ended with exit code {process.returncode}"
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()[-3:]
            what = "was too slow" if isinstance(error, TimeoutError) else "said nothing"
            raise ChildFailed("\n".join((f"{' '.join(command)} {what}{ended}", *said))) from None
        finally:
            await _end(process)


@contextlib.asynccontextmanager
async def answering(*command: str, sign: str = "") -> AsyncGenerator[None]:
    """Run a command as long as the block lasts; with a `sign`, from when a line of its output says so.

    :raises ChildFailed: it did not come to that.
    """
    async with child(*command) as output:
        if sign:
            async with asyncio.timeout(START_LIMIT):
                await output.readuntil(sign.encode())
        yield


async def figure(*command: str) -> float:
    """Run a command to its end and return the number it prints.

    :raises ChildFailed: it printed none.
    """
    async with child(*command) as output, asyncio.timeout(ROUND_LIMIT):
        number = float(await output.readuntil(b"\n"))
        await output.read()  # it ends by itself
        return number


def module(name: str, *arguments: object) -> tuple[str, ...]:
    """The command that runs a module of the benchmarks."""
    return sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)


def script(name: str, *arguments: object) -> tuple[str, ...]:
    """The command that runs a console script of this environment."""
    return str(Path(sys.executable).with_name(name)), *map(str, arguments)


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    # A signal to a process that has just ended makes asyncio lose its exit code, and complain about that.
    if process.stdout.at_eof() and await _ended(process):
        return
    for end in (process.terminate, process.kill):
        with contextlib.suppress(ProcessLookupError):
            end()
        if await _ended(process):
            return


async def _ended(process: asyncio.subprocess.Process) -> bool:
    """Wait a little until it has; False if it has not."""
    try:
        async with asyncio.timeout(END_LIMIT):
            await process.wait()
    except TimeoutError:
        return False
    return True
