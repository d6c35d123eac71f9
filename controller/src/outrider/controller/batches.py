"""A rollout on its way through a dispatch: what `Rollout` decides, done with what an invocation and the states tell."""

from collections.abc import Callable, Sequence

from outrider.device import Invocation
from outrider.schema import Result, Status

from .course import LOOK_AGAIN, States, Step, is_there
from .rollout import Decision, Rollout


class InBatches:
    """The devices of a target one batch after the other.

    :param devices: all devices of the target, those that nothing is sent to among them.
    :param connected: whether the broker is there. While it is not, no device can be heard, and none is judged by it.
    """

    def __init__(
        self,
        rollout: Rollout,
        devices: Sequence[str],
        invocation: Invocation,
        states: States,
        connected: Callable[[], bool],
    ) -> None:
        self.rollout = rollout
        self._devices = devices
        self._invocation = invocation
        self._states = states
        self._connected = connected
        self._decision = Decision()
        self._unheard_since: float | None = None

    def step(self, now: float) -> Step:
        """The next batch, where it is time; whom to cancel after an abort."""
        if not self._connected():
            self._unheard_since = now if self._unheard_since is None else self._unheard_since
            self._decision = Decision()
            return Step()
        if self._unheard_since is not None:
            self.rollout.postpone(now - self._unheard_since)
            self._unheard_since = None
        for device in self._invocation.accepted:
            self.rollout.accepted(device)
        for device in self._invocation.refused:
            self.rollout.finished(device, Status.REJECTED)
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
