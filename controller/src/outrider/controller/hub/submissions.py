"""Commands that clients send through the hub: written down together, sent, and followed to their end.

Those that come in one turn of the event loop are written into the outbox with one commit, and sent after it. Each is
then followed as long as an answer may still come. What has ended is kept for a while; after that the outbox knows it,
and after that the store.
"""

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context
from types import TracebackType
from typing import Final, NamedTuple, Self

from msgspec import Raw, UnsetType, json

from outrider.controller.dispatch import Dispatch
from outrider.controller.durable import Durable, DurableOutbox, OutboxUnusable
from outrider.controller.fleet import Fleet, IfOffline
from outrider.controller.plan import Plan, Share
from outrider.controller.rollout import Rollout
from outrider.device import Arguments, Reply
from outrider.schema import Error, LocalError, OutriderError, Progress, QueueFull, Result, Status
from outrider.schema.codec import COMMAND
from outrider.schema.messages import MAX_EXPIRY

from .line import Line, had_no_room
from .owners import RUN, attempt, is_run, number_of, run_of

logger = logging.getLogger("outrider.controller.hub")

MIN_EXPIRY: Final = 30.0
"""Seconds for which a command is good at least where a client says nothing of it."""

MOST_OPEN: Final = 20_000
"""Commands followed at a time."""

MOST_OPEN_EACH: Final = 5000
"""Commands of one client followed at a time."""

MOST_TOGETHER: Final = 200
"""Commands written down with one commit, so that the first of many does not wait for the last."""

MOST_WAITERS: Final = 500
"""Requests that wait for an end at a time: so many that others still get in. One more is answered at once."""

FOLLOWED_AFTER: Final = 60.0
"""Seconds for which a command is followed after it expired; longer while a device that took it is there."""

KEPT_DEVICES: Final = 2000
"""Devices of commands that have ended and are kept at hand. 50,000 made a third of the time garbage collection."""

KEPT_ROLLOUTS: Final = 100
"""Rollouts that have ended and are kept at hand."""

NO_ROOM: Final = "no-room"
"""Code of the outcome `queued` of a script that no device had room for, and that is sent again."""

NOT_YET: Final = "not-yet"
"""Code of the outcome `queued` of a device that a rollout has not come to."""


def new_id() -> str:
    """An id for a command: by chance."""
    return secrets.token_hex(8)


class Order(NamedTuple):
    """What a client asks for. `wait` is how long it means to wait for the outcomes, which `expires` follows."""

    behalf: str
    target: str
    command: str
    args: Arguments | None = None
    wait: float = 0.0
    timeout: float | None = None
    expires: float | None = None
    if_offline: IfOffline | None = None
    limit: Share | None = None
    seed: int | None = None
    plan: Plan | None = None


class Standing(NamedTuple):
    """One device's part in a command: its outcome as of now, and how far it is."""

    result: Result
    progress: Progress | None = None


class Submission:
    """A command that is on its way, or has lately ended.

    :ivar attempts: how often it was sent.
    :ivar again: what is sent once more where no device has room for it; None for what is sent once.
    :ivar changed: set where it need not wait for room any longer.
    :ivar followed: what follows it, while it is open.
    :ivar ended: set when every device has its final outcome, or nothing more is waited for.
    """

    def __init__(
        self, dispatch: Dispatch, *, behalf: str, target: str, issued: float, expires: float, plan: Plan | None = None
    ) -> None:
        self.id = run_of(dispatch.id)
        self.attempts = number_of(dispatch.id)
        self.again: Order | None = None
        self.command = dispatch.command
        self.behalf = behalf
        self.target = target
        self.issued = issued
        self.expires = expires
        self.plan = plan
        self.changed = asyncio.Event()
        self.ended = asyncio.Event()
        self.dispatch = dispatch
        self.followed: asyncio.Task[None] | None = None
        self._progress: dict[str, Progress] = {}

    @property
    def args(self) -> Raw | UnsetType:
        """The arguments as they were sent."""
        return self.dispatch.args

    @property
    def rollout(self) -> Rollout | None:
        """How far the rollout is, where it is one."""
        return self.dispatch.rollout

    def standings(self) -> Iterator[Standing]:
        """Each device's part, in the order of the target."""
        waiting = frozenset(self.dispatch.never_addressed) if self._goes_on() else frozenset[str]()
        no_room = self.waits
        for device in self.dispatch.counted:
            if no_room:
                said = self.dispatch.standing(device).error
                error = Error(NO_ROOM, f"it waits for room: {said.message if said else device}")
                yield Standing(
                    Result(id=self.id, device=device, command=self.command, status=Status.QUEUED, error=error)
                )
            elif device in waiting:
                error = Error(NOT_YET, "the rollout has not come to it yet")
                yield Standing(
                    Result(id=self.id, device=device, command=self.command, status=Status.QUEUED, error=error)
                )
            else:
                yield Standing(self.dispatch.standing(device), self._progress.get(device))

    @property
    def waits(self) -> bool:
        """Whether no device had room for it, and it is sent again."""
        return self.again is not None and not self.ended.is_set() and had_no_room(self.results())

    def results(self) -> list[Result]:
        """What the devices say that it was sent to the last time."""
        return [self.dispatch.standing(device) for device in {*self.dispatch.counted, *self.dispatch.addressed}]

    def note(self, reply: Reply) -> None:
        """Note how far a device is."""
        if isinstance(reply.message, Progress):
            if reply.message.fraction is not None or reply.message.text is not None:
                self._progress[reply.device] = reply.message
        else:
            self._progress.pop(reply.device, None)

    def _goes_on(self) -> bool:
        rollout = self.rollout
        return rollout is not None and rollout.aborted is None and not self.dispatch.outcomes


