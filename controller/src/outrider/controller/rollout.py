"""A rollout's decisions: whom to address now, and whether to stop. Pure: time and what is known come as arguments.

A batch is over when each of its devices is settled: it has given its final answer, or it is away, or `settle` seconds
have gone by. So no offline or silent device holds up the others. A device is judged, once:

- failed: a final answer other than `done`; no word at all within `settle`; lost after it was addressed.
- good: `done`.
- not judged: away when it was addressed, or still running after `settle`. A final answer that comes later is judged.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from outrider.schema import Status

from .plan import MINIMUM, Plan

_DONE: Final = Status.DONE


class Decision(NamedTuple):
    """What to do now.

    :ivar send: address these devices.
    :ivar cancel: tell these to cancel it.
    :ivar wake: when to ask again, if nothing happens before; None: only when something happens.
    :ivar over: nothing more will be sent, and no device is waited for.
    """

    send: tuple[str, ...] = ()
    cancel: tuple[str, ...] = ()
    wake: float | None = None
    over: bool = False


class Rollout:
    """One rollout on its way.

    :param targets: the devices, in the order in which they are addressed.
    :ivar aborted: why nothing more is sent; None as long as it goes on.
    :ivar batch: how many batches have begun.
    """

    def __init__(self, plan: Plan, targets: Sequence[str]) -> None:
        self.plan = plan
        self.aborted: str | None = None
        self.batch = 0
        self._targets = tuple(dict.fromkeys(targets))
        self._addressed: dict[str, float] = {}
        self._accepted: set[str] = set()
        self._unsettled: dict[str, None] = {}
        self._failed: dict[str, bool] = {}
        self._failures = 0
        self._final: set[str] = set()
        self._next_batch: float | None = None
        self._to_cancel = False

    @property
    def addressed(self) -> tuple[str, ...]:
        """The devices addressed so far."""
        return tuple(self._addressed)

    @property
    def never_addressed(self) -> tuple[str, ...]:
        """The devices that have not been addressed."""
        return self._targets[len(self._addressed) :]

    @property
    def in_flight(self) -> tuple[str, ...]:
        """The devices of the present batch that are waited for."""
        return tuple(self._unsettled)

    @property
    def failures(self) -> int:
        """How many devices are judged as failed."""
        return self._failures

    @property
    def judged(self) -> int:
        """How many devices are judged."""
        return len(self._failed)

    @property
    def failed_devices(self) -> tuple[str, ...]:
        """The devices judged as failed."""
        return tuple(device for device, failed in self._failed.items() if failed)

    def accepted(self, device: str) -> None:
        """Note that a device has taken the command."""
        if device in self._addressed:
            self._accepted.add(device)

    def finished(self, device: str, status: Status) -> None:
        """Note a device's final answer; of one that was not addressed, or has given one, nothing is taken."""
        if device in self._addressed and device not in self._final and status.final:
            self._final.add(device)
            self._verdict(device, status is not _DONE)
            self._unsettled.pop(device, None)

    def stop(self, why: str = "stopped") -> None:
        """Send nothing more."""
        if self.aborted is None:
            self.aborted = why

    def decide(self, now: float, away: Callable[[str], bool]) -> Decision:
        """What to do now. Ask after each answer, when a device comes or goes, and at `wake`.

        :param now: seconds of a clock that never goes back.
        :param away: whether a device is known not to be connected.
        """
        send: list[str] = []
        while True:
            self._settle(now, away)
            self._judge()
            if self.aborted is not None or not self._due(now):
                break
            send += self._begin_batch(now, away)
        return Decision(tuple(send), self._cancel(), self._wake(), self._over())

    def _settle(self, now: float, away: Callable[[str], bool]) -> None:
        for device in tuple(self._unsettled):
            silent = device not in self._accepted
            late = now >= self._addressed[device] + self.plan.settle
            if away(device) or (late and silent):
                self._verdict(device, True)
            if away(device) or late:
                del self._unsettled[device]

    def _verdict(self, device: str, failed: bool) -> None:
        self._failures += failed - self._failed.get(device, False)
        self._failed[device] = failed

    def _judge(self) -> None:
        threshold = self.plan.abort_after
        if self.aborted is not None or threshold is None or not self.failures:
            return
        if not threshold.percent:
            if self.failures >= threshold.amount:
                self.aborted = f"{self.failures} of {self.judged} failed"
        elif self._enough() and self.failures * 100 >= threshold.amount * self.judged:
            self.aborted = f"{self.failures} of {self.judged} failed, {self.failures / self.judged:.0%}"
        self._to_cancel = self.aborted is not None and self.plan.cancel

    def _enough(self) -> bool:
        """Whether so many are judged that a percentage says something."""
        if self.plan.minimum is not None:
            return self.judged >= self.plan.minimum
        return self.judged >= MINIMUM or not self._unsettled

    def _due(self, now: float) -> bool:
        """Whether the next batch may begin."""
        if self._unsettled or self._all_addressed():
            return False
        if self.batch == 0:
            return True
        if self._next_batch is None:
            self._next_batch = now + self.plan.pause
        return now >= self._next_batch

    def _begin_batch(self, now: float, away: Callable[[str], bool]) -> Iterable[str]:
        batch = self.never_addressed[: self.plan.size(self.batch, len(self._targets))]
        self.batch += 1
        self._next_batch = None
        for device in batch:
            self._addressed[device] = now
            if not away(device):
                self._unsettled[device] = None
        return batch

    def _cancel(self) -> tuple[str, ...]:
        if not self._to_cancel:
            return ()
        self._to_cancel = False
        return tuple(device for device in self._addressed if device not in self._final)

    def _wake(self) -> float | None:
        if self._unsettled:
            return min(self._addressed[device] for device in self._unsettled) + self.plan.settle
        return None if self.aborted is not None else self._next_batch

    def _all_addressed(self) -> bool:
        return len(self._addressed) == len(self._targets)

    def _over(self) -> bool:
        return not self._unsettled and (self.aborted is not None or self._all_addressed())
