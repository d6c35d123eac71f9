"""What a line of the REPL does: the REPL's own words, and commands to the target in use.

    async with asyncio.TaskGroup() as tasks:
        session = Session(fleet, tasks, show=console.print)
        await session.interpret("use lamp-1")
        sent = await session.interpret('calculate 5 "hello"')  # returns once it is sent
        await sent.ended()  # answers are shown as they come

The REPL's own words (`words.py`) come first; `send TARGET COMMAND` reaches a device's command of the same name.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from outrider.controller import Fleet, Targets
from outrider.controller import results as inquiries
from outrider.controller.results import Jobs, check_id
from outrider.schema import About, CommandAbout, InvalidName, OutriderError, State, UnknownTarget

from . import questions
from .catalogue import ABOUT_WAIT, Catalogue
from .documentation import about_table, about_text
from .line import Line, read, without_target
from .output import devices_table
from .sending import arguments as read_arguments
from .sent import Question, Sent, follow
from .terminal import counted, named, printable
from .watch import look
from .words import OWN_WORDS, TERMINATE, Declined, Leave, UsageError, at_most, nobody_for, unknown_command

FEW: Final = 200
"""Devices that are asked for their jobs where completion needs the ids."""

JOBS_WAIT: Final = 1.0
"""Seconds for their answers."""

ASK_AGAIN: Final = 5.0
"""Seconds after which they are asked again."""

SHOWN: Final = 30
"""Last results that are shown at a terminal, where the newest are to be seen."""

KEPT: Final = 1000
"""Commands whose ids are remembered by their tags."""


class Session:
    """Interprets lines, one after the other. Commands go on beside each other; `in_flight` holds them by their tags.

    :param tasks: where the answers are waited for; `close` ends what is still there.
    :param show: takes what is to be printed; `say`, where it is another one, words about it.
    :param tagged: begin what comes back with the command's tag, as in `[2] lamp-1  done`; answers to questions come
        when they come, and what goes wrong with one is shown.
    :param wait: seconds to wait for final answers; `math.inf`: for as long as a device that is there works on it, and
        later ones are shown too.
    :param changed: called when the target, a state or something in flight has changed.
    :param confirm: asked before devices are ended; None: nobody is asked.
    :param watch: shows a live table until the user ends it; by default it is printed once.
    :ivar jobs: what was running when it was asked for last: words about each, by id.
    """

    def __init__(
        self,
        fleet: Fleet,
        tasks: asyncio.TaskGroup,
        *,
        show: Callable[[RenderableType], None],
        say: Callable[[Text], None] | None = None,
        tagged: bool = False,
        wait: float | None = None,
        changed: Callable[[], None] = lambda: None,
        confirm: Callable[[str], Awaitable[bool]] | None = None,
        watch: Callable[[Fleet, str | None], Awaitable[None]] | None = None,
    ) -> None:
        self.fleet = fleet
        self.target: str | None = None
        self.in_flight: dict[int, Sent] = {}
        self.jobs: dict[str, str] = {}
        self.catalogue = Catalogue(fleet, tasks, changed)
        self._tasks = tasks
        self._show = show
        self._say = say or show
        self._tagged = tagged
        self._wait = wait
        self._changed = changed
        self._confirm = confirm
        self._watch = watch
        self._jobs_asked = float("-inf")
        self._last_tag = 0
        self._ids: dict[int, str] = {}
        self._awaited: dict[int, Sent] = {}
        self._asked: set[Question] = set()

    async def interpret(self, text: str) -> Sent | Question | None:
        """Do what a line says, and return what goes on after that, if anything. Does not wait for answers.

        :raises Leave: it says so.
        :raises LocalError: it cannot be done; nothing was sent.
        """
        line = read(text)
        if line is None:
            return None
        match line:
            case Line("use", arguments):
                self._use(*arguments)
            case Line("devices", arguments):
                await self._devices(*arguments)
            case Line("about", arguments):
                await self._about(*at_most(2, line.word, arguments))
            case Line("help", arguments):
                await self._help(*at_most(1, line.word, arguments))
            case Line("exit" | "quit", arguments):
                at_most(0, line.word, arguments)
                raise Leave
            case Line("watch", arguments):
                await self._look(*arguments)
            case Line("jobs", arguments):
                return self._ask_jobs(*arguments)
            case Line("results", arguments):
                return self._ask_results(*at_most(1, line.word, arguments))
            case Line("cancel", arguments):
                return self._cancel(*at_most(2, line.word, arguments))
            case Line("send", (target, command, *arguments)):
                return await self._send(target, command, arguments, without_target(text))
            case Line("send"):
                raise UsageError(f"write {OWN_WORDS['send'].usage}, as in send lamp-1 ping")
            case Line(command, arguments):
                if self.target is None:
                    raise nobody_for(command)
                return await self._send(self.target, command, arguments, text)
        return None

    def close(self) -> None:
        """Wait for no more answers; the devices go on."""
        self.catalogue.close()
        tasks = [*(sent.task for sent in self._awaited.values()), *(question.task for question in self._asked)]
        for task in tasks:
            if task is not None:
                task.cancel()

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

    async def running(self) -> Mapping[str, str]:
        """What runs anywhere, by id: asked now where the devices are few, else as it was when it was asked last."""
        now = time.monotonic()
        if len(self.fleet.roster.states) <= FEW and now - self._jobs_asked > ASK_AGAIN:
            self._jobs_asked = now
            with contextlib.suppress(OutriderError, TimeoutError):
                async with asyncio.timeout(JOBS_WAIT):
                    self._learn_jobs(await inquiries.jobs(self.fleet))
        return self.jobs

    def _learn_jobs(self, found: Jobs) -> None:
        self.jobs = {each.job.id: f"{each.job.command} on {each.device}" for each in found.running}

    def _use(self, target: str | None = None) -> None:
        if target is not None:
            self.fleet.resolve(target)
        self.target = target
        self._changed()

    async def _devices(self, target: str | None = None) -> None:
        states = self.fleet.devices(target)
        if not states:
            nobody = f"{target} is empty now" if target else "no device yet"
            self._say(Text(f"{nobody}; start one: outrider-device run --id lamp-1 --ready", style="yellow"))
            return
        abouts = await self.fleet.abouts([state.device for state in states], wait=ABOUT_WAIT)
        self.catalogue.learn(states, abouts)
        self._show(devices_table(states, abouts))

    async def _about(self, target: str | None = None, command: str | None = None) -> None:
        target = target or self.target
        if target is None:
            raise UsageError(f"write {OWN_WORDS['about'].usage}, as in about lamp-1, or first: use lamp-1")
        commands = await self.catalogue.commands(target)
        if not commands:
            raise UnknownTarget(f"{target} has not told its commands; restart the device")
        if command is not None:
            self._show(about_text(_known(command, commands, target), command, device=target))
            return
        devices = self.fleet.resolve(target).devices
        if len(devices) == 1:
            versions = (await self.fleet.about(devices[0])).versions
            self._show(Text(f"{target}  " + ", ".join(f"{printable(k)} {printable(v)}" for k, v in versions.items())))
        self._show(about_table(About({}, dict(commands))))

    async def _help(self, command: str | None = None) -> None:
        if command is not None and (word := OWN_WORDS.get(command)):
            self._show(Text.assemble((word.usage, "bold"), f"\n  {word.help}"))
        elif command is not None:
            if self.target is None:
                raise nobody_for(command)
            known = _known(command, await self.catalogue.commands(self.target), self.target)
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
        commands = await self.catalogue.commands(self.target)
        self._show(Text(f'\n{self.target}, as in calculate 5 "two words" or calculate(5, "hello"):'))
        self._show(about_table(About({}, dict(commands))))

    async def _look(self, target: str | None = None) -> None:
        if target is not None:
            self.fleet.resolve(target)
        if self._watch is not None:
            await self._watch(self.fleet, target)
        else:
            await look(self.fleet, target, self._show, self._say)

    def _ask_jobs(self, target: str | None = None) -> Question:
        if target is not None:
            self.fleet.resolve(target)

        async def ask() -> bool:
            found = await questions.show_jobs(self.fleet, target, self._show, self._say)
            self._learn_jobs(found)
            return not found.untold

        return self._ask(ask())

    def _ask_results(self, what: str | None = None) -> Question:
        id = None if what is None else self._id(what)
        most = SHOWN if self._tagged else None
        return self._ask(questions.show_results(self.fleet, id, self._show, self._say, most=most))

    def _cancel(self, what: str | None = None, target: str | None = None) -> Question | None:
        if what is None:
            tags = f"; in flight: {', '.join(map(str, self.in_flight))}" if self.in_flight else ""
            raise UsageError(f"write {OWN_WORDS['cancel'].usage}; jobs shows the ids of what runs{tags}")
        sent = self._awaited.get(_number(what))
        if sent is not None and target is None:
            sent.dispatch.cancel()
            missing = sent.dispatch.missing
            self._say(Text.assemble((f"[{sent.tag}] ", "cyan"), (f"cancelling it on {named(missing)}", "dim")))
            return None
        if target is not None:
            self.fleet.resolve(target)
        return self._ask(questions.cancel(self.fleet, self._id(what), target, self._show, self._say))

    def _id(self, what: str) -> str:
        """The id of a command, by its tag or as it is.

        :raises UsageError: it is neither.
        """
        if (id := self._ids.get(_number(what))) is not None:
            return id
        try:
            return check_id(what)
        except InvalidName:
            raise UsageError(f"{printable(what)} is no command's id, and no tag of one that was sent here") from None

    def _ask(self, asking: Coroutine[object, object, bool]) -> Question:
        question = Question()

        async def answer() -> None:
            try:
                question.done = await asking
            except OutriderError as error:
                question.error = error
                if self._tagged:
                    self._say(Text("error: " + printable(str(error), keep="\n"), style="red"))
            finally:
                self._asked.discard(question)

        self._asked.add(question)
        question.task = self._tasks.create_task(answer(), name="question")
        return question

    async def _send(self, target: str, command: str, words: Sequence[str], text: str) -> Sent:
        targets = self.fleet.resolve(target)
        abouts = await self.fleet.abouts(targets.devices, wait=ABOUT_WAIT)
        if abouts:  # else none has told its commands, and the devices themselves will say
            states = [state for device in targets.devices if (state := self.fleet.roster.states.get(device))]
            _known(command, self.catalogue.learn(states, abouts), target)
        arguments = read_arguments(list(words), command, targets, abouts)
        if command == TERMINATE and self._confirm is not None:
            await self._be_sure(target, targets, self._confirm)
        dispatch = self.fleet.dispatch(target, command, arguments, wait=self._wait)
        self._last_tag += 1
        sent = Sent(self._last_tag, target, text.strip(), dispatch)
        self.in_flight[sent.tag] = self._awaited[sent.tag] = sent
        self._ids[sent.tag] = dispatch.id
        self._ids.pop(sent.tag - KEPT, None)
        sent.task = self._tasks.create_task(self._follow(sent), name=f"answers to [{sent.tag}] {command}")
        self._changed()
        return sent

    async def _be_sure(self, target: str, targets: Targets, confirm: Callable[[str], Awaitable[bool]]) -> None:
        """Ask before devices are ended.

        :raises Declined: the user said no.
        :raises UsageError: the target stands for others by now.
        """
        there = [device for device in targets.devices if device not in targets.gone]
        if not there:
            return
        one = len(there) == 1 or targets.pool is not None
        who = f"one of {named(there)}" if targets.pool and len(there) > 1 else named(there)
        whom = who if len(there) == 1 or targets.pool else f"{counted(len(there))}: {who}"
        again = "it is started again where it runs" if one else "they are started again where they run"
        if not await confirm(f"terminate ends {whom}, until {again}; quit leaves the REPL.\nTerminate? [y/N] "):
            raise Declined("not terminated; nothing was sent")
        if self.fleet.resolve(target).devices != targets.devices:
            raise UsageError(f"{printable(target)} stands for other devices by now; nothing was sent")

    async def _follow(self, sent: Sent) -> None:
        try:
            await follow(
                sent,
                show=self._show,
                changed=self._changed,
                tagged=self._tagged,
                ended=self._drop,
                late=self._wait == math.inf,
            )
        finally:
            self._drop(sent)
            del self._awaited[sent.tag]

    def _drop(self, sent: Sent) -> None:
        self.in_flight.pop(sent.tag, None)
        self._changed()


def _number(tag: str) -> int:
    """The number of a tag as it is typed: 2 or [2]; 0 if it is none."""
    tag = tag.removeprefix("[").removesuffix("]")
    return int(tag) if tag.isascii() and tag.isdigit() and len(tag) < 10 else 0


def _known(command: str, commands: Mapping[str, CommandAbout], target: str) -> About:
    """The commands as an About, where this command is among them.

    :raises UsageError: it is not; names the nearest.
    """
    if command not in commands:
        raise unknown_command(command, target, [*commands])
    return About({}, dict(commands))
