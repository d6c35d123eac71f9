"""Command in, result out: dedup, readiness, bound, run, cancel. No MQTT in it.

Every command that comes in leaves with exactly one final `Result`, handed to `answer`; a repeated one gets the answer
it already has. Nothing runs before the journal has kept it, and no answer leaves before the journal has kept that: both
wait for `commit`, which serves all that came together.
"""

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

from outrider.schema import (
    MAX_SIZE,
    Code,
    Command,
    Encoding,
    Error,
    InvalidArguments,
    JournalError,
    Progress,
    Result,
    Status,
)
from outrider.schema.messages import DEFAULT_EXPIRY

from .admission import Admission, Refusal, Registration, Situation
from .calls import Asking
from .events import Events
from .execution import TEXT_LENGTH, Execution, carried, chunks
from .job import Job, RunningJob
from .journal import CLOCK_TOLERANCE, Entry, Journal, Key, Stage, digest
from .runner import Ending, Runner, failed
from .skew import Skew
from .threads import call_from_any_thread

logger = logging.getLogger("outrider.executor")

ACCEPTED_AFTER = 0.1
"""Seconds after which a job without a result is reported as accepted."""

ENVELOPE_SIZE = 2048
"""Bytes of a result's message kept free for everything around its value."""

MOST_REVOKED = 10_000
"""Ids of commands cancelled before they came that are remembered at most."""

