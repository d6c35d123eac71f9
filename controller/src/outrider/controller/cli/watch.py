"""`outrider watch`: a live table of a fleet, for a terminal; elsewhere one look at it."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from outrider.controller import Fleet

from .board import snapshot
from .exits import INTERRUPTED, run
from .options import TARGET_HELP, BrokerOption, NameOption, PrefixOption, open_fleet
from .output import json_text, messages_console, results_console
from .screen import Screen
from .terminal import show
from .watcher import Watcher

WIDEST: Final = 200
"""Columns where the output is no terminal."""


def watch(
    target: Annotated[str | None, typer.Argument(metavar="[TARGET]", help=TARGET_HELP, show_default=False)] = None,
    once: Annotated[bool, typer.Option("--once", help="Print the table once and end, as without a terminal.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what there is as one JSON document, and end.")] = False,
    broker: BrokerOption = None,
    prefix: PrefixOption = None,
    name: NameOption = None,
) -> None:
    """Watch devices live: states, running jobs with bars, last results, rates, whoever asked for them.

    Keys: arrows, PgUp, PgDn, Home, End scroll; s sorts; / filters by a target; q ends. Without a terminal it prints
    the table once.
    """
    fleet = open_fleet(broker, prefix, name)
    console = results_console()
    if once or json or not console.is_terminal or console.is_dumb_terminal:
        run(_look(fleet, target, console, json=json))
    elif not run(_watch(fleet, target, console)):
        raise typer.Exit(INTERRUPTED)


async def _watch(fleet: Fleet, target: str | None, console: Console) -> bool:
    async with fleet:
        return await watching(fleet, target, console=console)


async def watching(fleet: Fleet, target: str | None = None, *, console: Console | None = None) -> bool:
    """Show a live table on the whole terminal until a key ends it; True for `q`, False for Ctrl-C.

    The terminal is then as it was before. What the caller prints meanwhile would be drawn over.

    :param fleet: an open one; the table has a connection of its own beside it.
    :param target: the devices to show, also those that match it later; by default all.
    :param console: where to draw; by default the process's standard output, whatever `sys.stdout` is.
    :raises TargetSyntax: the target cannot be read.
    :raises BrokerUnreachable: there is none at the start; one that is lost later is awaited.
    """
    console = console or Console(file=sys.__stdout__, highlight=False, markup=False, emoji=False)
    watcher = Watcher(fleet, target)
    async with watcher.hearing():
        screen = Screen(watcher, console)
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(watcher.keep_asking(), name="ask for jobs")
            try:
                return await screen.run()
            finally:
                asking.cancel()


async def _look(fleet: Fleet, target: str | None, console: Console, *, json: bool) -> None:
    """Print what there is, once."""
    async with fleet:
        if json:
            async with _heard(fleet, target) as watcher:
                console.print(json_text(watcher.document()), soft_wrap=True)
        else:
            await look(fleet, target, partial(show, console), messages_console().print, width=console.width)


async def look(
    fleet: Fleet,
    target: str | None,
    show: Callable[[Text], None],
    say: Callable[[Text], None],
    *,
    width: int = WIDEST,
) -> None:
    """Show the table once, all devices of it.

    :param fleet: an open one.
    :param width: columns.
    :raises TargetSyntax: the target cannot be read.
    :raises UnknownTarget: it stands for no device.
    """
    async with _heard(fleet, target) as watcher:
        watcher.draw(width, len(watcher.board.devices) + 8)
        for line in snapshot(watcher.board, watcher.view, watcher.now(), min(width, WIDEST)):
            show(line)
        if watcher.view.deaf:
            say(Text(f"the broker lets you hear no {', no '.join(watcher.view.deaf)}"))


@asynccontextmanager
async def _heard(fleet: Fleet, target: str | None) -> AsyncGenerator[Watcher]:
    """A watcher that knows what there is."""
    if target is not None:
        fleet.resolve(target)  # says what is wrong with it
    watcher = Watcher(fleet, target)
    async with watcher.hearing():
        await asyncio.gather(watcher.ask_first(), watcher.ask_versions())
        watcher.select()
        yield watcher
