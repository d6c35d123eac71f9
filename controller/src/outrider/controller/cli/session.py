"""What a line of the REPL does: the REPL's own words, and commands to the target in use.

    async with asyncio.TaskGroup() as tasks:
        session = Session(fleet, tasks, show=console.print)
        await session.interpret("use lamp-1")
        sent = await session.interpret('calculate 5 "hello"')  # returns once it is sent
        await sent.ended()  # answers are shown as they come

The REPL's own words (`OWN_WORDS`) come first; `send TARGET COMMAND` reaches a device's command of the same name.
"""

import asyncio
import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from outrider.controller import Dispatch, Fleet
from outrider.device import Reply
from outrider.schema import (
    About,
    CommandAbout,
    LocalError,
    OutriderError,
    Progress,
    Result,
    State,
    Status,
    UnknownTarget,
)

from .documentation import about_table, about_text
from .line import Line, read
from .output import devices_table, reply_line, summary_line
from .sending import arguments as read_arguments
from .terminal import printable

ABOUT_WAIT: Final = 2.0
"""Seconds for what devices say of themselves, which stands on the broker."""


class UsageError(LocalError, ValueError):
    """A line that says nothing the REPL could do."""


class Leave(Exception):
    """The line asks to leave."""


class OwnWord(NamedTuple):
    """How one of the REPL's own words is used, and what it does."""

    usage: str
    help: str


OWN_WORDS: Final[Mapping[str, OwnWord]] = {
    "use": OwnWord("use [TARGET]", "Send what follows to a device, @group or all; alone: to none."),
    "devices": OwnWord("devices [TARGET]", "Show who is there."),
    "about": OwnWord("about [TARGET [COMMAND]]", "Show what the devices of a target can do."),
    "send": OwnWord("send TARGET COMMAND [ARGUMENTS]", "Send one command elsewhere, or one called like a word here."),
    "cancel": OwnWord("cancel TAG", "Cancel a command in flight, as in cancel 2; otherwise cancel ID is the device's."),
    "help": OwnWord("help [COMMAND]", "Show the commands, or all about one."),
    "exit": OwnWord("exit", "Leave; so do quit and Ctrl-D. Commands that were sent go on."),
    "quit": OwnWord("quit", "Leave, as exit does."),
}
"""The REPL's own words. They go before a device's commands; `send` reaches those."""


@dataclass(slots=True)
class Sent:
    """A command on its way. `text` is what was typed, `progress` the last one of each device."""

    tag: int
    target: str
    text: str
    dispatch: Dispatch
    progress: dict[str, Progress] = field(default_factory=dict[str, Progress])
    done: int = 0
    """How many devices have given their outcome."""
    task: asyncio.Task[None] | None = None

    async def ended(self) -> bool:
        """Wait until every device has an outcome; whether all are `done`."""
        assert self.task is not None
        await self.task
        outcomes = self.dispatch.outcomes
        return bool(outcomes) and all(result.status is Status.DONE for result in outcomes.values())


