"""One soak: the schedule of kills, kept while the commands go on; then the account."""

import heapq
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, NamedTuple

from msgspec import Struct, field

from . import layout
from .account import Account, account
from .cast import Cast, Member

Kind = Literal["broker", "devices", "controllers"]

KINDS: Final[tuple[Kind, ...]] = ("broker", "devices", "controllers")

LONGEST_DOWN: Final = 1.0
"""Seconds that who was killed stays down at most, as a supervisor would have it."""

LOOK: Final = 0.05
"""Seconds between two looks at how far the commands are."""

TOLD_EVERY: Final = 15.0


class Plan(NamedTuple):
    """What a soak is to do. `kills` of each kind; `rate` in commands a second; `limit` in seconds."""

    commands: int
    kills: int
    rate: float
    seed: int
    limit: float


class Kill(NamedTuple):
    """One kill: when `at` commands have been sent."""

    at: int
    kind: Kind


class Figures(Struct):
    """How it went. `failures` are processes that ended by themselves, and what was not done within the limit."""

    kills: dict[str, int] = field(default_factory=dict[str, int])
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list[str])


def schedule(plan: Plan, chance: random.Random) -> list[Kill]:
    """All kills in order, spread over the first 98 % of the commands."""
    kinds: list[Kind] = [kind for kind in KINDS for _ in range(plan.kills)]
    return sorted(Kill(int(chance.uniform(0.02, 0.98) * plan.commands), kind) for kind in kinds)


def soak(folder: Path, plan: Plan, *, say: Callable[[str], None]) -> tuple[Account, Figures]:
    """Do it, with all files in `folder`."""
    began = time.monotonic()
    figures = Figures()
    with Cast(folder, plan.commands, plan.rate, plan.seed) as cast:
        course = _Course(cast, plan, figures)
        told = began
        while not course.ended:
            now = time.monotonic()
            course.step(now)
            if now - told > TOLD_EVERY:
                told = now
                say(f"{now - began:5.0f} s  {course.sent:,} sent, {sum(course.kills.values())} kills")
            if now - began > plan.limit:
                figures.failures.append(f"not all had ended after {plan.limit:g} s")
                break
            time.sleep(LOOK)
        figures.kills = {str(kind): count for kind, count in course.kills.items()}
    figures.seconds = time.monotonic() - began
    return account(folder), figures


class _Course:
    """Who is killed and started when."""

    def __init__(self, cast: Cast, plan: Plan, figures: Figures) -> None:
        self.kills: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._cast = cast
        self._figures = figures
        self._chance = random.Random(plan.seed)
        self._due = schedule(plan, self._chance)
        self._down: list[tuple[float, str, Member]] = []
        self._counts = {name: _Lines(layout.sent_file(cast.folder, name)) for name in layout.CONTROLLERS}

    @property
    def sent(self) -> int:
        """Commands sent so far."""
        return sum(lines.count for lines in self._counts.values())

    @property
    def ended(self) -> bool:
        """Whether all controllers have ended, well or not."""
        return not self._down and all(member.code is not None for member in self._cast.controllers)

    def step(self, now: float) -> None:
        """Start who has been down long enough, kill who is due, and see that nobody else has ended."""
        while self._down and self._down[0][0] <= now:
            heapq.heappop(self._down)[2].start()
        for lines in self._counts.values():
            lines.look()
        while self._due and self._due[0].at <= self.sent:
            candidates = [member for member in self._members(self._due[0].kind) if member.code is None]
            up = [member for member in candidates if not member.down]
            if not up:  # the broker is down already: its turn comes when it is up
                break
            kind = self._due.pop(0).kind
            member = self._chance.choice(up)
            member.kill()
            self.kills[kind] += 1
            heapq.heappush(self._down, (now + self._chance.uniform(0, LONGEST_DOWN), member.name, member))
        self._see()

    def _members(self, kind: Kind) -> list[Member]:
        return {
            "broker": [self._cast.broker],
            "devices": self._cast.devices,
            "controllers": self._cast.controllers,
        }[kind]

    def _see(self) -> None:
        for member in self._cast.all:
            if member.code is None or (member.code == 0 and member in self._cast.controllers):
                continue
            words = f"{member.name} ended with exit code {member.code}: {member.last_words()}"
            if not any(each.startswith(f"{member.name} ended") for each in self._figures.failures):
                self._figures.failures.append(words)


class _Lines:
    """The lines of a file that grows."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._path = path
        self._read = 0

    def look(self) -> None:
        """Count those that have come."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            self._read += len(new)
            self.count += new.count(b"\n")
