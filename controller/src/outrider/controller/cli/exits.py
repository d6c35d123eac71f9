"""How the program ends: exit codes, and which error leads to which."""

import asyncio
from collections.abc import Coroutine
from typing import Final, TypeVar

import typer

from outrider.controller.durable import OutboxUnusable
from outrider.schema import (
    BrokerUnreachable,
    LocalError,
    NoAnswer,
    OutriderError,
    PublishRefused,
    QueueFull,
    SubscribeRefused,
)

T = TypeVar("T")

NOT_DONE: Final = 1
"""Some target did not do what it was asked to."""

USAGE: Final = 2
"""The command line asks for what cannot be: a target nobody has seen, arguments that do not fit, …"""

UNREACHABLE: Final = 3
"""There is no broker to talk to, or it does not let this requester in."""

INTERRUPTED: Final = 130
"""Ctrl-C, as shells count it."""


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


def run(work: Coroutine[object, object, T]) -> T:
    """Run a subcommand's coroutine to its end.

    :raises typer.Exit: with `INTERRUPTED` on Ctrl-C.
    """
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
