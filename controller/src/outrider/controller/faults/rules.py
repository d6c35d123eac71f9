"""What is done to which packet: rules as data, and which of them act on a packet. No I/O, no time."""

import random
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

from outrider.schema import LocalError

from .packets import Direction, Kind, Packet


class InvalidFault(LocalError, ValueError):
    """A fault that cannot be: a packet that MQTT does not have, a chance above 1, a span that ends before it begins."""


class Match(Struct, frozen=True, kw_only=True):
    """Which packets are meant; what is not set fits all.

    :ivar packet: its kind, as `"PUBACK"`.
    :ivar direction: `"to_client"` or `"to_broker"`.
    :ivar topic: a topic filter with `+` and `#`; then only a PUBLISH fits.
    :ivar client: the client id, with `*` and `?` among it.
    :ivar contains: bytes in the payload of a PUBLISH.
    """

    packet: str | None = None
    direction: Direction | None = None
    topic: str | None = None
    client: str | None = None
    contains: bytes = b""

    def __post_init__(self) -> None:
        if self.packet is not None and self.packet not in Kind.__members__:
            raise InvalidFault(f"{self.packet!r} is no packet of MQTT: it has {', '.join(Kind.__members__)}")
        if self.topic is not None and not is_filter(self.topic):
            raise InvalidFault(f"{self.topic!r} is no topic filter: + and # stand for whole levels, # for the last")

    def fits(self, packet: Packet, direction: Direction, client: str) -> bool:
        """Whether this packet of this client is meant."""
        return (
            (self.packet is None or self.packet == packet.kind.name)
            and (self.direction is None or self.direction == direction)
            and (self.client is None or fnmatchcase(client, self.client))
            and (self.topic is None or (packet.topic is not None and topic_fits(self.topic, packet.topic)))
            and (not self.contains or self.contains in packet.payload)
        )


class Rule(Match, frozen=True, kw_only=True):
    """A match, and on which of the packets that fit it acts.

    :ivar skip: so many pass first: with `skip=2, count=1` it acts on the third.
    :ivar count: it acts on so many, then no more; without it on all.
    :ivar chance: from 0 to 1: it acts on this part of them, chosen by the seed; the others do not count.
    """

    skip: int = 0
    count: int | None = None
    chance: float = 1.0

    def __post_init__(self) -> None:
        Match.__post_init__(self)
        if self.skip < 0 or (self.count is not None and self.count < 1):
            raise InvalidFault("skip is 0 or more, and count 1 or more")
        if not 0 < self.chance <= 1:
            raise InvalidFault(f"a chance of {self.chance:g} is not above 0 and at most 1")


class Drop(Rule, frozen=True, kw_only=True):
    """The packet does not arrive."""


class Delay(Rule, frozen=True, kw_only=True):
    """The packet arrives `seconds` later, or between `seconds` and `most` later, chosen by the seed.

    What one rule delays stays in order; other packets overtake it.
    """

    seconds: float
    most: float | None = None

    def __post_init__(self) -> None:
        Rule.__post_init__(self)
        if not 0 <= self.seconds <= (self.seconds if self.most is None else self.most) < float("inf"):
            raise InvalidFault("a delay is 0 seconds or more, and ends after it begins")


class Duplicate(Rule, frozen=True, kw_only=True):
    """A PUBLISH arrives once more right behind itself, as a redelivery: the same packet id, and DUP set.

    With `as_new` as another message: another packet id, no DUP. That is what comes when a publisher that lost its
    connection sends again, or a broker delivers for each of several subscriptions. The other side's acknowledgement of
    the second one ends here, since nobody waits for it. A PUBLISH of QoS 0 has neither id nor DUP and is repeated as it
    is; other packets are left alone.
    """

    as_new: bool = False


class Hold(Rule, frozen=True, kw_only=True):
    """The packet waits until it is released; others overtake it. One whose connection ends meanwhile is lost."""


