"""What a device has received, started, finished and delivered: the memory that keeps a command from running twice.

The key is (requester, behalf, id); the same key with another content is another command under a used id. Entries
leave only after `expires` plus the clock tolerance, and the greatest `expires` so dropped is kept: an unknown id at or
below it is `expired`, whatever the clock says.
"""

import heapq
from collections.abc import Iterable
from enum import IntEnum
from hashlib import blake2b
from typing import NamedTuple, Protocol

from msgspec import UnsetType

from outrider.schema import Command, Encoding, Result

CLOCK_TOLERANCE = 30.0
"""Seconds that clocks of requesters and devices may differ."""


class Key(NamedTuple):
    """Who asked, and by which id. `requester` is empty where none was named."""

    requester: str
    behalf: str
    id: str


class Stage(IntEnum):
    """How far a command has come; it only grows."""

    ACCEPTED = 1
    STARTED = 2
    FINISHED = 3
    DELIVERED = 4


class Entry:
    """One command in the journal. `result` and `encoding` are those of the final answer once it is `FINISHED`."""

    __slots__ = ("digest", "encoding", "expires", "key", "result", "stage", "stated")

    def __init__(self, key: Key, digest: bytes, encoding: Encoding, *, expires: float, stated: bool) -> None:
        """`stated` tells that the requester itself gave `expires`."""
        self.key = key
        self.digest = digest
        self.encoding = encoding
        self.expires = expires
        self.stated = stated
        self.stage = Stage.ACCEPTED
        self.result: Result | None = None


class Journal(Protocol):
    """Where entries are kept. All methods are called from the device's event loop."""

    @property
    def dropped_until(self) -> float:
        """The greatest stated `expires` among the entries dropped so far, Unix seconds; 0 if none."""
        ...

    @property
    def full(self) -> bool:
        """Whether another command would go over the journal's size."""
        ...

    def find(self, key: Key) -> Entry | None:
        """The entry of a command received before, None if it is unknown."""
        ...

    def accept(self, entry: Entry) -> None:
        """Keep a command before it runs."""
        ...

    def started(self, entry: Entry) -> None:
        """It runs."""
        ...

    def finished(self, entry: Entry, result: Result) -> None:
        """It has its final answer."""
        ...

    def delivered(self, entry: Entry) -> None:
        """The broker has acknowledged the final answer."""
        ...

    def undelivered(self) -> Iterable[Entry]:
        """The entries with a final answer that the broker has not acknowledged, oldest first."""
        ...

    def prune(self, now: float) -> None:
        """Drop what expired more than the clock tolerance before `now`, Unix seconds, and is delivered."""
        ...

    def status(self) -> str | None:
        """The life-cycle status to come back with, None for a new device."""
        ...

    def keep_status(self, status: str | None) -> None:
        """Keep the life-cycle status; None after `terminate`."""
        ...

    def next_session(self, now: float, above: int = 0) -> int:
        """A session number above every one before and above `above`: at least `now` in microseconds."""
        ...


class MemoryJournal:
    """A journal that lasts as long as the process.

    :param max_entries: commands it keeps, `max_bytes`: bytes of their values; beyond either it is `full`.
    """

    def __init__(
        self, *, max_entries: int = 100_000, max_bytes: int = 64 * 1024 * 1024, tolerance: float = CLOCK_TOLERANCE
    ) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self._bytes = 0
        self.tolerance = tolerance
        self.dropped_until = 0.0
        self._entries: dict[Key, Entry] = {}
        self._by_expiry: list[tuple[float, Key]] = []
        self._status: str | None = None
        self._session = 0

    @property
    def full(self) -> bool:
        """See `Journal`."""
        return len(self._entries) >= self.max_entries or self._bytes >= self.max_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Key) -> Entry | None:
        """See `Journal`."""
        return self._entries.get(key)

    def accept(self, entry: Entry) -> None:
        """See `Journal`."""
        self._entries[entry.key] = entry
        heapq.heappush(self._by_expiry, (entry.expires, entry.key))

    def started(self, entry: Entry) -> None:
        """See `Journal`."""
        entry.stage = Stage.STARTED

    def finished(self, entry: Entry, result: Result) -> None:
        """See `Journal`."""
        self._bytes -= _size_of(entry)
        entry.result = result
        entry.stage = Stage.FINISHED
        self._bytes += _size_of(entry)

    def delivered(self, entry: Entry) -> None:
        """See `Journal`."""
        entry.stage = Stage.DELIVERED

    def undelivered(self) -> Iterable[Entry]:
        """See `Journal`."""
        return [entry for entry in self._entries.values() if entry.stage is Stage.FINISHED]

    def prune(self, now: float) -> None:
        """See `Journal`. One that still runs, or whose answer the broker has not, stays and is looked at again."""
        staying: list[tuple[float, Key]] = []
        while self._by_expiry and self._by_expiry[0][0] + self.tolerance < now:
            due = heapq.heappop(self._by_expiry)
            entry = self._entries[due[1]]
            if entry.stage < Stage.DELIVERED:
                staying.append((now, due[1]))
                continue
            del self._entries[due[1]]
            self._bytes -= _size_of(entry)
            if entry.stated:
                self.dropped_until = max(self.dropped_until, entry.expires)
        for again in staying:
            heapq.heappush(self._by_expiry, again)

    def status(self) -> str | None:
        """See `Journal`."""
        return self._status

    def keep_status(self, status: str | None) -> None:
        """See `Journal`."""
        self._status = status

    def next_session(self, now: float, above: int = 0) -> int:
        """See `Journal`."""
        self._session = max(self._session + 1, above + 1, int(now * 1e6))
        return self._session


def _size_of(entry: Entry) -> int:
    """Bytes of the value that an entry keeps."""
    return 0 if entry.result is None or isinstance(entry.result.value, UnsetType) else len(entry.result.value)


def digest(command: Command) -> bytes:
    """What must be the same for two messages under one key to be the same command: name and arguments."""
    args = b"" if isinstance(command.args, UnsetType) else bytes(command.args)
    return blake2b(b"\0".join((command.command.encode(), args)), digest_size=16).digest()