class _Asked(NamedTuple):
    id: str
    order: Order
    answer: asyncio.Future[Submission]
    context: Context


class Submissions:
    """All commands that clients have sent, as long as they are at hand. An async context manager.

    :param fleet: with an outbox; open.
    :param clock: Unix seconds.
    """

    def __init__(self, fleet: Fleet, *, clock: Callable[[], float] = time.time) -> None:
        self._fleet = fleet
        self._clock = clock
        self._waiting: list[_Asked] = []
        self._pending: dict[str, asyncio.Future[Submission]] = {}
        self._open: dict[str, Submission] = {}
        self._open_each: dict[str, int] = {}
        self._kept: dict[str, Submission] = {}
        self._kept_devices = 0
        self._rollouts: dict[str, Submission] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._line = Line()
        self._waiters = 0
        self._ended = False

    @property
    def open(self) -> int:
        """How many commands are followed."""
        return len(self._open)

    async def __aenter__(self) -> Self:
        """Go on with what had been accepted and has not ended.

        :raises OutboxUnusable: the outbox cannot be read.
        """
        outbox = self._fleet.outbox
        assert outbox is not None
        for brief in outbox.unfinished(self._fleet.place):
            if not is_run(brief.id) and (durable := outbox.find(brief.id)) is not None:
                self._follow(self._resumed(durable))
        last: dict[str, int] = {}
        for id in outbox.ids(RUN, alive=self._clock()):
            last[run_of(id)] = max(number_of(id), last.get(run_of(id), 1))
        for run, number in last.items():
            durable = _attempt(outbox, attempt(run, number))
            if durable is None or not durable.place.same(self._fleet.place):
                continue
            waits = durable.expires > self._clock() and had_no_room(
                each.outcome for each in durable.devices.values() if each.outcome is not None
            )
            if durable.open or waits:
                self._follow(self._resumed(durable))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = True
        for asked in self._waiting:
            asked.answer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def submit(self, order: Order, id: str | None = None) -> Submission:
        """Write a command down and send it; when this returns it will be done, also after a crash of the hub.

        :param id: one that was made for it before; where it was submitted already, it is not again.
        :raises LocalError: as `Fleet.dispatch` does.
        """
        if id is not None and (same := await self._same(id)) is not None:
            return same
        self._check_room(order.behalf)
        if order.target.startswith("any:"):  # to know whether it is idempotent there
            await self._fleet.abouts(self._fleet.resolve(order.target).devices)
            if id is not None and (same := await self._same(id)) is not None:  # it came again meanwhile
                return same
        loop = asyncio.get_running_loop()
        asked = _Asked(id or new_id(), order, loop.create_future(), copy_context())
        if not self._waiting:
            loop.call_soon(self._send_waiting)
        self._waiting.append(asked)
        self._pending[asked.id] = asked.answer
        try:
            return await asyncio.shield(asked.answer)
        finally:
            self._pending.pop(asked.id, None)

    async def _same(self, id: str) -> Submission | None:
        """The one that was submitted with this id, if any is at hand."""
        if (pending := self._pending.get(id)) is not None:
            return await asyncio.shield(pending)
        return self.find(id)

    async def until_ended(self, submission: Submission, seconds: float) -> None:
        """Return when a command has ended, or after so many seconds; at once where too many wait already."""
        if seconds <= 0 or submission.ended.is_set() or self._waiters >= MOST_WAITERS:
            return
        self._waiters += 1
        try:
            async with asyncio.timeout(seconds):
                await submission.ended.wait()
        except TimeoutError:
            pass
        finally:
            self._waiters -= 1

    def find(self, id: str) -> Submission | None:
        """The command with this id, while it is at hand."""
        id = run_of(id)
        return self._open.get(id) or self._kept.get(id) or self._rollouts.get(id)

    def owner(self, id: str) -> str | None:
        """On whose behalf the command was sent; None where it is not at hand."""
        found = self.find(id)
        return None if found is None else found.behalf

    def at_hand(self) -> Iterable[Submission]:
        """The commands at hand, newest first."""
        every = (*self._open.values(), *self._kept.values(), *self._rollouts.values())
        return sorted(every, key=lambda each: -each.issued)

    def written(self, id: str) -> Durable | None:
        """The command as it stands in the outbox: of a script that was sent again the last attempt.

        :raises OutboxUnusable: the outbox cannot be read.
        """
        outbox = self._fleet.outbox
        if outbox is not None and is_run(id):
            id = max(outbox.ids(run_of(id)), key=number_of, default=id)
        durable = None if outbox is None else _attempt(outbox, id)
        return durable if durable is not None and durable.place == self._fleet.place else None

    def cancel(self, id: str) -> Submission | None:
        """Tell devices to end a command, and address nobody any more; None where nothing is known of it."""
        submission = self._open.get(run_of(id))
        if submission is None:
            durable = self.written(id)
            if durable is None or not durable.open:
                return self.find(id)
            self._forget(run_of(id))
            submission = self._resumed(durable)
            self._follow(submission)
        waited, submission.again = submission.waits, None
        if waited:
            self._cancel_waiting(submission)
            if submission.followed is not None:  # it may stand far behind in the line
                submission.followed.cancel()
        submission.dispatch.cancel()
        return submission

    def _check_room(self, behalf: str) -> None:
        if self._open_each.get(behalf, 0) >= MOST_OPEN_EACH:
            raise QueueFull(f"{MOST_OPEN_EACH} commands of {behalf} have not ended: cancel some, or try again later")
        if len(self._open) + len(self._waiting) >= MOST_OPEN:
            raise QueueFull(f"{len(self._open)} commands have not ended: try again later")

    def _send_waiting(self) -> None:
        """Write down and send what has come in this turn."""
        waiting, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._send_waiting)
        sent: list[tuple[_Asked, Submission]] = []
        try:
            with self._fleet.together():
                for asked in waiting:
                    try:
                        sent.append((asked, asked.context.run(self._dispatch, asked)))  # in its own trace
                    except OutriderError as error:
                        _fail(asked, error)
        except OutboxUnusable as error:
            for asked in waiting:
                _fail(asked, error)
            return
        for asked, submission in sent:
            asked.context.run(self._follow, submission)
            if not asked.answer.done():
                asked.answer.set_result(submission)

    def _dispatch(self, asked: _Asked) -> Submission:
        order, now = asked.order, self._clock()
        good_for = min(max(order.wait, MIN_EXPIRY) if order.expires is None else order.expires, MAX_EXPIRY)
        submission = Submission(
            self._send(order, asked.id, good_for),
            behalf=order.behalf,
            target=order.target,
            issued=now,
            expires=now + good_for,
            plan=order.plan,
        )
        submission.again = order if is_run(asked.id) else None
        return submission

    def _send(self, order: Order, id: str, good_for: float) -> Dispatch:
        return self._fleet.dispatch(
            order.target,
            order.command,
            order.args,
            wait=math.inf,
            timeout=order.timeout,
            expires=good_for,
            if_offline=order.if_offline,
            limit=order.limit,
            seed=order.seed,
            plan=order.plan,
            behalf=order.behalf,
            id=id,
        )

    def _resumed(self, durable: Durable) -> Submission:
        dispatch = self._fleet.resume_one(durable, wait=math.inf)
        submission = Submission(
            dispatch, behalf=durable.behalf, target=durable.target, issued=durable.issued, expires=durable.expires
        )
        sending = next((each.sending for each in durable.devices.values() if each.sending is not None), None)
        if is_run(durable.id) and sending is not None:
            sent = COMMAND.decode(sending.payload)[0]
            args = None if isinstance(sent.args, UnsetType) else json.decode(sent.args)
            submission.again = Order(durable.behalf, durable.target, durable.command, args, timeout=sent.timeout)
        return submission

    def _follow(self, submission: Submission) -> None:
        self._open[submission.id] = submission
        self._open_each[submission.behalf] = self._open_each.get(submission.behalf, 0) + 1
        task = asyncio.create_task(self._until_ended(submission), name=f"command {submission.id}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        submission.followed = task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s is not followed any more", task.get_name(), exc_info=error)

    async def _until_ended(self, submission: Submission) -> None:
        try:
            await self._until_answered(submission)
            while submission.waits and await self._sent_again(submission):
                await self._until_answered(submission)
        except LocalError as error:  # the broker took none of it, which the outcomes say as well
            logger.info("%s was not sent: %s", submission.id, error)
        finally:
            self._let_go(submission)

    async def _until_answered(self, submission: Submission) -> None:
        async for reply in submission.dispatch:
            submission.note(reply)
        if submission.dispatch.missing:
            await self._until_late(submission)

    async def _sent_again(self, submission: Submission) -> bool:
        """Wait for room and send a script once more; False where it is cancelled, or its time to begin is over."""
        try:
            async with asyncio.timeout(submission.expires - self._clock()), self._line.turn():
                while True:
                    await self._line.pause(submission.attempts, submission.changed)
                    if (order := submission.again) is None:  # it was cancelled
                        return False
                    id = attempt(submission.id, submission.attempts + 1)
                    good_for = max(submission.expires - self._clock(), 0.001)
                    try:
                        dispatch = self._send(order, id, good_for)
                    except LocalError as error:  # as where no member is ready just now
                        logger.debug("%s waits: %s", submission.id, error)
                        continue
                    submission.dispatch.let_go()
                    submission.dispatch, submission.attempts = dispatch, submission.attempts + 1
                    return True
        except TimeoutError:
            pass
        return False

    def _cancel_waiting(self, submission: Submission) -> None:
        """End a script that no device has: also for a hub that starts again."""
        dispatch = submission.dispatch
        for device in dispatch.counted:
            error = Error("", "cancelled while it waited for room; it did not run")
            result = Result(
                id=dispatch.id, device=device, command=dispatch.command, status=Status.CANCELLED, error=error
            )
            if self._fleet.outbox is not None:
                self._fleet.outbox.amend(dispatch.id, result)
            dispatch.outcomes[device] = result
        submission.changed.set()
        submission.ended.set()

    async def _until_late(self, submission: Submission) -> None:
        """Follow what may come when all that are there have answered, until nobody may start it any more."""
        dispatch = submission.dispatch
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as limit, contextlib.aclosing(dispatch.late()) as late:
                self._look_after(submission, limit)
                async for reply in late:
                    submission.note(reply)

    def _look_after(self, submission: Submission, limit: asyncio.Timeout) -> None:
        """End the wait once the command has expired, unless a device that has taken it is there."""
        loop = asyncio.get_running_loop()
        left = submission.expires + FOLLOWED_AFTER - self._clock()
        states = self._fleet.roster.states
        working = any(
            (state := states.get(device)) is not None and state.status in ("ready", "unready")
            for device in submission.dispatch.accepted
        )
        if left <= 0 and not working:
            with contextlib.suppress(RuntimeError):  # it is over already
                limit.reschedule(loop.time())
        elif not submission.ended.is_set():
            loop.call_later(max(left, FOLLOWED_AFTER), self._look_after, submission, limit)

    def _let_go(self, submission: Submission) -> None:
        submission.dispatch.let_go()
        submission.ended.set()
        if is_run(submission.id):
            self._line.room()
        self._open.pop(submission.id, None)
        self._open_each[submission.behalf] -= 1
        if not self._open_each[submission.behalf]:
            del self._open_each[submission.behalf]
        if submission.plan is not None:
            self._rollouts[submission.id] = submission
            while len(self._rollouts) > KEPT_ROLLOUTS:
                del self._rollouts[next(iter(self._rollouts))]
            return
        self._kept[submission.id] = submission
        self._kept_devices += _size(submission)
        while self._kept_devices > KEPT_DEVICES and len(self._kept) > 1:
            self._forget(next(iter(self._kept)))

    def _forget(self, id: str) -> None:
        self._rollouts.pop(id, None)
        if (submission := self._kept.pop(id, None)) is not None:
            self._kept_devices -= _size(submission)


