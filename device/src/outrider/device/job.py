"""What a command's function sees of its own execution: track, report, print, cancelled."""

import asyncio
import concurrent.futures
import io
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sized
from typing import Generic, Literal, TypeVar

from msgspec import Struct

from outrider.schema import NotServed, Result

from .calls import Asking, Calls
from .emitting import Emits
from .events import Events

T = TypeVar("T")

TRACK_INTERVAL = 0.1
"""Seconds between the reports of `track`, so that a fast loop does not flood the broker."""


class RunningJob(Struct, frozen=True):
    """A job accepted and not finished, as `jobs` shows it. Times are Unix seconds; `started` is null while it waits."""

    id: str
    command: str
    requester: str
    behalf: str
    received: float
    started: float | None
    fraction: float | None
    text: str | None


Report = Callable[[float | None, str | None], None]
Output = Callable[[Literal["stdout", "stderr"], str], None]


class Job(Calls, Emits):
    """One execution of a command. A function asks for it with a parameter annotated `Job`.

    The same methods serve `async def` and plain `def` functions, but for `call` and `emit`, which a plain one spells
    `call_blocking` and `emit_blocking`; they may be called from any thread.

    :ivar id: the command's id.
    :ivar command: the command's name.
    :ivar requester: who asked, empty if nobody was named.
    :ivar behalf: for whom the requester asked, empty if for itself.
    """

    def __init__(
        self,
        id: str,
        command: str,
        requester: str,
        behalf: str,
        report: Report,
        output: Output,
        *,
        asking: Asking | None = None,
        telling: Callable[[], Events] | None = None,
    ) -> None:
        self.id = id
        self.command = command
        self.requester = requester
        self.behalf = behalf
        self._report = report
        self._output = output
        self._asking = asking
        self._waiting: set[concurrent.futures.Future[Result]] = set()
        self._telling = telling
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether this job should end: cancelled, timed out, or the device terminates.

        A plain function looks at it (or loops over `track`) and returns or raises; nobody can kill its thread.
        An `async def` function gets `asyncio.CancelledError` at its next await.
        """
        return self._cancelled

    def cancel(self) -> None:
        """Make `cancelled` true. The device calls it; a function rather raises or returns."""
        self._cancelled = True
        for call in list(self._waiting):
            call.cancel()

    def asking(self) -> Asking:
        """See `Calls`."""
        if self._asking is None:
            raise NotServed(f"{self.command} runs without a connection, so it cannot call other devices")
        return self._asking

    def waits(self, call: "concurrent.futures.Future[Result]") -> None:
        """Note that the function's thread waits for this call: `cancel` ends it."""
        self._waiting.add(call)
        call.add_done_callback(self._waiting.discard)
        if self._cancelled:
            call.cancel()

    def telling(self) -> Events:
        """See `Emits`."""
        if self._telling is None:
            raise NotServed(f"{self.command} runs without a device that is served, so nobody would keep an event")
        return self._telling()

    def check(self) -> None:
        """Raise `asyncio.CancelledError` if this job should end."""
        if self._cancelled:
            raise asyncio.CancelledError

    def report(self, fraction: float | None = None, text: str | None = None) -> None:
        """Tell the requester how far the job is.

        :param fraction: between 0 and 1; values outside are brought to the nearer end, NaN says nothing.
        :param text: words for people.
        """
        if fraction is not None:
            fraction = None if math.isnan(fraction) else min(max(fraction, 0.0), 1.0)
        self._report(fraction, text)

    def print(
        self, *values: object, sep: str = " ", end: str = "\n", stream: Literal["stdout", "stderr"] = "stdout"
    ) -> None:
        """Send output to the requester, as `print` would write it."""
        text = io.StringIO()
        print(*values, sep=sep, end=end, file=text)
        self._output(stream, text.getvalue())

    def track(self, items: Iterable[T], total: int | None = None, text: str | None = None) -> "Track[T]":
        """Go through `items` with `for` or `async for`, reporting progress; each step is a point where cancel works.

        :param total: how many there are, where `items` has no length.
        """
        if total is None and isinstance(items, Sized):
            total = len(items)
        return Track(self, items, total, text)


class Track(Generic[T]):
    """What `Job.track` gives: iterate it once, with `for` in a plain function or `async for` in an async one."""

    def __init__(self, job: Job, items: Iterable[T], total: int | None, text: str | None) -> None:
        self._job = job
        self._items = items
        self._total = total
        self._text = text

    def __iter__(self) -> Iterator[T]:
        reported = float("-inf")
        for done, item in enumerate(self._items):
            self._job.check()
            now = time.monotonic()
            if now - reported >= TRACK_INTERVAL:
                reported = now
                self._job.report(done / self._total if self._total else None, self._text or self._words(done))
            yield item
        self._job.check()

    async def __aiter__(self) -> AsyncIterator[T]:
        for item in self:
            await asyncio.sleep(0)
            yield item

    def _words(self, done: int) -> str | None:
        return None if self._total else f"{done} done"
