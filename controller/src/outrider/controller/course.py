"""Whom a command is sent to when: all at once, or one member of a pool after the other. Rollouts are in `batches`.

A course decides and is told what came of it; `Dispatch` does the sending and waiting. Times are monotonic seconds.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from outrider.device import Invocation
from outrider.device.patience import LOOK_AGAIN, Patience, States, is_there
from outrider.device.pool import AnyMember
from outrider.schema import Result

__all__ = ["LOOK_AGAIN", "AnyOf", "AtOnce", "Course", "Patience", "States", "Step", "is_there"]


class Step(NamedTuple):
    """What to do now: send to these devices, at once through their group where there is one; cancel it on those."""

    send: Sequence[str] = ()
    group: str | None = None
    cancel: Sequence[str] = ()


class Course(Protocol):
    """Decides whom to address when, and how long to wait."""

    def step(self, now: float) -> Step:
        """What to do now. Ask again after each answer and change of a state, and after `left` seconds."""
        ...

    def left(self, now: float) -> float:
        """Seconds to wait for the next answer at most; 0 when nothing more is waited for."""
        ...

    def finished(self, result: Result, now: float) -> bool:
        """Note a final answer; False where it is not the outcome, because another device is asked instead."""
        ...

    def stop(self) -> None:
        """Address nobody any more."""
        ...

    def counted(self) -> Sequence[str]:
        """The devices that have an outcome at the end, in order."""
        ...


class AtOnce:
    """All devices of a target together.

    :param left_out: those of the devices that nothing is sent to.
    """

    def __init__(
        self,
        devices: Sequence[str],
        group: str | None,
        invocation: Invocation,
        states: States,
        patience: Patience,
        *,
        left_out: Collection[str] = (),
    ) -> None:
        self._devices = devices
        self._to_send = [device for device in devices if device not in left_out]
        self._group = group
        self._invocation = invocation
        self._states = states
        self._patience = patience

    def step(self, now: float) -> Step:
        """Everything in the first step."""
        send, self._to_send = self._to_send, []
        return Step(send, self._group if send else None)

    def left(self, now: float) -> float:
        """Until the wait is over, or all that may answer have."""
        return self._patience.left(tuple(self._invocation.missing), self._invocation, self._states, now)

    def finished(self, result: Result, now: float) -> bool:
        """Every answer is an outcome."""
        return True

    def stop(self) -> None:
        """All were addressed in the first step."""
        self._to_send = []

    def counted(self) -> Sequence[str]:
        """All devices of the target."""
        return self._devices


class AnyOf(AnyMember):
    """One ready member of a pool, and another one when the first did not run it, or may run it again."""

    def step(self, now: float) -> Step:
        """The next member, where one is to be asked."""
        member = self.next(now)
        return Step() if member is None else Step((member,))
