"""Asking: publish a command, and again where no answer comes; hand each answer to who asked."""

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from msgspec import Raw
from msgspec.structs import replace

from outrider.schema import (
    ANY,
    Command,
    Decoder,
    Encoding,
    InvalidMessage,
    InvalidName,
    Kind,
    LocalError,
    NoAnswer,
    Progress,
    Result,
    Status,
    Topic,
    Topics,
    check_name,
    encode,
)
from outrider.schema.codec import MAX_RESULT
from outrider.schema.commands import check_finite
from outrider.schema.messages import MAX_EXPIRY

from . import tracing
from .backlog import Backlog, whole
from .connection import Connection, Subscription
from .invocation import Asked, Call, Invocation, Reply
from .repeats import PACE, Pace

DEFAULT_WAIT = 30.0
"""Seconds to wait for final answers."""

MIN_EXPIRY = 30.0
"""Seconds a command stays good at least, also when nobody waits that long."""

MAX_COMMAND = 128
"""Characters of a command's name that a `Command` can carry."""

Arguments = Mapping[str, object] | Sequence[object]

MOST_REPEATED: Final = 1000
"""Unacknowledged messages above which no command is repeated."""

SPACING: Final = 0.2
"""Seconds between two looks at what is to be repeated."""

LOOK_AGAIN: Final = 1.0
"""Seconds after which to look again, as long as something is asked: the broker may have acknowledged it meanwhile."""

_PROGRESS = Decoder(Progress)
_RESULT = Decoder(Result, max_size=MAX_RESULT)


class _Sending(NamedTuple):
    """A command that goes to some devices. `until` is in monotonic seconds."""

    invocation: Invocation
    devices: tuple[str, ...]
    group: str | None
    payload: bytes
    until: float


def _nobody(device: str) -> bool:
    """Nobody is known to be away."""
    return False


