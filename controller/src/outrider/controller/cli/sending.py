"""One command on its way from the command line: what is printed of it, and what Ctrl-C does."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from outrider.controller import Dispatch, Fleet, Targets
from outrider.controller.arguments import Arguments, parse
from outrider.controller.course import is_there
from outrider.controller.fleet import IfOffline
from outrider.controller.plan import Plan, Share
from outrider.controller.rollout import Rollout
from outrider.controller.suggestions import nearest
from outrider.device import Reply
from outrider.schema import About, CommandAbout, InvalidArguments, Progress, Result, State, Status

from .exits import Interrupted
from .interruptions import interruptions, one_of
from .live import Live
from .output import json_text, messages_console, plain_result, printable, reply_line, results_console, summary_line
from .terminal import counted, named

Reading = Callable[[Targets, Mapping[str, About]], Arguments]
"""What makes the arguments, once it is known who is meant and what these can do."""

ABOUT_WAIT: Final = 1.0
"""Seconds for a device's own description, which stands on the broker; without it arguments are read as they look."""


class Form(Enum):
    """How outcomes are printed on standard output."""

    TEXT = auto()
    JSON = auto()
    NDJSON = auto()
    QUIET = auto()


def form_of(*, json: bool, ndjson: bool, quiet: bool | None = None) -> Form:
    """How to print.

    :param quiet: None where that cannot be asked for.
    :raises typer.BadParameter: several were given.
    """
    if json + ndjson + bool(quiet) > 1:
        options = "--json and --ndjson" if quiet is None else "--json, --ndjson and --quiet"
        raise typer.BadParameter(f"{options} exclude each other")
    return Form.JSON if json else Form.NDJSON if ndjson else Form.QUIET if quiet else Form.TEXT


