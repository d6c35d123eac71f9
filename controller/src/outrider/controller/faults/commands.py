"""What may be asked of a proxy beside rules for packets, as data: it acts on connections, at once."""

from typing import Final, Literal

from msgspec import Struct

from outrider.device import Address

from .packets import Direction
from .rules import InvalidFault, Rule

Door = Literal["open", "blackhole", "unanswered", "refuse"]
"""What becomes of new connections: they are relayed; accepted, and nothing is said to them; not even accepted, as if
the host were gone (on Linux); or refused."""

DOORS: Final[tuple[Door, ...]] = ("open", "blackhole", "unanswered", "refuse")


class CutNow(Struct, frozen=True, kw_only=True):
    """End the connections of these clients, or all: with a reset (RST), or the end of the stream (FIN)."""

    client: str | None = None
    reset: bool = True


class HalfOpenNow(Struct, frozen=True, kw_only=True):
    """Let nothing pass any more on the connections of these clients, one way or both; they stay open."""

    ways: Direction | None = None
    client: str | None = None


class Throttle(Struct, frozen=True, kw_only=True):
    """Let so many bytes a second pass on each connection, one way or each way; None is no limit."""

    rate: float | None
    ways: Direction | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not 1 <= self.rate < float("inf"):
            raise InvalidFault("a throttle lets 1 byte a second or more pass")


class NewConnections(Struct, frozen=True, kw_only=True):
    """What becomes of new connections."""

    door: Door


class Release(Struct, frozen=True):
    """Let go what is held."""


class Heal(Struct, frozen=True):
    """End every fault: no rules, no limits; half-open connections go on, and what was held or delayed arrives."""


Command = Rule | CutNow | HalfOpenNow | Throttle | NewConnections | Release | Heal


def check_visible(command: Command, broker: Address) -> None:
    """Refuse what would have no effect: on the way to some brokers neither packets nor their clients show.

    :raises InvalidFault: it acts on packets or on named clients, and the broker's URL is encrypted or a WebSocket.
    """
    if not broker.tls and broker.kind in ("tcp", "unix"):
        return
    if isinstance(command, Rule) or (isinstance(command, CutNow | HalfOpenNow) and command.client is not None):
        raise InvalidFault(
            f"single packets and clients do not show over {broker.scheme}://, where bytes are relayed as they are: "
            "cut, half-open, throttle, blackhole, unanswered and refuse act on all its connections, and the rest needs "
            "a broker at mqtt:// or unix://"
        )
