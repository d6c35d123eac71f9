"""What passed a proxy and what was done: a bounded record, counted, to wait for and to assert on."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import Final, Literal

from msgspec import Struct

from .packets import Direction, Packet
from .rules import Match

Action = Literal[
    "passed",
    "dropped",
    "delayed",
    "duplicated",
    "held",
    "reordered",
    "lost",
    "absorbed",
    "connected",
    "ended",
    "cut",
    "half-open",
    "resumed",
    "blackholed",
    "unreachable",
    "opaque",
]
"""What happened. With a packet: it `passed`; it was `dropped`, `delayed`, `duplicated`, `held` or `reordered` by a
rule, and where it passes later there is a `passed` as well; it was `lost` with its connection while it waited; or
`absorbed`, since it acknowledged what only the proxy had sent. Without: a client `connected`, its connection `ended`,
was `cut`, became `half-open` or was `resumed`; a new one was `blackholed`, found the broker `unreachable`, or speaks no
MQTT and is relayed `opaque`."""

KEPT: Final = 10_000
"""Events that a log keeps."""

PAYLOAD: Final = 60
"""Bytes of a payload that stand in an event's line."""


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened.

    :ivar number: counts from 1.
    :ivar time: seconds since the proxy was started.
    :ivar connection: which one, counted from 1; 0 for the proxy as a whole.
    :ivar client: the client id, as far as it is known.
    """

    number: int
    time: float
    action: Action
    connection: int = 0
    client: str = ""
    direction: Direction | None = None
    packet: Packet | None = None
    words: str = ""

    @property
    def about(self) -> str:
        """Whom and what it is about, as `lamp-1  PUBACK  12  to client`."""
        words = [self.client or (f"connection {self.connection}" if self.connection else "")]
        if packet := self.packet:
            words.append(packet.kind.name)
            words.append("" if packet.packet_id is None else f"{packet.packet_id}{' DUP' if packet.dup else ''}")
            words.append(packet.topic or "")
        if self.direction:
            words.append(self.direction.replace("_", " "))
        words.append(self.words)
        return "  ".join(word for word in words if word)

    def __str__(self) -> str:
        """One line for people: when, what happened, what it is about, and the beginning of a PUBLISH's payload."""
        payload = self.packet.payload if self.packet else b""
        text = repr(payload[:PAYLOAD].decode(errors="replace"))[1:-1]
        more = "…" if len(payload) > PAYLOAD else ""
        return f"{self.time:9.3f}  {self.action:<10} {self.about}  {text}{more}".rstrip()

    def fits(self, match: Match) -> bool:
        """Whether this is about a packet that is meant; where there is no packet, whether only the client is asked."""
        if self.packet is None or self.direction is None:
            return match == Match(client=match.client) and fnmatchcase(self.client, match.client or "*")
        return match.fits(self.packet, self.direction, self.client)


class Log:
    """The last events, and how many there were of each kind.

    :ivar counts: by action and kind of packet, as `counts["dropped", "PUBACK"]`; events without a packet have an empty
        kind.
    """

    def __init__(self, *, kept: int = KEPT, told: Callable[[Event], None] | None = None) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._events: deque[Event] = deque(maxlen=kept)
        self._last = 0
        self._told = told
        self._waiting: list[asyncio.Future[None]] = []

    def __iter__(self) -> Iterator[Event]:
        return iter(tuple(self._events))

    def __len__(self) -> int:
        return len(self._events)

    @property
    def last(self) -> int:
        """The number of the last event; 0 before the first."""
        return self._last

    def add(
        self,
        time: float,
        action: Action,
        *,
        connection: int = 0,
        client: str = "",
        direction: Direction | None = None,
        packet: Packet | None = None,
        words: str = "",
    ) -> None:
        """Note an event."""
        self._last += 1
        event = Event(
            number=self._last,
            time=time,
            action=action,
            connection=connection,
            client=client,
            direction=direction,
            packet=packet,
            words=words,
        )
        self.counts[action, packet.kind.name if packet else ""] += 1
        self._events.append(event)
        if self._told:
            self._told(event)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)

    def find(self, match: Match, action: Action = "passed", *, since: int = 0) -> list[Event]:
        """The events that fit, of those that are kept and have a number above `since`."""
        newer = takewhile(lambda event: event.number > since, reversed(self._events))
        return [each for each in newer if each.action == action and each.fits(match)][::-1]

    async def change(self) -> None:
        """Return at the next event."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future
