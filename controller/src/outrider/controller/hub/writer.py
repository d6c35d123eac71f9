"""One thread that writes records to the store in large batches, in the order given, and says when they are safe."""

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

from outrider.schema import LocalError, QueueFull

from .records import Record
from .store import StoreUnavailable

logger = logging.getLogger("outrider.hub")

BATCH: Final = 5_000
"""Records of one transaction at most, as long as what came together has no more."""
GATHER: Final = 0.005
"""Seconds for which a batch waits for more: what one commit costs is then shared, and nobody sees the delay."""
MOST: Final = 50_000
"""Records that may wait."""
PAUSES: Final = (0.1, 5.0)
"""Seconds between attempts while the database is away: the first, and the longest; each is twice the one before."""
_SHOWN: Final = 300


class Storage(Protocol):
    """What records are written to."""

    def write(self, batch: Sequence[Record]) -> int:
        """Write all in one transaction and return how many were new.

        :raises StoreUnavailable: nothing was written; later it may be.
        """
        ...


class Waiting(NamedTuple):
    """Records that came together, and the future of whoever waits for them."""

    records: Sequence[Record]
    written: asyncio.Future[None]


class Writer:
    """A context in which records are written; what waits is written before it is left.

    While the database is away it tries again, with growing pauses, and what waits keeps its order. A record that no
    database takes is left out once others of its batch went through, so that it cannot stop them for ever.

    :param recorded: called in the event loop with what has been written, repeats included.
    :param closing: seconds for the rest at the end. What is not written then is given up: its futures are cancelled.
    :ivar written: how many records were new.
    :ivar repeats: how many the store had already.
    :ivar refused: how many no database takes.
    :ivar failures: how many attempts to write failed.
    :ivar waiting: how many records wait.
    :ivar error: why the last attempt failed; None when it did not.
    :ivar last_error: why the last one that failed did.
    """

    def __init__(
        self,
        store: Storage,
        *,
        recorded: Callable[[Sequence[Record]], None] | None = None,
        batch: int = BATCH,
        gather: float = GATHER,
        most: int = MOST,
        pauses: tuple[float, float] = PAUSES,
        closing: float = 5.0,
    ) -> None:
        self.written = self.repeats = self.refused = self.failures = self.waiting = 0
        self.error: str | None = None
        self.last_error: str | None = None
        self._store = store
        self._recorded = recorded
        self._batch = batch
        self._gather = gather
        self._most = most
        self._pauses = pauses
        self._closing = closing
        self._queue: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._deadline = float("inf")
        self._loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Future[None]

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        # A daemon: a database that hangs must not hold up the end of the process.
        threading.Thread(target=self._run, name="writer of the hub", daemon=True).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._deadline = monotonic() + self._closing
        self._ending.set()
        with self._changed:
            self._changed.notify()
        await asyncio.wait([self._ended], timeout=self._closing + 1)
        with self._changed:
            left = list(self._queue)
        if left:
            logger.error("%d records were not written: %s", self.waiting, self.error or "the database does not answer")
        for each in left:
            each.written.cancel()

    @property
    def full(self) -> bool:
        """Whether nothing more is taken."""
        return self.waiting >= self._most

    def put(self, records: Sequence[Record]) -> asyncio.Future[None]:
        """Let these be written; the future is done when they are in the database. From the event loop only.

        :raises QueueFull: too many wait; none of these was taken.
        :raises LocalError: the writer has ended.
        """
        if self.full:
            raise QueueFull(
                f"{self.waiting} records wait for the database: {self.error or 'it is slower than they come'}"
            )
        if self._ending.is_set():
            raise LocalError("the writer of the hub has ended: nothing more is recorded")
        written: asyncio.Future[None] = self._loop.create_future()
        with self._changed:
            self._queue.append(Waiting(records, written))
            self.waiting += len(records)
            self._changed.notify()
        return written

    # In the thread

    def _run(self) -> None:
        pause = 0.0
        while (taken := self._next(pause)) is not None:
            records = [record for each in taken for record in each.records]
            try:
                new, refused = self._write(records)
            except Exception as error:
                if not isinstance(error, StoreUnavailable):
                    logger.exception("writing %d records failed", len(records))
                self._failed(str(error) or type(error).__name__)
                pause = min(max(2 * pause, self._pauses[0]), self._pauses[1])
                continue
            pause = 0.0
            if self.error is not None:
                logger.warning("the database takes records again")
            self.error = None
            self.written += new
            self.refused += refused
            self.repeats += len(records) - new - refused
            with self._changed:
                for _ in taken:
                    self._queue.popleft()
                self.waiting -= len(records)
            self._tell(self._done, taken, records)
        self._tell(self._end)

    def _next(self, pause: float) -> list[Waiting] | None:
        """What to write next, after `pause` seconds; None at the end. It stays in the queue until it is written."""
        if self._ending.is_set():
            sleep(max(min(pause, self._deadline - monotonic()), 0))
        else:
            self._ending.wait(pause)
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._ending.is_set())
            self._changed.wait_for(lambda: self.waiting >= self._batch or self._ending.is_set(), self._gather)
            if not self._queue or monotonic() > self._deadline:
                return None
            taken: list[Waiting] = []
            count = 0
            for each in self._queue:
                count += len(each.records)
                if taken and count > self._batch:
                    break
                taken.append(each)
            return taken

    def _write(self, records: Sequence[Record]) -> tuple[int, int]:
        """Write, in halves where not all go through; how many were new, and how many no database takes.

        :raises Exception: none went through.
        """
        try:
            return self._store.write(records), 0
        except StoreUnavailable:
            raise
        except Exception:
            if len(records) == 1:
                raise
        new = refused = 0
        failures: list[tuple[Sequence[Record], Exception]] = []
        half = len(records) // 2
        for part in (records[:half], records[half:]):
            try:
                some_new, some_refused = self._write(part)
                new += some_new
                refused += some_refused
            except StoreUnavailable:
                raise
            except Exception as error:
                failures.append((part, error))
        if len(failures) == 2:
            raise failures[0][1]
        for part, why in failures:
            refused += len(part)
            for record in part:
                logger.error("the database does not take %.*s, which is left out: %s", _SHOWN, record, why)
        return new, refused

    def _failed(self, error: str) -> None:
        if error != self.error:
            logger.error("%s. Trying again", error.rstrip("."))
        self.failures += 1
        self.error = self.last_error = error

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, *arguments)

    # In the event loop

    def _done(self, taken: list[Waiting], records: list[Record]) -> None:
        for each in taken:
            if not each.written.done():
                each.written.set_result(None)
        if self._recorded is not None:
            try:
                self._recorded(records)
            except Exception:
                logger.exception("telling of %d records failed", len(records))

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
