"""How long answers are worth waiting for, by what is known of who should give them. Pure: time comes as an argument."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from outrider.schema import State

from .invocation import Invocation

LOOK_AGAIN: Final = 5.0
"""Seconds after which whoever waits looks again at whether anything may still come."""

States = Mapping[str, State]


class Patience(NamedTuple):
    """How long answers are waited for. Times are monotonic seconds.

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


def is_there(device: str, states: States) -> bool:
    """Whether a device is connected, as far as its state tells."""
    state = states.get(device)
    return state is not None and state.status in ("ready", "unready")
