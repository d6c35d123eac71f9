"""Commands that wait for room in the connection, so that a target of any size leaves some to others."""

import asyncio
import math
from collections import deque
from functools import partial
from time import monotonic
from typing import Final, NamedTuple

from outrider.schema import LocalError, QueueFull

from .connection import Connection

MOST_HELD: Final = 1_000_000
"""Commands that wait here at most."""

MOST_PENDING: Final = 5000
"""Unacknowledged messages above which commands wait here."""


class _Held(NamedTuple):
    topic: str
    payload: bytes
    until: float
    future: asyncio.Future[None]


class Backlog:
    """First in, first out. It is true while something waits; then `let_go` is to be called from time to time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._held: deque[_Held] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def check(self, count: int) -> None:
        """Refuse a command to so many devices where too much waits already.

        :raises QueueFull: try again when the broker has taken some of it.
        """
        if self._held and len(self._held) + count > MOST_HELD:
            raise QueueFull(
                f"{len(self._held)} commands wait to be sent to the broker, so one to {count} more devices was not "
                "taken: try again when some have been sent"
            )

    def publish(self, topic: str, payload: bytes, until: float) -> asyncio.Future[None]:
        """Publish, at once or when there is room; the future is as that of `Connection.publish`.

        :param until: when nobody shall get it any more, in monotonic seconds.
        :raises LocalError: as `Connection.publish` does, but for `QueueFull`.
        """
        if not self._held and self._connection.pending < MOST_PENDING:
            try:
                return self._connection.publish(topic, payload, expiry=whole(until - monotonic()))
            except QueueFull:
                pass
        held = _Held(topic, payload, until, asyncio.get_running_loop().create_future())
        self._held.append(held)
        return held.future

    def let_go(self) -> None:
        """Publish what waits, as far as there is room."""
        while self._held and self._connection.pending < MOST_PENDING:
            topic, payload, until, future = self._held[0]
            left = until - monotonic()
            try:
                if future.done():
                    pass
                elif left <= 0:
                    _fail(future, LocalError(f"The message to {topic} expired before there was room to send it"))
                else:
                    publish = self._connection.publish(topic, payload, expiry=whole(left))
                    publish.add_done_callback(partial(self._went, future))
            except QueueFull:
                return
            except LocalError as error:
                _fail(future, error)
            self._held.popleft()

    def _went(self, held: asyncio.Future[None], publish: asyncio.Future[None]) -> None:
        if not held.done():
            if publish.cancelled():
                held.cancel()
            elif error := publish.exception():
                _fail(held, error)
            else:
                held.set_result(None)
        if self._held and self._connection.pending < MOST_PENDING // 2:
            self.let_go()


def whole(seconds: float) -> int:
    """A message's expiry: whole seconds, at least 1."""
    return max(1, math.ceil(seconds))


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    """End it with `error`, which nobody has to look at."""
    future.set_exception(error)
    future.exception()  # marks it as seen, else asyncio would print it
