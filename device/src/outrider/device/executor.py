"""Command in, result out: dedup, readiness, bound, run, cancel. No MQTT in it.

Every command that comes in leaves with exactly one final `Result`, handed to `answer`; a repeated one gets the answer
it already has. Control commands and built-ins run at once, inside `receive`; data commands run as jobs beside it.
"""

import asyncio
import inspect
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

from msgspec import Raw

from outrider.schema import (
    MAX_DEPTH,
    MAX_SIZE,
    Code,
    Command,
    Encoding,
    Error,
    InvalidArguments,
    Progress,
    Result,
    Status,
    encode,
)
from outrider.schema.codec import check_nesting
from outrider.schema.messages import DEFAULT_EXPIRY

from .admission import Admission, Registration, Situation, is_expired
from .execution import TEXT_LENGTH, Execution, carried, chunks, told, words_of
from .job import Job, RunningJob
from .journal import Entry, Journal, Key, Stage, digest
from .threads import call_from_any_thread, run_in_daemon_thread

logger = logging.getLogger("outrider.executor")

ACCEPTED_AFTER = 0.1
"""Seconds after which a job without a result is reported as accepted."""

ENVELOPE_SIZE = 2048
"""Bytes of a result's message kept free for everything around its value."""


class Answer(NamedTuple):
    """Something for a requester. `entry` is the journal's, to be marked when a `Result` is delivered."""

    requester: str
    message: Progress | Result
    encoding: Encoding
    entry: Entry | None


