"""`outrider repl`: a terminal loop over a fleet, or a script from a pipe."""

import asyncio
import io
import sys
from functools import partial
from typing import Annotated, cast

import typer
from rich.text import Text

from outrider.device import run_in_daemon_thread
from outrider.schema import OutriderError

from .exits import NOT_DONE, exit_code, run
from .options import BrokerOption, NameOption, PrefixOption, open_fleet, seconds
from .session import Session
from .terminal import messages_console, printable, results_console, show
from .words import Leave, UsageError


def repl(
    broker: BrokerOption = None,
    prefix: PrefixOption = None,
    requester: NameOption = None,
    wait: Annotated[
        float | None,
        typer.Option(
            parser=seconds,
            metavar="SECONDS",
            help="How long to wait for a command's outcome; else in a script 30, in a terminal as long as it runs.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Command devices from a prompt, or run lines from a pipe: help shows what to type.

    A script ends with exit code 0 if all was done, 1 if something was not, 2 at a line that cannot be understood.
    """
    settings = (broker, prefix, requester)
    if sys.stdin.isatty():
        from .prompt import Prompt  # here, as prompt_toolkit would slow down every other subcommand's start

        code = run(Prompt(wait).run(*settings))
    else:
        code = run(_script(*settings, wait))
    if code:
        raise typer.Exit(code)


async def _script(broker: str | None, prefix: str | None, requester: str | None, wait: float | None) -> int:
    """Run the lines of standard input, each when the one before it has its outcomes. Returns the exit code."""
    output, errors = results_console(), messages_console()
    code, number = 0, 0
    # Unbuffered: the interpreter cannot end cleanly while a thread holds the lock of sys.stdin's buffer.
    lines = io.FileIO(sys.stdin.fileno(), closefd=False)
    async with open_fleet(broker, prefix, requester) as fleet, asyncio.TaskGroup() as tasks:
        session = Session(fleet, tasks, show=partial(show, output), say=partial(show, errors), wait=wait)
        while line := cast("bytes", await run_in_daemon_thread(lines.readline, "script")):
            number += 1
            try:
                sent = await session.interpret(_decoded(line))
                if sent is not None and not await sent.ended():
                    code = NOT_DONE
            except Leave:
                break
            except OutriderError as error:
                errors.print(Text.assemble(("error: ", "bold red"), printable(f"line {number}: {error}", keep="\n")))
                code = exit_code(error)
                if code != NOT_DONE:
                    break
    return code


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"not UTF-8: {error}") from None