RETRY = 1.0
"""Seconds until a journal that could not be written is tried again."""


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
    :param asking: who sends what jobs ask of other devices.
    :param telling: who keeps the events that jobs tell.
    :param clock: Unix seconds.
    :param tolerance: seconds that clocks may differ.
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
        asking: Asking | None = None,
        telling: Callable[[], Events] | None = None,
        clock: Callable[[], float] = time.time,
        tolerance: float = CLOCK_TOLERANCE,
        max_jobs: int = 1000,
        max_threads: int = 32,
        max_size: int = MAX_SIZE,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.skew = Skew(tolerance)
        self._device = device
        self._commands = commands
        self._admission = Admission(device, groups, commands, max_jobs=max_jobs, tolerance=tolerance)
        self._status = status
        self._journal = journal
        self._answer = answer
        self._asking = asking
        self._telling = telling
        self._clock = clock
        self._runner = Runner(
            device,
            begin=self._begin,
            clock=clock,
            tolerance=tolerance,
            max_threads=max_threads,
            max_value=max_size - ENVELOPE_SIZE,
        )
        self._executions: dict[Key, Execution] = {}
        self._revoked: dict[Key, float] = {}
        """Cancelled before they came, and until when to remember that, in Unix seconds; oldest first."""
        self._alike: Counter[str] = Counter()
        self._prepared: list[tuple[Execution, Callable[[], None]]] = []
        self._beginning: list[asyncio.Future[None]] = []
        self._finished: dict[Entry, Answer] = {}
        self._committing: asyncio.Handle | None = None
        self._unwritten = ""

    # What comes in

    def receive(self, command: Command, encoding: Encoding, requester: str, *, topic: str = "") -> None:
        """Take a command that `requester` (empty if unknown) sent; returns at once. It runs after `commit`.

        :param topic: where it came.
        """
        now = self._clock()
        key = Key(requester, command.behalf or "", command.id or secrets.token_hex(8))
        registration = self._commands.get(command.command)
        entry = None
        if registration is None or registration.journaled:
            # `expires` is by the clocks of who asks: where this one is ahead of theirs, nothing is forgotten too early.
            self._journal.prune(now if command.issued is None else min(now, command.issued))
            content = digest(command)
            if known := self._journal.find(key):
                self._repeat(known, content, command, encoding)
                return
            stated = command.expires is not None
            expires = now + DEFAULT_EXPIRY if command.expires is None else command.expires
            if registration and registration.remembered is not None and expires > now + registration.remembered:
                expires, stated = now + registration.remembered, False  # its end tells nothing of other commands
            entry = Entry(key, content, encoding, expires=expires, stated=stated, command=command)
        execution = Execution(key, command.command, encoding, entry, now)
        execution.topic = topic
        refusal = self._admission.refusal(command, registration, self._situation(command.command, now, entry))
        if not refusal and entry and self._revoked.pop(key, 0.0) >= now:
            refusal = Refusal(Status.CANCELLED, "", "cancelled before it came")
        if refusal:
            if entry and not self._journal.full:
                self._journal.accept(entry)
            self._refuse(execution, refusal)
        else:
            assert registration is not None
            if entry:
                self._journal.accept(entry)
            self._prepare(execution, registration, command)

    def knows(self, command: Command, requester: str) -> bool:
        """Whether this very command came before."""
        return self._journal.find(Key(requester, command.behalf or "", command.id or "")) is not None

    def refuse(self, id: str, command: str, requester: str, code: Code, message: str, encoding: Encoding) -> None:
        """Reject what never became a command that could be looked up; the journal does not learn of it."""
        execution = Execution(Key(requester, "", id), command, encoding, None, self._clock())
        self._refuse(execution, Refusal(Status.REJECTED, code, message))

    def recover(self) -> None:
        """Take up what a restart has interrupted: run it, run it again, or end it with what is known of it."""
        now = self._clock()
        for entry in self._journal.unfinished():
            command = entry.command
            name = command.command if command else ""
            registration = self._commands.get(name)
            execution = Execution(entry.key, name, entry.encoding, entry, now)
            situation = self._situation(name, now, None)
            refusal = self._admission.refusal_after_restart(entry, registration, situation)
            self.counts["recovered"] += 1
            if refusal or registration is None or command is None:
                self._refuse(execution, refusal or Refusal(Status.INTERRUPTED, "", "its journal entry is not whole"))
            else:
                self._prepare(execution, registration, command)
        self.commit()

    def commit(self) -> None:
        """Let the journal keep what was noted; then let run what was received, and answer what has finished."""
        if self._committing:
            self._committing.cancel()
            self._committing = None
        prepared, self._prepared = self._prepared, []
        beginning, self._beginning = self._beginning, []
        finished, self._finished = self._finished, {}
        failure = self._write()
        for execution, launch in prepared:
            if execution.ended:
                continue
            if failure and execution.entry:
                self._journal.withdraw(execution.entry)
                self._runner.release(execution)
                self._refuse(execution, Refusal(Status.REJECTED, Code.BUSY, f"not taken: {failure}"))
            else:
                launch()
        for written in beginning:
            if not written.done():
                written.set_exception(failure) if failure else written.set_result(None)
        for answer in finished.values():
            self._answer(answer)

    def _write(self) -> JournalError | None:
        try:
            self._journal.commit()
        except JournalError as error:
            if not self._unwritten:
                logger.error("%s takes no commands: %s", self._device, error)  # noqa: TRY400  # the words say it
            self._unwritten = str(error)
            self._commit_in(RETRY)
            return error
        if self._unwritten:
            logger.warning("%s takes commands again: its journal can be written", self._device)
        self._unwritten = ""
        return None

    @property
    def journal_error(self) -> str | None:
        """Why the journal cannot be written, so that no commands are taken; None while it can."""
        return self._unwritten or None

    def _commit_in(self, seconds: float) -> None:
        if self._committing is None:
            loop = asyncio.get_running_loop()
            self._committing = loop.call_later(seconds, self.commit) if seconds else loop.call_soon(self.commit)

    def _situation(self, command: str, now: float, entry: Entry | None) -> Situation:
        return Situation(
            now=now,
            status=self._status(),
            jobs=len(self._executions),
            alike=self._alike[command],
            journal_full=entry is not None and self._journal.full,
            forgotten_until=0.0 if entry is None else self._journal.dropped_until,
            forgotten_before=0.0 if entry is None else self._journal.forgotten_before,
            clock=self.skew.words,
        )

    def _repeat(self, known: Entry, content: bytes, command: Command, encoding: Encoding) -> None:
        self.counts["repeated"] += 1
        if known.digest != content:
            message = f"the id {known.key.id} was used before for another command; make a new id for each"
            self.refuse(known.key.id, command.command, known.key.requester, Code.INVALID_MESSAGE, message, encoding)
        elif known in self._finished:
            return  # the answer waits for the next commit
        elif known.result is not None:
            self._answer(Answer(known.key.requester, known.result, known.encoding, known))
        elif execution := self._executions.get(known.key):
            self._tell_accepted(execution)

    def _refuse(self, execution: Execution, refusal: Refusal) -> None:
        self._end(execution, Ending(refusal.status, error=Error(*refusal[1:])))

    # Running

    def _prepare(self, execution: Execution, registration: Registration, command: Command) -> None:
        """Check the arguments, and let it run once it is kept; a control command at once."""
        try:
            arguments = registration.spec.arguments(command.args, execution.encoding)
        except InvalidArguments as error:
            details: dict[str, object] | None = {"argument": error.argument} if error.argument else None
            told = Error(Code.INVALID_ARGUMENTS, str(error), details)
            self._end(execution, Ending(Status.REJECTED, error=told))
            return
        if registration.spec.injected or not registration.inline:
            execution.job = self._job(execution)
            arguments |= dict.fromkeys(registration.spec.injected, execution.job)
        execution.trace = command.trace
        call = partial(registration.function, **arguments)
        if registration.inline:
            if execution.entry:
                self._journal.started(execution.entry)
                self.commit()  # also where it fails: a device whose disk is full can be stopped
            self._run_inline(execution, call)
            return
        bounds = [bound for bound in (command.timeout, registration.timeout) if bound is not None]
        execution.timeout = min(bounds, default=None)
        execution.expires = execution.received + DEFAULT_EXPIRY if command.expires is None else command.expires
        self._executions[execution.key] = execution
        self._alike[execution.command] += 1
        if self._runner.reserve(execution, registration.function) and execution.entry:
            self._journal.started(execution.entry)  # with the same commit; else `begin` does it
        self._prepared.append((execution, partial(self._launch, execution, registration, call)))
        self._commit_in(0)

    def _run_inline(self, execution: Execution, call: Callable[[], Any]) -> None:
        execution.started = self._clock()
        execution.running = self._runner.span(execution)
        try:
            ending = self._runner.done(execution, call())
        except Exception as error:
            ending = failed(error)
        self._end(execution, ending)

    def _launch(self, execution: Execution, registration: Registration, call: Callable[[], Any]) -> None:
        loop = asyncio.get_running_loop()
        running = self._run(execution, registration, call)
        execution.task = loop.create_task(running, name=f"{execution.command} {execution.key.id}")
        execution.accepted = loop.call_later(ACCEPTED_AFTER, self._tell_accepted, execution)

    async def _run(self, execution: Execution, registration: Registration, call: Callable[[], Any]) -> None:
        self._end(execution, await self._runner.run(execution, registration.function, call))

    async def _begin(self, execution: Execution) -> None:
        """Return when the journal has kept that a job which waited begins."""
        if execution.entry:
            self._journal.started(execution.entry)
            written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._beginning.append(written)
            self._commit_in(0)
            await written

    def _job(self, execution: Execution) -> Job:
        loop = asyncio.get_running_loop()

        def report(fraction: float | None, text: str | None) -> None:
            call_from_any_thread(loop, partial(self._progress, execution, fraction=fraction, text=text))

        def output(stream: Literal["stdout", "stderr"], data: str) -> None:
            for chunk in chunks(data):
                call_from_any_thread(loop, partial(self._progress, execution, stream=stream, data=chunk))

        key = execution.key
        return Job(
            key.id,
            execution.command,
            key.requester,
            key.behalf,
            report,
            output,
            asking=self._asking,
            telling=self._telling,
        )

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

    def _end(self, execution: Execution, ending: Ending) -> None:
        """Give the final answer, once."""
        if execution.ended:
            return
        execution.ended = True
        if ending.raised:
            logger.error("%s %s failed", execution.command, execution.key.id, exc_info=ending.raised)
        if execution.running is not None:
            execution.running.end(ending.status, ending.error, ending.raised)
        if execution.accepted:
            execution.accepted.cancel()
        if self._executions.pop(execution.key, None):
            self._alike[execution.command] -= 1
        self.counts[ending.status] += 1
        common = {} if ending.value is None else {"value": ending.value}
        result = Result(
            id=execution.key.id,
            device=self._device,
            command=execution.command,
            status=ending.status,
            error=ending.error,
            started=execution.started,
            finished=self._clock(),
            **common,
        )
        entry = execution.entry
        answer = Answer(execution.key.requester, result, execution.encoding, entry)
        if entry and self._journal.find(entry.key) is entry:
            self._journal.finished(entry, result)
            self._finished[entry] = answer
            self._commit_in(0)
        else:
            self._answer(answer)

    # Stopping

    def cancel(self, owner: Job, id: str) -> bool:
        """Cancel the job `id` of the same owner; False if there is none. What comes later under that id does not run.

        A command that was lost with the broker is repeated, and may come after its own cancel.
        """
        key = Key(owner.requester, owner.behalf, id)
        execution = self._executions.get(key)
        if execution is None:
            if self._journal.find(key) is None:
                self._revoke(key)
            return False
        self._stop(execution, "cancel")
        return True

    def _revoke(self, key: Key) -> None:
        """Remember, as long as this process lives, that a command was cancelled before it came."""
        now = self._clock()
        self._revoked.pop(key, None)
        self._revoked[key] = now + DEFAULT_EXPIRY
        while len(self._revoked) > MOST_REVOKED or next(iter(self._revoked.values())) < now:
            del self._revoked[next(iter(self._revoked))]

    def cancel_waiting(self) -> None:
        """End the jobs that were accepted and have not started."""
        for execution in list(self._executions.values()):
            if execution.started is None:
                self._stop(execution, "cancel")

    async def close(self, grace: float) -> bool:
        """Cancel all jobs and give each its result, within `grace` seconds.

        :returns: False if some would not stop; those end `interrupted`, and their threads or tasks still run.
        """
        executions = list(self._executions.values())
        for execution in executions:
            self._stop(execution, "terminate")
        tasks = [execution.task for execution in executions if execution.task]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        for execution in list(self._executions.values()):
            message = f"{execution.command} did not stop within {grace:g} s of terminate"
            self._end(execution, Ending(Status.INTERRUPTED, error=Error("", message)))
        self.commit()
        if self._committing:
            self._committing.cancel()
        return all(task.done() for task in tasks)

    def _stop(self, execution: Execution, by: Literal["cancel", "terminate"]) -> None:
        execution.stop(by)
        if execution.started is None:
            # Cancelling a task before its first step would leave its coroutine unawaited and the job unanswered.
            self._runner.release(execution)
            self._end(execution, Ending(Status.CANCELLED, error=Error("", self._runner.why_stopped(execution))))
        if execution.task:
            execution.task.cancel()

    # What runs

    def running_for(self, owner: Job) -> list[RunningJob]:
        """Those of them that this owner may see: all but others' jobs of private commands."""
        own = (owner.requester, owner.behalf)
        private = {name for name, command in self._commands.items() if command.private}
        return [each for each in self.running() if each.command not in private or (each.requester, each.behalf) == own]

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
