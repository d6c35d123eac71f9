"""One command many times over the devices of a target, each time with other arguments: the calls of a `Spread`."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from outrider.schema import CommandAbout, OutriderError, Result, State, UnknownTarget

from .descriptions import ABOUT_WAIT
from .dispatch import Dispatch
from .fleet import Fleet
from .spread import Again, Ran, Spread, ran
from .targets import parse

RETURN: Final = 10.0
"""Seconds in which a device that was lost in the middle may come back and tell how the call ended."""

PARALLEL: Final = 4
"""Calls that a device gets at once, unless it runs fewer: enough that it need not wait for the next one."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One call's end.

    :ivar number: which one, from 0.
    :ivar result: what came of it the last time; None where it was never sent.
    :ivar attempts: how often it was made.
    """

    number: int
    result: Result | None
    attempts: int


class Spreading:
    """Calls of one command, each on one ready device of a target.

    Devices may come and go meanwhile. When none of them has taken a call for `wait` seconds, the rest is given up.

    :param arguments: of each call, by its number.
    :param succeeded: whether an answer is what was wanted.
    :param ended: called with the end of each call, in the order in which they end.
    :param parallel: calls that a device gets at once, unless it says that it runs fewer; `PARALLEL` without it.
    :param timeout: seconds that a call may run.
    :param expires: seconds in which a device may still begin it.
    :param wait: seconds without a device that takes a call after which none is waited for.
    :ivar stopped: whether `stop` was called, or a call could not be sent.
    """

    def __init__(
        self,
        fleet: Fleet,
        target: str,
        command: str,
        arguments: Callable[[int], dict[str, object]],
        count: int,
        *,
        succeeded: Callable[[Result], bool],
        ended: Callable[[Ended], None],
        again: Again,
        parallel: int | None = None,
        timeout: float | None = None,
        expires: float | None = None,
        wait: float = 30.0,
    ) -> None:
        self._fleet = fleet
        self._target = target
        self._parsed = parse(target)
        self._command = command
        self._arguments = arguments
        self._succeeded = succeeded
        self._tell = ended
        self._parallel = parallel
        self._timeout = timeout
        self._expires = expires
        self._wait = wait
        self._spread = Spread(count, again, self._room)
        self._again = again
        self._abouts: Mapping[str, CommandAbout | None] = {}
        self._running: dict[int, Dispatch] = {}
        self._cancelled: list[Dispatch] = []
        """Held on to, so that their cancels are repeated."""
        self._last: dict[int, Result] = {}
        """What came of calls that are to be made again."""
        self._changed = asyncio.Event()
        self._failure: OutriderError | None = None
        self._idle_since = time.monotonic()
        self.stopped = False

    @property
    def running(self) -> Mapping[int, Dispatch]:
        """The calls that devices have, by their numbers."""
        return self._running

    @property
    def repeats(self) -> int:
        """How many calls were made again."""
        return self._spread.repeats

    async def run(self) -> None:
        """Make all calls; returns when each has ended.

        :raises OutriderError: a call could not be sent, or `ended` raised it; those that ran have been cancelled.
        """
        self._idle_since = time.monotonic()
        with self._fleet.roster.watch(self._look_again):
            async with asyncio.TaskGroup() as tasks:
                while not self._spread.over:
                    self._changed.clear()
                    if self._failure is not None and not self.stopped:
                        self.stop()
                    ready = await self._ready()
                    while not self.stopped and (call := self._spread.next(ready, time.monotonic())) is not None:
                        tasks.create_task(self._call(*call), name=f"call {call[0]}")
                    now = time.monotonic()
                    if not self._spread.under_way and now - self._idle_since >= self._wait:
                        self._give_up()
                    await self._change(self._spread.pause(now), self._idle_since + self._wait - now)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Make no more calls, and cancel those that devices have; their ends still come."""
        self.stopped = True
        self._give_up()
        for dispatch in self._running.values():
            dispatch.cancel()

    def _give_up(self) -> None:
        for number in self._spread.give_up():
            self._say_ended(Ended(number, self._last.pop(number, None), self._spread.attempts(number)))
        self._changed.set()

    def _say_ended(self, ended: Ended) -> None:
        try:
            self._tell(ended)
        except OutriderError as error:
            self._failure = self._failure or error

    async def _change(self, pause: float | None, idle: float) -> None:
        """Wait for something new; without calls under way for the end of the wait at most."""
        waits = [each for each in (pause, None if self._spread.under_way else idle) if each is not None]
        try:
            async with asyncio.timeout(max(min(waits), 0.0) if waits else None):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _ready(self) -> list[str]:
        """The devices that may get a call now."""
        states = self._fleet.roster.states
        try:
            devices = self._fleet.resolve(self._parsed).devices
            ready = [device for device in devices if (state := states.get(device)) and state.status == "ready"]
            new = [device for device in ready if device not in self._abouts]
            abouts = await self._fleet.abouts(new, wait=ABOUT_WAIT) if new else {}
        except UnknownTarget:  # all have left; others may come
            return []
        if new:
            told = {device: about.commands.get(self._command) for device, about in abouts.items()}
            self._abouts = {**self._abouts, **dict.fromkeys(new), **told}
        return ready

    def _room(self, device: str) -> int:
        about = self._abouts.get(device)
        most = self._parallel or PARALLEL
        return most if about is None or about.max_parallel is None else min(most, about.max_parallel)

    async def _call(self, number: int, device: str) -> None:
        try:
            if self.stopped:  # since it was decided
                self._spread.drop(number, device)
                self._say_ended(Ended(number, self._last.pop(number, None), self._spread.attempts(number) - 1))
                return
            dispatch = self._fleet.dispatch(
                device,
                self._command,
                self._arguments(number),
                wait=math.inf,
                timeout=self._timeout,
                expires=self._expires,
            )
            self._running[number] = dispatch
            async for _ in dispatch:
                pass
            result = await self._final(dispatch, device)
        except OutriderError as error:
            self._failure = self._failure or error
            self._running.pop(number, None)
            self._spread.drop(number, device)
            return
        else:
            del self._running[number]
            self._take(number, result, dispatch)
        finally:
            self._idle_since = time.monotonic()
            self._changed.set()

    def _take(self, number: int, result: Result, dispatch: Dispatch) -> None:
        attempts = self._spread.attempts(number)
        if self._spread.ended(number, result, time.monotonic(), succeeded=self._succeeded(result)):
            self._last.pop(number, None)
            self._say_ended(Ended(number, result, attempts))
            return
        self._last[number] = result
        if ran(result) is Ran.PERHAPS and not result.status.final:  # it runs elsewhere now
            dispatch.cancel()
            self._cancelled.append(dispatch)

    async def _final(self, dispatch: Dispatch, device: str) -> Result:
        """The device's final answer; where it was lost, what it says should it come back soon."""
        result = dispatch.outcomes[device]
        if not result.status.final and dispatch.addressed and not self.stopped:
            try:
                async with asyncio.timeout(RETURN), aclosing(dispatch.late()) as late:
                    async for reply in late:
                        if isinstance(reply.message, Result):
                            return reply.message
            except TimeoutError:
                return dispatch.standing(device)
        dispatch.let_go()
        return result

    def _look_again(self, state: State) -> None:
        self._changed.set()
