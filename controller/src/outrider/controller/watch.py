"""What goes on in a fleet, as its messages tell: a pure model that `outrider watch` draws.

    board = Board(now)
    board.state(state, now)
    board.command("ann", id, "calibrate", now)
    board.progress("ann", progress, now)
    board.result("ann", result, now)
    for id in board.order(now):
        print(id, board.devices[id].jobs)

`now` is this side's clock in Unix seconds and never goes back. Nothing here grows without a bound, whatever comes.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from outrider.device import RunningJob
from outrider.schema import Progress, Result, State, Status

QUESTIONS: Final = frozenset(("jobs", "result", "about", "stats"))
"""Commands that only ask a device about itself. They are neither counted nor shown as a last result."""

WINDOW: Final = 10.0
"""Seconds over which the fleet's rates are taken."""

DEVICE_WINDOW: Final = 60.0
"""Seconds within which a device's results are counted."""

STILL_RUNNING: Final = 3.0
"""Seconds for which a device stays among those that run something after its last job has ended."""

RECENT: Final = 10.0
"""Seconds for which a device counts as one with something going on."""

SILENT: Final = 60.0
"""Seconds without news of a job, after which its device is asked whether it still runs."""

ASK_AGAIN: Final = 20.0
"""Seconds between two questions to one device at least."""

GIVEN_UP: Final = 900.0
"""Seconds without news of a job, after which it is taken for gone."""

REMEMBERED: Final = 20_000
"""Commands and results remembered, to know repeats and to know what an id means."""

JOBS: Final = 1_000
"""Jobs of one device that are kept at most: as many as a device takes on by default."""

Key = tuple[str, str]
"""A job on a device: requester, empty where none was named, and id."""


class Rank(IntEnum):
    """How much goes on at a device; less is more."""

    RUNNING = 0
    RECENT = 1
    LOST = 2
    QUIET = 3
    GONE = 4


class Sort(StrEnum):
    """What the rows are ordered by."""

    ACTIVITY = "activity"
    DEVICE = "device"
    STATE = "state"
    RESULT = "last result"


class Rate:
    """Events per second within a sliding window, kept in a twentieth's steps of it."""

    __slots__ = ("_began", "_steps", "_total", "_width", "_window")

    def __init__(self, window: float, now: float) -> None:
        self._window = window
        self._width = window / 20
        self._began = now
        self._steps: deque[tuple[int, int]] = deque()
        self._total = 0

    def add(self, now: float, count: int = 1) -> None:
        """Count events that happened now."""
        step = int(now / self._width)
        if self._steps and self._steps[-1][0] >= step:
            last, known = self._steps.pop()
            self._steps.append((last, known + count))
        else:
            self._steps.append((step, count))
        self._total += count
        self._forget(now)

    def per_second(self, now: float) -> float:
        """The rate now."""
        return self.count(now) / min(max(now - self._began, 1.0), self._window)

    def count(self, now: float) -> int:
        """How many there were within the window."""
        self._forget(now)
        return self._total

    def _forget(self, now: float) -> None:
        oldest = int((now - self._window) / self._width)
        while self._steps and self._steps[0][0] <= oldest:
            self._total -= self._steps.popleft()[1]


@dataclass(slots=True)
class JobRow:
    """A job that a device works on.

    :ivar command: its name, empty as long as it is not known.
    :ivar since: when it began, or was first heard of.
    :ivar heard: when something was last heard of it.
    :ivar text: what it says of itself, or the last line it printed.
    """

    id: str
    requester: str
    command: str
    since: float
    heard: float
    fraction: float | None = None
    text: str = ""


class Last(NamedTuple):
    """A device's last result; `at` is when it came, or for one that stood on the broker, when the job ended."""

    requester: str
    result: Result
    at: float


