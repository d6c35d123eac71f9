"""Events that a device tells of its own accord: kept in its journal until the broker has them, in order."""

import asyncio
import concurrent.futures
import itertools
import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Final, Self

from msgspec import UNSET, Raw

from outrider.schema import (
    MAX_SIZE,
    BrokerUnreachable,
    Encoding,
    Event,
    EventsFull,
    InvalidEvent,
    InvalidMessage,
    JournalError,
    LocalError,
    MessageTooLarge,
    NotServed,
    QueueFull,
    Topics,
    check_name,
    encode,
)
from outrider.schema.codec import check_nesting, find_id
from outrider.schema.messages import LATEST, LONGEST_KEY

from .journal import Journal, KeptEvent
from .threads import call_from_any_thread

logger = logging.getLogger("outrider.device")

MAX_EVENTS: Final = 10_000
"""Events that wait for the broker, unless a device says otherwise."""

MAX_BYTES: Final = 64 * 1024 * 1024
"""Bytes of events that wait for the broker."""

UNDER_WAY: Final = 200
"""Events unacknowledged at once. Answers of commands wait behind no more than these; the other events wait here."""

NOTED_WITHIN: Final = 1.0
"""Seconds after which the journal keeps at the latest that an event was delivered."""

RETRY: Final = 1.0
"""Seconds until events are sent again for which the connection had no room."""

Kept = asyncio.Future[None] | concurrent.futures.Future[None]


class Events:
    """The events of one device, from when it is served until that ends: a context.

    :param publish: as `Connection.publish`; `connected`: whether that is of use now.
    :param clock: Unix seconds.
    :param dropped: where events are counted that the broker refused.
    :param max_waiting: events that wait for the broker; one more is refused.
    :param max_size: bytes of an event's message.
    :ivar sent: how many the broker has acknowledged.
    """

    def __init__(
        self,
        device: str,
        topics: Topics,
        journal: Journal,
        *,
        publish: Callable[[str, bytes], asyncio.Future[None]],
        connected: Callable[[], bool],
        clock: Callable[[], float],
        dropped: Counter[str],
        max_waiting: int = MAX_EVENTS,
        max_size: int = MAX_SIZE,
    ) -> None:
        self.sent = 0
        self._device = device
        self._topics = topics
        self._journal = journal
        self._publish = publish
        self._connected = connected
        self._clock = clock
        self._dropped = dropped
        self._max_waiting = max_waiting
        self._max_size = max_size
        self._loop = asyncio.get_running_loop()
        self._life = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._new: list[tuple[KeptEvent, Kept]] = []
        self._queue = deque(journal.events())
        self._under_way = 0
        self._waiting = len(self._queue)
        self._bytes = sum(len(event.payload) for event in self._queue)
        self._threads: set[concurrent.futures.Future[None]] = set()
        self._committing: asyncio.Handle | None = None
        self._noting: asyncio.TimerHandle | None = None
        self._retrying: asyncio.TimerHandle | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def waiting(self) -> int:
        """How many are kept, which the broker has not acknowledged."""
        return self._waiting

    async def emit(self, name: str, key: str | None, subject: str | None, data: Mapping[str, object]) -> str:
        """Keep an event and send it; see `Emits.emit`. From any event loop."""
        event, id = self._made(name, key, subject, data)
        if asyncio.get_running_loop() is self._loop:
            kept = self._loop.create_future()
            self._take(event, kept)
            await kept
        else:
            await asyncio.wrap_future(self._handed_over(event))
        return id

    def emit_blocking(self, name: str, key: str | None, subject: str | None, data: Mapping[str, object]) -> str:
        """`emit` for a thread without an event loop."""
        event, id = self._made(name, key, subject, data)
        self._handed_over(event).result()
        return id

    def send(self) -> None:
        """Send what waits, as much as may be under way at once: after a connect, and whenever some has arrived."""
        while self._queue and self._under_way < UNDER_WAY and self._connected():
            event = self._queue[0]
            try:
                sent = self._publish(self._topics.event(self._device, event.name), event.payload)
            except BrokerUnreachable:
                return  # ended on this side; the events stay in the journal
            except QueueFull:
                if self._retrying is None and not self._closed:
                    self._retrying = self._loop.call_later(RETRY, self._retry)
                return
            except LocalError as error:
                self._queue.popleft()
                self._give_up(event, error)
                continue
            self._queue.popleft()
            self._under_way += 1
            sent.add_done_callback(partial(self._arrived, event))

    def close(self) -> None:
        """Keep what was just emitted, and take no more."""
        if self._committing:
            self._committing.cancel()
            self._commit()
        self._closed = True
        for timer in (self._noting, self._retrying):
            if timer:
                timer.cancel()
        for waiting in list(self._threads):
            self._refuse(waiting)

    def _made(
        self, name: str, key: str | None, subject: str | None, data: Mapping[str, object]
    ) -> tuple[KeptEvent, str]:
        """An event that can be sent, and its id, of which no other event of this device has the like."""
        id = f"{self._life}-{next(self._numbers)}"
        _, payload = make_event(id, self._device, name, key, subject, data, time=self._clock(), max_size=self._max_size)
        return KeptEvent(name, payload), id

    def _handed_over(self, event: KeptEvent) -> concurrent.futures.Future[None]:
        """Give an event to the device's event loop, from another thread."""
        kept: concurrent.futures.Future[None] = concurrent.futures.Future()
        kept.set_running_or_notify_cancel()  # who waits for it cannot cancel it
        self._threads.add(kept)
        kept.add_done_callback(self._threads.discard)
        call_from_any_thread(self._loop, lambda: self._take(event, kept))
        if self._closed:  # the event loop may not come to it any more
            self._refuse(kept)
        return kept

    def _take(self, event: KeptEvent, kept: Kept) -> None:
        """Keep an event with the next commit; `kept` tells when that was."""
        if self._closed:
            self._refuse(kept)
        elif self._waiting >= self._max_waiting or self._bytes >= MAX_BYTES:
            kept.set_exception(
                EventsFull(
                    f"{self._device} keeps {self._waiting:,} events ({self._bytes:,} bytes) that the broker has not "
                    f"acknowledged, so {event.name!r} was not kept: emit it again when some have been sent, emit "
                    "fewer, or raise max_events"
                )
            )
        else:
            self._journal.keep_event(event)
            self._waiting += 1
            self._bytes += len(event.payload)
            self._new.append((event, kept))
            if self._committing is None:
                self._committing = self._loop.call_soon(self._commit)

    def _commit(self) -> None:
        """Let the journal keep all that was emitted together, then send it."""
        self._committing = None
        new, self._new = self._new, []
        failure: JournalError | None = None
        try:
            self._journal.commit()
        except JournalError as error:
            failure = error
        for event, kept in new:
            if failure and not event.row:  # else an earlier commit, for a command, has it
                self._forget(event)
            else:
                self._queue.append(event)
            if kept.done():  # nobody waits any more
                continue
            if failure and not event.row:
                kept.set_exception(failure)
            else:
                kept.set_result(None)
        self.send()

    def _arrived(self, event: KeptEvent, sent: asyncio.Future[None]) -> None:
        self._under_way -= 1
        if sent.cancelled():
            return
        error = sent.exception()
        if isinstance(error, BrokerUnreachable):
            return  # ended on this side; the event stays in the journal
        if error is None:
            self.sent += 1
            self._forget(event)
        else:
            self._give_up(event, error)
        self.send()

    def _give_up(self, event: KeptEvent, error: BaseException) -> None:
        """The broker would refuse it again, and those behind it would wait for ever."""
        self._dropped["event"] += 1
        logger.error("%s gives up event %s %s: %s", self._device, event.name, find_id(event.payload), error)
        self._forget(event)

    def _forget(self, event: KeptEvent) -> None:
        self._waiting -= 1
        self._bytes -= len(event.payload)
        self._journal.forget_event(event)
        if self._noting is None and not self._closed:
            self._noting = self._loop.call_later(NOTED_WITHIN, self._note)

    def _note(self) -> None:
        """Keep what was delivered. Where that fails it is sent once more after a restart, under the same id."""
        self._noting = None
        try:
            self._journal.commit()
        except JournalError:
            logger.debug("%s could not note what was delivered", self._device)

    def _retry(self) -> None:
        self._retrying = None
        self.send()

    def _refuse(self, kept: Kept) -> None:
        with suppress(concurrent.futures.InvalidStateError):  # the event loop may be refusing it at the same time
            if not kept.done():
                kept.set_exception(not_served(self._device))


