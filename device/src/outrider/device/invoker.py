"""Asking: publish a command, collect what the devices answer."""

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Iterable, KeysView, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

from msgspec import Raw
from msgspec.structs import replace

from outrider.schema import (
    ANY,
    EXCEPTIONS,
    Code,
    Command,
    Decoder,
    Encoding,
    InvalidMessage,
    InvalidName,
    Kind,
    NoAnswer,
    Progress,
    RemoteError,
    Result,
    Status,
    Topic,
    Topics,
    check_name,
    encode,
)
from outrider.schema.commands import check_finite
from outrider.schema.messages import MAX_EXPIRY

from .connection import Connection, Subscription

DEFAULT_WAIT = 30.0
"""Seconds to wait for final answers."""

MIN_EXPIRY = 30.0
"""Seconds a command stays good at least, also when nobody waits that long."""

MAX_COMMAND = 128
"""Characters of a command's name that a `Command` can carry."""

Arguments = Mapping[str, object] | Sequence[object]

_PROGRESS = Decoder(Progress)
_RESULT = Decoder(Result)


class Reply(NamedTuple):
    """What one device said to one command."""

    device: str
    message: Progress | Result


class _Asked(Protocol):
    def take(self, reply: Reply) -> None: ...

    def waits_for(self, device: str) -> bool: ...


class Invocation:
    """One command, and what the devices it was sent to have answered so far.

    Devices may be addressed one after the other, all with the same id.

    :ivar id: the command's id, the same for every device.
    :ivar results: final answers by device, of addressed devices only.
    :ivar accepted: devices that have taken the command and not ended it.
    :ivar refused: devices whose command the broker would not take, and why.
    :param message: the command, without the times that each sending of it sets.
    """

    def __init__(self, id: str, message: Command) -> None:
        self.id = id
        self.command = message.command
        self.message = message
        self.results: dict[str, Result] = {}
        self.accepted: set[str] = set()
        self.refused: dict[str, BaseException] = {}
        self._missing: dict[str, None] = {}
        self._publishes: dict[str, asyncio.Future[None]] = {}
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
        return self._publishes[device].done()

    async def sent(self) -> None:
        """Return when the broker has acknowledged or refused all that was published so far."""
        if self._publishes:
            await asyncio.wait(set(self._publishes.values()))

    def address(self, devices: Iterable[str], publish: asyncio.Future[None]) -> None:
        """Note that the command is on its way to these devices with one publish. The invoker calls it."""
        new = dict.fromkeys(devices)
        self._publishes |= dict.fromkeys(new, publish)
        self._missing |= {device: None for device in new if device not in self.results}
        publish.add_done_callback(partial(self._published, tuple(new)))

    def take(self, reply: Reply) -> None:
        """Note an answer. The invoker calls it."""
        if reply.device in self._missing:
            if isinstance(reply.message, Result):
                self.results[reply.device] = reply.message
                del self._missing[reply.device]
                self.accepted.discard(reply.device)
            else:
                self.accepted.add(reply.device)
        self._replies.put_nowait(reply)

    def waits_for(self, device: str) -> bool:
        """Whether this device was addressed and has not given its final answer."""
        return device in self._missing

    def wake(self) -> None:
        """Make `next` return None, so that whoever waits looks again at what else it waits for."""
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

    def _published(self, devices: tuple[str, ...], publish: asyncio.Future[None]) -> None:
        if not publish.cancelled() and (error := publish.exception()):
            for device in devices:
                if device in self._missing:
                    del self._missing[device]
                    self.refused[device] = error
            self.wake()


class _Call:
    """One command to one device, waited for."""

    __slots__ = ("__weakref__", "accepted", "answer", "device")

    def __init__(self, device: str) -> None:
        self.device = device
        self.accepted = False
        self.answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def take(self, reply: Reply) -> None:
        if reply.device != self.device:
            return
        if isinstance(reply.message, Progress):
            self.accepted = True
        elif not self.answer.done():
            self.answer.set_result(reply.message)

    def waits_for(self, device: str) -> bool:
        return device == self.device and not self.answer.done()

    def give_up(self) -> None:
        """The wait is over."""
        if not self.answer.done():
            self.answer.set_exception(TimeoutError())

    def refused(self, sent: asyncio.Future[None]) -> None:
        """The broker's answer to the publish: only a refusal is of interest, a result says the rest."""
        if not sent.cancelled() and (error := sent.exception()) and not self.answer.done():
            self.answer.set_exception(error)


