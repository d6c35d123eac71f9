"""One command on its way to a target, until every device of the target has an outcome."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from msgspec import Raw, UnsetType

from outrider.device import DEFAULT_WAIT, MIN_EXPIRY, Invocation, Invoker, Reply, error_of, value_of
from outrider.schema import Code, Error, LocalError, NoAnswer, Result, State, Status
from outrider.schema.messages import MAX_EXPIRY

from .batches import InBatches
from .course import LOOK_AGAIN, Course, Step, is_there
from .durable import OutboxUnusable, Record
from .rollout import Rollout
from .roster import Roster
from .targets import Targets

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

ACKNOWLEDGED: Final = 1.0
"""Seconds for the broker to acknowledge what was sent, at the end of the wait."""

NOT_ADDRESSED: Final = "not-addressed"
"""Code of the outcome `cancelled` that the requester gives to a device which the command was never sent to."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T_co]):
    """What became of a command on one device, its value decoded as the type that the caller named.

    :ivar result: the device's own final answer, or the requester's word where none has come.
    """

    result: Result
    type: type[T_co]

    @property
    def device(self) -> str:
        """Whose outcome it is."""
        return self.result.device

    @property
    def status(self) -> Status:
        """One word for it."""
        return self.result.status

    @property
    def done(self) -> bool:
        """Whether it was done, so that there is a value."""
        return self.result.status is Status.DONE

    @property
    def error(self) -> Error | None:
        """Why it was not done; None where it was, or the status says all."""
        return self.result.error

    @property
    def value(self) -> T_co:
        """What the command returned.

        :raises RemoteError: the device answered otherwise.
        :raises NoAnswer: no final answer has come.
        :raises msgspec.ValidationError: the value is of another type.
        """
        if not self.status.final:
            said = f": {self.error.message}" if self.error else ""
            raise NoAnswer(f"{self.device}: {self.status}{said}", device=self.device, status=self.status)
        if error := error_of(self.result):
            raise error
        return value_of(self.result, self.type)