class Sending:
    """One command on its way."""

    def __init__(self, target: str, command: str, form: Form) -> None:
        self._target = target
        self._command = command
        self._form = form
        self._dispatch: Dispatch | None = None
        self._results = results_console()
        self._aside = self._results if self._results.is_terminal else messages_console()
        self._heard: dict[str, tuple[int, bool]] = {}
        """By device: the last `seq` of its progress, and whether it has printed anything."""
        self._held: list[tuple[Console, RenderableType]] | None = None

    async def run(
        self,
        fleet: Fleet,
        read: Reading,
        *,
        wait: float | None,
        detach: bool,
        timeout: float | None,
        expires: float | None,
        if_offline: IfOffline | None,
        limit: Share | None,
        seed: int | None,
        plan: Plan | None,
    ) -> bool:
        """Send it, print every outcome, and return whether all targets did it; with `detach` whether it was sent.

        :param read: makes its arguments.
        :raises Interrupted: the user wants to wait no more.
        """
        async with fleet:
            targets = fleet.resolve(self._target, unseen=if_offline == "queue")
            known = [device for device in targets.devices if device not in targets.gone | targets.unseen]
            abouts = await fleet.abouts(known, wait=ABOUT_WAIT)
            args = read(targets, abouts)
            dispatch = self._dispatch = fleet.dispatch(
                self._target,
                self._command,
                args,
                wait=wait,
                timeout=timeout,
                expires=expires,
                if_offline=if_offline,
                limit=limit,
                seed=seed,
                plan=plan,
            )
            if (rollout := dispatch.rollout) is not None and self._form is Form.TEXT:
                devices = len(rollout.addressed) + len(rollout.never_addressed)
                self._say_aside(Text(rollout.plan.describe(devices), style="dim"))
            if detach:
                await dispatch.sent()
                self._print_sent(dispatch, fleet.roster.states)
                return bool(dispatch.addressed)
            await self._show(dispatch)
            await self._afterwards(fleet, dispatch)
        self._conclude(dispatch)
        return self._succeeded(dispatch)

    async def _afterwards(self, fleet: Fleet, dispatch: Dispatch) -> None:
        """What is still to be done with the fleet, once every target has an outcome."""

    def _succeeded(self, dispatch: Dispatch) -> bool:
        return all(result.status is Status.DONE for result in dispatch.outcomes.values())

    def _conclude(self, dispatch: Dispatch) -> None:
        """Say what can be said only of all outcomes together."""
        outcomes = dispatch.outcomes
        if self._form is Form.JSON:
            self._print(self._results, json_text(self._document(dispatch)))
        elif self._form is Form.TEXT and len(outcomes) > 1:
            self._print(self._results, summary_line(outcomes))
        if (rollout := dispatch.rollout) is not None and rollout.aborted and self._form is not Form.QUIET:
            self._say_aside(_aborted(rollout))
        if self._form is Form.TEXT:
            self._say_aside(later(dispatch))

    def disconnected(self, reason: str) -> None:
        """Say that the connection was lost."""
        self._say_aside(f"the connection was lost: {printable(reason)}; connecting again")

    def say_interrupted(self) -> None:
        """Say what Ctrl-C, or another early end, leaves behind."""
        messages_console().print(self._interrupted(), soft_wrap=True)

    def _interrupted(self) -> str:
        dispatch = self._dispatch
        if dispatch is None:
            return "interrupted; nothing was sent"
        never = dispatch.never_addressed if dispatch.rollout is not None else ()
        unsent = f"; {len(never)} never addressed: {named(never)}" if never else ""
        if not dispatch.missing:
            return f"interrupted; all targets{' addressed' if never else ''} have answered{unsent}"
        return (
            f"interrupted; {printable(self._command)} may still run on {named(dispatch.missing)}{unsent}\n"
            f"to see what became of it: outrider results {dispatch.id}\n"
            f"to cancel it: outrider cancel {dispatch.id}"
        )

    def _live(self, dispatch: Dispatch) -> Live:
        return Live(self._aside, dispatch.targets.devices if dispatch.targets.pool is None else ())

    async def _show(self, dispatch: Dispatch) -> None:
        live = self._live(dispatch)
        with live, interruptions() as came:
            showing = asyncio.create_task(self._follow(dispatch, live), name="outcomes")
            try:
                while not showing.done():
                    asked = asyncio.create_task(came.get(), name="Ctrl-C")
                    await asyncio.wait((showing, asked), return_when=asyncio.FIRST_COMPLETED)
                    asked.cancel()
                    if not showing.done() and not await self._goes_on(dispatch, live):
                        raise Interrupted
                await showing
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)

    async def _goes_on(self, dispatch: Dispatch, live: Live) -> bool:
        """Ask what Ctrl-C means, with nothing else on the terminal meanwhile."""
        live.pause()
        self._held = []
        try:
            return await self._ask(dispatch)
        finally:
            held, self._held = self._held, None
            for console, shown in held:
                self._print(console, shown)
            live.resume()

    async def _ask(self, dispatch: Dispatch) -> bool:
        """After Ctrl-C: whether to go on waiting. Without somebody at a terminal to ask: no."""
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        detach = "detach and leave it running" if dispatch.rollout is None else "send no more and leave what runs"
        answer = await one_of(f"Cancel it on the devices (c), {detach} (d), or wait on (w)? ", "cdw")
        if answer == "c":
            dispatch.cancel()
            self._say_aside(Text(f"cancelling {printable(self._command)} (id {dispatch.id})", style="dim"))
        return answer in "cw"

    async def _follow(self, dispatch: Dispatch, live: Live) -> None:
        shown: set[str] = set()
        passed = 0
        async for reply in dispatch:
            for result in dispatch.passed[passed:]:
                line = reply_line(Reply(result.device, result), show_device=True)
                if line is not None:
                    self._say_aside(line.append("  (another member was asked)", style="dim"))
            passed = len(dispatch.passed)
            live.take(reply)
            if dispatch.rollout is not None:
                live.note(_rollout_note(dispatch.rollout))
            if not isinstance(reply.message, Result):
                self._say_progress(reply, reply.message)
            elif not dispatch.expects(reply.device):
                line = reply_line(reply, show_device=True)
                if line is not None:
                    self._say_aside(line.append("  (was not asked for)", style="dim"))
            elif reply.device not in shown:
                shown.add(reply.device)
                self._print_outcome(reply.message)

    def _say_progress(self, reply: Reply, progress: Progress) -> None:
        """Print what a device's command prints, and how much of that did not come."""
        last, printed = self._heard.get(reply.device, (-1, False))
        printed = printed or progress.stream is not None
        self._heard[reply.device] = max(progress.seq, last), printed
        if printed and (gap := progress.seq - last - 1) > 0:
            words = f"{printable(reply.device)}  … {gap:,} message{'' if gap == 1 else 's'} left out, it says too much"
            self._say_aside(Text(words, style="dim"))
        if progress.stream is not None:
            self._say_aside(reply_line(reply, show_device=True))

    def _print_outcome(self, result: Result) -> None:
        if self._form is Form.NDJSON:
            self._print(self._results, json_text(plain_result(result)))
        elif self._form is Form.TEXT and (line := reply_line(Reply(result.device, result), show_device=True)):
            self._print(self._results, line)

    def _print_sent(self, dispatch: Dispatch, states: Mapping[str, State]) -> None:
        devices, unsent = dispatch.addressed, dispatch.never_addressed
        match self._form:
            case Form.JSON | Form.NDJSON:
                sent = {
                    "id": dispatch.id,
                    "command": dispatch.command,
                    "devices": list(devices),
                    "offline": list(unsent),
                }
                self._print(self._results, json_text(sent))
            case Form.TEXT:
                self._print(self._results, dispatch.id)
                words = f"sent to {counted(len(devices))}"
                if away := [device for device in devices if not is_there(device, states)]:
                    words += f", of which {len(away)} {'is' if len(away) == 1 else 'are'} away: {named(away)}"
                if unsent:
                    words += f"; {counted(len(unsent))} offline, nothing was sent there: {named(unsent)}"
                if devices:
                    words += f"; what becomes of it: outrider results {dispatch.id}"
                messages_console().print(Text(words, style="dim"), soft_wrap=True)
            case Form.QUIET:
                pass

    def _document(self, dispatch: Dispatch) -> dict[str, object]:
        counts: dict[str, int] = {}
        for result in dispatch.outcomes.values():
            counts[result.status] = counts.get(result.status, 0) + 1
        return {
            "id": dispatch.id,
            "target": self._target,
            "command": dispatch.command,
            "targets": len(dispatch.outcomes),
            "counts": counts,
            "outcomes": [plain_result(result) for result in dispatch.outcomes.values()],
        }

    def _say_aside(self, line: RenderableType | None) -> None:
        if line is not None:
            self._print(self._aside, line)

    def _print(self, console: Console, shown: RenderableType) -> None:
        if self._held is None:
            console.print(shown, soft_wrap=True)
        else:
            self._held.append((console, shown))