class Executor:
    """Runs the commands of one device.

    :param commands: by name; looked at anew for each command.
    :param status: tells the life-cycle status; only in `ready` data commands start.
    :param answer: takes what requesters shall get; called from the event loop only.
    :param clock: Unix seconds.
    :param max_jobs: jobs accepted and not finished; one more is `busy`.
    :param max_threads: plain functions that run at the same time; further ones wait, accepted.
    """

    def __init__(
        self,
        device: str,
        *,
        groups: frozenset[str],
        commands: Mapping[str, Registration],
        status: Callable[[], str],
        journal: Journal,
        answer: Callable[[Answer], None],
        clock: Callable[[], float] = time.time,
        max_jobs: int = 1000,
        max_threads: int = 32,
        max_size: int = MAX_SIZE,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._device = device
        self._commands = commands
        self._admission = Admission(device, groups, commands, max_jobs=max_jobs)
        self._status = status
        self._journal = journal
        self._answer = answer
        self._clock = clock
        self._max_value = max_size - ENVELOPE_SIZE
        self._slots = asyncio.Semaphore(max_threads)
        self._executions: dict[Key, Execution] = {}
        self._alike: Counter[str] = Counter()

    # What comes in

    def receive(self, command: Command, encoding: Encoding, requester: str) -> None:
        """Take a command that `requester` (empty if unknown) sent; returns at once."""
        now = self._clock()
        key = Key(requester, command.behalf or "", command.id or secrets.token_hex(8))
        registration = self._commands.get(command.command)
        # Idempotent ones skip the journal: a repeat runs again, which does no harm and keeps the path short.
        skip = registration is not None and registration.idempotent
        entry = None
        if not skip:
            self._journal.prune(now)
            content = digest(command)
            if known := self._journal.find(key):
                self._repeat(known, content, command, encoding)
                return
            stated = command.expires is not None
            expires = now + DEFAULT_EXPIRY if command.expires is None else command.expires
            entry = Entry(key, content, encoding, expires=expires, stated=stated)
        elif key in self._executions:
            self._tell_accepted(self._executions[key])
            return
        execution = Execution(key, command.command, encoding, entry, now)
        situation = Situation(
            now=now,
            status=self._status(),
            jobs=len(self._executions),
            alike=self._alike[command.command],
            journal_full=entry is not None and self._journal.full,
            forgotten_until=0.0 if entry is None else self._journal.dropped_until,
        )
        if refusal := self._admission.refusal(command, registration, situation):
            if entry and not self._journal.full:
                self._journal.accept(entry)
            self._end(execution, refusal.status, error=Error(refusal.code, refusal.message))
            return
        assert registration is not None
        try:
            arguments = registration.spec.arguments(command.args, encoding)
        except InvalidArguments as error:
            details: dict[str, object] | None = {"argument": error.argument} if error.argument else None
            if entry:
                self._journal.accept(entry)
            self._end(execution, Status.REJECTED, error=Error(Code.INVALID_ARGUMENTS, str(error), details))
            return
        if entry:
            self._journal.accept(entry)
        if registration.spec.injected or not registration.inline:
            execution.job = self._job(execution)
            arguments |= dict.fromkeys(registration.spec.injected, execution.job)
        if registration.inline:
            self._run_inline(execution, registration, arguments)
        else:
            self._start(execution, registration, arguments, command)

    def knows(self, command: Command, requester: str) -> bool:
        """Whether this very command came before."""
        key = Key(requester, command.behalf or "", command.id or "")
        return key in self._executions or self._journal.find(key) is not None

    def refuse(self, id: str, command: str, requester: str, code: Code, message: str, encoding: Encoding) -> None:
        """Reject what never became a command that could be looked up; the journal does not learn of it."""
        execution = Execution(Key(requester, "", id), command, encoding, None, self._clock())
        self._end(execution, Status.REJECTED, error=Error(code, message))

    def _repeat(self, known: Entry, content: bytes, command: Command, encoding: Encoding) -> None:
        self.counts["repeated"] += 1
        if known.digest != content:
            message = f"the id {known.key.id} was used before for another command; make a new id for each"
            self.refuse(known.key.id, command.command, known.key.requester, Code.INVALID_MESSAGE, message, encoding)
        elif known.result is not None:
            self._answer(Answer(known.key.requester, known.result, known.encoding, known))
        elif execution := self._executions.get(known.key):
            self._tell_accepted(execution)

    # Running

    def _run_inline(self, execution: Execution, registration: Registration, arguments: dict[str, Any]) -> None:
        execution.started = self._clock()
        try:
            value = registration.function(**arguments)
        except Exception as error:
            self._failed(execution, error)
        else:
            self._done(execution, value)

    def _start(
        self, execution: Execution, registration: Registration, arguments: dict[str, Any], command: Command
    ) -> None:
        bounds = [bound for bound in (command.timeout, registration.timeout) if bound is not None]
        execution.timeout = min(bounds, default=None)
        execution.expires = execution.received + DEFAULT_EXPIRY if command.expires is None else command.expires
        self._executions[execution.key] = execution
        self._alike[execution.command] += 1
        loop = asyncio.get_running_loop()
        call = partial(registration.function, **arguments)
        run_in = self._in_loop if inspect.iscoroutinefunction(registration.function) else self._in_thread
        running = self._run(execution, run_in, call)
        execution.task = loop.create_task(running, name=f"{execution.command} {execution.key.id}")
        execution.accepted = loop.call_later(ACCEPTED_AFTER, self._tell_accepted, execution)

    async def _run(
        self,
        execution: Execution,
        run_in: Callable[[Execution, Callable[[], Any]], Awaitable[object]],
        call: Callable[[], Any],
    ) -> None:
        """Turn what a function does into its result. It never raises: a job's task has nobody to tell."""
        try:
            value = await run_in(execution, call)
        except BaseException as error:  # a command's SystemExit must not end the device
            if execution.stopped_by == "timeout":
                self._end(execution, Status.TIMED_OUT, error=Error("", self._why_stopped(execution)))
            elif isinstance(error, asyncio.CancelledError):
                self._end(execution, Status.CANCELLED, error=Error("", self._why_stopped(execution)))
            else:
                self._failed(execution, error)
        else:
            if execution.stopped_by == "timeout":
                late = f"{self._why_stopped(execution)}, yet it ran on and returned"
                self._end(execution, Status.TIMED_OUT, error=Error("", late))
            else:
                self._done(execution, value)

    async def _in_loop(self, execution: Execution, call: Callable[[], Awaitable[object]]) -> object:
        self._mark_started(execution)
        async with asyncio.timeout(execution.timeout) as bound:
            try:
                return await call()
            finally:
                if bound.expired():
                    self._stop(execution, "timeout")

    async def _in_thread(self, execution: Execution, call: Callable[[], object]) -> object:
        async with self._slots:
            if is_expired(execution.expires, self._clock()):
                self._end(execution, Status.EXPIRED, error=Error("", "expired while it waited for a thread"))
                return None
            self._mark_started(execution)
            finished = run_in_daemon_thread(call, name=f"{execution.command} {execution.key.id}")
            try:
                async with asyncio.timeout(execution.timeout):
                    return await asyncio.shield(finished)
            except TimeoutError:
                if finished.done():
                    raise
                self._stop(execution, "timeout")
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

    def _mark_started(self, execution: Execution) -> None:
        execution.started = self._clock()
        if execution.entry:
            self._journal.started(execution.entry)

    def _job(self, execution: Execution) -> Job:
        loop = asyncio.get_running_loop()

        def report(fraction: float | None, text: str | None) -> None:
            call_from_any_thread(loop, partial(self._progress, execution, fraction=fraction, text=text))

        def output(stream: Literal["stdout", "stderr"], data: str) -> None:
            for chunk in chunks(data):
                call_from_any_thread(loop, partial(self._progress, execution, stream=stream, data=chunk))

        key = execution.key
        return Job(key.id, execution.command, key.requester, key.behalf, report, output)

    # What goes out

    def _progress(
        self,
        execution: Execution,
        *,
        accepted: bool = False,
        fraction: float | None = None,
        text: str | None = None,
        stream: Literal["stdout", "stderr"] | None = None,
        data: str | None = None,
    ) -> None:
        if execution.ended or not execution.key.requester:
            return
        if text is not None:
            text = carried(text[:TEXT_LENGTH])
        if stream is None and not accepted:
            execution.fraction, execution.text = fraction, text
        progress = Progress(
            id=execution.key.id,
            device=self._device,
            seq=execution.seq,
            accepted=accepted,
            fraction=fraction,
            text=text,
            stream=stream,
            data=data,
        )
        execution.seq += 1
        self._answer(Answer(execution.key.requester, progress, execution.encoding, None))

    def _tell_accepted(self, execution: Execution) -> None:
        self._progress(execution, accepted=True)

    def _done(self, execution: Execution, value: object) -> None:
        try:
            encoded = encode(value, execution.encoding)
            # What a requester would refuse to read must not leave as `done`. The envelope is one level itself.
            check_nesting(encoded, execution.encoding, max_depth=MAX_DEPTH - 1)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            message = f"the value that {execution.command} returned cannot be sent: {error}"
            self._end(execution, Status.FAILED, error=told(Code.INTERNAL, message))
            return
        if len(encoded) > self._max_value:
            message = f"the result has {len(encoded):,} bytes; the limit is {self._max_value:,}: return less at once"
            self._end(execution, Status.FAILED, error=Error(Code.TOO_LARGE, message))
        else:
            self._end(execution, Status.DONE, value=Raw(encoded))

    def _failed(self, execution: Execution, error: BaseException) -> None:
        logger.error("%s %s failed", execution.command, execution.key.id, exc_info=error)
        self._end(execution, Status.FAILED, error=told(Code.ERROR, words_of(error)))

    def _end(
        self, execution: Execution, status: Status, *, value: Raw | None = None, error: Error | None = None
    ) -> None:
        """Give the final answer, once."""
        if execution.ended:
            return
        execution.ended = True
        if execution.accepted:
            execution.accepted.cancel()
        if self._executions.pop(execution.key, None):
            self._alike[execution.command] -= 1
        self.counts[status] += 1
        common = {} if value is None else {"value": value}
        result = Result(
            id=execution.key.id,
            device=self._device,
            command=execution.command,
            status=status,
            error=error,
            started=execution.started,
            finished=self._clock(),
            **common,
        )
        entry = execution.entry
        if entry and self._journal.find(entry.key) is entry:
            self._journal.finished(entry, result)
        self._answer(Answer(execution.key.requester, result, execution.encoding, entry))

    # Stopping

    def cancel(self, owner: Job, id: str) -> bool:
        """Cancel the job `id` of the same owner; False if there is none."""
        execution = self._executions.get(Key(owner.requester, owner.behalf, id))
        if execution is None:
            return False
        self._stop(execution, "cancel")
        self._cancel_task(execution)
        return True

    def cancel_waiting(self) -> None:
        """End the jobs that were accepted and have not started."""
        for execution in list(self._executions.values()):
            if execution.started is None:
                self._stop(execution, "cancel")
                self._cancel_task(execution)

    async def close(self, grace: float) -> bool:
        """Cancel all jobs and give each its result, within `grace` seconds.

        :returns: False if some would not stop; those end `interrupted`, and their threads or tasks still run.
        """
        executions = list(self._executions.values())
        for execution in executions:
            self._stop(execution, "terminate")
            self._cancel_task(execution)
        tasks = [execution.task for execution in executions if execution.task]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        for execution in list(self._executions.values()):
            message = f"{execution.command} did not stop within {grace:g} s of terminate"
            self._end(execution, Status.INTERRUPTED, error=Error("", message))
        return all(task.done() for task in tasks)

    def _stop(self, execution: Execution, by: Literal["cancel", "terminate", "timeout"]) -> None:
        execution.stopped_by = execution.stopped_by or by
        if execution.job:
            execution.job.cancel()

    def _cancel_task(self, execution: Execution) -> None:
        if execution.started is None:
            # Cancelling a task before its first step would leave its coroutine unawaited and the job unanswered.
            self._end(execution, Status.CANCELLED, error=Error("", self._why_stopped(execution)))
        if execution.task:
            execution.task.cancel()

    def _why_stopped(self, execution: Execution) -> str:
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

    # What runs

    def running(self) -> list[RunningJob]:
        """The jobs accepted and not finished, oldest first."""
        return [
            RunningJob(
                id=execution.key.id,
                command=execution.command,
                requester=execution.key.requester,
                behalf=execution.key.behalf,
                received=execution.received,
                started=execution.started,
                fraction=execution.fraction,
                text=execution.text,
            )
            for execution in self._executions.values()
        ]

    def result_of(self, owner: Job, id: str) -> tuple[Result, Encoding] | None:
        """The final answer to an earlier command of the same owner, None if there is none (yet)."""
        entry = self._journal.find(Key(owner.requester, owner.behalf, id))
        if entry is None or entry.stage < Stage.FINISHED or entry.result is None:
            return None
        return entry.result, entry.encoding
