"""How a rollout goes: in which batches, with what pauses, and after how many failures it is aborted."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from outrider.schema import LocalError

MINIMUM: Final = 10
"""Outcomes after which a percentage of failures is looked at within a batch, where the plan says nothing else."""

_SHARE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(\s*%)?")


class InvalidPlan(LocalError, ValueError):
    """A rollout that cannot be: a share, a batch or a threshold that says nothing."""


class Share(NamedTuple):
    """So many, or so many percent."""

    amount: float
    percent: bool = False

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Read `5` or `10%`.

        :raises InvalidPlan: it is neither, or nothing at all, or more than 100%.
        """
        match = _SHARE.fullmatch(text.strip())
        if match is None:
            raise InvalidPlan(f"{text!r} is no number of devices: write 5, or 10%")
        share = cls(float(match[1]), match[2] is not None)
        if not share.valid:
            raise InvalidPlan(f"{text!r} is no number of devices: write a whole number from 1 on, or up to 100%")
        return share

    @property
    def valid(self) -> bool:
        """Whether it says something: a whole number from 1 on, or more than 0% and up to 100%."""
        if self.percent:
            return 0 < self.amount <= 100
        return 1 <= self.amount < math.inf and float(self.amount).is_integer()

    def of(self, total: int) -> int:
        """How many that is of `total`: rounded up, at least one."""
        # Rounded first, so that 7% of 100 is 7 and not the 8 that binary fractions would make of it.
        return max(1, math.ceil(round(total * self.amount / 100, 6))) if self.percent else int(self.amount)

    def __str__(self) -> str:
        """As it is typed."""
        return f"{self.amount:g}%" if self.percent else f"{self.amount:.0f}"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a rollout goes.

    :ivar batches: the size of each batch, the devices in it that are there; the last one repeats until every device
        has been addressed. A percentage is of all devices of the rollout.
    :ivar pause: seconds between the end of a batch and the next.
    :ivar abort_after: failures after which nothing more is sent; a percentage is of the devices judged so far.
    :ivar minimum: devices that must be judged before a percentage counts. None: at the end of each batch, and
        within one after 10.
    :ivar cancel: cancel what runs when it is aborted.
    :ivar settle: seconds that a batch waits for a device that says nothing, which counts as failed then.
    :ivar working: seconds that a batch waits for a device that has taken the command and works on it, at least
        `settle`; it counts as failed then. A command's own `timeout` should come before.
    """

    batches: tuple[Share, ...]
    pause: float = 0.0
    abort_after: Share | None = None
    minimum: int | None = None
    cancel: bool = False
    settle: float = 30.0
    working: float = 3600.0

    def __post_init__(self) -> None:
        if not self.batches:
            raise InvalidPlan("a rollout needs the size of its batches, as 5, 10%, or 1,10%,50%")
        for share in (*self.batches, *([] if self.abort_after is None else [self.abort_after])):
            if not share.valid:
                raise InvalidPlan(f"{share} is no number of devices: it must be whole and from 1 on, or up to 100%")
        if self.minimum is not None and self.minimum < 1:
            raise InvalidPlan("the minimum must be a number of devices from 1 on")
        if not 0 <= self.pause < math.inf or not 0 < self.settle < math.inf:
            raise InvalidPlan("the pause must be 0 or more seconds, and the time to settle more than 0")
        if not 0 < self.working < math.inf:
            raise InvalidPlan("the time that a device may work must be more than 0 seconds")

    @classmethod
    def of(
        cls,
        batches: str,
        *,
        pause: float = 0.0,
        abort_after: Share | None = None,
        minimum: int | None = None,
        cancel: bool = False,
        settle: float = 30.0,
        working: float = 3600.0,
    ) -> "Plan":
        """A plan whose batches are as they are typed: `Plan.of("1,10%,50%")`.

        :raises InvalidPlan: something in it cannot be.
        """
        return cls(cls.parse_batches(batches), pause, abort_after, minimum, cancel, settle, working)

    @classmethod
    def parse_batches(cls, text: str) -> tuple[Share, ...]:
        """Read `5`, `10%` or `1,10%,50%`.

        :raises InvalidPlan: a part of it is no share.
        """
        return tuple(Share.parse(part) for part in text.split(","))

    def sizes(self, total: int) -> Sequence[int]:
        """The sizes of the batches for so many devices, where all are there."""
        sizes: list[int] = []
        left = total
        while left > 0:
            sizes.append(min(left, self.size(len(sizes), total)))
            left -= sizes[-1]
        return sizes

    def size(self, batch: int, total: int) -> int:
        """How many devices a batch (the first is 0) has at most."""
        return self.batches[min(batch, len(self.batches) - 1)].of(total)

    def describe(self, total: int) -> str:
        """The plan for so many devices, for people: `111 devices in batches of 1, 10, 50, 50; aborts after …`."""
        if not total:
            return "no device to send to"
        sizes = self.sizes(total)
        shown = ", ".join(map(str, islice(sizes, 6))) + (", …" if len(sizes) > 6 else "")
        words = (
            f"{total} device{'' if total == 1 else 's'} in {len(sizes)} batch{'' if len(sizes) == 1 else 'es'}: {shown}"
        )
        if self.pause:
            words += f"; {self.pause:g} s between them"
        if self.abort_after is not None:
            if self.abort_after.percent:
                words += f"; aborts when {self.abort_after} of the devices judged have failed"
            else:
                words += f"; aborts at {self.abort_after} failure{'' if self.abort_after.amount == 1 else 's'}"
            words += " and cancels what runs" if self.cancel else ""
        return words