class Dispatch:
    """One command sent to a target. Iterate it for everything that comes back.

    It yields each `Reply` as it comes, ends when every device of the target has an outcome, and then has exactly one
    outcome for each in `outcomes`: the device's own final answer, or the requester's word for it. A pool has one
    outcome in all, that of the member which took it.

    :ivar id: the command's id, the same for every device.
    :ivar targets: what the target stood for when the command was sent.
    :ivar outcomes: by device, in the order of the target.
    :ivar passed: rejections of members of a pool after which another member was asked.
    :param left_out: devices of the target that nothing is sent to because they are away.
    :param expires: seconds the command is good for, from each sending of it on.
    :param record: where it is written down, before it is sent.
    """

    def __init__(
        self,
        invocation: Invocation,
        targets: Targets,
        course: Course,
        *,
        roster: Roster,
        invoker: Invoker,
        left_out: frozenset[str],
        endless: bool,
        expires: float,
        record: Record | None = None,
    ) -> None:
        self.id = invocation.id
        self.command = invocation.command
        self.targets = targets
        self.outcomes: dict[str, Result] = {}
        self.passed: list[Result] = []
        self._invocation = invocation
        self._course = course
        self._roster = roster
        self._invoker = invoker
        self._endless = endless
        self._expires = expires
        self._left_out = left_out
        self._members = frozenset(targets.devices)
        self._cancels: list[Invocation] = []
        self._record = record
        if record is not None and left_out:
            record.leave_out(self._unanswered(device) for device in targets.devices if device in left_out)
        self._advance()

    async def __aiter__(self) -> AsyncIterator[Reply]:
        told: set[str] = set()
        try:
            with self._roster.watch(self._look_again):
                while (reply := await self._next()) is not None:
                    self._write_down(reply)
                    if isinstance(reply.message, Result):
                        if not self._takes(reply.message):
                            continue
                        told.add(reply.device)
                    yield reply
            await self._settled()
            self._raise_if_refused()
            for device in self._course.counted():
                result = self._invocation.results.get(device)
                self.outcomes[device] = result or self._unanswered(device)
                self._write_down(Reply(device, self.outcomes[device]))
                if device not in told:  # nor what has come since: while it settled, or while another one was taken
                    yield Reply(device, self.outcomes[device])
            if not self._invocation.missing:
                self._invocation.close(self.outcomes.values())
        finally:
            if not self._endless:
                self._invoker.forget(self._invocation)

    async def each(self, type: type[T]) -> AsyncIterator[Outcome[T]]:
        """Iterate it for the outcomes alone, one for each device of the target, as they come.

        :param type: what the values are decoded as.
        """
        seen: set[str] = set()
        async for device, message in self:
            if isinstance(message, Result) and device not in seen and self.expects(device):
                seen.add(device)
                yield Outcome(message, type)

    def expects(self, device: str) -> bool:
        """Whether this device's answer counts: it belongs to the target."""
        return device in self._members

    @property
    def addressed(self) -> tuple[str, ...]:
        """The devices that the command has been sent to so far, in the order in which it was."""
        return self._invocation.devices

    @property
    def never_addressed(self) -> tuple[str, ...]:
        """The devices of the target that the command has not been sent to."""
        if self.targets.pool is not None:
            return ()
        return tuple(device for device in self.targets.devices if not self._invocation.addressed(device))

    @property
    def rollout(self) -> Rollout | None:
        """How far the rollout is, where it is one: its batch, its failures, why it was aborted."""
        return self._course.rollout if isinstance(self._course, InBatches) else None

    @property
    def counted(self) -> tuple[str, ...]:
        """The devices that have an outcome at the end, in order: the target's, or the pool's member that was asked."""
        return tuple(self._course.counted())

    @property
    def args(self) -> Raw | UnsetType:
        """The arguments as they are sent."""
        return self._invocation.message.args

    @property
    def accepted(self) -> Collection[str]:
        """The devices that have taken the command and not ended it."""
        return self._invocation.accepted

    def standing(self, device: str) -> Result:
        """A device's outcome as of now: its final answer, or the requester's word for it."""
        return self.outcomes.get(device) or self._invocation.results.get(device) or self._unanswered(device)

    @property
    def missing(self) -> tuple[str, ...]:
        """The devices that the command was sent to and whose final answer has not come."""
        return tuple(self._invocation.missing)

    @property
    def is_with_broker(self) -> bool:
        """Whether the broker has it for some device, as far as it has acknowledged it."""
        invocation = self._invocation
        devices = [device for device in self.targets.devices if invocation.addressed(device)]
        return any(map(invocation.acknowledged, devices))

    async def sent(self) -> None:
        """Return when the broker has what was sent so far, or refused it. Nobody has to wait for the answers then.

        :raises PublishRefused: it refused all of it.
        """
        await self._invocation.sent()
        self._raise_if_refused()

    def cancel(self) -> None:
        """Address nobody any more, and tell those that have not ended to cancel it; their answers still come."""
        self._course.stop()
        self._cancel(self.missing)
        self._invocation.wake()

    async def late(self) -> AsyncGenerator[Reply]:
        """Final answers that come after all and replace the outcomes `queued` and `running`, until all have come.

        For a dispatch whose `wait` is `math.inf`, iterated to its end before; cancel it to wait no more.
        """
        try:
            while True:
                missing = bool(self._invocation.missing)  # where none is, its answer may have come and not been taken
                reply = await self._invocation.next(LOOK_AGAIN if missing else 0.0)
                if reply is None and not missing:
                    return
                if reply is None or not isinstance(reply.message, Result):
                    continue
                known = self.outcomes.get(reply.device)
                if known is not None and not known.status.final:
                    self.outcomes[reply.device] = reply.message
                    self._write_down(reply)
                    yield reply
        finally:
            self._invoker.forget(self._invocation)

    def let_go(self) -> None:
        """Take no more answers: for a dispatch whose `wait` is `math.inf` and whose late answers nobody waits for."""
        self._invoker.forget(self._invocation)

    async def _settled(self) -> None:
        """Wait a moment for the broker's word on what was just sent: where all are away, nothing else waits for it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ACKNOWLEDGED):
                await self._invocation.sent()

    def _look_again(self, state: State) -> None:
        self._invocation.wake()

    async def _next(self) -> Reply | None:
        """The next reply; None when there is none left to wait for."""
        while True:
            if (come := await self._invocation.next(0)) is not None:
                return come
            self._advance()
            left = self._course.left(time.monotonic())
            reply = await self._invocation.next(left)
            if reply is not None or left <= 0:
                return reply

    def _advance(self) -> None:
        """Send what is due."""
        step = self._course.step(time.monotonic())
        if step.send:
            self._send(step)
        self._cancel(step.cancel)

    def _send(self, step: Step) -> None:
        before = None if self._record is None else self._record.sending
        try:
            self._invoker.send(self._invocation, step.send, group=step.group, expires_in=self._expires, before=before)
        except OutboxUnusable:
            raise
        except LocalError:  # it was written down, and could not be sent after all
            for device in step.send:
                if self._record is not None and not self._invocation.addressed(device):
                    self._record.outcome(self._unanswered(device))
            raise

    def _cancel(self, devices: Sequence[str]) -> None:
        if devices:
            # As long as the command itself may wait for a device that is away.
            # Held on to, so that it is repeated.
            behalf = self._invocation.message.behalf
            self._cancels.append(
                self._invoker.invoke(devices, "cancel", [self.id], expires_in=MAX_EXPIRY, behalf=behalf)
            )

    def _write_down(self, reply: Reply) -> None:
        if self._record is None or not (self._invocation.addressed(reply.device) or self.expects(reply.device)):
            return
        if isinstance(reply.message, Result):
            self._record.outcome(reply.message)
        else:
            self._record.accepted(reply.device)

    def _takes(self, result: Result) -> bool:
        """Note a final answer; whether it is an outcome."""
        if self._invocation.results.get(result.device) is not result:
            return True  # not asked for, or said twice: for whoever iterates to show
        if self._course.finished(result, time.monotonic()):
            return True
        self.passed.append(result)
        return False

    def _raise_if_refused(self) -> None:
        refused = self._invocation.refused
        if refused and len(refused) == len(self._invocation.devices):
            raise next(iter(refused.values()))

    def _unanswered(self, device: str) -> Result:
        status, code, words = self._standing(device)
        error = Error(code, words)
        return Result(id=self.id, device=device, command=self.command, status=status, error=error)

    def _standing(self, device: str) -> tuple[Status, str, str]:
        """The requester's word for a device without a final answer: status, code, and words for people."""
        state = self._roster.states.get(device)
        where = state.status if state else "unknown"
        invocation = self._invocation
        if device in invocation.refused:
            return Status.REJECTED, Code.UNAUTHORIZED, f"the broker did not take it: {invocation.refused[device]}"
        if not invocation.addressed(device):
            if device in self.targets.gone:
                return Status.OFFLINE, "", "terminated: nothing was sent to it"
            if device in self._left_out:
                return Status.OFFLINE, "", f"{where}: nothing was sent to it"
            return Status.CANCELLED, NOT_ADDRESSED, "never addressed: the command was not sent to it"
        if device in invocation.accepted:
            if where == "lost":
                words = "it was running when the device was lost; whether it finished is not known"
                return Status.RUNNING, "", words
            return Status.RUNNING, "", f"accepted, no final answer yet; the device is {where}"
        if not invocation.acknowledged(device):
            words = f"the broker has not acknowledged it; the device is {where}; it may still run"
            return Status.QUEUED, "", words
        if self._expires <= 0:
            return Status.QUEUED, "", f"it expired, and nothing is known of it; the device is {where}"
        if where == "unknown":
            words = "sent, though nobody has seen the device: it gets it only if the broker has a session for it"
            return Status.QUEUED, "", words
        if not is_there(device, self._roster.states):
            return Status.QUEUED, "", f"the device is {where}; it runs when it is back within {self._expires:g} s"
        return Status.QUEUED, "", f"sent, not taken yet; the device is {where}; it may still run"


def expires_in(wait: float | None) -> float:
    """Seconds a command stays good for a device that has not taken it yet."""
    return DEFAULT_WAIT if wait is None or wait == math.inf else max(wait, MIN_EXPIRY)