def _rollout_note(rollout: Rollout) -> str:
    failed = f", {rollout.failures} failed" if rollout.failures else ""
    return f"batch {rollout.batch}: {len(rollout.in_flight)} in flight{failed}"


def _aborted(rollout: Rollout) -> Text:
    never = rollout.never_addressed
    text = Text(f"aborted in batch {rollout.batch}: {rollout.aborted}", style="red")
    return text.append(
        f"; {len(never)} never addressed: {named(never)}" if never else "; all devices had been addressed"
    )


def later(dispatch: Dispatch) -> Text | None:
    """Where to learn of those whose own answer may still come."""
    open_ends = sum(result.status in (Status.QUEUED, Status.RUNNING) for result in dispatch.outcomes.values())
    if not open_ends:
        return None
    return Text(
        f"{open_ends} not ended (id {dispatch.id}); to see what becomes of it: outrider results {dispatch.id}; "
        f"to cancel it: outrider cancel {dispatch.id}",
        style="dim",
    )


def arguments(words: list[str], command: str, targets: Targets, abouts: Mapping[str, About]) -> Arguments:
    """Typed arguments that fit every kind of device among the targets; one that lacks the command will say so itself.

    :raises InvalidArguments: naming the argument at fault, or because one message cannot serve all, or because all have
        told their commands and none has this one.
    """
    kinds: list[tuple[str, CommandAbout]] = []
    for device in targets.devices:
        about = abouts.get(device)
        spec = about.commands.get(command) if about else None
        if spec is not None and spec not in (known for _, known in kinds):
            kinds.append((device, spec))
    if not kinds:
        if command and abouts and len(abouts) == len(targets.devices):
            known = {name for about in abouts.values() for name in about.commands}
            many = f"none of the {len(abouts)} devices has a command"
            who = many if len(abouts) > 1 else f"{next(iter(abouts))} has no command"
            raise InvalidArguments(f"{who} {printable(command)}{printable(nearest(command, known))}")
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
