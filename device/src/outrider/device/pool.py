"""Any one of a pool: which member is asked, and whether another one is. Pure: time and chance come as arguments."""

import random
from collections.abc import Callable, Sequence
from typing import Final

from outrider.schema import Code, NoMember, Result, Status

from .invocation import Invocation, has_forgotten
from .patience import LOOK_AGAIN, Patience, States, is_there

SILENT: Final = 5.0
"""Seconds after which an idempotent command to a pool goes to another member too, where the first did not take it."""

TRIED_ELSEWHERE: Final = frozenset(
    {Code.BUSY, Code.NOT_READY, Code.UNKNOWN_COMMAND, Code.UNSUPPORTED, Code.UNAUTHORIZED}
)
"""Rejections that another member of a pool may not share: the command never started, and nothing is wrong with it."""


class AnyMember:
    """One ready member of a pool, and another one when the first did not run the command, or may run it again.

    :param members: the devices of the pool.
    :param load: how many commands of this side a device has not ended.
    :param idempotent: whether the command may run on a second member when nothing is known of the first.
    :raises NoMember: none of them is ready.
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

    def next(self, now: float) -> str | None:
        """The member that is to be asked now, where one is. Ask again after each answer, and after `left` seconds."""
        if self._ended():
            return None
        if self._next is None and self._tried and self._idempotent and self._silent(now):
            self._next = self._pick()
        if self._next is None:
            return None
        member, self._next, self._since = self._next, None, now
        self._tried.append(member)
        return member

    def left(self, now: float) -> float:
        """Seconds until one has answered, or none of those asked will."""
        if self._ended():
            return 0.0
        if self._next is not None:
            return LOOK_AGAIN
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

    def _ended(self) -> bool:
        return any(self._is_outcome(result) for result in self._invocation.results.values())

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


def no_member(pool: str, states: States, hint: str = "") -> NoMember:
    """The error for a pool without a ready member; says how its members are.

    :param hint: what to add where the pool has none.
    """
    counts: dict[str, int] = {}
    for state in states.values():
        if pool in state.pools:
            counts[state.status] = counts.get(state.status, 0) + 1
    said = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    nobody = f": no device is in this pool{hint}"
    message = f"no member of any:{pool} is ready{f' (members: {said})' if said else nobody}"
    return NoMember(message, pool=pool, members=sum(counts.values()))
