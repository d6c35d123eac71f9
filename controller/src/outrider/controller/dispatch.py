"""One command on its way to a target, until every device of the target has an outcome."""

import math
import time
from collections.abc import AsyncIterator
from typing import TypeVar, overload

from msgspec import UnsetType, json

from outrider.device import DEFAULT_WAIT, Invocation, Invoker, Reply
from outrider.schema import Error, Result, Status

from .roster import Roster
from .targets import Targets

T = TypeVar("T")

LOOK_AGAIN = 5.0
"""Seconds after which waiting without a limit looks again at whether anything may still come."""


class Dispatch:
    """One command sent to a target. Iterate it for everything that comes back.

    It yields each `Reply` as it comes, ends when every device of the target has an outcome, and then has exactly one
    outcome for each in `outcomes`: the device's own final answer, or the requester's word for it.

    :ivar id: the command's id.
    :ivar targets: what the target stood for when the command was sent.
    :ivar outcomes: by device, in the order of the target.
    """

    def __init__(
        self, invocation: Invocation, targets: Targets, roster: Roster, invoker: Invoker, wait: float | None
    ) -> None:
        self.id = invocation.id
        self.targets = targets
        self.outcomes: dict[str, Result] = {}
        self._invocation = invocation
        self._roster = roster
        self._invoker = invoker
        self._patient = wait is not None and wait != math.inf
        self._wait = DEFAULT_WAIT if wait is None else wait
        self._taken_by = time.monotonic() + expires_in(wait)

    async def __aiter__(self) -> AsyncIterator[Reply]:
        deadline = time.monotonic() + self._wait
        try:
            with self._roster.watch(lambda state: self._invocation.wake()):
                while (reply := await self._next(deadline)) is not None:
                    yield reply
            for device in self.targets.devices:
                result = self._invocation.results.get(device)
                self.outcomes[device] = result or self._unanswered(device)
                if result is None:
                    yield Reply(device, self.outcomes[device])
        finally:
            if self._wait != math.inf:
                self._invoker.forget(self._invocation)

    async def late(self) -> AsyncIterator[Reply]:
        """Final answers that come after all and replace the outcomes `queued` and `running`, until all have come.

        For a dispatch whose `wait` is `math.inf`, iterated to its end before; cancel it to wait no more.
        """
        try:
            while self._invocation.missing:
                reply = await self._invocation.next(LOOK_AGAIN)
                if reply is None or not isinstance(reply.message, Result):
                    continue
                known = self.outcomes.get(reply.device)
                if known is not None and not known.status.final:
                    self.outcomes[reply.device] = reply.message
                    yield reply
        finally:
            self._invoker.forget(self._invocation)

    async def _next(self, deadline: float) -> Reply | None:
        """The next reply; None when there is none left to wait for."""
        while True:
            left = deadline - time.monotonic() if self._waiting() else 0.0
            reply = await self._invocation.next(min(left, LOOK_AGAIN))
            if reply is not None or left <= 0:
                return reply

    def _waiting(self) -> bool:
        """Whether an answer may still come soon: not when all that are missing are known to be away."""
        missing = self._invocation.missing
        if self._patient:
            return bool(missing)
        # Who has not taken it by the end of its expiry will not any more.
        takes = time.monotonic() < self._taken_by
        accepted = self._invocation.accepted
        return any(self._is_there(device) and (takes or device in accepted) for device in missing)

    def _is_there(self, device: str) -> bool:
        state = self._roster.states.get(device)
        return state is not None and state.status in ("ready", "unready")

    def _unanswered(self, device: str) -> Result:
        state = self._roster.states.get(device)
        where = state.status if state else "unknown"
        if device in self.targets.gone:
            status, words = Status.OFFLINE, "terminated: nothing was sent to it"
        elif device in self._invocation.accepted:
            status, words = Status.RUNNING, f"accepted, no final answer yet; the device is {where}"
            if where == "lost":
                words = "it was running when the device was lost; whether it finished is not known"
        elif not self._invocation.acknowledged(device):
            words = f"the broker has not acknowledged it; the device is {where}; it may still run"
            status = Status.QUEUED
        else:
            status, words = Status.QUEUED, f"sent, not taken yet; the device is {where}; it may still run"
        error = Error("", words)
        return Result(id=self.id, device=device, command=self._invocation.command, status=status, error=error)


def expires_in(wait: float | None) -> float:
    """Seconds a command stays good for a device that has not taken it yet."""
    return DEFAULT_WAIT if wait is None or wait == math.inf else wait


@overload
def value_of(result: Result) -> object: ...


@overload
def value_of(result: Result, type: type[T]) -> T: ...


def value_of(result: Result, type: type[object] = object) -> object:
    """The value of a `done` result, None for any other.

    :param type: what to decode it as.
    :raises msgspec.ValidationError: it is of another type.
    """
    if isinstance(result.value, UnsetType):
        return None
    return json.decode(result.value, type=type)
