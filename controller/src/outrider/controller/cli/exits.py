"""How the program ends: exit codes, and which error leads to which."""

import asyncio
import re
import signal
from collections.abc import Callable, Coroutine
from typing import Final, TypeVar

import typer

from outrider.controller.durable import OutboxUnusable
from outrider.controller.scripts import ALLOWING
from outrider.device.scripts.contract import POOL
from outrider.schema import (
    BrokerUnreachable,
    LocalError,
    NoAnswer,
    NoMember,
    OutriderError,
    PublishRefused,
    QueueFull,
    SubscribeRefused,
)

from .terminal import OutputLost

T = TypeVar("T")

NOT_DONE: Final = 1
"""Some target did not do what it was asked to."""

USAGE: Final = 2
"""The command line asks for what cannot be: a target nobody has seen, arguments that do not fit, …"""

UNREACHABLE: Final = 3
"""There is no broker to talk to, or it does not let this requester in."""

_ABSENT: Final = re.compile(
    r"at (localhost|127(\.\d+){3}|\[::1\]):(?P<port>\d+): nothing listens there .*\(mqtt://[^,]*\)$"
)
"""Words for a broker of this machine that is not there, and that `outrider broker` could be."""

INTERRUPTED: Final = 128 + signal.SIGINT
"""Ctrl-C, as shells count it; other signals likewise, and a closed standard output as SIGPIPE."""


class Interrupted(Exception):
    """Ended before it was done, by Ctrl-C or another signal."""

    def __init__(self, number: signal.Signals = signal.SIGINT) -> None:
        super().__init__(number)
        self.code = 128 + number


def exit_code(error: OutriderError) -> int:
    """The exit code for an error that ended a subcommand."""
    match error:
        case BrokerUnreachable() | SubscribeRefused():
            return UNREACHABLE
        case PublishRefused() | QueueFull() | NoAnswer() | OutboxUnusable():
            return NOT_DONE
        case LocalError():
            return USAGE
        case _:
            return NOT_DONE


def advice(error: OutriderError) -> str:
    """What more this command line can do about an error; empty where nothing."""
    if isinstance(error, BrokerUnreachable) and (absent := _ABSENT.search(str(error))):
        port = "" if absent["port"] == "1883" else f" --port {absent['port']}"
        return f"To try things out, start one: outrider broker{port}"
    if isinstance(error, NoMember) and error.pool == POOL and not error.members:
        return f"Start one: {ALLOWING} --id NAME --ready"
    return ""


def run(work: Coroutine[object, object, T], *, interrupted: Callable[[], object] = lambda: None) -> T:
    """Run a subcommand's coroutine to its end.

    Ctrl-C, SIGTERM and SIGHUP cancel it, so that a terminal is left as it was found.

    :param interrupted: called where it ended early, to say what that leaves behind.
    :raises typer.Exit: with 128 and the signal's number, as shells count it.
    """
    try:
        return asyncio.run(_until_a_signal(work))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Interrupted as ended:
        code = ended.code
    except OutputLost:
        interrupted()
        raise
    interrupted()
    raise typer.Exit(code)


def end_once_at_lost_output() -> None:
    """Have the running event loop say nothing of tasks that `OutputLost` ended: it ends the loop anyway."""
    asyncio.get_running_loop().set_exception_handler(_unless_output_is_lost)


def _unless_output_is_lost(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    if not isinstance(context.get("exception"), OutputLost):
        loop.default_exception_handler(context)


async def _until_a_signal(work: Coroutine[object, object, T]) -> T:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    came: list[signal.Signals] = []
    end_once_at_lost_output()

    def end(number: signal.Signals) -> None:
        came.append(number)
        if task is not None:
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # under nohup it is ignored
            loop.add_signal_handler(number, end, number)
    try:
        return await work
    except asyncio.CancelledError:
        if came:
            raise Interrupted(came[0]) from None
        raise