@dataclass(slots=True)
class DeviceRow:
    """What is known of a device."""

    state: State
    jobs: dict[Key, JobRow] = field(default_factory=dict[Key, JobRow])
    last: Last | None = None
    rate: Rate | None = None
    changed: float | None = None
    """When its status was seen to change; None where it stood on the broker."""
    active: float = float("-inf")
    """When something last happened to it."""
    ran: float = float("-inf")
    """When its last job ended."""
    asked: float = float("-inf")
    doubtful: bool = False
    """Whether it reconnected with jobs: it may be a process that knows nothing of them."""

    def rank(self, now: float) -> Rank:
        """How much goes on. It rises at once and falls late, so that rows do not jump."""
        if self.jobs or now - self.ran < STILL_RUNNING:
            return Rank.RUNNING
        if now - self.active < RECENT:
            return Rank.RECENT
        if self.state.status == "lost":
            return Rank.LOST
        return Rank.GONE if self.state.status == "terminated" else Rank.QUIET


class Totals(NamedTuple):
    """A fleet in numbers. Rates are per second; `ended` counts results by status since the beginning."""

    statuses: Mapping[str, int]
    running: int
    commands: float
    results: float
    ended: Mapping[Status, int]


class Board:
    """What goes on, fed with messages in the order in which they come.

    :ivar devices: by id.
    :ivar version: changes whenever a state does.
    """

    def __init__(self, now: float) -> None:
        self.devices: dict[str, DeviceRow] = {}
        self.version = 0
        self._now = now
        self._names: OrderedDict[Key, str] = OrderedDict()
        self._ended: OrderedDict[tuple[str, Key], None] = OrderedDict()
        self._commands = Rate(WINDOW, now)
        self._results = Rate(WINDOW, now)
        self._counts: dict[Status, int] = {}

    def state(self, state: State, now: float, *, standing: bool = False) -> None:
        """Take a device's newest state.

        :param standing: it stood on the broker: nothing has happened.
        """
        known = self.devices.get(state.device)
        if known is None:
            row = self.devices[state.device] = DeviceRow(state)
            if not standing:
                row.active = row.changed = now
            self.version += 1
            return
        if state == known.state:
            known.state = state
            return
        self.version += 1
        if (state.status, state.session) != (known.state.status, known.state.session):
            known.active = now
        if state.status != known.state.status:
            known.changed = now
        if state.status == "terminated":  # each of its jobs had a result before, which may have been lost on the way
            known.jobs.clear()
        elif known.jobs and state.session != known.state.session:
            known.doubtful = True
        known.state = state

    def keep(self, devices: Set[str]) -> None:
        """Forget all other devices: their states were cleared."""
        for device in self.devices.keys() - devices:
            del self.devices[device]
            self.version += 1

    def command(self, requester: str, id: str, command: str, now: float) -> None:
        """Take a command that somebody sent to a device or a group."""
        if command in QUESTIONS:
            return
        self._commands.add(now)
        if not id:
            return
        key = requester, id
        self._names[key] = command
        self._names.move_to_end(key)
        if len(self._names) > REMEMBERED:
            self._names.popitem(last=False)

    def progress(self, requester: str, progress: Progress, now: float) -> None:
        """Take what a device says of a job meanwhile: that is how jobs begin."""
        row, key = self.devices.get(progress.device), (requester, progress.id)
        if row is None or (progress.device, key) in self._ended:
            return
        command = self._names.get(key, "")
        if command in QUESTIONS:
            return
        job = row.jobs.get(key)
        if job is None:
            if len(row.jobs) >= JOBS:
                return
            job = row.jobs[key] = JobRow(progress.id, requester, command, now, now)
        job.heard = row.active = now
        job.command = job.command or command
        if progress.fraction is not None:
            job.fraction = progress.fraction
        if progress.text is not None:
            job.text = progress.text
        elif progress.data and (lines := progress.data.strip().splitlines()):
            job.text = lines[-1][:200]

    def result(self, requester: str, result: Result, now: float, *, standing: bool = False) -> bool:
        """Take a device's final answer; whether it was news.

        :param standing: it stood on the broker: it is known now, and nothing has happened.
        """
        row, key = self.devices.get(result.device), (requester, result.id)
        if row is not None and row.jobs.pop(key, None) is not None:
            row.ran = now
        if (result.device, key) in self._ended or result.command in QUESTIONS:
            return False
        self._ended[result.device, key] = None
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        if not standing:
            self._results.add(now)
            self._counts[result.status] = self._counts.get(result.status, 0) + 1
        if row is None:
            return False
        at = min(result.finished or 0.0, now) if standing else now
        if row.last is None or row.last.at <= at:
            row.last = Last(requester, result, at)
        if not standing:
            row.active = now
            row.rate = row.rate or Rate(DEVICE_WINDOW, self._now)
            row.rate.add(now)
        return True

    def told(self, device: str, jobs: Sequence[RunningJob], asked: float, now: float) -> None:
        """Take a device's answer to `jobs`, which it was asked at `asked`: those it does not name have ended."""
        row = self.devices.get(device)
        if row is None:
            return
        named = {(job.requester, job.id): job for job in jobs[:JOBS] if job.command not in QUESTIONS}
        for key, known in list(row.jobs.items()):
            if key not in named and known.heard < asked:
                del row.jobs[key]
                row.ran = now
        for key, job in named.items():
            if (device, key) in self._ended or (key not in row.jobs and len(row.jobs) >= JOBS):
                continue
            since = min(job.received if job.started is None else job.started, now)
            known = row.jobs.setdefault(key, JobRow(job.id, job.requester, job.command, since, now))
            known.command, known.heard, known.since = job.command, now, min(known.since, since)
            known.fraction = job.fraction if known.fraction is None else known.fraction
            known.text = known.text or job.text or ""
        row.doubtful = False

    def to_ask(self, now: float, devices: Iterable[str]) -> list[str]:
        """Those of some devices that should be asked for their jobs; they are taken to be asked now."""
        asked: list[str] = []
        for device in devices:
            row = self.devices.get(device)
            if row is None or not row.jobs or now - row.asked < ASK_AGAIN or row.state.status not in _THERE:
                continue
            if row.doubtful or any(not job.command or now - job.heard >= SILENT for job in row.jobs.values()):
                row.asked = now
                asked.append(device)
        return asked

    def give_up(self, now: float) -> None:
        """Drop the jobs of which nothing was heard for long, also not when their device was asked."""
        for row in self.devices.values():
            for key in [key for key, job in row.jobs.items() if now - job.heard >= GIVEN_UP]:
                del row.jobs[key]

    def order(
        self, now: float, devices: Iterable[str] | None = None, *, by: Sort = Sort.ACTIVITY, room: int = 0
    ) -> list[str]:
        """The devices as rows, from the top.

        :param devices: of these only.
        :param room: so many rows fit: where all do, `Sort.ACTIVITY` leaves them in the order of their ids.
        """
        rows = self.devices
        chosen = sorted(rows if devices is None else (id for id in devices if id in rows), key=natural)
        match by:
            case Sort.ACTIVITY:
                if len(chosen) > room:
                    chosen.sort(key=lambda id: rows[id].rank(now))
            case Sort.STATE:
                chosen.sort(key=lambda id: _STATUSES.index(rows[id].state.status))
            case Sort.RESULT:
                chosen.sort(key=lambda id: -last.at if (last := rows[id].last) else 0.0)
            case Sort.DEVICE:
                pass
        return chosen

    def totals(self, now: float, devices: Iterable[str] | None = None) -> Totals:
        """The numbers; states and jobs of `devices` only, rates and results of the whole fleet."""
        rows = [self.devices[id] for id in (self.devices if devices is None else devices) if id in self.devices]
        running = sum(len(row.jobs) for row in rows)
        return Totals(
            status_counts(rows),
            running,
            self._commands.per_second(now),
            self._results.per_second(now),
            {status: self._counts[status] for status in Status if status in self._counts},
        )


def status_counts(rows: Iterable[DeviceRow]) -> dict[str, int]:
    """How many of some devices have which status; those that none has are left out."""
    counts = dict.fromkeys(STATUSES, 0)
    for row in rows:
        counts[row.state.status] += 1
    return {status: count for status, count in counts.items() if count}


@lru_cache(maxsize=65_536)
def natural(id: str) -> tuple[tuple[str | int, ...], str]:
    """A key that sorts lamp-2 before lamp-10."""
    # Text and numbers take turns in it, so that never one is compared with the other.
    return tuple(int(part) if at % 2 else part for at, part in enumerate(_DIGITS.split(id))), id


STATUSES: Final = ("ready", "unready", "lost", "terminated")
_STATUSES: Final = ("lost", "unready", "ready", "terminated")
_THERE: Final = ("ready", "unready")
_DIGITS: Final = re.compile(r"(\d+)", re.ASCII)
