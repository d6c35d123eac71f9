"""How far a device's clock is from the clocks of those who ask it, as far as their commands tell."""

from collections import deque
from typing import Final

SEEN: Final = 20
"""Commands that the estimate is made of."""

ENOUGH: Final = 3
"""Commands that must have come before a clock is said to be ahead; one alone may merely have been slow."""


class Skew:
    """Compares the time at which commands were issued with the time at which they came.

    What takes its time on the way makes a clock look ahead, never behind, so the smallest difference is the best.

    :param tolerance: seconds that clocks may differ.
    """

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._seen: deque[float] = deque(maxlen=SEEN)

    def observe(self, issued: float | None, now: float, *, waited: bool = False) -> None:
        """A command came at `now`. Both are Unix seconds, by the two clocks.

        :param waited: it may have lain at the broker, so that it cannot tell that the device's clock is ahead.
        """
        if issued is not None and not (waited and issued <= now):
            self._seen.append(now - issued)

    @property
    def ahead(self) -> float | None:
        """Seconds that the device's clock is ahead of the requesters', below 0 behind; None while that is not known."""
        behind = [seconds for seconds in self._seen if seconds < -self._tolerance]
        if behind:
            return min(behind)
        return min(self._seen) if len(self._seen) >= ENOUGH else None

    @property
    def words(self) -> str:
        """What is wrong with the device's clock, empty if nothing is known to be."""
        ahead = self.ahead
        if ahead is None or abs(ahead) <= self._tolerance:
            return ""
        return f"{rough(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the clocks of who asks"


def rough(seconds: float) -> str:
    """A length of time for people, as `90 s`, `5 h` or `3 days`: whole units, at least two of them."""
    for length, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
