"""`outrider devices` and `outrider about`: who is there, and what each can do by its own word."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from msgspec import to_builtins
from rich.text import Text

from outrider.controller import Fleet, Targets
from outrider.controller.suggestions import nearest
from outrider.schema import About, State, UnknownTarget

from .exits import run
from .options import TARGET_HELP, BrokerOption, JsonOption, NameOption, PrefixOption, open_fleet
from .output import (
    about_table,
    about_text,
    devices_table,
    json_text,
    messages_console,
    printable,
    results_console,
    status_text,
)

STATUSES = ("ready", "unready", "lost", "terminated")

ABOUT_WAIT = 2.0
"""Seconds for what devices say of themselves, which stands on the broker."""

TargetArgument = Annotated[str, typer.Argument(metavar="TARGET", help=TARGET_HELP, show_default=False)]


class UnknownCommand(UnknownTarget):
    """No device of the target has such a command."""


def devices(
    target: Annotated[str | None, typer.Argument(metavar="[TARGET]", help=TARGET_HELP, show_default=False)] = None,
    json: JsonOption = False,
    broker: BrokerOption = None,
    prefix: PrefixOption = None,
    name: NameOption = None,
) -> None:
    """List the devices: status, since when, groups, tags, commands; those that are gone or lost too."""
    run(_devices(open_fleet(broker, prefix, name), target, json=json))


def about(
    target: TargetArgument,
    command: Annotated[
        str | None, typer.Argument(metavar="[COMMAND]", help="Say more about this one.", show_default=False)
    ] = None,
    json: JsonOption = False,
    broker: BrokerOption = None,
    prefix: PrefixOption = None,
    name: NameOption = None,
) -> None:
    """Show a device's own documentation: its commands, or one of them with its arguments and a line to try."""
    run(_about(open_fleet(broker, prefix, name), target, command, json=json))


async def _devices(fleet: Fleet, target: str | None, *, json: bool) -> None:
    async with fleet:
        states = fleet.devices(target)
        abouts = await fleet.abouts([state.device for state in states], wait=ABOUT_WAIT)
    console = results_console()
    if not states:
        messages_console().print(
            f"no device is on {fleet.connection.address}; start one: outrider-device run --id lamp-1 --ready"
        )
    elif json:
        for state in states:
            known = abouts.get(state.device)
            more = {"commands": sorted(known.commands), "versions": known.versions} if known else {}
            console.print(json_text(to_builtins(state) | more), soft_wrap=True)
    else:
        console.print(devices_table(states, abouts))
        if target is not None:
            console.print(_meaning(fleet.resolve(target), states), soft_wrap=True)


def _meaning(targets: Targets, states: Sequence[State]) -> Text:
    """What a target stands for in one line: `3 devices: 2 ready, 1 lost`."""
    counts = {status: sum(state.status == status for state in states) for status in STATUSES}
    parts = [Text(f"{count} ", style="dim") + status_text(status) for status, count in counts.items() if count]
    text = Text(f"{len(states)} device{'' if len(states) == 1 else 's'}: ", style="dim") + Text(", ").join(parts)
    if targets.pool is not None:
        text.append("; a command goes to one of those that are ready", style="dim")
    if targets.gone:
        text.append("; nothing is sent to those that are terminated", style="dim")
    return text


async def _about(fleet: Fleet, target: str, command: str | None, *, json: bool) -> None:
    async with fleet:
        targets = fleet.resolve(target).devices
        if len(targets) == 1:
            abouts: Mapping[str, About] = {targets[0]: await fleet.about(targets[0])}
        else:
            abouts = await fleet.abouts(targets, wait=ABOUT_WAIT)
    messages = messages_console()
    silent = [device for device in targets if device not in abouts]
    if silent:
        messages.print(f"not told by {', '.join(silent)}: nothing stands on the broker; restart them")
    kinds = [(about, [device for device in targets if abouts.get(device) == about]) for about in _distinct(abouts)]
    if command is not None:
        lacking = [device for about, alike in kinds if command not in about.commands for device in alike]
        kinds = [(about, alike) for about, alike in kinds if command in about.commands]
        words = f"{', '.join(lacking)}: no command {command!r}{_nearest(command, abouts)}"
        if not kinds:
            raise UnknownCommand(words)
        if lacking:
            messages.print(words)
    for number, (about, alike) in enumerate(kinds):
        if json:
            results_console().print(json_text(_plain(about, alike, command)), soft_wrap=True)
        else:
            if number:
                results_console().print()
            _print_about(about, alike, command)


def _print_about(about: About, devices: list[str], command: str | None) -> None:
    console = results_console()
    versions = ", ".join(f"{printable(name)} {printable(version)}" for name, version in about.versions.items())
    console.print(Text.assemble((", ".join(devices), "bold green"), (f"  {versions}", "dim")))
    console.print()
    if command is not None:
        console.print(about_text(about, command, device=devices[0]))
    else:
        console.print(about_table(about))
        console.print(Text(f"\nMore about one of them: outrider about {devices[0]} COMMAND", style="dim"))


def _plain(about: About, devices: list[str], command: str | None) -> dict[str, object]:
    if command is None:
        return {"devices": devices, "versions": about.versions, "commands": to_builtins(about.commands)}
    told: dict[str, object] = to_builtins(about.commands[command])
    return {"devices": devices, "command": command, **told}


def _distinct(abouts: Mapping[str, About]) -> list[About]:
    distinct: list[About] = []
    for about in abouts.values():
        if about not in distinct:
            distinct.append(about)
    return distinct


def _nearest(command: str, abouts: Mapping[str, About]) -> str:
    return printable(nearest(command, {name for about in abouts.values() for name in about.commands}))
