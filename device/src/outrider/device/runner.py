"""Runs users' functions: coroutines in the event loop, plain functions in threads, each until it ends or is stopped."""

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from msgspec import Raw

from outrider.schema import MAX_DEPTH, Code, Error, JournalError, Status, encode
from outrider.schema.codec import check_nesting

from . import tracing
from .admission import is_expired
from .execution import Execution, told, words_of
from .threads import run_in_daemon_thread


class Ending(NamedTuple):
    """How a job ended: what its final answer says. `raised` is what the function raised, for the log."""

    status: Status
    value: Raw | None = None
    error: Error | None = None
    raised: BaseException | None = None


class Runner:
    """Runs the jobs of one device.

    :param begin: notes that a job begins which had to wait, and returns when that is kept; `JournalError` if it is not.
    :param clock: Unix seconds.
    :param tolerance: seconds that clocks may differ.
    :param max_threads: plain functions that run at the same time; further ones wait.
    :param max_value: bytes that a value may have.
    """

    def __init__(
        self,
        device: str,
        *,
        begin: Callable[[Execution], Awaitable[None]],
        clock: Callable[[], float],
        tolerance: float,
        max_threads: int,
        max_value: int,
    ) -> None:
        self._device = device
        self._begin = begin
        self._clock = clock
        self._tolerance = tolerance
        self._max_value = max_value
        self._slots = _Slots(max_threads)

    def reserve(self, execution: Execution, function: Callable[..., object]) -> bool:
        """Whether a job can begin as soon as it is run; a plain function has its thread then, until `release`."""
        if inspect.iscoroutinefunction(function):
            return True
        execution.slot = execution.slot or self._slots.take()
        return execution.slot

    def release(self, execution: Execution) -> None:
        """Let go of the thread of a job that has ended, or will not begin."""
        if execution.slot:
            execution.slot = False
            self._slots.give_back()

    async def run(self, execution: Execution, function: Callable[..., object], call: Callable[[], Any]) -> Ending:
        """Run a function to its end. It never raises: a job's task has nobody to tell."""
        run_in = self._in_loop if inspect.iscoroutinefunction(function) else self._in_thread
        try:
            return await run_in(execution, call)
        except BaseException as error:  # a command's SystemExit must not end the device
            if execution.stopped_by == "timeout":
                return Ending(Status.TIMED_OUT, error=Error("", self.why_stopped(execution)))
            if isinstance(error, asyncio.CancelledError):
                return Ending(Status.CANCELLED, error=Error("", self.why_stopped(execution)))
            return failed(error)

    def done(self, execution: Execution, value: object) -> Ending:
        """The ending of a function that has returned."""
        if execution.stopped_by == "timeout":
            late = f"{self.why_stopped(execution)}, yet it ran on and returned"
            return Ending(Status.TIMED_OUT, error=Error("", late))
        try:
            encoded = encode(value, execution.encoding)
            # What a requester would refuse to read must not leave as `done`. The envelope is one level itself.
            check_nesting(encoded, execution.encoding, max_depth=MAX_DEPTH - 1)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            message = f"the value that {execution.command} returned cannot be sent: {error}"
            return Ending(Status.FAILED, error=told(Code.INTERNAL, message))
        if len(encoded) > self._max_value:
            message = f"the result has {len(encoded):,} bytes; the limit is {self._max_value:,}: return less at once"
            return Ending(Status.FAILED, error=Error(Code.TOO_LARGE, message))
        return Ending(Status.DONE, value=Raw(encoded))

    def why_stopped(self, execution: Execution) -> str:
        """Why a job did not go on to its end, in words."""
        match execution.stopped_by:
            case "timeout":
                return f"stopped at its timeout of {execution.timeout:g} s"
            case "terminate":
                return f"{self._device} terminates"
            case "cancel" if execution.started is None:
                return "cancelled before it started"
            case "cancel":
                return "cancelled"
            case _:
                return "the command cancelled itself"

    def span(self, execution: Execution) -> tracing.Running | None:
        """The span of a job that begins; None where nothing is traced."""
        key = execution.key
        return tracing.running(
            execution.command,
            key.id,
            key.requester,
            device=self._device,
            topic=execution.topic,
            trace=execution.trace,
        )

    def _start(self, execution: Execution) -> None:
        """Note in the task of a job that it begins: what its function asks and measures belongs to its trace."""
        execution.started = self._clock()
        tracing.came_with(execution.trace)
        execution.running = self.span(execution)
        if execution.running is not None:
            execution.running.enter()

    async def _in_loop(self, execution: Execution, call: Callable[[], Awaitable[object]]) -> Ending:
        self._start(execution)
        async with asyncio.timeout(execution.timeout) as bound:
            try:
                value = await call()
            finally:
                if bound.expired():
                    execution.stop("timeout")
        return self.done(execution, value)

    async def _in_thread(self, execution: Execution, call: Callable[[], object]) -> Ending:
        try:
            if not execution.slot:
                await self._slots.wait()
                execution.slot = True
                if is_expired(execution.expires, self._clock(), self._tolerance):
                    return Ending(Status.EXPIRED, error=Error("", "expired while it waited for a thread"))
                try:
                    await self._begin(execution)
                except JournalError as error:
                    return Ending(Status.REJECTED, error=Error(Code.BUSY, f"not started: {error}"))
            self._start(execution)
            return self.done(execution, await self._thread(execution, call))
        finally:
            self.release(execution)

    async def _thread(self, execution: Execution, call: Callable[[], object]) -> object:
        finished = run_in_daemon_thread(call, name=f"{execution.command} {execution.key.id}")
        try:
            async with asyncio.timeout(execution.timeout):
                return await asyncio.shield(finished)
        except TimeoutError:
            if finished.done():
                raise
            execution.stop("timeout")
        except asyncio.CancelledError:
            pass
        # Nobody can kill a thread: the job keeps its slot until the function returns.
        while not finished.done():
            try:
                await asyncio.shield(finished)
            except asyncio.CancelledError:
                if finished.done() or execution.ended:
                    raise
        return finished.result()


def failed(error: BaseException) -> Ending:
    """The ending of a function that has raised."""
    return Ending(Status.FAILED, error=told(Code.ERROR, words_of(error)), raised=error)


class _Slots:
    """So many at once, in the order of asking. Unlike asyncio's semaphore, one can be taken without waiting."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take one if it is free."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Take one as soon as it is free."""
        if self.take():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()
            raise

    def give_back(self) -> None:
        """Let the next one have it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
