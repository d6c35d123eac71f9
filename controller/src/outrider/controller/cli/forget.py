"""`outrider forget`: clear what the broker keeps of retired devices."""

import asyncio
import sys
from typing import Annotated

import typer
from rich.text import Text

from outrider.controller import Fleet
from outrider.controller.course import is_there
from outrider.controller.forget import StillThere
from outrider.controller.forget import forget as forget_devices
from outrider.schema import LocalError

from .exits import NOT_DONE, run
from .options import TARGET_HELP, BrokerOption, NameOption, PrefixOption, open_fleet
from .output import devices_table, messages_console, printable, results_console

SHOWN = 20
"""Devices listed before the question."""


class NotConfirmed(LocalError):
    """Nobody is there to say yes, and --yes was not given."""


def forget(
    target: Annotated[str, typer.Argument(metavar="TARGET", help=TARGET_HELP, show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Also devices that are connected; they tell their state again when they reconnect."
        ),
    ] = False,
    broker: BrokerOption = None,
    prefix: PrefixOption = None,
    name: NameOption = None,
) -> None:
    """Clear what the broker keeps of retired devices: their state, about and results. Asks first.

    Terminated devices are meant by their ids, or by is:terminated.

    For example:

    outrider forget lamp-9

    outrider forget 'is:terminated and lamp-*' --yes
    """
    if not run(_forget(open_fleet(broker, prefix, name), target, yes=yes, force=force)):
        raise typer.Exit(NOT_DONE)


async def _forget(fleet: Fleet, target: str, *, yes: bool, force: bool) -> bool:
    async with fleet:
        # An id that nobody has seen may still have results that stand.
        devices = fleet.resolve(target, unseen=True).devices
        there = [device for device in devices if is_there(device, fleet.roster.states)]
        if there and not force:
            raise StillThere(_still_there(there, len(devices)))
        if not yes and not await _confirmed(fleet, devices):
            messages_console().print("nothing was cleared")
            return False
        forgotten = await forget_devices(fleet, devices, force=force)
    console = results_console()
    cleared = sum(forgotten.topics.values()) - len(forgotten.kept)
    known = [device for device, count in forgotten.topics.items() if count]
    console.print(
        f"forgot {_count(len(known), 'device')}: {_count(cleared, 'retained message')} cleared", highlight=False
    )
    for device in forgotten.topics.keys() - known:
        messages_console().print(f"nothing is kept of {printable(device)}", highlight=False)
    for topic, why in forgotten.kept.items():
        messages_console().print(Text(f"{printable(topic)}: {printable(why)}", style="red"), soft_wrap=True)
    return not forgotten.kept


async def _confirmed(fleet: Fleet, devices: tuple[str, ...]) -> bool:
    messages = messages_console()
    states = [fleet.roster.states[device] for device in devices if device in fleet.roster.states]
    messages.print(devices_table(states[:SHOWN], {}))
    if len(devices) > SHOWN:
        messages.print(f"… and {len(devices) - SHOWN} more", style="dim")
    if not sys.stdin.isatty():
        raise NotConfirmed(f"clearing {_count(len(devices), 'device')} needs a yes: run it in a terminal, or add --yes")
    question = f"Clear all that the broker keeps of {_count(len(devices), 'device')}?"
    # In a thread: the connection wants to be kept alive, however long somebody thinks about it.
    return await asyncio.to_thread(typer.confirm, question, err=True)


def _still_there(there: list[str], total: int) -> str:
    some = ", ".join(there[:5]) + (f" and {len(there) - 5} more" if len(there) > 5 else "")
    rest = "" if len(there) == total else f"; leave them out, as in 'TARGET - {there[0]}', or"
    return f"{some}: connected, and would tell what it is again{rest}; send it terminate first, or add --force"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
