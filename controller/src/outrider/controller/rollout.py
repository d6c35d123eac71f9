"""A rollout's decisions: whom to address now, and whether to stop. Pure: time and what is known come as arguments.

A batch is over when each of its devices is settled: it has given its final answer, or it is away, or it has said
nothing for `settle` seconds. One that works is waited for (at most `working` seconds), since a canary that has not
ended proves nothing. A device that is away is addressed too, for when it is back, but takes no place in the batch: the
next one that is there does, since a canary that is away proves nothing either. So no offline or silent device holds up
the others.

A device is judged:

- failed: a final answer other than `done`; no word at all within `settle`; not ended within `working`; lost after it
  was addressed.
- good: `done`.
- not judged: away when it was addressed; still at work; `cancelled` after nothing more is sent.

A final answer that comes after that replaces the verdict.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from outrider.schema import Status

from .plan import MINIMUM, Plan


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
        self._addressed: dict[str, None] = {}
        self._begun = 0.0
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
    def settled(self) -> tuple[str, ...]:
        """The devices addressed that are not waited for any more; those away among them."""
        return tuple(device for device in self._addressed if device not in self._unsettled)

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
            self._unsettled.pop(device, None)
            if self.aborted is None or status is not Status.CANCELLED:  # cancelled by the abort: not the device's fault
                self._verdict(device, status is not Status.DONE)

    def postpone(self, seconds: float) -> None:
        """Give the present batch more time: for so long no device could be heard, as while the broker was gone."""
        self._begun += seconds

    def stop(self, why: str = "it was cancelled") -> None:
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
        silence_counts, work_counts = now >= self._end_of_silence(), now >= self._end_of_work()
        overdue = [
            device
            for device in self._unsettled
            if away(device) or work_counts or (silence_counts and device not in self._accepted)
        ]
        for device in overdue:
            del self._unsettled[device]
            self._verdict(device, True)

    def _end_of_silence(self) -> float:
        return self._begun + self.plan.settle

    def _end_of_work(self) -> float:
        return self._begun + max(self.plan.settle, self.plan.working)

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
        # Rounded, so that what is exactly the threshold is not below it by a binary fraction.
        elif self._enough() and self.failures * 100 >= round(threshold.amount * self.judged, 6):
            self.aborted = f"{self.failures} of {self.judged} failed, {self.failures * 100 / self.judged:.3g}%"
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

    def _begin_batch(self, now: float, away: Callable[[str], bool]) -> Sequence[str]:
        size, first = self.plan.size(self.batch, len(self._targets)), len(self._addressed)
        while len(self._unsettled) < size and not self._all_addressed():
            device = self._targets[len(self._addressed)]
            self._addressed[device] = None
            if not away(device):
                self._unsettled[device] = None
        self.batch += 1
        self._begun = now
        self._next_batch = None
        return self._targets[first : len(self._addressed)]

    def _cancel(self) -> tuple[str, ...]:
        if not self._to_cancel:
            return ()
        self._to_cancel = False
        return tuple(device for device in self._addressed if device not in self._final)

    def _wake(self) -> float | None:
        if self._unsettled:
            return self._end_of_work() if self._unsettled.keys() <= self._accepted else self._end_of_silence()
        return None if self.aborted is not None else self._next_batch

    def _all_addressed(self) -> bool:
        return len(self._addressed) == len(self._targets)

    def _over(self) -> bool:
        return not self._unsettled and (self.aborted is not None or self._all_addressed())
