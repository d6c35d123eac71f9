"""How to try again: which MQTT version first, and how long to wait before. Decisions only, no I/O."""

from .client import MQTT_3_1_1, MQTT_5


class VersionChoice:
    """Which MQTT version to try first: 5, or 3.1.1 once the broker has shown that it knows no other.

    Silence proves less than words: a broker that crashes, or a proxy before one that is down, hangs up too. So it
    takes two silent fallbacks in a row, and after three failures of 3.1.1 alone 5 gets its chance again.
    """

    def __init__(self) -> None:
        self.first = MQTT_5
        self._silences = 0
        self._failures = 0

    def accepted(self, version: int) -> None:
        """The version tried first was accepted."""
        self._failures = 0
        if version == MQTT_5:
            self._silences = 0

    def fell_back(self, *, said_so: bool) -> None:
        """3.1.1 was accepted after 5 was not; `said_so` if the broker gave the version as the reason."""
        self._silences += 1
        self._failures = 0
        if said_so or self._silences >= 2:
            self.first = MQTT_3_1_1

    def failed(self) -> None:
        """The version tried first failed, for reasons of its own."""
        self._failures += 1
        if self._failures >= 3:
            self.first = MQTT_5
            self._silences = self._failures = 0


def longest_pause(attempt: int) -> float:
    """The upper bound, in seconds, of the random pause after the given failed attempt, counted from 0."""
    return min(30.0, 0.25 * 2.0 ** min(attempt, 16))
