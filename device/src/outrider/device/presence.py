"""How a device stands on the broker: its retained state and about, its pools, its session, its will."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

from outrider.schema import (
    About,
    Decoder,
    Encoding,
    InvalidMessage,
    JournalError,
    Member,
    State,
    Topics,
    encode,
    is_name,
)
from outrider.schema.messages import MAX_SESSION

from .connection import Message, Will
from .definition import Definition
from .journal import Journal

logger = logging.getLogger("outrider.device")

BELIEVED = MAX_SESSION // 2
"""The greatest session that is believed of somebody else; the clock reaches it in 2112. A device goes one above what it
believes, so that nobody can push it to the end of the numbers."""

HEALING = 1.0
"""Seconds between two corrections of the own state at least."""

_STATE = Decoder(State)


class Presence:
    """The state and the about of one device, and what is done when another state stands in the place of its own.

    :ivar session: the session that it is in.
    :ivar published: the state that it has published last, empty before.
    :param about: with its digest.
    :param publish: takes a topic and a payload to be retained; it never raises.
    :param reconnect: ends the network connection, so that the next one begins with a higher session.
    :param clock: Unix seconds.
    """

    def __init__(
        self,
        definition: Definition,
        topics: Topics,
        about: tuple[About, str],
        *,
        journal: Journal,
        publish: Callable[[str, bytes], None],
        reconnect: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.session = 0
        self._definition = definition
        self._topics = topics
        self._about, self._digest = about
        self._journal = journal
        self._publish = publish
        self._reconnect = reconnect
        self._clock = clock
        self._since = clock()
        self._foreign_session = 0
        self.published = b""
        self._status = ""
        self._healing: asyncio.TimerHandle | None = None
        self._healed = float("-inf")

    def changed(self) -> None:
        """A new status begins now."""
        self._since = self._clock()

    def will(self) -> Will:
        """Begin a new session, and say what the broker shall publish if it ends without a word."""
        self.session = self._journal.next_session(self._clock(), above=self._foreign_session)
        with suppress(JournalError):  # the clock makes it grow, too
            self._journal.commit()
        return Will(self._topics.state(self._definition.id), encode(self._state("lost"), Encoding.JSON))

    def publish(self, status: str) -> None:
        """Publish the state."""
        self._status = status
        self.published = encode(self._state(status), Encoding.JSON)
        self._publish(self._topics.state(self._definition.id), self.published)
        if status == "terminated":
            self._leave(self._definition.pools)

    def publish_about(self) -> None:
        """Publish what this device can do."""
        self._publish(self._topics.about(self._definition.id), encode(self._about, Encoding.JSON))

    def publish_pools(self) -> None:
        """Say in each of its pools that this device is a member."""
        definition = self._definition
        idempotent = sorted(name for name, command in definition.commands.items() if command.idempotent)
        member = encode(Member(device=definition.id, idempotent=idempotent), Encoding.JSON)
        for pool in definition.pools:
            self._publish(self._topics.member(pool, definition.id), member)

    def receive(self, message: Message) -> None:
        """See what stands in the place of the own state: correct it, or overtake a newer session."""
        if message.payload == self.published:
            return
        try:
            state, _ = _STATE.decode(message.payload)
            session = state.session
        except InvalidMessage:
            session = 0
        else:
            if message.retain and session < self.session:  # what an earlier process of this device has left
                self._leave(pool for pool in state.pools if pool not in self._definition.pools)
        if self.session < session <= BELIEVED:
            self._foreign_session = max(self._foreign_session, session)
            self._heal_soon()
        elif not message.retain or session > BELIEVED:
            # An older copy that a subscription brings needs nothing: each connect publishes the state anyway.
            self._heal_soon()

    def close(self) -> None:
        """Correct nothing any more."""
        if self._healing:
            self._healing.cancel()

    def _leave(self, pools: Iterable[str]) -> None:
        for pool in pools:
            if is_name(pool):
                self._publish(self._topics.member(pool, self._definition.id), b"")

    def _heal_soon(self) -> None:
        if self._healing is None:
            loop = asyncio.get_running_loop()
            self._healing = loop.call_at(max(loop.time(), self._healed + HEALING), self._heal)

    def _heal(self) -> None:
        self._healing = None
        self._healed = asyncio.get_running_loop().time()
        if self._foreign_session > self.session:
            logger.warning("%s: a newer session stands in its state; taking a higher one", self._definition.id)
            self._reconnect()
        elif self._status:  # else this connection's first state is still to come, and corrects it
            self.publish(self._status)

    def _state(self, status: str) -> State:
        definition = self._definition
        return State(
            device=definition.id,
            status=status,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            session=self.session,
            since=self._since,
            groups=list(definition.groups),
            pools=list(definition.pools),
            tags=dict(definition.tags),
            about=self._digest,
        )