class Reorder(Rule, frozen=True, kw_only=True):
    """The packet lets the next `by` packets of its direction and connection pass first."""

    by: int = 1

    def __post_init__(self) -> None:
        Rule.__post_init__(self)
        if self.by < 1:
            raise InvalidFault("reorder lets 1 packet or more pass first")


class Cut(Rule, frozen=True, kw_only=True):
    """The connection ends instead of the packet, or right behind it where `after` is set.

    `reset` ends it as a crash does (RST), else as a closed socket does (FIN). With `after` the side that got the packet
    sees a FIN in any case, since a reset may overtake what was not read yet.
    """

    reset: bool = True
    after: bool = False


class HalfOpen(Rule, frozen=True, kw_only=True):
    """The connection stands, and nothing passes any more from this packet on, one way or (None) both."""

    ways: Direction | None = None


ORDER: Final[tuple[type[Rule], ...]] = (Drop, Cut, HalfOpen, Hold, Reorder, Duplicate, Delay)
"""In which order rules are asked: of each kind the first one that acts. What is dropped meets no other rule."""


class Rules:
    """The rules in force, and how often each has acted.

    :param seed: what chance decides follows from it, and from the packets that fitted the rule before.
    :ivar hits: how many packets each rule has acted on; a rule that is done stays here and acts no more.
    """

    def __init__(self, seed: int = 0) -> None:
        self.hits: dict[Rule, int] = {}
        self._seed = seed
        self._active: dict[Rule, _Active] = {}
        self._added = 0

    def __iter__(self) -> Iterator[Rule]:
        return iter(tuple(self._active))

    def __len__(self) -> int:
        return len(self._active)

    def add(self, *rules: Rule) -> None:
        """Let these act from now on. One that is there already begins anew."""
        for rule in rules:
            self._added += 1
            self._active.pop(rule, None)
            self._active[rule] = _Active(random.Random(f"{self._seed} {self._added}"))
            self.hits[rule] = 0

    def remove(self, rule: Rule) -> None:
        """Let this one act no more; nothing happens where it is not there."""
        self._active.pop(rule, None)

    def clear(self) -> None:
        """Let none act any more."""
        self._active.clear()

    def acting(self, packet: Packet, direction: Direction, client: str) -> "tuple[Rule, ...]":
        """Which rules act on this packet, in the order of `ORDER`. Asking counts as a packet that came."""
        found: list[Rule] = []
        for kind in ORDER:
            for rule, active in tuple(self._active.items()):
                if type(rule) is kind and self._acts(rule, active, packet, direction, client):
                    found.append(rule)
                    break
            if found and kind is Drop:
                break
        return tuple(found)

    def seconds(self, rule: Delay) -> float:
        """How long this rule delays the packet that it acts on now."""
        if rule.most is None or rule not in self._active:
            return rule.seconds
        return self._active[rule].chance.uniform(rule.seconds, rule.most)

    def _acts(self, rule: Rule, active: "_Active", packet: Packet, direction: Direction, client: str) -> bool:
        if isinstance(rule, Duplicate) and packet.kind is not Kind.PUBLISH:
            return False
        if not rule.fits(packet, direction, client):
            return False
        active.fitted += 1
        if active.fitted <= rule.skip or (rule.chance < 1 and active.chance.random() >= rule.chance):
            return False
        self.hits[rule] += 1
        if self.hits[rule] == rule.count:
            del self._active[rule]
        return True


class _Active:
    """A rule in force."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.fitted = 0


def is_filter(text: str) -> bool:
    """Whether this is a topic filter (MQTT 5.0, 4.7)."""
    levels = text.split("/")
    return (
        bool(text) and "#" not in levels[:-1] and not any(set(each) & {"+", "#"} and len(each) > 1 for each in levels)
    )


def topic_fits(filter: str, topic: str) -> bool:
    """Whether a topic is one of those that a filter means. `#` stands for the level above it too."""
    wanted, levels = filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted = wanted[:-1]
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(each in ("+", level) for each, level in zip(wanted, levels, strict=True))


Chooser = Callable[[Packet, Direction, str], "tuple[Rule, ...]"]
"""`Rules.acting`, as whoever relays calls it."""
