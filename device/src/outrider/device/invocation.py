"""What is asked: one command, the devices it was sent to, and what they have answered."""

import asyncio
from collections.abc import Callable, Collection, Iterable, KeysView, Sequence
from random import random
from time import monotonic
from typing import Final, NamedTuple, Protocol

from msgspec.structs import replace

from outrider.schema import UNKNOWN, Command, Error, LocalError, Progress, Result, Status

from .repeats import PACE, Pace, Repeats
from .tracing import Sending

MOST_REPLIES: Final = 10_000
"""Answers that wait to be read above which progress, and what is said twice, is left out: `seq` shows the gap."""


class Reply(NamedTuple):
    """What one device said to one command."""

    device: str
    message: Progress | Result


class Asked(Protocol):
    """What the invoker keeps of a command: it hands answers to it, and asks it who gets a copy."""

    def take(self, reply: Reply) -> None:
        """Note an answer."""
        ...

    def waits_for(self, device: str) -> bool:
        """Whether this device was sent the command and has not given its final answer."""
        ...

    def repeats(self) -> Repeats:
        """When to send it again."""
        ...

    def payload(self, device: str) -> bytes:
        """The bytes that this device was sent."""
        ...


def has_forgotten(result: Result) -> bool:
    """Whether the device knew nothing of the command and would not start it any more.

    Where it had accepted that command before, this says that it has forgotten it, not that it did not run.
    """
    return result.status is Status.EXPIRED and result.error is not None and UNKNOWN in (result.error.details or {})


def as_interrupted(result: Result) -> Result:
    """What it means that a device has forgotten a command which it had accepted: it does not run any more."""
    words = "it had accepted it and knows nothing of it any more; whether it finished is not known"
    return replace(result, status=Status.INTERRUPTED, error=Error("", words, {UNKNOWN: True}))


class Invocation:
    """One command, and what the devices it was sent to have answered so far.

    Devices may be addressed one after the other, all with the same id.

    :ivar id: the command's id, the same for every device.
    :ivar results: final answers by device, of addressed devices only.
    :ivar accepted: devices that have taken the command and not ended it.
    :ivar refused: devices whose command the broker would not take, and why.
    :ivar complete: whether no more devices will be addressed, so that it ends with the last answer.
    :ivar span: where the command is traced.
    :ivar left_out: answers that nobody read in time, and that are no outcomes.
    :param message: the command, without the times that each sending of it sets.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        id: str,
        message: Command,
        *,
        pace: Pace = PACE,
        chance: Callable[[], float] = random,
        clock: Callable[[], float] = monotonic,
        span: Sending | None = None,
    ) -> None:
        self.complete = False
        self.span = span
        self.id = id
        self.command = message.command
        self.message = message
        self.results: dict[str, Result] = {}
        self.accepted: set[str] = set()
        self.refused: dict[str, BaseException] = {}
        self.left_out = 0
        self._clock = clock
        self._repeats = Repeats(chance, pace)
        self._missing: dict[str, None] = {}
        self._publishes: dict[str, asyncio.Future[None]] = {}
        self._payloads: dict[str, bytes] = {}
        self._replies: asyncio.Queue[Reply | None] = asyncio.Queue()

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices addressed so far, in the order in which they were."""
        return tuple(self._publishes)

    @property
    def missing(self) -> KeysView[str]:
        """The addressed devices without a final answer, in the order in which they were addressed."""
        return self._missing.keys()

    def addressed(self, device: str) -> bool:
        """Whether the command was published for this device."""
        return device in self._publishes

    def acknowledged(self, device: str) -> bool:
        """Whether the broker has the command for this device, so that it may reach it."""
        publish = self._publishes[device]
        return publish.done() and not publish.cancelled() and publish.exception() is None

    async def sent(self) -> None:
        """Return when the broker has acknowledged or refused all that was published so far."""
        if self._publishes:
            await asyncio.wait(set(self._publishes.values()))

    def address(
        self, devices: Iterable[str], publish: asyncio.Future[None], payload: bytes = b"", expires: float = 0.0
    ) -> None:
        """Note that the command is on its way to these devices with one publish. The invoker calls it.

        :param expires: monotonic seconds.
        """
        new = dict.fromkeys(devices)
        self._publishes |= dict.fromkeys(new, publish)
        self._payloads |= dict.fromkeys(new, payload)
        missing = [device for device in new if device not in self.results]
        self._missing |= dict.fromkeys(missing)
        self._repeats.sent(missing, expires)
        publish.add_done_callback(lambda done: self._published(tuple(new), done))

    def recall(self, results: Iterable[Result]) -> None:
        """Take final answers that were given when nobody listened, or before this process began."""
        for result in results:
            self.results[result.device] = result
            self._replies.put_nowait(Reply(result.device, result))

    def expect(self, devices: Sequence[str], publish: asyncio.Future[None], payload: bytes, expires: float) -> None:
        """Note that these devices had accepted it when nobody listened, and are to be asked at once."""
        self.address(devices, publish, payload, expires)
        now = self._clock()
        for device in devices:
            self.accepted.add(device)
            self._repeats.accepted(device, now)
        self._repeats.returned(devices, now)

    def take(self, reply: Reply) -> None:
        """Note an answer. The invoker calls it."""
        device, message = reply
        outcome = device in self._missing and isinstance(message, Result)
        if device in self._missing:
            now = self._clock()
            if isinstance(message, Progress):
                self._begun(device, now)
            else:
                if device in self.accepted and has_forgotten(message):
                    reply = Reply(device, message := as_interrupted(message))
                if device not in self.accepted:
                    self._repeats.heard(now)
                self._end(device, message)
        if outcome or self._replies.qsize() < MOST_REPLIES:
            self._replies.put_nowait(reply)
        else:
            self.left_out += 1

    def waits_for(self, device: str) -> bool:
        """Whether this device was addressed and has not given its final answer."""
        return device in self._missing

    def repeats(self) -> Repeats:
        """When to send it again to whom."""
        return self._repeats

    def payload(self, device: str) -> bytes:
        """The bytes that this device was sent."""
        return self._payloads[device]

    def close(self, outcomes: Collection[Result] | None = None) -> None:
        """Nobody waits for answers any more: the command's span ends, where it has one.

        :param outcomes: what counts in the end; by default all answers of addressed devices.
        """
        if self.span is None:
            return
        unanswered = dict.fromkeys(self.refused, Status.REJECTED)
        for device in self._missing:
            unanswered[device] = Status.RUNNING if device in self.accepted else Status.QUEUED
        if outcomes is None:
            self.span.end(self.results.values(), unanswered)
        else:
            self.span.end(outcomes)

    def wake(self) -> None:
        """Make `next` return None, so that whoever waits looks again at what else it waits for."""
        if self._replies.empty():  # else nobody waits
            self._replies.put_nowait(None)

    async def next(self, wait: float) -> Reply | None:
        """The next answer, also of a device that was not addressed; None after `wait` seconds or `wake`.

        With `wait` 0 it takes what has come already.
        """
        if wait <= 0:
            while not self._replies.empty():
                if (reply := self._replies.get_nowait()) is not None:
                    return reply
            return None
        try:
            async with asyncio.timeout(wait):
                return await self._replies.get()
        except TimeoutError:
            return None

    def _begun(self, device: str, now: float) -> None:
        if device not in self.accepted:
            self.accepted.add(device)
            self._repeats.heard(now)
        self._repeats.accepted(device, now)

    def _end(self, device: str, result: Result) -> None:
        self.results[device] = result
        del self._missing[device]
        self.accepted.discard(device)
        self._repeats.ended(device)
        if self.complete and not self._missing:
            self.close()

    def _published(self, devices: tuple[str, ...], publish: asyncio.Future[None]) -> None:
        error = None if publish.cancelled() else publish.exception()
        if error is None or type(error) is LocalError:  # expired on its way; it may have arrived all the same
            self._repeats.settled(devices, self._clock())
            return
        for device in devices:
            if device in self._missing:
                del self._missing[device]
                self._repeats.ended(device)
                self.refused[device] = error
        if self.complete and not self._missing:
            self.close()
        self.wake()


