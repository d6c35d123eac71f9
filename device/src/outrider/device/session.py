"""What a client asks of its session: subscriptions and a will."""

from typing import NamedTuple

from outrider.schema.errors import InvalidName


class Will(NamedTuple):
    """What the broker publishes, retained and with QoS 1, when the connection ends without DISCONNECT."""

    topic: str
    payload: bytes


class Subscription(NamedTuple):
    """A topic filter, subscribed with QoS 1. The options take effect on MQTT 5 only.

    `retain_handling`: stored messages are sent at each subscribe (0), only at a new subscription (1), or never (2).
    `retain_handling_again`: the same for later connections, where it differs: what is stored may have come meanwhile.
    """

    filter: str
    retain_as_published: bool = False
    retain_handling: int = 0
    retain_handling_again: int | None = None

    @property
    def again(self) -> "Subscription":
        """How it is made on later connections."""
        again = self.retain_handling_again
        return self if again is None else self._replace(retain_handling=again)

    def check(self) -> None:
        """Refuse what a broker would hang up at.

        :raises InvalidName: `filter` is not a topic filter.
        """
        levels = self.filter.split("/")
        if (
            not self.filter
            or "\0" in self.filter
            or len(self.filter.encode()) > 65_535
            or "#" in levels[:-1]
            or any(("#" in level or "+" in level) and len(level) > 1 for level in levels)
        ):
            raise InvalidName(f"{self.filter!r} is not a topic filter: + and # stand for whole levels, # for the last")