class Invoker:
    """Sends commands as one requester over a connection, and hands each answer to who asked.

    :param requester: this side's stable name; several processes may share it and pick their results by id.
    :param encoding: what to ask in; devices answer in it.
    :param clock: Unix seconds.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        topics: Topics,
        requester: str,
        encoding: Encoding = Encoding.JSON,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.requester = check_name(requester, "requester")
        self.dropped = 0
        self._connection = connection
        self._topics = topics
        self._encoding = encoding
        self._clock = clock
        # Weakly: an answer that nobody can read any more needs no keeping, whoever forgot to `forget` it.
        self._asked: WeakValueDictionary[str, _Asked] = WeakValueDictionary()

    async def open(self) -> None:
        """Subscribe to the answers; waits for the broker's acknowledgement.

        :raises SubscribeRefused: the broker would not let this requester read them.
        """
        # After a reconnect what stands may be the answer that came meanwhile; before that, it is none of ours.
        await self._connection.subscribe(
            Subscription(self._topics.result(ANY, self.requester), retain_handling=2, retain_handling_again=0),
            Subscription(self._topics.progress(ANY, self.requester)),
        )

    def receive(self, topic: Topic, payload: bytes) -> None:
        """Take a message from a result or progress topic; what is not for this requester is counted and dropped."""
        decoder = _RESULT if topic.kind is Kind.RESULT else _PROGRESS
        try:
            message, _ = decoder.decode(payload)
        except InvalidMessage:
            self.dropped += 1
            return
        asked = self._asked.get(message.id)
        if asked is None or message.device != topic.device:
            self.dropped += 1
        else:
            asked.take(Reply(message.device, message))

    def prepare(
        self,
        command: str,
        args: Arguments | None = None,
        *,
        timeout: float | None = None,
        behalf: str | None = None,
    ) -> Invocation:
        """Make a command with an id of its own, for any number of devices; `send` sends it.

        Answers are taken as long as somebody holds on to the invocation.

        :param timeout: seconds it may run on a device.
        :raises InvalidName: `command` is empty or too long.
        :raises InvalidArguments: NaN, an infinity or an integer of more than 64 bits.
        """
        id = _new_id()
        invocation = Invocation(id, self._message(id, command, args, timeout, behalf))
        self._asked[id] = invocation
        return invocation

    def send(
        self,
        invocation: Invocation,
        devices: Iterable[str],
        *,
        group: str | None = None,
        expires_in: float = DEFAULT_WAIT,
    ) -> None:
        """Send a prepared command to some devices and return at once.

        :param group: publish once to this group, whose members `devices` are, instead of to each device.
        :param expires_in: seconds until a device must not start it any more; at most 7 days.
        :raises MessageTooLarge: before anything is sent.
        """
        good_for = min(expires_in, MAX_EXPIRY)
        payload = self._payload(invocation.message, good_for)
        expiry = math.ceil(good_for)
        if group is not None:
            topic = self._topics.group(group, self.requester)
            invocation.address(devices, self._connection.publish(topic, payload, expiry=expiry))
            return
        for device in dict.fromkeys(devices):
            topic = self._topics.command(device, self.requester)
            invocation.address((device,), self._connection.publish(topic, payload, expiry=expiry))

    def invoke(
        self,
        devices: Iterable[str],
        command: str,
        args: Arguments | None = None,
        *,
        group: str | None = None,
        expires_in: float = DEFAULT_WAIT,
        timeout: float | None = None,
        behalf: str | None = None,
    ) -> Invocation:
        """Send a command and return at once. Answers are taken as long as somebody holds on to the invocation.

        :param group: publish once to this group, whose members `devices` are, instead of to each device.
        :param expires_in: seconds until a device must not start it any more; at least 30 are given, at most 7 days.
        :param timeout: seconds it may run on a device.
        :raises InvalidName: `command` is empty or too long.
        :raises InvalidArguments: NaN, an infinity or an integer of more than 64 bits.
        :raises MessageTooLarge: before anything is sent.
        """
        invocation = self.prepare(command, args, timeout=timeout, behalf=behalf)
        self.send(invocation, devices, group=group, expires_in=_good_for(expires_in))
        return invocation

    def forget(self, invocation: Invocation) -> None:
        """Take no more answers to this command."""
        self._asked.pop(invocation.id, None)

    async def call(
        self,
        device: str,
        command: str,
        args: Arguments | None = None,
        *,
        wait: float = DEFAULT_WAIT,
        timeout: float | None = None,
        behalf: str | None = None,
    ) -> Result:
        """Send a command to one device and return its final answer, whatever its status.

        :param wait: seconds to wait for it.
        :raises InvalidName: `command` is empty or too long.
        :raises InvalidArguments: NaN, an infinity or an integer of more than 64 bits.
        :raises NoAnswer: when the wait ended first; `status` tells whether the device had taken it.
        :raises PublishRefused: the broker would not take the command.
        """
        good_for = _good_for(wait)
        id = _new_id()
        payload = self._payload(self._message(id, command, args, timeout, behalf), good_for)
        asked = _Call(device)
        self._asked[id] = asked
        # A bare timer: `asyncio.timeout` takes twice as long, a tenth of all that a call takes in this process.
        timer = asyncio.get_running_loop().call_later(wait, asked.give_up)
        try:
            topic = self._topics.command(device, self.requester)
            sent = self._connection.publish(topic, payload, expiry=math.ceil(good_for))
            sent.add_done_callback(asked.refused)
            return await asked.answer
        except TimeoutError:
            status = Status.RUNNING if asked.accepted else Status.QUEUED
            words = f"{device} gave no final answer to {command} within {wait:g} s; it is {status}"
            raise NoAnswer(words, device=device, status=status) from None
        finally:
            timer.cancel()
            self._asked.pop(id, None)

    def load(self, device: str) -> int:
        """How many commands of this side the device has not ended, as far as somebody still waits for them."""
        return sum(asked.waits_for(device) for asked in self._asked.values())

    def _message(
        self, id: str, command: str, args: Arguments | None, timeout: float | None, behalf: str | None
    ) -> Command:
        if not 0 < len(command) <= MAX_COMMAND:
            raise InvalidName(f"the command's name has {len(command)} characters; it needs 1 to {MAX_COMMAND}")
        args = {} if args is None else args
        for name, value in args.items() if isinstance(args, Mapping) else enumerate(args, 1):
            check_finite(value, str(name))
        return Command(
            id=id,
            command=command,
            args=Raw(encode(args, self._encoding)),
            from_=self.requester,
            behalf=behalf,
            timeout=timeout,
        )

    def _payload(self, message: Command, good_for: float) -> bytes:
        now = self._clock()
        return encode(replace(message, issued=now, expires=now + good_for), self._encoding)


def _new_id() -> str:
    return secrets.token_hex(8)


def _good_for(wait: float) -> float:
    """Seconds until a command expires whose answer is waited for so long."""
    return min(max(wait, MIN_EXPIRY), MAX_EXPIRY)


def error_of(result: Result) -> RemoteError | None:
    """The exception for a final answer, None for `done`."""
    if result.status is Status.DONE:
        return None
    kind = EXCEPTIONS.get(result.status, RemoteError)
    error = result.error
    said = error.message if error else ""
    code = error.code if error else Code.INTERNAL
    words = f"{result.device}: {result.command} {result.status}" + (f" ({code})" if code else "")
    message = f"{words}: {said}" if said else words
    return kind(
        message, device=result.device, command=result.command, code=code, details=error.details if error else None
    )