class Call:
    """One command to one device, waited for."""

    __slots__ = (
        "__weakref__",
        "_began",
        "_expires",
        "_pace",
        "_payload",
        "_repeats",
        "accepted",
        "answer",
        "device",
        "sent",
    )

    def __init__(self, device: str, payload: bytes, began: float, expires: float, pace: Pace) -> None:
        self.device = device
        self.accepted = False
        self.answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.sent: asyncio.Future[None] | None = None
        self._payload = payload
        self._began = began
        self._expires = expires
        self._pace = pace
        self._repeats: Repeats | None = None

    def take(self, reply: Reply) -> None:
        """Note an answer."""
        if reply.device != self.device:
            return
        if isinstance(reply.message, Progress):
            self.accepted = True
            self.repeats().accepted(self.device, monotonic())
        elif not self.answer.done():
            forgotten = self.accepted and has_forgotten(reply.message)
            self.answer.set_result(as_interrupted(reply.message) if forgotten else reply.message)

    def waits_for(self, device: str) -> bool:
        """Whether it is this device's answer that is waited for."""
        return device == self.device and not self.answer.done()

    def repeats(self) -> Repeats:
        """When to send it again; made when first asked for, since most calls are answered before."""
        if self._repeats is None:
            self._repeats = Repeats(random, self._pace)
            self._repeats.sent((self.device,), self._expires)
            if self.sent is not None and self.sent.done():
                self._repeats.settled((self.device,), self._began)
        return self._repeats

    def payload(self, device: str) -> bytes:
        """The bytes that the device was sent."""
        return self._payload

    def end(self, span: Sending) -> None:
        """End the span of it as it has ended."""
        failed = not self.answer.done() or self.answer.cancelled() or self.answer.exception() is not None
        if failed:
            span.end((), {self.device: Status.RUNNING if self.accepted else Status.QUEUED})
        else:
            span.end((self.answer.result(),))

    def give_up(self) -> None:
        """The wait is over."""
        if not self.answer.done():
            self.answer.set_exception(TimeoutError())

    def published(self, sent: asyncio.Future[None]) -> None:
        """Note the broker's answer to the publish. A refusal ends the call, a result says the rest."""
        if not sent.cancelled() and (error := sent.exception()) and not self.answer.done():
            self.answer.set_exception(error)
        elif self._repeats is not None:
            self._repeats.settled((self.device,), monotonic())