def standings_of(durable: Durable) -> Iterator[Standing]:
    """Each device's part in a command that stands in the outbox only."""
    for device, written in durable.devices.items():
        if written.outcome is not None:
            yield Standing(written.outcome)
        elif written.accepted:
            yield Standing(_word(durable, device, Status.RUNNING, "accepted, no final answer yet"))
        elif written.sending is not None:
            yield Standing(_word(durable, device, Status.QUEUED, "sent, not taken yet"))
        else:
            yield Standing(_word(durable, device, Status.CANCELLED, "never addressed: the command was not sent to it"))


def _word(durable: Durable, device: str, status: Status, words: str) -> Result:
    return Result(id=durable.id, device=device, command=durable.command, status=status, error=Error("", words))


def _size(submission: Submission) -> int:
    return max(1, len(submission.dispatch.targets.devices))


def _fail(asked: _Asked, error: OutriderError) -> None:
    if not asked.answer.done():
        asked.answer.set_exception(error)


def _attempt(outbox: DurableOutbox, id: str) -> Durable | None:
    """A command as it stands in the outbox; it was submitted when its first attempt was."""
    found = outbox.find(id)
    if found is not None and number_of(id) > 1 and (first := outbox.find(run_of(id))) is not None:
        return found._replace(issued=first.issued)
    return found
