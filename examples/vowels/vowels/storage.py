"""What the service needs of a storage: two kinds of events in, two kinds of summaries out."""

from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from msgspec import Struct


class Summary(Struct, frozen=True):
    """What is known of a symbol, in the order in which the dashboards show it.

    :ivar count: initial requests with the symbol.
    :ivar earliest: the time of the first of them, and `latest` of the last.
    :ivar followups: follow-up requests, whenever they came, whose uuid is that of such an initial request.
    """

    count: int
    symbol: str
    earliest: str | None = None
    latest: str | None = None
    followups: int = 0


class Storage(Protocol):
    """Where events go. Times are aware, and whole microseconds; `range` is from `lower` on and before `upper`."""

    async def log_initial(self, uuid: UUID, symbol: str, at: datetime) -> None: ...

    async def log_followup(self, uuid: UUID, at: datetime) -> None: ...

    async def symbol(self, symbol: str) -> Summary:
        """Of a symbol that nobody has seen: a count of 0, and no times."""
        ...

    async def range(self, lower: datetime, upper: datetime) -> list[Summary]:
        """One for each symbol seen in the range, in order."""
        ...


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def shown(moment: datetime) -> str:
    """A time as the dashboards show it."""
    return (
        moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f").rjust(26, "0")
    )  # years before 1000 come without zeros


def to_microseconds(moment: datetime) -> int:
    """Since 1970. A float of seconds has room for these until the year 2242, and then rounds."""
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