class Invoker:
    """Sends commands as one requester over a connection, and hands each answer to who asked.

    Commands are repeated as `repeats` says, as long as somebody waits for answers. Whoever knows when devices come back
    and when the connection is made anew, tells `returned` and `reconnected`.

    :param requester: this side's stable name; several processes may share it and pick their results by id.
    :param encoding: what to ask in; devices answer in it.
    :param clock: Unix seconds.
    :param away: whether a device is known not to be there; nothing is repeated to it.
    :param pace: how fast commands are repeated.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        topics: Topics,
        requester: str,
        encoding: Encoding = Encoding.JSON,
        clock: Callable[[], float] = time.time,
        away: Callable[[str], bool] = _nobody,
        pace: Pace = PACE,
    ) -> None:
        self.requester = check_name(requester, "requester")
        self.dropped = 0
        self._connection = connection
        self._topics = topics
        self._encoding = encoding
        self._clock = clock
        # Weakly: an answer that nobody can read any more needs no keeping, whoever forgot to `forget` it.
        self._asked: WeakValueDictionary[str, Asked] = WeakValueDictionary()
        self._away = away
        self._pace = pace
        self._first_look = min(LOOK_AGAIN, pace.unanswered[0] / 2)
        self._returned: set[str] = set()
        self._backlog = Backlog(connection)
        self._timer: asyncio.TimerHandle | None = None
        self._looks = math.inf
        self._together: list[_Sending] | None = None

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
        id: str | None = None,
    ) -> Invocation:
        """Make a command with an id of its own, for any number of devices; `send` sends it.

        Answers are taken as long as somebody holds on to the invocation.

        :param timeout: seconds it may run on a device.
        :param behalf: for whom this requester asks, where not for itself.
        :param id: the id that it shall have; one that no other command of this requester has.
        :raises InvalidName: `command` is empty or too long.
        :raises InvalidArguments: NaN, an infinity or an integer of more than 64 bits.
        """
        id = id or _new_id()
        span = tracing.sending(command, id, self.requester)
        message = self._message(id, command, args, timeout, behalf, span)
        invocation = Invocation(id, message, pace=self._pace, span=span)
        self._asked[id] = invocation
        return invocation

    def send(
        self,
        invocation: Invocation,
        devices: Iterable[str],
        *,
        group: str | None = None,
        expires_in: float = DEFAULT_WAIT,
        before: Callable[[Sequence[str], bytes, float], None] | None = None,
    ) -> None:
        """Send a prepared command to some devices and return at once.

        :param group: publish once to this group, whose members `devices` are, instead of to each device.
        :param expires_in: seconds until a device must not start it any more; at most 7 days.
        :param before: called with the devices, the payload and when it expires (Unix seconds) before anything is
            sent; should it raise, nothing is.
        :raises MessageTooLarge: before anything is sent.
        :raises QueueFull: a million commands wait for the broker already; nothing is sent.
        """
        good_for = min(expires_in, MAX_EXPIRY)
        if invocation.span is not None and not invocation.devices:
            devices = tuple(devices)
            topics = self._topics
            for_one = topics.command(devices[0], self.requester) if devices else ""
            topic = for_one if group is None else topics.group(group, self.requester)
            invocation.span.addressed(topic, devices)
        payload, expires = self._payload(invocation.message, good_for)
        devices = tuple(dict.fromkeys(devices))
        self._backlog.check(1 if group is not None else len(devices))
        if before is not None:
            before(devices, payload, expires)
        sending = _Sending(invocation, devices, group, payload, monotonic() + good_for)
        if self._together is not None:
            self._together.append(sending)
        else:
            self._publish(sending)

    @contextmanager
    def together(self) -> Generator[None]:
        """Hold back what is sent inside, and send it at the end; should the context raise, nothing is sent.

        So that several commands can be written down with one commit. What then cannot be sent after all is refused. Do
        not await inside.
        """
        self._together = held = list[_Sending]()
        try:
            yield
        finally:
            self._together = None
        for sending in held:
            try:
                self._publish(sending)
            except LocalError as error:
                refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                refused.set_exception(error)
                missing = [device for device in sending.devices if not sending.invocation.addressed(device)]
                sending.invocation.address(missing, refused, sending.payload, sending.until)

    def resume(self, message: Command) -> Invocation:
        """Go on with a command that was sent before, perhaps by another process; `send_again` sends it.

        :param message: as it was sent; it has an id.
        """
        invocation = Invocation(message.id or _new_id(), message, pace=self._pace)
        self._asked[invocation.id] = invocation
        return invocation

    def send_again(
        self,
        invocation: Invocation,
        devices: Iterable[str],
        payload: bytes,
        expires: float,
        *,
        accepted: Collection[str] = (),
    ) -> None:
        """Send a resumed command to devices whose answers are missing: the same bytes, then repeated as any.

        Once it has expired, those that had accepted it get it, and of the others it is asked without starting it.

        :param expires: Unix seconds.
        :param accepted: devices that had taken it.
        """
        left = expires - self._clock()
        until = monotonic() + left
        silent = [device for device in devices if device not in accepted]
        if left > 0:
            self._send_each(invocation, silent, payload, until)
        else:
            invocation.address(silent, _done(), payload, until)
            invocation.repeats().returned(silent, monotonic())
        invocation.expect([device for device in devices if device in accepted], _done(), payload, until)
        self._look_within(0.0)

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
        invocation.complete = True
        self.send(invocation, devices, group=group, expires_in=_good_for(expires_in))
        return invocation

    def forget(self, invocation: Invocation) -> None:
        """Take no more answers to this command."""
        self._asked.pop(invocation.id, None)
        invocation.close()

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
        topic = self._topics.command(device, self.requester)
        span = tracing.sending(command, id, self.requester)
        if span is not None:
            span.addressed(topic, (device,))
        payload, _ = self._payload(self._message(id, command, args, timeout, behalf, span), good_for)
        now = monotonic()
        asked = Call(device, payload, now, now + good_for, self._pace)
        self._asked[id] = asked
        if now + self._first_look < self._looks:
            self._look_within(self._first_look)
        # A bare timer: `asyncio.timeout` takes twice as long, a tenth of all that a call takes in this process.
        timer = asyncio.get_running_loop().call_later(wait, asked.give_up)
        try:
            sent = self._connection.publish(topic, payload, expiry=math.ceil(good_for))
            asked.sent = sent
            sent.add_done_callback(asked.published)
            return await asked.answer
        except TimeoutError:
            status = Status.RUNNING if asked.accepted else Status.QUEUED
            words = f"{device} gave no final answer to {command} within {wait:g} s; it is {status}"
            raise NoAnswer(words, device=device, status=status) from None
        finally:
            timer.cancel()
            self._asked.pop(id, None)
            if span is not None:
                asked.end(span)

    @property
    def held(self) -> int:
        """How many commands wait for room in the connection."""
        return len(self._backlog)

    def returned(self, device: str) -> None:
        """Note that a device is there with a session that was not known before: commands may be lost."""
        if self._asked:
            self._returned.add(device)
            self._look_within(0.0)

    def reconnected(self) -> None:
        """Note that the connection was made anew: answers may be lost."""
        now = monotonic()
        for asked in list(self._asked.values()):
            asked.repeats().reconnected(now)
        if self._asked:
            self._look_within(0.0)

    def load(self, device: str) -> int:
        """How many commands of this side the device has not ended, as far as somebody still waits for them."""
        return sum(asked.waits_for(device) for asked in self._asked.values())

    def _publish(self, sending: _Sending) -> None:
        invocation, devices, group, payload, until = sending
        if group is not None:
            publish = self._backlog.publish(self._topics.group(group, self.requester), payload, until)
            invocation.address(devices, publish, payload, until)
        else:
            self._send_each(invocation, devices, payload, until)
        self._look_within(self._first_look)

    def _send_each(self, invocation: Invocation, devices: Iterable[str], payload: bytes, until: float) -> None:
        for device in devices:
            publish = self._backlog.publish(self._topics.command(device, self.requester), payload, until)
            invocation.address((device,), publish, payload, until)

    def _look_within(self, seconds: float) -> None:
        """Look at what is to be repeated in so many seconds, if not before."""
        loop = asyncio.get_running_loop()
        when = monotonic() + seconds
        if when < self._looks:
            if self._timer is not None:
                self._timer.cancel()
            self._looks = when
            self._timer = loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Send again what is due, let go what is held back, and look again as long as something is asked."""
        self._timer = None
        self._looks = math.inf
        self._backlog.let_go()
        every = list(self._asked.values())
        returned, self._returned = self._returned, set()
        if self._connection.ended or not (every or self._backlog):
            return
        now = monotonic()
        following = now + self._first_look
        connected = self._connection.connected
        for asked in every:
            repeats = asked.repeats()
            if returned:
                repeats.returned(returned, now)
            if connected and repeats.next > now:  # most of them: there may be thousands
                following = min(following, repeats.next)
            elif connected:
                room = max(0, MOST_REPEATED - self._connection.pending)
                for device in repeats.due(now, self._away, room):
                    self._repeat(asked, device, now)
                following = min(following, repeats.next)
        self._look_within(max(following - now, SPACING))

    def _repeat(self, asked: Asked, device: str, now: float) -> None:
        repeats = asked.repeats()
        topic = self._topics.command(device, self.requester)
        payload = asked.payload(device)
        if isinstance(asked, Invocation) and repeats.only_asks(device, now):
            # Who knows the id answers as ever; who does not takes it for expired, whatever its clock says.
            payload = encode(replace(asked.message, issued=self._clock(), expires=0.0), self._encoding)
        try:
            publish = self._connection.publish(topic, payload, expiry=whole(repeats.good_for(device, now)))
        except LocalError:  # no room, or over the limit of a new connection: it will be due again
            repeats.settled((device,), now)
        else:
            # A refusal says nothing new: the broker has acknowledged the command before.
            publish.add_done_callback(lambda _: repeats.settled((device,), monotonic()))

    def _message(
        self,
        id: str,
        command: str,
        args: Arguments | None,
        timeout: float | None,
        behalf: str | None,
        span: tracing.Sending | None,
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
            trace=tracing.came() if span is None else span.traceparent,
        )

    def _payload(self, message: Command, good_for: float) -> tuple[bytes, float]:
        """The bytes, and when they expire."""
        now = self._clock()
        return encode(replace(message, issued=now, expires=now + good_for), self._encoding), now + good_for


def _done() -> asyncio.Future[None]:
    """A publish of before, which the broker has acknowledged as far as anybody knows."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


def _new_id() -> str:
    return secrets.token_hex(8)


def _good_for(wait: float) -> float:
    """Seconds until a command expires whose answer is waited for so long."""
    return min(max(wait, MIN_EXPIRY), MAX_EXPIRY)
