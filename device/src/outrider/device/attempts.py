"""How a connection is tried: at which host, with which MQTT version, with which after that, after what pause again."""

import logging
import random
from collections.abc import Callable
from typing import Final

from .client import MQTT_3_1_1, MQTT_5
from .link import Handlers, Link, LinkError, Settings
from .session import Will

logger = logging.getLogger("outrider.connection")

STEADY: Final = 5.0
"""Seconds after which a connection counts as good, and the pauses before reconnecting begin anew."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 30.0


class Opener:
    """Opens one network connection after the other; it remembers which host it was, and which version that took."""

    def __init__(self, settings: Settings, handlers: Handlers) -> None:
        self._hosts = [Host(settings._replace(address=each), handlers) for each in settings.address.each]
        self._choice = HostChoice(len(self._hosts))

    async def open(self, will: Callable[[], Will | None]) -> Link:
        """Connect to the first host that takes the connection, each asked once; `will` is called for each.

        :raises LinkError: why no connection came about, of each host.
        """
        failures: list[tuple[Host, LinkError]] = []
        for number in self._choice.round():
            host = self._hosts[number]
            try:
                link = await host.connect(will())
            except LinkError as error:
                if len(self._hosts) > 1 and str(error) != host.failure:
                    logger.info("no connection to the broker at %s: %s", host.place, error)
                host.failure = str(error)
                failures.append((host, error))
            else:
                host.failure = None
                self._choice.opened(number)
                return link
        if len(failures) == 1:
            raise failures[0][1]
        raise LinkError("; ".join(f"{host.place}: {error}" for host, error in failures))

    def move_on(self) -> None:
        """The last connection was not good for anything: begin with another host the next time."""
        self._choice.failed()

    async def clear_session(self, version: int, *, timeout: float) -> None:
        """End the session with one clean connect: 3.1.1 has no other way, and rumqttd heeds no other on MQTT 5.

        :raises LinkError: it did not come about.
        """
        await self._hosts[self._choice.first].clear_session(version, timeout=timeout)


class Host:
    """One host of the broker, and which version it took."""

    def __init__(self, settings: Settings, handlers: Handlers) -> None:
        self.place = settings.address.place
        self.failure: str | None = None
        """Why it took no connection, the last time."""
        self._settings = settings
        self._handlers = handlers
        self._versions = VersionChoice()

    async def connect(self, will: Will | None) -> Link:
        """Connect: with MQTT 5, and if the broker does not take that, with 3.1.1; or as it went the last times.

        :raises LinkError: why no connection came about.
        """
        version = self._versions.first
        try:
            link = await Link.connect(self._settings, version, self._handlers, will=will)
        except LinkError as error:
            if version == MQTT_3_1_1 or not error.other_version:
                self._versions.failed()
                raise
            refusal = error
        else:
            self._versions.accepted(version)
            return link
        logger.info("the broker at %s does not take MQTT 5 (%s): trying 3.1.1", self.place, refusal)
        try:
            link = await Link.connect(self._settings, MQTT_3_1_1, self._handlers, will=will)
        except LinkError as error:
            if error.other_version and not refusal.said_so:
                raise LinkError(f"{error}, for MQTT 5 and 3.1.1 alike{self._hint()}") from None
            raise
        self._versions.fell_back(said_so=refusal.said_so)
        return link

    async def clear_session(self, version: int, *, timeout: float) -> None:
        """See `Opener.clear_session`."""
        settings = self._settings._replace(session_expiry=0, connect_timeout=timeout)
        link = await Link.connect(settings, version, self._handlers, will=None)
        link.disconnect()
        await link.closed(timeout)

    def _hint(self) -> str:
        address = self._settings.address
        if address.tls and address.cert is None and self._settings.tls is None:
            return "; if it wants a client certificate, add &cert=FILE&key=FILE"
        if address.kind == "tcp" and not address.tls:
            return "; if it wants TLS, the URL begins with mqtts://, if it wants WebSocket, with ws://"
        return ""


class HostChoice:
    """In which order to try several hosts: first the one that worked last, then the others as the URL has them.

    What a client left on a broker is there: its session, with the commands that came meanwhile. So after a short loss
    it returns to the same host. Where a host takes connections and then drops them, another one comes first.
    """

    def __init__(self, count: int) -> None:
        self.first = 0
        """The one that worked last."""
        self._count = count

    def round(self) -> list[int]:
        """The hosts' numbers in the order in which to try them."""
        return [self.first, *(number for number in range(self._count) if number != self.first)]

    def opened(self, number: int) -> None:
        """The host of that number has accepted a connection."""
        self.first = number

    def failed(self) -> None:
        """That connection did not last."""
        self.first = (self.first + 1) % self._count


class VersionChoice:
    """Which MQTT version to try first: 5, or 3.1.1 once the broker has shown that it knows no other.

    Silence proves less than words: a broker that crashes, or a proxy before one that is down, hangs up too. So it
    takes two silent fallbacks in a row, and after three failures of 3.1.1 alone 5 gets its chance again.
    """

    def __init__(self) -> None:
        self.first = MQTT_5
        self._silences = 0
        self._failures = 0

    def accepted(self, version: int) -> None:
        """The version tried first was accepted."""
        self._failures = 0
        if version == MQTT_5:
            self._silences = 0

    def fell_back(self, *, said_so: bool) -> None:
        """3.1.1 was accepted after 5 was not; `said_so` if the broker gave the version as the reason."""
        self._silences += 1
        self._failures = 0
        if said_so or self._silences >= 2:
            self.first = MQTT_3_1_1

    def failed(self) -> None:
        """The version tried first failed, for reasons of its own."""
        self._failures += 1
        if self._failures >= 3:
            self.first = MQTT_5
            self._silences = self._failures = 0


class Pauses:
    """How long to wait before connecting again: longer each time, and at random, for many may have lost one broker.

    Attempts that fail and connections that do not last are counted apart. Where a broker is killed again and again,
    each life of it begins the pauses anew; they grow without an end only where it is there and will not keep this
    client, as in a fight for a client id. `choose(low, high)` picks the pause.
    """

    def __init__(self, choose: Callable[[float, float], float] = random.uniform) -> None:
        self._choose = choose
        self._failures = 0
        self.cut_short = 0
        """Connections in a row that ended early, with no failed attempt between them: the broker was there."""

    def next(self, lived: float | None) -> float:
        """The pause, in seconds, after a connection that lived so many seconds; None if none came about."""
        if lived is None:
            self.cut_short = 0
            self._failures += 1
        else:
            self._failures = 0
            self.cut_short = self.cut_short + 1 if lived < STEADY else 0
        growth = max(self._failures, self.cut_short, 1) - 1
        return self._choose(0.0, min(_FIRST_PAUSE * 2.0 ** min(growth, 10), _LONGEST_PAUSE))