def not_served(device: str) -> NotServed:
    """What whoever emits then gets."""
    return NotServed(f"{device} is not being served, so it cannot keep an event: emit it while serve runs")


def make_event(
    id: str,
    device: str,
    name: str,
    key: str | None,
    subject: str | None,
    data: Mapping[str, object],
    *,
    time: float,
    max_size: int = MAX_SIZE,
) -> tuple[Event, bytes]:
    """An event that every consumer can read, and its message.

    :param time: Unix seconds.
    :param max_size: bytes of the message.
    :raises InvalidName: the name is not well formed.
    :raises InvalidEvent: the key or the subject is no text of a fit length, or the data cannot be sent.
    :raises MessageTooLarge: the message is larger.
    """
    check_name(name, "event name")
    if not 0 <= time <= LATEST:  # nor is a number that is none
        raise InvalidEvent(f"the time of event {name!r} cannot be {time}: give Unix seconds")
    for what, value in (("key", key), ("subject", subject)):
        if value is not None and not (type(value) is str and 0 < len(value) <= LONGEST_KEY):
            shown = f"text of {len(value):,} characters" if type(value) is str and value else f"{value!r:.80}"
            raise InvalidEvent(
                f"the {what} of event {name!r} cannot be {shown}: give 1 to {LONGEST_KEY} characters, or none"
            )
    try:
        kept = Raw(encode(data, Encoding.JSON)) if data else UNSET
        event = Event(id=id, device=device, name=name, key=key, subject=subject, time=time, data=kept)
        payload = encode(event, Encoding.JSON)
        check_nesting(payload, Encoding.JSON)
    except (TypeError, ValueError, OverflowError, RecursionError, InvalidMessage) as error:
        raise InvalidEvent(f"the data of event {name!r} cannot be sent: {error}") from error
    if len(payload) > max_size:
        raise MessageTooLarge(
            f"event {name!r} has {len(payload):,} bytes; the limit is {max_size:,}: tell less at once"
        )
    return event, payload
