"""A device as a requester: its calls to other devices and to pools, over the one connection that it has."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Callable
from time import monotonic
from typing import Final

from outrider.schema import (
    BrokerUnreachable,
    Kind,
    NoAnswer,
    QueueFull,
    Result,
    Status,
    Topic,
    Topics,
    UnknownTarget,
    check_name,
)

from .connection import Connection
from .invocation import Invocation, Reply
from .invoker import MIN_EXPIRY, Arguments, Invoker
from .neighbours import Neighbours
from .patience import Patience, is_there
from .pool import AnyMember, no_member

POOL: Final = "any:"
"""What a target begins with that means any one of a pool."""

MOST_CALLS: Final = 1000
"""Calls of one device that wait for their answers. One more is refused: those that wait might wait for it."""


class Caller:
    """Asks as one device. It subscribes to nothing before the first call.

    :param device: this device's id, which is its name as a requester.
    :param state: the state that it has published last.
    :param clock: Unix seconds.
    """

    def __init__(
        self,
        connection: Connection,
        topics: Topics,
        device: str,
        *,
        state: bytes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._device = device
        self._connection = connection
        self._invoker = Invoker(connection, topics=topics, requester=device, clock=clock, away=self._is_away)
        self._neighbours = Neighbours(connection, topics, device, state, self._invoker.returned)
        self._opening: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[Result]] = set()
        self._closed = False

    async def ask(self, target: str, command: str, args: Arguments, *, wait: float) -> Result:
        """Send a command to one device, or one of a pool, and return its final answer, whatever its status.

        :param wait: seconds.
        :raises LocalError: as `Calls.call` says.
        """
        if self._closed:
            raise self._ended()
        if len(self._asking) >= MOST_CALLS:
            raise QueueFull(
                f"{self._device} waits for the answers to {len(self._asking)} calls already: try again when some have "
                "come, or call less at the same time (max_parallel)"
            )
        pool = check_name(target.removeprefix(POOL), "pool") if target.startswith(POOL) else None
        if pool is None:
            check_name(target, "device to call")
        asked = self._ask(target, command, args, wait) if pool is None else self._ask_any(pool, command, args, wait)
        task = asyncio.create_task(asked, name=f"call of {self._device} to {target}")
        self._asking.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if self._closed and not (current and current.cancelling()):
                raise self._ended() from None
            raise
        finally:
            self._asking.discard(task)

    def receive(self, topic: Topic, payload: bytes) -> None:
        """Take an answer, a state, or a member of a pool; what an earlier process asked for is let go."""
        if topic.kind is Kind.RESULT or topic.kind is Kind.PROGRESS:
            if topic.requester == self._device:
                self._invoker.receive(topic, payload)
        elif topic.kind is Kind.STATE or topic.kind is Kind.POOL:
            self._neighbours.receive(topic, payload)

    def reconnected(self) -> None:
        """Note that the connection was made anew: answers may be lost."""
        self._invoker.reconnected()

    def close(self) -> None:
        """End all calls with `BrokerUnreachable`."""
        self._closed = True
        self._neighbours.close()
        if self._opening is not None:
            self._opening.cancel()
        for task in self._asking:
            task.cancel()

    async def _ask(self, device: str, command: str, args: Arguments, wait: float) -> Result:
        until = monotonic() + wait
        async with self._found_within(wait):
            await self._open()
            if device != self._device:
                await self._neighbours.know(device)
                self._check_called(device)
        try:
            return await self._invoker.call(device, command, args, wait=max(until - monotonic(), 0.0))
        except NoAnswer as error:
            raise self._no_answer(device, command, wait, error.status) from None

    def _check_called(self, device: str) -> None:
        state = self._neighbours.states.get(device)
        if state is None:
            raise UnknownTarget(f"{self._device} cannot call {device}: no such device has been seen")
        if state.status == "terminated":
            words = f"{device} is terminated: nothing was sent to it"
            raise NoAnswer(words, device=device, status=Status.OFFLINE)

    async def _ask_any(self, pool: str, command: str, args: Arguments, wait: float) -> Result:
        now = monotonic()
        async with self._found_within(wait):
            await self._open()
            members = await self._neighbours.members(pool)
        good_for = max(wait, MIN_EXPIRY)
        invocation = self._invoker.prepare(command, args)
        states = self._neighbours.states
        if not members:
            raise no_member(pool, {})
        choice = AnyMember(
            pool,
            [member.device for member in members],
            invocation,
            states,
            Patience(until=now + wait, lost_too=True, taken_by=now + good_for),
            load=self._invoker.load,
            idempotent=all(command in member.idempotent for member in members),
            chance=random.Random(),
        )
        try:
            with self._neighbours.watch(lambda _: invocation.wake()):
                while reply := await self._next(choice, invocation, good_for):
                    if invocation.results.get(reply.device) is reply.message:
                        choice.finished(invocation.results[reply.device], monotonic())
        finally:
            self._invoker.forget(invocation)
        return self._outcome(choice, invocation, wait)

    async def _next(self, choice: AnyMember, invocation: Invocation, good_for: float) -> Reply | None:
        """The next answer, sending to another member where that is due; None when there is none left to wait for."""
        while True:
            if (come := await invocation.next(0)) is not None:
                return come
            if (member := choice.next(monotonic())) is not None:
                self._invoker.send(invocation, (member,), expires_in=good_for)
            left = choice.left(monotonic())
            reply = await invocation.next(left)
            if reply is not None or left <= 0:
                return reply

    def _outcome(self, choice: AnyMember, invocation: Invocation, wait: float) -> Result:
        (device,) = choice.counted()
        if result := invocation.results.get(device):
            return result
        if device in invocation.refused:
            raise invocation.refused[device]
        status = Status.RUNNING if device in invocation.accepted else Status.QUEUED
        raise self._no_answer(device, invocation.command, wait, status)

    def _no_answer(self, device: str, command: str, wait: float, status: Status) -> NoAnswer:
        state = self._neighbours.states.get(device)
        where = f", and the device is {state.status}" if state else ""
        words = f"{device} gave no final answer to {command} within {wait:g} s; it is {status}{where}"
        return NoAnswer(words, device=device, status=status)

    async def _open(self) -> None:
        """Subscribe to answers, before the first call."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._invoker.open(), name=f"answers to {self._device}")
            self._opening.add_done_callback(_seen)
        try:
            await asyncio.shield(self._opening)
        except Exception:
            self._opening = None  # refused: the next call tries again
            raise

    def _is_away(self, device: str) -> bool:
        """Whether a device is known not to be there; of one that was never seen nothing is known."""
        return device in self._neighbours.states and not is_there(device, self._neighbours.states)

    def _ended(self) -> BrokerUnreachable:
        return BrokerUnreachable(f"{self._device} has ended, and with it its calls; what they asked for may still run")

    @contextlib.asynccontextmanager
    async def _found_within(self, wait: float) -> AsyncGenerator[None]:
        """Bound the time in which whoever is called must be found."""
        try:
            async with asyncio.timeout(wait):
                yield
        except TimeoutError:
            raise BrokerUnreachable(
                f"the broker did not tell {self._device} within {wait:g} s whom to call; nothing was sent"
            ) from None


def _seen(task: asyncio.Task[None]) -> None:
    """Whoever waits for it sees its exception; where nobody does any more, asyncio would print it."""
    if not task.cancelled():
        task.exception()
