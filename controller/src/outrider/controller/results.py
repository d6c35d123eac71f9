"""What became of commands that were sent before, by any process of this requester: results, jobs, cancel.

    async with Fleet("mqtt://localhost") as fleet:
        for standing in await last_results(fleet):
            print(standing.result.id, standing.result.device, standing.result.status)
        findings = await results_of(fleet, id, wait=60)
        print(findings.outcomes, findings.away)
        print((await jobs(fleet, "@kitchen")).running)
        print((await cancel(fleet, id)).outcomes)

Two places know: the broker, where the last result that each device gave to this requester stands, and the devices'
journals, which are asked. The journal of a device leaves out idempotent commands and ends with the device's process.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from types import TracebackType
from typing import Final, NamedTuple, Self

import msgspec
from msgspec import Struct, UnsetType
from msgspec.structs import replace

from outrider.device import Connection, Message, Reply, RunningJob, Subscription, error_of
from outrider.schema import (
    ALL,
    ANY,
    BrokerUnreachable,
    Decoder,
    Encoding,
    Error,
    InvalidMessage,
    InvalidName,
    Kind,
    OutriderError,
    Progress,
    Result,
    Status,
    Topics,
    is_name,
)
from outrider.schema.messages import MAX_EXPIRY

from .course import LOOK_AGAIN, is_there
from .dispatch import value_of
from .fleet import OPENING, Fleet

ANSWER_WAIT: Final = 10.0
"""Seconds for devices that are there to say what they know; they answer at once, whatever else they do."""

ENDING_WAIT: Final = 30.0
"""Seconds for a cancelled job to end."""

Heard = Callable[[str, Result | Progress], None]
"""Takes a requester, empty where none was named, and what a device said to it."""

_RESULT = Decoder(Result)
_PROGRESS = Decoder(Progress)
_TOLD = msgspec.json.Decoder(Result | None)


class Standing(Struct, frozen=True):
    """A result that stands on the broker: the last one that a device gave to `requester`, empty if none was named."""

    requester: str
    result: Result


class Findings(Struct, frozen=True):
    """What became of one command on the devices that know of it.

    `outcomes` are by device: final answers, and `running` where there is none yet, of which `running` says more. The
    `strangers` run a job with this id for another requester. Who is `away` was not asked, and `untold` are those that
    were and gave no answer, and why.
    """

    id: str
    outcomes: dict[str, Result]
    running: dict[str, RunningJob]
    strangers: dict[str, RunningJob]
    away: tuple[str, ...]
    untold: dict[str, str]

    @property
    def done(self) -> bool:
        """Whether it is known to be done on every device that knows of it, and all that were asked have answered."""
        return bool(self.outcomes) and not self.untold and all(each.status is Status.DONE for each in self.outcomes.values())


class DeviceJob(Struct, frozen=True):
    """A job on a device."""

    device: str
    job: RunningJob


class Jobs(Struct, frozen=True):
    """The jobs of all requesters, oldest first. `away` and `untold` are as in `Findings`."""

    running: tuple[DeviceJob, ...]
    away: tuple[str, ...]
    untold: dict[str, str]


class Cancellation(Struct, frozen=True):
    """What came of cancelling a command.

    `cancelled` are the devices that ran it and were told to end it, `idle` those that did not run it. `findings` is
    what is known of the command now: how those ended, or, where none ran it, how it had ended before.
    """

    cancelled: tuple[str, ...]
    idle: tuple[str, ...]
    findings: Findings

    @property
    def ended(self) -> bool:
        """Whether the command is known not to run any more on any device that was asked."""
        known = self.findings
        return bool(known.outcomes) and not known.untold and all(each.status.final for each in known.outcomes.values())


def check_id(id: str) -> str:
    """Return `id`, or raise `InvalidName` where no command can be called so."""
    if not is_name(id):
        raise InvalidName(f"{id!r} is no command's id: 1 to 64 of the characters A-Z a-z 0-9 _ -; see outrider jobs")
    return id


async def last_results(fleet: Fleet, target: str | None = None, *, everyone: bool = False) -> list[Standing]:
    """The results that stand on the broker, newest first: the last one that each device gave to this requester.

    :param target: those of these devices only.
    :param everyone: those given to every requester, as far as the broker lets this one read them, and to commands that
        named none.
    :raises UnknownTarget: the target stands for no device.
    """
    devices = None if target is None else frozenset(fleet.resolve(target).devices)
    standing: dict[tuple[str, str], Standing] = {}

    def hear(requester: str, message: Result | Progress) -> None:
        if isinstance(message, Result) and (devices is None or message.device in devices):
            standing[message.device, requester] = Standing(requester, message)

    async with _Onlooker(fleet, hear, everyone=everyone):
        pass
    return sorted(standing.values(), key=lambda each: (-(each.result.finished or 0.0), each.result.device))


async def results_of(
    fleet: Fleet,
    id: str,
    target: str | None = None,
    *,
    wait: float = 0.0,
    hear: Callable[[Reply], None] | None = None,
) -> Findings:
    """What became of one of this requester's commands, whichever of its processes sent it.

    :param target: on these devices; by default on all.
    :param wait: seconds to wait for those that still run it.
    :param hear: called meanwhile with what devices say of it.
    :raises InvalidName: nothing can have this id.
    :raises UnknownTarget: the target stands for no device.
    """
    asking = _Asking(fleet, check_id(id), target, hear)
    async with asking.onlooker:
        if not asking.asked <= asking.ended.keys():  # else the broker has told all
            await asking.ask()
        await asking.until_ended(wait)
        return asking.findings()


async def jobs(fleet: Fleet, target: str | None = None) -> Jobs:
    """The jobs that devices have accepted and not finished, of all requesters.

    :param target: by default all devices.
    :raises UnknownTarget: the target stands for no device.
    """
    asked = _asked(fleet, target)
    told = await _ask(fleet, asked, "jobs", [], _jobs)
    running = [DeviceJob(device, job) for device, jobs in told.values.items() for job in jobs]
    running.sort(key=lambda each: (each.job.received, each.device))
    return Jobs(tuple(running), asked.away, told.untold)


async def cancel(
    fleet: Fleet,
    id: str,
    target: str | None = None,
    *,
    wait: float = ENDING_WAIT,
    hear: Callable[[Reply], None] | None = None,
) -> Cancellation:
    """Cancel one of this requester's commands, whichever of its processes sent it, and wait for its jobs to end.

    Devices that are away are told as well when they are back: they may have the command still before them.

    :param target: on these devices; by default on all.
    :param wait: seconds to wait for the jobs to end.
    :param hear: called meanwhile with what devices say of it.
    :raises InvalidName: nothing can have this id.
    :raises UnknownTarget: the target stands for no device.
    """
    asking = _Asking(fleet, check_id(id), target, hear)
    async with asking.onlooker:
        # Good for as long as any command may be: else one that waits for a device would outlive its cancellation.
        told = await _ask(fleet, asking.devices, "cancel", [id], _bool, expires=MAX_EXPIRY)
        cancelled = tuple(sorted(device for device, was_there in told.values.items() if was_there))
        asking.untold = told.untold
        asking.expect(cancelled)
        await asking.until_ended(wait)
        if not cancelled or not asking.ended.keys() >= frozenset(cancelled):
            await asking.ask()
        findings = asking.findings()
    idle = tuple(sorted(told.values.keys() - frozenset(cancelled)))
    return Cancellation(cancelled, idle, findings)


class _Asked(NamedTuple):
    """The devices of a target: those that are there, those that are not, and how all of them are addressed.

    `target` is None where nobody is to be asked.
    """

    target: str | None
    there: frozenset[str]
    away: tuple[str, ...]


def _asked(fleet: Fleet, target: str | None) -> _Asked:
    states = fleet.roster.states
    if target is None:
        devices: Sequence[str] = [device for device, state in states.items() if state.status != "terminated"]
        target = ALL
    else:
        targets = fleet.resolve(target)
        devices = targets.devices
        if targets.pool is not None:  # for a command it stands for one of them, here for all
            target = ",".join(devices)
    there = frozenset(device for device in devices if is_there(device, states))
    return _Asked(target if there else None, there, tuple(sorted(frozenset(devices) - there)))


class _Told(NamedTuple):
    """What devices answered to a question, and why others did not."""

    values: dict[str, object]
    untold: dict[str, str]


class _Answers(NamedTuple):
    values: dict[str, bool]
    untold: dict[str, str]
