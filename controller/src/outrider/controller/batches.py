"""A rollout on its way through a dispatch: what `Rollout` decides, done with what an invocation and the states tell."""

from collections.abc import Sequence

from outrider.device import Invocation
from outrider.schema import Result

from .course import LOOK_AGAIN, States, Step, is_there
from .rollout import Decision, Rollout


class InBatches:
    """The devices of a target one batch after the other.

    :param devices: all devices of the target, those that nothing is sent to among them.
    """

    def __init__(self, rollout: Rollout, devices: Sequence[str], invocation: Invocation, states: States) -> None:
        self.rollout = rollout
        self._devices = devices
        self._invocation = invocation
        self._states = states
        self._decision = Decision()

    def step(self, now: float) -> Step:
        """The next batch, where it is time; whom to cancel after an abort."""
        for device in self._invocation.accepted:
            self.rollout.accepted(device)
        self._decision = self.rollout.decide(now, lambda device: not is_there(device, self._states))
        return Step(self._decision.send, None, self._decision.cancel)

    def left(self, now: float) -> float:
        """Until to decide again; 0 when the rollout is over."""
        if self._decision.over:
            return 0.0
        wake = now + LOOK_AGAIN if self._decision.wake is None else self._decision.wake
        return min(max(wake - now, 0.001), LOOK_AGAIN)

    def finished(self, result: Result, now: float) -> bool:
        """Every answer is an outcome."""
        self.rollout.finished(result.device, result.status)
        return True

    def stop(self) -> None:
        """Begin no other batch."""
        self.rollout.stop()

    def counted(self) -> Sequence[str]:
        """All devices of the target."""
        return self._devices
