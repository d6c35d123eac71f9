"""The journal of a device that remembers as long as its process lives."""

import heapq
from collections.abc import Iterable

from msgspec import UnsetType

from outrider.schema import Result

from .journal import CLOCK_TOLERANCE, Entry, KeptEvent, Key, Stage, Usage

MAX_ENTRIES = 100_000
"""Commands that a journal keeps at most."""

MAX_BYTES = 64 * 1024 * 1024
"""Bytes of results that a journal keeps at most."""

LINGER = 600.0
"""Seconds for which a command that may be forgotten is remembered all the same, where there is room.

Its answer may have been lost with the broker, and its requester may ask for it only when broker and device are back.
"""

ROOM = 0.1
"""Share of its size up to which a journal has room for those."""


class MemoryJournal:
    """A journal that lasts as long as the process. A restarted device forgets what it ran, and may run it again.

    :param max_entries: commands it keeps, `max_bytes`: bytes of their values; beyond either it is `full`.
    :param tolerance: seconds that clocks may differ.
    :param linger: seconds for which it remembers more than it must, as long as a tenth of its size is enough for all.
    """

    _path: str | None = None

    def __init__(
        self,
        *,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
        tolerance: float = CLOCK_TOLERANCE,
        linger: float = LINGER,
    ) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.tolerance = tolerance
        self.linger = linger
        self.dropped_until = 0.0
        self.forgotten_before = 0.0
        self._bytes = 0
        self._entries: dict[Key, Entry] = {}
        self._by_expiry: list[tuple[float, Key]] = []
        self._events: dict[KeptEvent, None] = {}
        self._status: str | None = None
        self._session = 0

    @property
    def full(self) -> bool:
        """See `Journal`."""
        return len(self._entries) >= self.max_entries or self._bytes >= self.max_bytes

    @property
    def usage(self) -> Usage:
        """See `Journal`."""
        return Usage(self._path, len(self._entries), self.max_entries, self._bytes, self.max_bytes)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Key) -> Entry | None:
        """See `Journal`."""
        return self._entries.get(key)

    def accept(self, entry: Entry) -> None:
        """See `Journal`."""
        self._entries[entry.key] = entry
        heapq.heappush(self._by_expiry, (entry.expires, entry.key))

    def withdraw(self, entry: Entry) -> None:
        """See `Journal`."""
        self._drop(entry)

    def started(self, entry: Entry) -> None:
        """See `Journal`."""
        entry.stage = Stage.STARTED

    def finished(self, entry: Entry, result: Result) -> None:
        """See `Journal`."""
        self._bytes -= _size_of(entry)
        entry.result = result
        entry.command = None
        entry.stage = Stage.FINISHED
        self._bytes += _size_of(entry)

    def delivered(self, entry: Entry) -> None:
        """See `Journal`."""
        entry.stage = Stage.DELIVERED

    def unfinished(self) -> Iterable[Entry]:
        """See `Journal`."""
        return [entry for entry in self._entries.values() if entry.stage < Stage.FINISHED]

    def undelivered(self) -> Iterable[Entry]:
        """See `Journal`."""
        return [entry for entry in self._entries.values() if entry.stage is Stage.FINISHED]

    def prune(self, now: float) -> None:
        """See `Journal`. One that still runs, or whose answer the broker has not, stays and is looked at again."""
        staying: list[tuple[float, Key]] = []
        while self._by_expiry and self._by_expiry[0][0] + self.tolerance + self._lingers() < now:
            _, key = heapq.heappop(self._by_expiry)
            entry = self._entries.get(key)
            if entry is None:  # withdrawn
                continue
            # A job may end long after its command expired, and its requester may have missed the answer.
            finished = (entry.result and entry.result.finished) or 0.0
            if entry.stage < Stage.DELIVERED:
                staying.append((now, key))
            elif finished <= now <= finished + self.tolerance:
                staying.append((finished, key))
            else:
                self._drop(entry)
                if entry.stated:
                    self.dropped_until = max(self.dropped_until, entry.expires)
        for again in staying:
            heapq.heappush(self._by_expiry, again)

    def keep_event(self, event: KeptEvent) -> None:
        """See `Journal`."""
        self._events[event] = None

    def forget_event(self, event: KeptEvent) -> None:
        """See `Journal`."""
        self._events.pop(event, None)

    def events(self) -> Iterable[KeptEvent]:
        """See `Journal`."""
        return list(self._events)

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

    def commit(self) -> None:
        """See `Journal`: there is nothing to do."""

    def close(self) -> None:
        """See `Journal`: there is nothing to do."""

    def _lingers(self) -> float:
        """Seconds for which what may leave stays."""
        room = len(self._entries) < self.max_entries * ROOM and self._bytes < self.max_bytes * ROOM
        return self.linger if room else 0.0

    def _drop(self, entry: Entry) -> None:
        del self._entries[entry.key]
        self._bytes -= _size_of(entry)


def _size_of(entry: Entry) -> int:
    """Bytes of the value that an entry keeps."""
    return 0 if entry.result is None or isinstance(entry.result.value, UnsetType) else len(entry.result.value)
