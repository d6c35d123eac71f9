"""What is recorded, told to whoever follows: each with a bounded queue, so that a slow one misses some and knows it."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final, Self

from msgspec import Struct

from .records import Record

QUEUE: Final = 1_000
"""Records that wait for a follower at most, unless it asks for another number."""

logger = logging.getLogger("outrider.hub")


class Gap(Struct, frozen=True, tag="gap"):
    """Stands where a follower was too slow: how many records it has missed there."""

    missed: int


class Follower:
    """An async iterator over what is recorded from now on; it ends when `Live` is closed.

    :ivar missed: how many records it was too slow for, so far.
    """

    def __init__(self, wants: Callable[[Record], bool] | None, limit: int) -> None:
        self.missed = 0
        self._wants = wants
        self._limit = limit
        self._queue: deque[Record | Gap] = deque()
        self._gap = 0
        self._ended = False
        self._wake = asyncio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record | Gap:
        while not self._queue:
            if self._gap:
                return self._take_gap()
            if self._ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._queue.popleft()

    def take(self, limit: int) -> list[Record | Gap]:
        """What waits already, without waiting for more."""
        return [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]

    @property
    def waiting(self) -> int:
        """How many records wait for it."""
        return len(self._queue)

    def offer(self, records: Sequence[Record]) -> None:
        """Take of these what is wanted and what there is room for."""
        for record in records:
            if self._wants is not None and not self._wants(record):
                continue
            if len(self._queue) >= self._limit:
                self._gap += 1
                self.missed += 1
                continue
            if self._gap:
                self._queue.append(self._take_gap())
            self._queue.append(record)
        self._wake.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._wake.set()

    def _take_gap(self) -> Gap:
        gap, self._gap = Gap(self._gap), 0
        return gap


class Live:
    """Tells followers of records. For one event loop."""

    def __init__(self) -> None:
        self._followers: set[Follower] = set()
        self._closed = False

    @property
    def followers(self) -> int:
        """How many follow."""
        return len(self._followers)

    @property
    def waiting(self) -> int:
        """How many records wait for whoever has most of them."""
        return max((follower.waiting for follower in self._followers), default=0)

    @contextmanager
    def follow(self, wants: Callable[[Record], bool] | None = None, *, limit: int = QUEUE) -> Generator[Follower]:
        """Follow what is recorded as long as the context lasts: all of it, or what `wants` says.

        Repeats may be among it: they are told from others in the database only.
        """
        follower = Follower(wants, limit)
        self._followers.add(follower)
        if self._closed:
            follower.end()
        try:
            yield follower
        finally:
            self._followers.discard(follower)

    def recorded(self, records: Sequence[Record]) -> None:
        """Tell everybody. A follower whose `wants` fails is ended."""
        for follower in tuple(self._followers):
            try:
                follower.offer(records)
            except Exception:
                logger.exception("a follower cannot judge what was recorded, and is ended")
                self._followers.discard(follower)
                follower.end()

    def close(self) -> None:
        """End all followers, and those to come."""
        self._closed = True
        for follower in self._followers:
            follower.end()
