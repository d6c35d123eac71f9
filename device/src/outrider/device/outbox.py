"""What has been published and is not yet acknowledged: what waits, what is under way, and how much of it may be."""

import asyncio
import math
from collections import deque
from typing import Final

from outrider.schema.errors import InvalidName, LocalError, MessageTooLarge, PublishRefused, QueueFull

LARGEST_PACKET: Final = 268_435_455
"""Bytes of a packet after its header that MQTT can express (MQTT 5.0, 2.1.4)."""

_OVERHEAD = 1 + 4 + 2 + 2 + 1 + 5
"""Bytes of a PUBLISH beside topic and payload at most: header, length, topic's length, packet id, properties."""
_CUTS = 5


class Publication:
    """A message on its way to the broker; `future` is done when it has arrived there, or never will."""

    __slots__ = ("cuts", "deadline", "future", "payload", "retain", "topic")

    def __init__(
        self, topic: str, payload: bytes, retain: bool, deadline: float | None, future: asyncio.Future[None]
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.retain = retain
        self.deadline = deadline
        self.future = future
        self.cuts = 0

    @property
    def size(self) -> int:
        """Bytes of the packet, at most."""
        return len(self.topic.encode()) + len(self.payload) + _OVERHEAD

    def expiry(self, now: float) -> int | None:
        """Whole seconds until the deadline, at least 1; None without one."""
        return None if self.deadline is None else min(max(math.ceil(round(self.deadline - now, 3)), 1), 0xFFFFFFFF)

    def fail(self, error: Exception) -> None:
        """End it with `error`, which nobody has to look at."""
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # marks it as seen, else asyncio would print it


class Outbox:
    """First in, first out, with a window on what may be under way. `broker` names it in errors.

    Time is given in seconds of a monotonic clock.
    """

    def __init__(self, broker: str, *, window: int, max_queued: int) -> None:
        self.broker = broker
        self._own_window = self._window = window
        self._max_queued = max_queued
        self._packet_limit = LARGEST_PACKET
        self._queue: deque[Publication] = deque()
        self._inflight: dict[int, Publication] = {}
        self._acknowledged = False

    @property
    def idle(self) -> bool:
        """Whether nothing waits and the window has room: a new publication may go at once."""
        return not self._queue and len(self._inflight) < self._window

    @property
    def pending(self) -> int:
        """How many are not yet acknowledged."""
        return len(self._queue) + len(self._inflight)

    def unfinished(self) -> list[asyncio.Future[None]]:
        """The futures of all that is not yet acknowledged."""
        return [each.future for each in (*self._inflight.values(), *self._queue) if not each.future.done()]

    def check(self, topic: str, payload: bytes) -> None:
        """Refuse what could not be sent.

        :raises InvalidName: the topic is empty or has a wildcard in it.
        :raises MessageTooLarge: over what the broker accepts, as far as is known.
        """
        if not topic or "+" in topic or "#" in topic or "\0" in topic:
            raise InvalidName(f"{topic!r} is not a topic to publish to: it must not be empty nor hold +, # or NUL")
        length = len(topic) if topic.isascii() else len(topic.encode())
        if length > 65_535:
            raise InvalidName(f"The topic {topic[:40]}… has {length} bytes, MQTT allows 65535")
        if length + len(payload) + _OVERHEAD > self._packet_limit:
            raise self._too_large(topic, payload)

    def put(self, publication: Publication) -> None:
        """Let it wait its turn.

        :raises QueueFull: too many wait already.
        """
        if len(self._queue) >= self._max_queued:
            raise QueueFull(
                f"{len(self._queue)} messages wait to be sent to {self.broker}, so the one to {publication.topic} was "
                "not taken: try again when some have been sent"
            )
        self._queue.append(publication)

    def next(self, now: float) -> Publication | None:
        """Take what may be sent now; the caller sends it and calls `sent`. None: nothing waits, or no room."""
        while self._queue and len(self._inflight) < self._window:
            publication = self._queue.popleft()
            if publication.future.done():  # withdrawn
                continue
            if publication.deadline is not None and publication.deadline <= now:
                publication.fail(
                    LocalError(f"The message to {publication.topic} expired before {self.broker} acknowledged it")
                )
            elif publication.size > self._packet_limit:
                publication.fail(self._too_large(publication.topic, publication.payload))
            else:
                return publication
        return None

    def sent(self, packet_id: int, publication: Publication) -> None:
        """It is under way with this packet id."""
        self._inflight[packet_id] = publication

    def acknowledged(self, packet_id: int, refusal: str | None) -> None:
        """The broker has it, or has refused it for the given reason."""
        self._acknowledged = True
        publication = self._inflight.pop(packet_id, None)
        if publication is None:
            return
        if refusal is not None:
            publication.fail(
                PublishRefused(
                    f"{self.broker} refused the message to {publication.topic} ({refusal}): "
                    "check its access control list and limits"
                )
            )
        elif not publication.future.done():
            publication.future.set_result(None)

    def begin(self, *, receive_maximum: int, packet_limit: int) -> None:
        """A new connection, with the broker's limits."""
        self._window = min(self._own_window, receive_maximum)
        self._packet_limit = packet_limit
        self._acknowledged = False

    def cut(self, *, early: bool) -> None:
        """The connection is gone: all that was under way goes before what waits, in the order of first sending.

        A message that makes the broker hang up (over its size limit on MQTT 3.1.1, say) would do so forever. One that
        was the oldest under way on five connections that ended `early`, none of which acknowledged anything, fails.
        """
        returned = list(self._inflight.values())
        self._inflight.clear()
        if returned and early and not self._acknowledged:
            returned[0].cuts += 1
            if returned[0].cuts >= _CUTS:
                culprit = returned.pop(0)
                culprit.fail(
                    PublishRefused(
                        f"{self.broker} closed the connection {_CUTS} times at the message to {culprit.topic} "
                        f"({len(culprit.payload)} bytes): it is probably over the broker's size limit"
                    )
                )
        self._queue.extendleft(reversed(returned))

    def close(self, error: Exception) -> None:
        """Nothing more will be sent: all that is left fails with `error`."""
        for publication in (*self._inflight.values(), *self._queue):
            publication.fail(error)
        self._inflight.clear()
        self._queue.clear()

    def _too_large(self, topic: str, payload: bytes) -> MessageTooLarge:
        return MessageTooLarge(
            f"The message to {topic} has {len(payload)} bytes; {self.broker} accepts packets up to "
            f"{self._packet_limit}: send less, or raise the broker's limit"
        )
