"""What became of commands that were sent before, by any process of this requester: results, jobs, cancel.

    async with Fleet("mqtt://localhost") as fleet:
        for standing in await last_results(fleet):
            print(standing.result.id, standing.result.device, standing.result.status)
        findings = await results_of(fleet, id, wait=60)
        print(findings.outcomes, findings.away)
        print((await jobs(fleet, "@kitchen")).running)
        print((await cancel(fleet, id)).cancelled)

Two places know: the broker, where the last result stands that each device gave to this requester, and the devices'
journals, which are asked. A journal leaves out pings and questions, and forgets a command some time after it expired.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Struct, UnsetType

from outrider.device import Arguments, Reply, RunningJob, error_of, value_of
from outrider.schema import ALL, Error, InvalidName, Progress, Result, Status, is_name
from outrider.schema.messages import MAX_EXPIRY

from .course import LOOK_AGAIN, is_there
from .fleet import Fleet
from .onlooker import Heard, Onlooker
from .targets import Target

T = TypeVar("T")

ANSWER_WAIT: Final = 10.0
"""Seconds for devices that are there to say what they know: they answer at once, whatever else they do."""

ENDING_WAIT: Final = 30.0
"""Seconds for a cancelled job to end."""

Asking = Callable[[frozenset[str]], None]
"""Told of the devices that have been asked and have not answered yet, again with each answer."""

_EARLIER: Final[msgspec.json.Decoder[Result | None]] = msgspec.json.Decoder(Result | None)


class Standing(Struct, frozen=True):
    """A result that stands on the broker: the last one that a device gave to `requester`, empty if none was named."""

    requester: str
    result: Result


class Findings(Struct, frozen=True):
    """What became of one command, on the devices that know of it.

    :ivar outcomes: by device: final answers, and `running` where there is none yet.
    :ivar running: the jobs behind those.
    :ivar strangers: jobs with this id that devices run for another requester.
    :ivar away: devices that are not there and of which no outcome is known; they were not asked.
    :ivar untold: devices that were asked and did not tell, and why.
    """

    id: str
    outcomes: dict[str, Result]
    running: dict[str, RunningJob]
    strangers: dict[str, RunningJob]
    away: tuple[str, ...]
    untold: dict[str, str]

    @property
    def done(self) -> bool:
        """Whether all devices that know of it did it, and all that were asked told."""
        outcomes = self.outcomes.values()
        return bool(outcomes) and not self.untold and all(each.status is Status.DONE for each in outcomes)

    @property
    def ended(self) -> bool:
        """Whether all devices that know of it have ended it, and all that were asked told."""
        outcomes = self.outcomes.values()
        return bool(outcomes) and not self.untold and all(each.status.final for each in outcomes)


class DeviceJob(Struct, frozen=True):
    """A job on a device."""

    device: str
    job: RunningJob


class Jobs(Struct, frozen=True):
    """The jobs of all requesters, oldest first, on the devices that `told`; `away` and `untold` as in `Findings`."""

    running: tuple[DeviceJob, ...]
    told: tuple[str, ...]
    away: tuple[str, ...]
    untold: dict[str, str]


class Cancellation(Struct, frozen=True):
    """What came of cancelling a command.

    :ivar cancelled: the devices that ran it and were told to end it.
    :ivar idle: the devices that did not run it.
    :ivar findings: what is known of it now: how it ended there, or where nobody ran it, how it had ended before.
    """

    cancelled: tuple[str, ...]
    idle: tuple[str, ...]
    findings: Findings


def check_id(id: str) -> str:
    """Return `id`, or raise `InvalidName` where no command can have it."""
    if not is_name(id):
        raise InvalidName(
            f"{id!r} is no command's id: 1 to 64 of the characters A-Z a-z 0-9 _ -; outrider jobs has some"
        )
    return id


async def last_results(fleet: Fleet, target: str | Target | None = None, *, everyone: bool = False) -> list[Standing]:
    """The results that stand on the broker, newest first: the last one that each device gave to this requester.

    :param target: those of its devices only.
    :param everyone: the last ones that devices gave to each requester, as far as the broker lets this one read them,
        and to commands that named nobody.
    :raises TargetSyntax: the target cannot be read.
    :raises UnknownTarget: it stands for no device, or names one that nobody has seen.
    """
    devices = None if target is None else frozenset(fleet.resolve(target).devices)
    standing: dict[tuple[str, str], Standing] = {}

    def heard(requester: str, message: Progress | Result) -> None:
        if isinstance(message, Result) and (devices is None or message.device in devices):
            standing[message.device, requester] = Standing(requester, message)

    async with _onlooker(fleet, heard, everyone=everyone):
        return sorted(standing.values(), key=lambda each: (-(each.result.finished or 0.0), each.result.device))


async def results_of(
    fleet: Fleet,
    id: str,
    target: str | Target | None = None,
    *,
    wait: float = 0.0,
    heard: Callable[[Reply], None] | None = None,
    asking: Asking | None = None,
) -> Findings:
    """What became of one of this requester's commands, whichever of its processes sent it.

    :param target: on these devices; by default on all.
    :param wait: seconds to wait for those that still run it, also for one that is lost meanwhile: it may come back.
    :param heard: called with what devices say of it meanwhile, and with each outcome as it becomes known.
    :param asking: told of the devices that have not answered yet.
    :raises InvalidName: no command can have this id.
    :raises TargetSyntax: the target cannot be read.
    :raises UnknownTarget: it stands for no device, or names one that nobody has seen.
    """
    inquiry = _Inquiry(fleet, check_id(id), target, heard, asking)
    async with _onlooker(fleet, inquiry.heard) as onlooker:
        if not inquiry.all_ended:  # else what stands on the broker says all
            await inquiry.ask(onlooker)
        await inquiry.until_ended(wait, onlooker, lost_too=True)
        return inquiry.findings()


async def jobs(fleet: Fleet, target: str | Target | None = None, *, asking: Asking | None = None) -> Jobs:
    """The jobs that devices have taken and not ended, of all requesters.

    :param target: by default all devices.
    :param asking: told of the devices that have not answered yet.
    :raises TargetSyntax: the target cannot be read.
    :raises UnknownTarget: it stands for no device, or names one that nobody has seen.
    """
    asked = _asked(fleet, target)
    told = await _ask(fleet, asked, "jobs", [], _jobs, asking=asking)
    running = [DeviceJob(device, job) for device, jobs in told.values.items() for job in jobs]
    running.sort(key=lambda each: (each.job.received, each.device))
    return Jobs(tuple(running), tuple(sorted(told.values)), asked.away, told.untold)


async def cancel(
    fleet: Fleet,
    id: str,
    target: str | Target | None = None,
    *,
    wait: float = ENDING_WAIT,
    heard: Callable[[Reply], None] | None = None,
    asking: Asking | None = None,
) -> Cancellation:
    """Cancel one of this requester's commands, whichever of its processes sent it, and wait for its jobs to end.

    Devices that are away are told when they are back: the command may still be before them.

    :param target: on these devices; by default on all.
    :param wait: seconds to wait for the jobs to end.
    :param heard: called with what devices say of it meanwhile, and with each outcome as it becomes known.
    :param asking: told of the devices that have not answered yet.
    :raises InvalidName: no command can have this id.
    :raises TargetSyntax: the target cannot be read.
    :raises UnknownTarget: it stands for no device, or names one that nobody has seen.
    """
    inquiry = _Inquiry(fleet, check_id(id), target, heard, asking)
    async with _onlooker(fleet, inquiry.heard) as onlooker:
        asked = inquiry.asked
        # Good for as long as a command may be: else one that waits for its device would outlive its cancellation.
        told = await _ask(fleet, asked, "cancel", [id], _bool, expires=MAX_EXPIRY, anybody=True, asking=asking)
        cancelled = tuple(sorted(device for device, was_running in told.values.items() if was_running))
        idle = tuple(sorted(device for device, was_running in told.values.items() if not was_running))
        inquiry.untold = told.untold
        inquiry.expect(cancelled)
        await inquiry.until_ended(wait, onlooker, lost_too=False)
        if inquiry.open or not cancelled:
            await inquiry.ask(onlooker)
        return Cancellation(cancelled, idle, inquiry.findings())


class _Asked(NamedTuple):
    """Whom a target stands for: those that are there, and those that are not."""

    target: str | Target
    there: frozenset[str]
    away: tuple[str, ...]


def _asked(fleet: Fleet, target: str | Target | None) -> _Asked:
    states = fleet.roster.states
    if target is None:
        target = ALL
        devices = frozenset(device for device, state in states.items() if state.status != "terminated")
    else:
        targets = fleet.resolve(target)
        devices = frozenset(targets.devices)
        if targets.pool is not None:  # to a command it stands for one member, here for all
            target = ",".join(targets.devices)
    there = frozenset(device for device in devices if is_there(device, states))
    return _Asked(target, there, tuple(sorted(devices - there)))


@dataclass(frozen=True, slots=True)
class _Told(Generic[T]):
    """What devices answered to a question, and why others did not."""

    values: dict[str, T]
    untold: dict[str, str]


async def _ask(
    fleet: Fleet,
    asked: _Asked,
    command: str,
    args: Arguments,
    read: Callable[[Result], T],
    *,
    expires: float | None = None,
    anybody: bool = False,
    asking: Asking | None = None,
    took: Callable[[str, T], None] | None = None,
) -> _Told[T]:
    """Ask the devices of a target that are there; with one message where the target is a group.

    :param anybody: send it also where nobody is there, for those that come back.
    :param took: called with each device's answer as it comes.
    """
    values: dict[str, T] = {}
    untold: dict[str, str] = {}

    def note() -> None:
        if asking is not None:
            asking(asked.there - values.keys() - untold.keys())

    note()
    if asked.there or (anybody and asked.away):
        dispatch = fleet.dispatch(asked.target, command, args, expires=expires)
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_WAIT):
                async for device, message in dispatch:
                    if not isinstance(message, Result) or device not in asked.there:
                        continue
                    if not message.status.final:
                        continue  # this side's word for one that did not answer
                    if error := error_of(message):
                        untold[device] = str(error)
                    else:
                        try:
                            values[device] = read(message)
                        except msgspec.MsgspecError as unreadable:
                            untold[device] = f"its answer to {command} cannot be read: {unreadable}"
                    note()
                    if took is not None and device in values:
                        took(device, values[device])
    for device in sorted(asked.there - values.keys() - untold.keys()):
        untold[device] = f"no answer to {command}"
    return _Told(values, untold)


def _bool(result: Result) -> bool:
    return value_of(result, bool)


def _jobs(result: Result) -> list[RunningJob]:
    return value_of(result, list[RunningJob])


def _earlier(result: Result) -> Result | None:
    return None if isinstance(result.value, UnsetType) else _EARLIER.decode(result.value)


class _Inquiry:
    """Gathers what is known of one command of this requester.

    :ivar asked: whom the target stood for at the beginning.
    :ivar untold: who did not answer when asked, and why.
    """

    def __init__(
        self,
        fleet: Fleet,
        id: str,
        target: str | Target | None,
        tell: Callable[[Reply], None] | None,
        asking: Asking | None,
    ) -> None:
        self.asked = _asked(fleet, target)
        self.untold: dict[str, str] = {}
        self._fleet = fleet
        self._id = id
        self._devices = None if target is None else frozenset(fleet.resolve(target).devices)
        self._tell = tell
        self._asking = asking
        self._silent: dict[str, frozenset[str]] = {}
        """By question: the devices that have not answered it yet."""
        self._ended: dict[str, Result] = {}
        self._open: dict[str, int] = {}
        """Devices that ran it when they were asked, and the session in which they did."""
        self._forgotten: set[str] = set()
        """Devices that ran it and know nothing of it any more."""
        self._running: dict[str, RunningJob] = {}
        self._strangers: dict[str, RunningJob] = {}
        self._changed = asyncio.Event()

    @property
    def all_ended(self) -> bool:
        """Whether every device that is there is known to have ended it."""
        return self.asked.there <= self._ended.keys()

    @property
    def open(self) -> bool:
        """Whether some device ran it and is not known to have ended it."""
        return bool(self._open)

    def heard(self, requester: str, message: Progress | Result) -> None:
        """Take what a device said to some requester."""
        if message.id != self._id or requester != self._fleet.requester:
            return
        if self._devices is not None and message.device not in self._devices:
            return
        if isinstance(message, Result):
            self._end(message)
        elif self._tell is not None:
            self._tell(Reply(message.device, message))

    def expect(self, devices: Iterable[str]) -> None:
        """These ran it a moment ago."""
        for device in devices:
            if device not in self._ended:
                self._open[device] = self._session(device)

    async def ask(self, onlooker: Onlooker) -> None:
        """Ask the devices: first for what runs, then for what has ended, so that nothing slips through between."""
        await self._ask(self.asked, onlooker)

    async def until_ended(self, wait: float, onlooker: Onlooker, *, lost_too: bool) -> None:
        """Wait until nobody runs it any more, `wait` seconds at most.

        :param lost_too: wait for devices that are lost as well.
        """
        deadline = time.monotonic() + wait
        with self._fleet.roster.watch(lambda state: self._changed.set()):
            while (left := deadline - time.monotonic()) > 0 and (self._open if lost_too else self._there()):
                self._changed.clear()
                again = [device for device in self._there() if self._session(device) != self._open[device]]
                for device in again:
                    await self._ask_again(device, onlooker)
                if again:
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOOK_AGAIN)):
                        await self._changed.wait()

    def findings(self) -> Findings:
        """What is known now."""
        unended = {device: self._unended(device) for device in (*self._open, *self._forgotten)}
        outcomes = {**unended, **self._ended}
        return Findings(
            self._id,
            {device: outcomes[device] for device in sorted(outcomes)},
            {device: self._running[device] for device in sorted(self._open) if device in self._running},
            {device: self._strangers[device] for device in sorted(self._strangers)},
            tuple(device for device in self.asked.away if device not in outcomes),
            {device: why for device, why in sorted(self.untold.items()) if device not in self._ended},
        )

    async def _ask_again(self, device: str, onlooker: Onlooker) -> None:
        """Ask a device that was away: it may be a process that remembers nothing."""
        self._open.pop(device, None)
        self.untold.pop(device, None)
        await self._ask(_Asked(device, frozenset([device]), ()), onlooker)
        if device not in self._open and device not in self._ended:
            self._forgotten.add(device)

    async def _ask(self, asked: _Asked, onlooker: Onlooker) -> None:
        fleet, id = self._fleet, self._id
        running, earlier = await asyncio.gather(
            _ask(fleet, asked, "jobs", [], _jobs, asking=self._noted("jobs")),
            _ask(fleet, asked, "result", [id], _earlier, asking=self._noted("result"), took=self._told),
        )
        for device, jobs in running.values.items():
            for job in jobs:
                if job.id == id and (job.requester, job.behalf) == (fleet.requester, ""):
                    self._running[device] = job
                    self._open[device] = self._session(device)
                elif job.id == id:
                    self._strangers[device] = job
        self.untold = {**self.untold, **running.untold, **earlier.untold}
        await onlooker.catch_up()  # what ended in between, and no journal keeps
        for device in self._ended:
            self._open.pop(device, None)

    def _noted(self, question: str) -> Asking:
        def asking(devices: frozenset[str]) -> None:
            self._silent[question] = devices
            if self._asking is not None:
                self._asking(frozenset(device for silent in self._silent.values() for device in silent))

        return asking

    def _told(self, device: str, earlier: Result | None) -> None:
        """A device's answer to what its journal has of it."""
        if earlier is not None and (earlier.id, earlier.device) == (self._id, device):
            self._end(earlier)

    def _end(self, result: Result) -> None:
        self._ended[result.device] = result
        self._open.pop(result.device, None)
        self._changed.set()
        if self._tell is not None:
            self._tell(Reply(result.device, result))

    def _there(self) -> list[str]:
        return [device for device in self._open if is_there(device, self._fleet.roster.states)]

    def _session(self, device: str) -> int:
        state = self._fleet.roster.states.get(device)
        return state.session if state else 0

    def _unended(self, device: str) -> Result:
        """The requester's word for a device that has not ended it."""
        job = self._running.get(device)
        if device in self._forgotten:
            words = "it was running when the device was restarted; whether it finished is not known"
        elif not is_there(device, self._fleet.roster.states):
            words = "it was running when the device was lost; whether it finished is not known"
        elif job is None:
            words = "told to end it, which it has not done yet"
        else:
            words = progress_words(job) or "no final answer yet"
        return Result(
            id=self._id,
            device=device,
            command=job.command if job else "",
            status=Status.RUNNING,
            error=Error("", words),
            started=job.started if job else None,
        )


def progress_words(job: RunningJob) -> str:
    """How far a job is, as `40%  2 of 5 s`; empty where it has not said."""
    words = [f"{job.fraction:.0%}"] if job.fraction is not None else []
    if job.text:
        words.append(job.text)
    return "  ".join(words)


def _onlooker(fleet: Fleet, heard: Heard, *, everyone: bool = False) -> Onlooker:
    topics = fleet.topics
    requester = None if everyone else fleet.requester
    return Onlooker(fleet.connection.address, topics, heard, requester=requester, name=fleet.requester)
