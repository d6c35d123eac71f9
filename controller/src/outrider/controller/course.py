"""Whom a command is sent to when: all at once, or one member of a pool after the other. Rollouts are in `batches`.

A course decides and is told what came of it; `Dispatch` does the sending and waiting. Times are monotonic seconds.
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from outrider.device import Invocation
from outrider.device.invocation import has_forgotten
from outrider.schema import Code, Result, State, Status

from .targets import no_member

LOOK_AGAIN: Final = 5.0
"""Seconds after which whoever waits looks again at whether anything may still come."""

SILENT: Final = 5.0
"""Seconds after which an idempotent command to a pool goes to another member too, where the first did not take it."""

TRIED_ELSEWHERE: Final = frozenset(
    {Code.BUSY, Code.NOT_READY, Code.UNKNOWN_COMMAND, Code.UNSUPPORTED, Code.UNAUTHORIZED}
)
"""Rejections that another member of a pool may not share: the command never started, and nothing is wrong with it."""

States = Mapping[str, State]


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


class Patience(NamedTuple):
    """How long answers are waited for.

    :ivar until: when the wait is over.
    :ivar lost_too: wait for devices that are away as well.
    :ivar taken_by: when a device that has not taken the command will not any more.
    """

    until: float
    lost_too: bool
    taken_by: float

    def covers(self, device: str, invocation: Invocation, states: States, now: float) -> bool:
        """Whether this device's answer is still worth waiting for."""
        if device not in invocation.missing or now >= self.until:
            return False
        return self.lost_too or (is_there(device, states) and (now < self.taken_by or device in invocation.accepted))

    def left(self, devices: Sequence[str], invocation: Invocation, states: States, now: float) -> float:
        """Seconds until the end of the wait, or until to look again; 0 when no device's answer is waited for."""
        if not any(self.covers(device, invocation, states, now) for device in devices):
            return 0.0
        return max(0.0, min(self.until - now, LOOK_AGAIN))


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


class AnyOf:
    """One ready member of a pool, and another one when the first did not run it, or may run it again.

    :param load: how many commands of this side a device has not ended.
    :param idempotent: whether the command may run on a second member when nothing is known of the first.
    """

    def __init__(
        self,
        pool: str,
        members: Sequence[str],
        invocation: Invocation,
        states: States,
        patience: Patience,
        *,
        load: Callable[[str], int],
        idempotent: bool,
        chance: random.Random,
    ) -> None:
        self._members = members
        self._invocation = invocation
        self._states = states
        self._patience = patience
        self._load = load
        self._idempotent = idempotent
        self._chance = chance
        self._tried: list[str] = []
        self._since = 0.0
        self._next = self._pick()
        if self._next is None:
            raise no_member(pool, states)

    def step(self, now: float) -> Step:
        """The next member, where one is to be asked."""
        if self._next is None and self._tried and self._idempotent and self._silent(now):
            self._next = self._pick()
        if self._next is None:
            return Step()
        member, self._next, self._since = self._next, None, now
        self._tried.append(member)
        return Step((member,))

    def left(self, now: float) -> float:
        """Until one has answered, or none of those asked will."""
        if self._next is not None:
            return LOOK_AGAIN
        if any(self._is_outcome(result) for result in self._invocation.results.values()):
            return 0.0
        return self._patience.left(self._tried, self._invocation, self._states, now)

    def finished(self, result: Result, now: float) -> bool:
        """An answer is the outcome unless it says that the command did not start there and another member is ready."""
        if self._is_outcome(result):
            return True
        if result.device == self._tried[-1]:
            self._next = self._pick()
        return self._next is None and not self._invocation.missing

    def stop(self) -> None:
        """Ask no other member."""
        self._next = None
        self._idempotent = False
        self._members = ()

    def counted(self) -> Sequence[str]:
        """The one member that gave the outcome, or was asked last."""
        results = self._invocation.results
        for device in self._tried:
            if device in results and self._is_outcome(results[device]):
                return (device,)
        return self._tried[-1:]

    def _pick(self) -> str | None:
        ready = [each for each in self._members if each not in self._tried and self._ready(each)]
        if not ready:
            return None
        loads = {each: self._load(each) for each in ready}
        least = min(loads.values())
        return self._chance.choice([each for each in ready if loads[each] == least])

    def _ready(self, device: str) -> bool:
        state = self._states.get(device)
        return state is not None and state.status == "ready"

    def _silent(self, now: float) -> bool:
        """Whether the member that was asked last may never answer."""
        if self._tried[-1] in self._invocation.refused or not is_there(self._tried[-1], self._states):
            return True
        return self._tried[-1] not in self._invocation.accepted and now - self._since >= SILENT

    def _is_outcome(self, result: Result) -> bool:
        match result.status:
            case Status.REJECTED:
                return result.error is None or result.error.code not in TRIED_ELSEWHERE
            case Status.EXPIRED:  # one that knows nothing of it may have run it, and have forgotten that
                return has_forgotten(result) and not self._idempotent
            case Status.INTERRUPTED:
                return not self._idempotent
            case _:
                return True


def is_there(device: str, states: States) -> bool:
    """Whether a device is connected, as far as its state tells."""
    state = states.get(device)
    return state is not None and state.status in ("ready", "unready")
