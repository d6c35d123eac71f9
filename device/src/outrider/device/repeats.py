"""When a command goes out again to the devices that have not answered. Pure: time and chance come as arguments.

A broker's acknowledgement proves nothing, so a command is repeated, with the same id and the same bytes, until its
device has answered:

- to a device that has said nothing, after growing pauses, until the command expires; and a minute after that, slowly,
  as a question that starts nothing any more: its answer may have been lost, or it never got the command, and says so;
- to one that has accepted it, slowly, also after that: its answer may have been lost, and it gives that again;
- at once to one that has come back with a new session, and to all after this side was away from the broker.

Not to a device that is away, whose queue at the broker would fill with copies: its return is the occasion. Not while
the broker has not acknowledged the last copy, which the connection sends again by itself. Not while others begin to
answer, within bounds: where ten thousand are asked, the late ones are slow, not lost.
"""

import math
from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple


class Pace(NamedTuple):
    """How fast a command is repeated, all in seconds. The last pause of a series stays; each varies by a quarter.

    :ivar unanswered: pauses for a device that has said nothing.
    :ivar accepted: pauses for one that has accepted the command, from its last word on.
    :ivar soon: the longest that "at once" may take, so that many do not come in the same moment.
    :ivar quiet: so long nobody may have answered before a copy is sent.
    :ivar patience: the longest that the answers of others put a copy off.
    """

    unanswered: tuple[float, ...] = (2.0, 4.0, 8.0, 15.0)
    accepted: tuple[float, ...] = (15.0, 30.0, 60.0)
    soon: float = 0.5
    quiet: float = 1.0
    patience: float = 15.0


PACE: Final = Pace()

SPREAD: Final = 1000
"""Devices a second that a reconnect makes be asked again."""

LEAST_EXPIRY: Final = 30.0
"""Seconds for which a copy of a command that has expired is good."""

OVER: Final = 60.0
"""Seconds after which an expired command does not start any more, whichever clock is ahead within the tolerance."""


class _Asked:
    """What is known of one device; `due` is infinite where nothing is planned."""

    __slots__ = ("accepted", "count", "due", "expires", "planned", "soon", "under_way", "urgent")

    def __init__(self, expires: float) -> None:
        self.expires = expires
        self.accepted = False
        self.under_way = True
        self.soon = False
        self.urgent = False
        self.count = 0
        self.planned = math.inf
        self.due = math.inf


class Repeats:
    """The devices that one command was sent to and that have not ended it. All times are of one monotonic clock.

    :ivar next: nothing is due before this.
    :param chance: gives numbers from 0 to 1.
    """

    def __init__(self, chance: Callable[[], float], pace: Pace = PACE) -> None:
        self.next = math.inf
        self._chance = chance
        self._pace = pace
        self._asked: dict[str, _Asked] = {}
        self._heard = -math.inf

    def sent(self, devices: Iterable[str], expires: float) -> None:
        """Note that the command is on its way to these devices, with one message or several."""
        for device in devices:
            self._asked[device] = _Asked(expires)

    def settled(self, devices: Iterable[str], now: float) -> None:
        """Note that the broker has acknowledged or refused what was last sent to these devices."""
        for device in devices:
            asked = self._asked.get(device)
            if asked is not None and asked.under_way:
                asked.under_way = False
                if asked.soon:
                    self._soon(asked, now, self._pace.soon)
                else:
                    self._plan(asked, now)

    def heard(self, now: float) -> None:
        """Note that a device has begun to answer."""
        self._heard = now

    def accepted(self, device: str, now: float) -> None:
        """Note that a device works on it."""
        asked = self._asked.get(device)
        if asked is None:
            return
        if not asked.accepted:
            asked.accepted = True
            asked.count = 0
        asked.soon = False
        if not asked.under_way:
            self._plan(asked, now)

    def ended(self, device: str) -> None:
        """Note that a device's final answer is here, or that the broker never took the command for it."""
        self._asked.pop(device, None)

    def returned(self, devices: Collection[str], now: float) -> None:
        """Note that these devices are there with a new session: what they were sent before may be lost."""
        mine = devices if len(devices) < len(self._asked) else self._asked
        for device in [each for each in mine if each in devices and each in self._asked]:
            self._again(self._asked[device], now, self._pace.soon)

    def reconnected(self, now: float) -> None:
        """Note that this side was away from the broker: answers may have been missed."""
        within = self._pace.soon + len(self._asked) / SPREAD
        for asked in self._asked.values():
            if not asked.under_way:  # the connection sends again what is
                self._again(asked, now, within)

    def due(self, now: float, away: Callable[[str], bool], most: int) -> list[str]:
        """The devices that get a copy now, `most` at most. They count as sent to until they are `settled`.

        :param away: whether a device is known not to be there.
        """
        if now < self.next:
            return []
        chosen: list[str] = []
        following = math.inf
        for device, asked in self._asked.items():
            if asked.due <= now:
                if asked.expires <= now < asked.expires + OVER and not asked.accepted:
                    asked.due = asked.expires + OVER + self._pace.soon * self._chance()
                elif away(device):
                    asked.due = now + self._pace.patience
                elif (put_off := self._put_off(asked)) > now:
                    asked.due = put_off
                elif len(chosen) < most:
                    chosen.append(device)
                    asked.count += not asked.urgent
                    asked.under_way = True
                    asked.urgent = asked.soon = False
                    asked.due = math.inf
            following = min(following, asked.due)
        self.next = following
        return chosen

    def good_for(self, device: str, now: float) -> float:
        """Seconds for which a copy to this device is good."""
        asked = self._asked[device]
        left = asked.expires - now
        return max(left, LEAST_EXPIRY) if asked.accepted or left <= 0 else left

    def only_asks(self, device: str, now: float) -> bool:
        """Whether a copy to this device must not start the command, which has expired and was never accepted."""
        asked = self._asked[device]
        return now >= asked.expires and not asked.accepted

    def _put_off(self, asked: _Asked) -> float:
        """When a copy that is due may go, for the answers of others."""
        if asked.urgent:
            return asked.due
        return min(self._heard + self._pace.quiet, asked.planned + self._pace.patience)

    def _plan(self, asked: _Asked, now: float) -> None:
        pauses = self._pace.accepted if asked.accepted or now >= asked.expires else self._pace.unanswered
        pause = pauses[min(asked.count, len(pauses) - 1)]
        asked.urgent = False
        asked.planned = asked.due = now + pause * (0.75 + 0.5 * self._chance())
        self.next = min(self.next, asked.due)

    def _again(self, asked: _Asked, now: float, within: float) -> None:
        asked.count = 0
        if asked.under_way:
            asked.soon = True
        else:
            self._soon(asked, now, within)

    def _soon(self, asked: _Asked, now: float, within: float) -> None:
        asked.soon = False
        asked.urgent = True
        asked.planned = asked.due = now + within * self._chance()
        self.next = min(self.next, asked.due)