class Session:
    """Interprets lines, one after the other. Commands go on beside each other; `in_flight` holds them by their tags.

    :param tasks: where the answers are waited for; `close` ends what is still there.
    :param show: takes what is to be printed.
    :param tagged: begin what comes back with the command's tag, as in `[2] lamp-1  done`.
    :param wait: seconds to wait for final answers; `math.inf`: for as long as a device that is there works on it, and
        later ones are shown too.
    :param changed: called when the target, a state or something in flight has changed.
    """

    def __init__(
        self,
        fleet: Fleet,
        tasks: asyncio.TaskGroup,
        *,
        show: Callable[[RenderableType], None],
        tagged: bool = False,
        wait: float | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.fleet = fleet
        self.target: str | None = None
        self.in_flight: dict[int, Sent] = {}
        self._tasks = tasks
        self._show = show
        self._tagged = tagged
        self._wait = wait
        self._changed = changed
        self._last_tag = 0
        self._awaited: dict[int, Sent] = {}

    async def interpret(self, text: str) -> Sent | None:
        """Do what a line says, and return the command that it sent, if any. Does not wait for answers.

        :raises Leave: it says so.
        :raises LocalError: it cannot be done; nothing was sent.
        """
        line = read(text)
        if line is None:
            return None
        match line:
            case Line("use", arguments):
                self._use(*_at_most(1, line.word, arguments))
            case Line("devices", arguments):
                await self._devices(*_at_most(1, line.word, arguments))
            case Line("about", arguments):
                await self._about(*_at_most(2, line.word, arguments))
            case Line("help", arguments):
                await self._help(*_at_most(1, line.word, arguments))
            case Line("exit" | "quit", arguments):
                _at_most(0, line.word, arguments)
                raise Leave
            case Line("send", (target, command, *arguments)):
                return await self._send(target, command, arguments, text)
            case Line("cancel", (tag,)) if _number(tag) in self._awaited:
                sent = self._awaited[_number(tag)]
                return await self._send(sent.target, "cancel", [sent.dispatch.id], text)
            case Line("send"):
                raise UsageError(f"write {OWN_WORDS['send'].usage}, as in send lamp-1 ping")
            case Line(command, arguments):
                if self.target is None:
                    raise UsageError(_no_target(command))
                return await self._send(self.target, command, arguments, text)
        return None

    def close(self) -> None:
        """Wait for no more answers; the devices go on."""
        for sent in self._awaited.values():
            if sent.task:
                sent.task.cancel()

    @property
    def states(self) -> Sequence[State]:
        """The states of the devices of the target in use; none where they were forgotten or nothing is in use."""
        if self.target is None:
            return ()
        try:
            return self.fleet.devices(self.target)
        except UnknownTarget:
            return ()

    @property
    def is_group(self) -> bool:
        """Whether what is in use stands for any number of devices."""
        return self.target is not None and self.target not in self.fleet.roster.states

    async def commands(self, target: str) -> dict[str, CommandAbout]:
        """What the devices of a target can do together; empty where none has told.

        :raises UnknownTarget: the target stands for no device.
        """
        abouts = await self.fleet.abouts(self.fleet.resolve(target).devices, wait=ABOUT_WAIT)
        return _together(abouts.values())

    def _use(self, target: str | None = None) -> None:
        if target is not None:
            self.fleet.resolve(target)
        self.target = target
        self._changed()

    async def _devices(self, target: str | None = None) -> None:
        states = self.fleet.devices(target)
        if not states:
            self._show(Text("no device yet; start one: outrider-device run --id lamp-1 --ready", style="yellow"))
            return
        abouts = await self.fleet.abouts([state.device for state in states], wait=ABOUT_WAIT)
        self._show(devices_table(states, abouts))

    async def _about(self, target: str | None = None, command: str | None = None) -> None:
        target = target or self.target
        if target is None:
            raise UsageError(f"write {OWN_WORDS['about'].usage}, as in about lamp-1, or first: use lamp-1")
        commands = await self.commands(target)
        if not commands:
            raise UnknownTarget(f"{target} has not told its commands; restart the device")
        if command is not None:
            self._show(about_text(_known(command, commands, target), command, device=target))
            return
        devices = self.fleet.resolve(target).devices
        if len(devices) == 1:
            versions = (await self.fleet.about(devices[0])).versions
            self._show(Text(f"{target}  " + ", ".join(f"{printable(k)} {printable(v)}" for k, v in versions.items())))
        self._show(about_table(About({}, commands)))

    async def _help(self, command: str | None = None) -> None:
        if command is not None and (word := OWN_WORDS.get(command)):
            self._show(Text.assemble((word.usage, "bold"), f"\n  {word.help}"))
        elif command is not None:
            if self.target is None:
                raise UsageError(_no_target(command))
            known = _known(command, await self.commands(self.target), self.target)
            self._show(about_text(known, command, device=self.target))
        else:
            table = Table(box=None, pad_edge=False, show_header=False)
            for word in OWN_WORDS.values():
                table.add_row(Text(word.usage, style="bold"), word.help)
            self._show(table)
            await self._help_on_target()

    async def _help_on_target(self) -> None:
        if self.target is None:
            self._show(Text("\nThe commands of a device: use lamp-1, then help.", style="dim"))
            return
        commands = await self.commands(self.target)
        self._show(Text(f'\n{self.target}, as in calculate 5 "two words" or calculate(5, "hello"):'))
        self._show(about_table(About({}, commands)))

    async def _send(self, target: str, command: str, words: Sequence[str], text: str) -> Sent:
        targets = self.fleet.resolve(target)
        abouts = await self.fleet.abouts(targets.devices, wait=ABOUT_WAIT)
        if abouts:  # else none has told its commands, and the devices themselves will say
            _known(command, _together(abouts.values()), target)
        arguments = read_arguments(list(words), command, targets, abouts)
        dispatch = self.fleet.dispatch(target, command, arguments, wait=self._wait)
        self._last_tag += 1
        sent = Sent(self._last_tag, target, text.strip(), dispatch)
        self.in_flight[sent.tag] = self._awaited[sent.tag] = sent
        sent.task = self._tasks.create_task(self._follow(sent), name=f"answers to [{sent.tag}] {command}")
        self._changed()
        return sent

    async def _follow(self, sent: Sent) -> None:
        """Show what comes back, until every device has an outcome, and what replaces it later."""
        try:
            async for reply in sent.dispatch:
                self._take(sent, reply)
            if self._tagged and len(sent.dispatch.outcomes) > 1:
                self._show_tagged(sent, summary_line(sent.dispatch.outcomes))
            self._drop(sent)
            if self._wait == math.inf:
                async for reply in sent.dispatch.late():
                    self._take(sent, reply)
        except OutriderError as error:
            self._show_tagged(sent, Text(printable(str(error)), style="red"))
        finally:
            self._drop(sent)
            del self._awaited[sent.tag]

    def _drop(self, sent: Sent) -> None:
        self.in_flight.pop(sent.tag, None)
        self._changed()

    def _take(self, sent: Sent, reply: Reply) -> None:
        message = reply.message
        if isinstance(message, Result):
            sent.done += 1
            sent.progress.pop(reply.device, None)
        elif message.stream is None:
            sent.progress[reply.device] = message
        self._changed()
        # What has no end is shown where it moves (`in_flight`), not line by line.
        if isinstance(message, Result) or message.stream is not None:
            line = reply_line(reply, show_device=True)
            if line is not None:
                self._show_tagged(sent, line)

    def _show_tagged(self, sent: Sent, line: Text) -> None:
        self._show(Text.assemble((f"[{sent.tag}] ", "cyan"), line) if self._tagged else line)


def _together(abouts: Iterable[About]) -> dict[str, CommandAbout]:
    commands: dict[str, CommandAbout] = {}
    for about in abouts:
        commands = about.commands | commands
    return commands


def _number(tag: str) -> int:
    """The number of a tag as it is typed: 2 or [2]; 0 if it is none."""
    tag = tag.removeprefix("[").removesuffix("]")
    return int(tag) if tag.isascii() and tag.isdigit() else 0


def _at_most(count: int, word: str, arguments: Sequence[str]) -> Sequence[str]:
    if len(arguments) > count:
        raise UsageError(f"{len(arguments)} words behind {word} are too many: write {OWN_WORDS[word].usage}")
    return arguments


def _known(command: str, commands: Mapping[str, CommandAbout], target: str) -> About:
    """The commands as an About, where this command is among them.

    :raises UsageError: it is not; names the nearest.
    """
    if command not in commands:
        raise UsageError(f"{target} has no command {printable(command)}{_nearest(command, [*commands, *OWN_WORDS])}")
    return About({}, dict(commands))


def _no_target(word: str) -> str:
    nearest = difflib.get_close_matches(word, OWN_WORDS, n=1, cutoff=0.7)
    if nearest:
        return f"{printable(word)} is no word of the REPL; did you mean {nearest[0]}?"
    command = printable(word)
    return f"whom is {command} for? First: use lamp-1 (devices shows who is there), or: send lamp-1 {command}"


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    if near:
        return f"; did you mean {', '.join(map(printable, near))}?"
    return f"; it has: {', '.join(sorted(map(printable, set(known) - set(OWN_WORDS))))}"
