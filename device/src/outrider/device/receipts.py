"""What has been received and not acknowledged: released in the order of receipt, and bounded. No I/O."""

import asyncio
from collections import deque
from typing import NamedTuple

Receipt = tuple[int, int]
"""A packet id, and the QoS that it came with."""


class Held(NamedTuple):
    """What came together: its receipts, its bytes, and what it waits for beside those before it."""

    receipts: list[Receipt]
    size: int
    until: asyncio.Future[None] | None


class Receipts:
    """The receipts of one network connection that wait for whoever takes its messages.

    :ivar full: more than `most` receipts or `most_bytes` bytes of messages wait, so no more is to be received.
    """

    def __init__(self, *, most: int, most_bytes: int) -> None:
        self.full = False
        self._most = most
        self._most_bytes = most_bytes
        self._count = 0
        self._size = 0
        self._held: deque[Held] = deque()

    @property
    def waiting(self) -> bool:
        """Whether anything is held."""
        return bool(self._held)

    def hold(self, held: Held) -> None:
        """Keep these until their future is done and all that came before are released."""
        self._held.append(held)
        self._count += len(held.receipts)
        self._size += held.size
        self._judge()

    def release(self) -> list[Receipt]:
        """Take what is to be acknowledged now. Of what was cancelled nothing is, so that it comes again."""
        due: list[Receipt] = []
        while self._held and ((until := self._held[0].until) is None or until.done()):
            held = self._held.popleft()
            self._count -= len(held.receipts)
            self._size -= held.size
            if until is None or not until.cancelled():
                due += held.receipts
        self._judge()
        return due

    def _judge(self) -> None:
        self.full = self._count > self._most or self._size > self._most_bytes
