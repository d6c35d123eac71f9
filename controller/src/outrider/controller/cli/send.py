"""`outrider send`: one command to one device, a group or all, and every target's outcome as it comes."""

import asyncio
import re
import shlex
from collections.abc import Mapping
from typing import Annotated

import typer
from typer.core import TyperCommand

from outrider.controller import Dispatch, Fleet, Targets
from outrider.controller.arguments import Arguments, parse
from outrider.schema import About, CommandAbout, InvalidArguments, Result, Status

from .exits import INTERRUPTED, NOT_DONE
from .live import Live
from .options import BrokerOption, JsonOption, NameOption, PrefixOption, open_fleet, seconds
from .output import json_text, messages_console, plain_result, printable, reply_line, results_console, summary_line

ABOUT_WAIT = 1.0
"""Seconds for a device's own description, which stands on the broker; without it arguments are read as they look."""

MENTIONED = 5
"""Devices named in one sentence."""


class SendCommand(TyperCommand):
    """Takes `-5` and other words that begin with one dash as arguments, but no misspelt `--option`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer hides the type of contexts
        """The words left over; `typer.BadParameter` for an option that there is none of."""
        known = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        words = args[: args.index("--")] if "--" in args else args
        for word in words:
            name = word.partition("=")[0]
            if re.match(r"--[A-Za-z]", word) and name not in known:
                hint = (
                    f"there is no option {name}; to send it as an argument write -- before it, and options before that"
                )
                raise typer.BadParameter(hint, ctx=ctx)
        return super().parse_args(ctx, args)


def send(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A device's id, @group, or all.", show_default=False)],
    command: Annotated[str, typer.Argument(metavar="COMMAND", help="See outrider about TARGET.", show_default=False)],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARGS",
            help='By position: 5 "two words"; by name: x=5 msg="two words"; first the one, then the other; '
            "or one JSON object or array.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            parser=seconds,
            help="How long to wait for final answers, also of devices that are away. Without it up to 30 seconds, "
            "and only for those that are there.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", metavar="SECONDS", parser=seconds, help="How long it may run on a device.", show_default=False
        ),
    ] = None,
    json: JsonOption = False,
    broker: BrokerOption = None,
    prefix: PrefixOption = None,
    name: NameOption = None,
) -> None:
    """Send a command to one device, a group (@kitchen) or all, and print what becomes of it on each.

    Exit codes: 0 all done, 1 some target not done, 2 usage, 3 broker unreachable.

    For example:

    outrider send lamp-1 ping

    outrider send @kitchen calculate 5 "two words"

    outrider send all calculate x=0.5 msg=hello --json
    """
    sending = _Sending(target, command, json=json)
    fleet = open_fleet(broker, prefix, name, on_disconnect=sending.disconnected)
    try:
        done = asyncio.run(sending.run(fleet, words or [], wait, timeout))
    except KeyboardInterrupt:
        messages_console().print(sending.interrupted())
        raise typer.Exit(INTERRUPTED) from None
    if not done:
        raise typer.Exit(NOT_DONE)


class _Sending:
    """One command on its way."""

    def __init__(self, target: str, command: str, *, json: bool) -> None:
        self._target = target
        self._command = command
        self._json = json
        self._dispatch: Dispatch | None = None
        self._missing: dict[str, None] = {}
        self._results = results_console()
        self._aside = self._results if self._results.is_terminal else messages_console()

    async def run(self, fleet: Fleet, words: list[str], wait: float | None, timeout: float | None) -> bool:
        """Send it, print every outcome, and return whether all targets did it."""
        async with fleet:
            targets = fleet.resolve(self._target)
            abouts = await fleet.abouts(
                [device for device in targets.devices if device not in targets.gone], wait=ABOUT_WAIT
            )
            args = arguments(words, self._command, targets, abouts)
            dispatch = self._dispatch = fleet.dispatch(self._target, self._command, args, wait=wait, timeout=timeout)
            await self._show(dispatch)
        outcomes = dispatch.outcomes
        if len(outcomes) > 1 and not self._json:
            self._results.print(summary_line(outcomes))
        return all(result.status is Status.DONE for result in outcomes.values())

    def disconnected(self, reason: str) -> None:
        """Say that the connection was lost."""
        self._aside.print(f"the connection was lost: {printable(reason)}; connecting again", soft_wrap=True)

    def interrupted(self) -> str:
        """What to say after Ctrl-C."""
        if self._dispatch is None:
            return "interrupted; nothing was sent"
        if not self._missing:
            return "interrupted; all targets have answered"
        id, target = self._dispatch.id, shlex.quote(self._target)
        devices = ", ".join(list(self._missing)[:MENTIONED])
        more = f" and {len(self._missing) - MENTIONED} more" if len(self._missing) > MENTIONED else ""
        return (
            f"interrupted; {printable(self._command)} may still run on {devices}{more} (id {id})\n"
            f"to cancel it: outrider send {target} cancel {id}"
        )

    async def _show(self, dispatch: Dispatch) -> None:
        results, aside = self._results, self._aside
        missing = self._missing = dict.fromkeys(dispatch.targets.devices)
        with Live(aside, dispatch.targets.devices) as live:
            async for reply in dispatch:
                live.take(reply)
                expected = reply.device in missing
                match reply.message:
                    case Result() as result if expected and self._json:
                        results.print(json_text(plain_result(result)), soft_wrap=True)
                    case Result():
                        line = reply_line(reply, show_device=True)
                        if line is not None and expected:
                            results.print(line, soft_wrap=True)
                        elif line is not None and reply.device not in dispatch.targets.devices:
                            aside.print(line.append("  (was not asked for)", style="dim"), soft_wrap=True)
                    case progress if progress.stream is not None:
                        aside.print(reply_line(reply, show_device=True), soft_wrap=True)
                    case _:
                        pass
                if expected and isinstance(reply.message, Result):
                    del missing[reply.device]


def arguments(words: list[str], command: str, targets: Targets, abouts: Mapping[str, About]) -> Arguments:
    """Typed arguments that fit every kind of device among the targets; one that lacks the command will say so itself.

    :raises InvalidArguments: naming the argument at fault, or because one message cannot serve all.
    """
    kinds: list[tuple[str, CommandAbout]] = []
    for device in targets.devices:
        about = abouts.get(device)
        spec = about.commands.get(command) if about else None
        if spec is not None and spec not in (known for _, known in kinds):
            kinds.append((device, spec))
    if not kinds:
        return parse(words, None, command)
    readings: list[Arguments] = []
    for device, spec in kinds:
        try:
            readings.append(parse(words, spec, command))
        except InvalidArguments as error:
            raise InvalidArguments(f"{device}: {error}", argument=error.argument) from None
    if any(reading != readings[0] for reading in readings):
        devices = " and ".join(device for device, _ in kinds)
        raise InvalidArguments(f"{devices} take the arguments of {command} differently: send to each kind on its own")
    return readings[0]
