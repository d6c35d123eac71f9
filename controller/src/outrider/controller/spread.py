"""Many calls over a few devices: which one goes where, and which is tried again. Pure: time comes as an argument.

A call that certainly did not run may be made again anywhere. One that may have run is made again only for who said that
this does no harm, as one that ran and failed.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection
from enum import Enum, auto
from typing import Final, NamedTuple

from outrider.controller.dispatch import NOT_ADDRESSED
from outrider.device.invocation import has_forgotten
from outrider.device.pool import TRIED_ELSEWHERE
from outrider.schema import Code, Result, Status

AHEAD: Final = 1000
"""Calls by which one may be ahead of the first that has not ended: so many outcomes wait for their turn at most."""

PAUSE: Final = 1.0
"""Seconds for which a device that was busy gets nothing; doubled each time, up to `LONGEST_PAUSE`."""

LONGEST_PAUSE: Final = 10.0

_LATER: Final = frozenset({Code.BUSY, Code.NOT_READY})
"""Rejections after which the same device may take the call some time later."""


class Ran(Enum):
    """What is known of a call that was not what it should be."""

    NOT = auto()
    """It certainly did not run."""
    PERHAPS = auto()
    FAILED = auto()
    """It ran, or there is no use in making it again."""


class Again(NamedTuple):
    """When a call is made again.

    :ivar times: how often, at most; a device that only was busy does not count.
    :ivar perhaps_ran: also one that may have run.
    :ivar failed: also one that ran and failed.
    """

    times: int = 2
    perhaps_ran: bool = False
    failed: bool = False


def ran(result: Result) -> Ran:
    """What an outcome other than success says of whether the call ran."""
    code = "" if result.error is None else result.error.code
    match result.status:
        case Status.OFFLINE:
            return Ran.NOT
        case Status.REJECTED if code in TRIED_ELSEWHERE:
            return Ran.NOT
        case Status.CANCELLED if code == NOT_ADDRESSED:
            return Ran.NOT
        case Status.EXPIRED:
            return Ran.PERHAPS if has_forgotten(result) else Ran.NOT
        case Status.INTERRUPTED | Status.QUEUED | Status.RUNNING:
            return Ran.PERHAPS
        case _:
            return Ran.FAILED


class Spread:
    """Calls, numbered from 0, over devices that come and go.

    :param room: how many calls a device gets at once.
    """

    def __init__(self, count: int, again: Again, room: Callable[[str], int]) -> None:
        self._count = count
        self._again = again
        self._room = room
        self._fresh = 0
        self._repeated: deque[int] = deque()
        self._tried: dict[int, set[str]] = {}
        self._attempts: Counter[int] = Counter()
        self._uncounted: Counter[int] = Counter()
        self._load: Counter[str] = Counter()
        self._unfit: set[str] = set()
        self._pauses: dict[str, tuple[float, float]] = {}
        """By device: until when it gets nothing, and how long that was."""
        self._ended: set[int] = set()
        self._first = 0
        """The first call that has not ended."""
        self.repeats = 0

    @property
    def over(self) -> bool:
        """Whether every call has ended."""
        return self._first == self._count

    @property
    def under_way(self) -> int:
        """How many calls devices have."""
        return self._load.total()

    @property
    def left(self) -> list[int]:
        """The calls that have not ended and no device has."""
        return [*sorted(self._repeated), *range(self._fresh, self._count)]

    def attempts(self, call: int) -> int:
        """How often a call was made."""
        return self._attempts[call]

    def next(self, ready: Collection[str], now: float) -> tuple[int, str] | None:
        """A call and the device that it is to be made on now, the one with the fewest; None where there is no room."""
        fit = [device for device in ready if device not in self._unfit]
        free = [
            device
            for device in fit
            if self._load[device] < self._room(device) and self._pauses.get(device, (0.0, 0.0))[0] <= now
        ]
        if not free:
            return None
        for call in self._repeated:
            untried = [device for device in fit if device not in self._tried[call]]
            options = [device for device in free if device in untried] if untried else free
            if options:
                self._repeated.remove(call)
                return self._begin(call, options)
        if self._fresh < min(self._count, self._first + AHEAD):
            self._fresh += 1
            return self._begin(self._fresh - 1, free)
        return None

    def pause(self, now: float) -> float | None:
        """Seconds until a device that was busy may be asked again; None where there is none."""
        return min((until - now for until, _ in self._pauses.values() if until > now), default=None)

    def ended(self, call: int, result: Result, now: float, *, succeeded: bool) -> bool:
        """Note an answer; whether it is the call's outcome, or the call is made again."""
        device = result.device
        self._load[device] -= 1
        kind = None if succeeded else ran(result)
        if kind is not Ran.NOT:
            self._pauses.pop(device, None)
        elif result.error is not None and result.error.code in _LATER:
            self._uncounted[call] += 1
            self._rest(device, now)
        elif result.status is Status.REJECTED:
            self._uncounted[call] += 1
            self._unfit.add(device)
        if kind is None or not self._is_made_again(call, kind):
            self.finish(call)
            return True
        self.repeats += 1
        self._tried.setdefault(call, set()).add(device)
        self._repeated.append(call)
        return False

    def finish(self, call: int) -> None:
        """Note that a call has its outcome."""
        self._ended.add(call)
        self._tried.pop(call, None)
        while self._first in self._ended:
            self._ended.discard(self._first)
            self._first += 1

    def drop(self, call: int, device: str) -> None:
        """Note that a call which was to be made on a device has its outcome without an answer from there."""
        self._load[device] -= 1
        self.finish(call)

    def give_up(self) -> list[int]:
        """Make no more calls; those that had not ended and that no device has, which have ended by that."""
        calls = self.left
        self._again = Again(times=-1)
        self._repeated.clear()
        self._fresh = self._count
        for call in calls:
            self.finish(call)
        return calls

    def _begin(self, call: int, devices: Collection[str]) -> tuple[int, str]:
        device = min(devices, key=lambda each: self._load[each])
        self._load[device] += 1
        self._attempts[call] += 1
        return call, device

    def _is_made_again(self, call: int, kind: Ran) -> bool:
        wanted = kind is Ran.NOT or (self._again.perhaps_ran if kind is Ran.PERHAPS else self._again.failed)
        return wanted and self._attempts[call] - self._uncounted[call] <= self._again.times

    def _rest(self, device: str, now: float) -> None:
        until, length = self._pauses.get(device, (0.0, PAUSE / 2))
        if until <= now:
            length = min(length * 2, LONGEST_PAUSE)
            self._pauses[device] = now + length, length
