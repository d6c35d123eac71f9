"""One command on its way from the command line: what is printed of it, and what Ctrl-C does."""

import asyncio
import signal
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from enum import Enum, auto
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from rich.console import RenderableType
from rich.text import Text

from outrider.controller import Dispatch, Fleet, Targets
from outrider.controller.arguments import Arguments, parse
from outrider.controller.fleet import IfOffline
from outrider.controller.plan import Plan, Share
from outrider.controller.rollout import Rollout
from outrider.controller.suggestions import nearest
from outrider.device import Reply
from outrider.schema import About, CommandAbout, InvalidArguments, Result, Status

from .live import Live
from .output import json_text, messages_console, plain_result, printable, reply_line, results_console, summary_line

ABOUT_WAIT: Final = 1.0
"""Seconds for a device's own description, which stands on the broker; without it arguments are read as they look."""

MENTIONED: Final = 5
"""Devices named in one sentence."""


class Form(Enum):
    """How outcomes are printed on standard output."""

    TEXT = auto()
    JSON = auto()
    NDJSON = auto()
    QUIET = auto()


class Interrupted(Exception):
    """The user wants to wait no more; the command goes on."""


class Sending:
    """One command on its way."""

    def __init__(self, target: str, command: str, form: Form) -> None:
        self._target = target
        self._command = command
        self._form = form
        self._dispatch: Dispatch | None = None
        self._results = results_console()
        self._aside = self._results if self._results.is_terminal else messages_console()

    async def run(
        self,
        fleet: Fleet,
        words: list[str],
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
        """Send it, print every outcome, and return whether all targets did it; with `detach` only that it was sent.

        :raises Interrupted: the user wants to wait no more.
        """
        async with fleet:
            targets = fleet.resolve(self._target, unseen=if_offline == "queue")
            known = [device for device in targets.devices if device not in targets.gone | targets.unseen]
            abouts = await fleet.abouts(known, wait=ABOUT_WAIT)
            args = arguments(words, self._command, targets, abouts)
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
                self._print_sent(dispatch)
                return True
            await self._show(dispatch)
        outcomes = dispatch.outcomes
        if self._form is Form.JSON:
            self._results.print(json_text(self._document(dispatch)), soft_wrap=True)
        elif self._form is Form.TEXT and len(outcomes) > 1:
            self._results.print(summary_line(outcomes))
        if (rollout := dispatch.rollout) is not None and rollout.aborted and self._form is not Form.QUIET:
            self._say_aside(_aborted(rollout))
        if self._form is Form.TEXT and any(not result.status.final for result in outcomes.values()):
            self._aside.print(_later(dispatch), soft_wrap=True)
        return all(result.status is Status.DONE for result in outcomes.values())

    def disconnected(self, reason: str) -> None:
        """Say that the connection was lost."""
        self._aside.print(f"the connection was lost: {printable(reason)}; connecting again", soft_wrap=True)

    def interrupted(self) -> str:
        """What to say after Ctrl-C."""
        dispatch = self._dispatch
        if dispatch is None:
            return "interrupted; nothing was sent"
        if not dispatch.missing:
            return "interrupted; all targets have answered"
        devices = ", ".join(dispatch.missing[:MENTIONED])
        more = f" and {len(dispatch.missing) - MENTIONED} more" if len(dispatch.missing) > MENTIONED else ""
        return (
            f"interrupted; {printable(self._command)} may still run on {devices}{more}\n"
            f"to see what became of it: outrider results {dispatch.id}\n"
            f"to cancel it: outrider cancel {dispatch.id}"
        )

    async def _show(self, dispatch: Dispatch) -> None:
        live = Live(self._aside, dispatch.targets.devices if dispatch.targets.pool is None else ())
        with live, _interruptions() as interruptions:
            showing = asyncio.create_task(self._follow(dispatch, live), name="outcomes")
            while not showing.done():
                asked = asyncio.create_task(interruptions.get(), name="Ctrl-C")
                await asyncio.wait((showing, asked), return_when=asyncio.FIRST_COMPLETED)
                asked.cancel()
                if showing.done():
                    break
                live.pause()
                try:
                    goes_on = await self._ask(dispatch)
                finally:
                    live.resume()
                if not goes_on:
                    showing.cancel()
                    await asyncio.wait((showing,))
                    raise Interrupted
            await showing

    async def _ask(self, dispatch: Dispatch) -> bool:
        """After Ctrl-C: whether to go on waiting. Without somebody at a terminal to ask: no."""
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        answer = await _one_of("Cancel it on the devices (c), detach and leave it running (d), or wait on (w)? ", "cdw")
        if answer == "c":
            dispatch.cancel()
            self._aside.print(f"cancelling {printable(self._command)} (id {dispatch.id})", style="dim")
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
                if reply.message.stream is not None:
                    self._say_aside(reply_line(reply, show_device=True))
            elif not dispatch.expects(reply.device):
                line = reply_line(reply, show_device=True)
                if line is not None:
                    self._say_aside(line.append("  (was not asked for)", style="dim"))
            elif reply.device not in shown:
                shown.add(reply.device)
                self._print_outcome(reply.message)

    def _print_outcome(self, result: Result) -> None:
        if self._form is Form.NDJSON:
            self._results.print(json_text(plain_result(result)), soft_wrap=True)
        elif self._form is Form.TEXT:
            self._results.print(reply_line(Reply(result.device, result), show_device=True), soft_wrap=True)

    def _print_sent(self, dispatch: Dispatch) -> None:
        devices = dispatch.missing
        match self._form:
            case Form.JSON | Form.NDJSON:
                sent = {"id": dispatch.id, "command": dispatch.command, "devices": list(devices)}
                self._results.print(json_text(sent), soft_wrap=True)
            case Form.TEXT:
                self._results.print(dispatch.id)
                count = f"{len(devices)} device{'' if len(devices) == 1 else 's'}"
                messages_console().print(
                    f"sent to {count}; what becomes of it: outrider results {dispatch.id}", style="dim", soft_wrap=True
                )
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
            self._aside.print(line, soft_wrap=True)


@contextmanager
def _interruptions() -> Generator["asyncio.Queue[None]"]:
    """Ctrl-C as entries of a queue, instead of the end of the program."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[None]()
    loop.add_signal_handler(signal.SIGINT, queue.put_nowait, None)
    try:
        yield queue
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _one_of(question: str, keys: str) -> str:
    """The key that was pressed; the one before the last for Ctrl-C, Ctrl-D or Escape."""
    bindings = KeyBindings()

    def answer(event: KeyPressEvent) -> None:
        event.app.exit(result=event.key_sequence[0].data.lower())

    for key in keys:
        bindings.add(key)(answer)
        bindings.add(key.upper())(answer)
    bindings.add("<any>")(_nothing)
    session: PromptSession[str] = PromptSession(key_bindings=bindings, erase_when_done=True)
    try:
        return await session.prompt_async(question)
    except (KeyboardInterrupt, EOFError):
        return keys[-2]


def _nothing(event: KeyPressEvent) -> None:
    """Any other key."""


def _rollout_note(rollout: Rollout) -> str:
    failed = f", {rollout.failures} failed" if rollout.failures else ""
    return f"batch {rollout.batch}: {len(rollout.in_flight)} in flight{failed}"


def _aborted(rollout: Rollout) -> Text:
    never = rollout.never_addressed
    text = Text(f"aborted in batch {rollout.batch}: {rollout.aborted}", style="red")
    if not never:
        return text.append("; all devices had been addressed")
    shown = ", ".join(never[:MENTIONED])
    more = f" and {len(never) - MENTIONED} more" if len(never) > MENTIONED else ""
    return text.append(f"; {len(never)} never addressed: {shown}{more}")


def _later(dispatch: Dispatch) -> Text:
    open_ends = sum(not result.status.final for result in dispatch.outcomes.values())
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
