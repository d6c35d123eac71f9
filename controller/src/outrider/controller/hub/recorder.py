"""Hears what is said between requesters and devices, and has it written down before the broker may forget it."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from outrider.device import Address, Connection, Message, Subscription
from outrider.schema import ANY, BrokerUnreachable, Code, InvalidMessage, LocalError, SubscribeRefused, Topics
from outrider.schema.codec import MAX_RESULT

from .records import Record
from .transcript import Transcript
from .writer import Writer

logger = logging.getLogger("outrider.hub")

SESSION_EXPIRY: Final = 7 * 86_400
"""Seconds for which the broker keeps what is said while no hub is there."""

RECEIVE_MAXIMUM: Final = 10_000
"""Messages that may wait for their commit: what the broker sends ahead of it."""

CLOSING: Final = 5.0
"""Seconds until what came is given up at the end: it is not acknowledged, so the broker still has it."""

_OVERHEAD: Final = 65_536
"""Bytes of a packet beside the largest result."""


class Recorder:
    """A context in which commands, progress, results, states and events are recorded by a writer.

    A message is acknowledged when its records are in the database, so a recorder that is killed gets it again. The
    session outlives it under its `name`, which therefore must be its own: what is said meanwhile waits at the broker.
    It does not wait for the broker: it connects, and connects again, as long as the context lasts. Leave it before the
    writer's: what came then is still written and acknowledged.

    Memory is bounded. While the database is away the broker sends no more than `receive_maximum` messages. Should it
    send these again over another connection, and the writer have no room, they are left unacknowledged and fetched
    later, by connecting once more.

    :param clock: the hub's, in Unix seconds.
    :ivar received: how many messages came.
    :ivar dropped: how many of them were no message of the protocol, by the code that a device would refuse them with.
    :ivar deaf: the filters that the broker does not let this client subscribe to.
    """

    def __init__(
        self,
        address: Address,
        topics: Topics,
        writer: Writer,
        *,
        name: str,
        receive_maximum: int = RECEIVE_MAXIMUM,
        session_expiry: int = SESSION_EXPIRY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.received = 0
        self.dropped: Counter[str] = Counter()
        self.deaf: list[str] = []
        self._transcript = Transcript(topics)
        self._topics = topics
        self._writer = writer
        self._clock = clock
        self._connection = Connection(
            address,
            client_id=name,
            receive=self._receive,
            session_expiry=session_expiry,
            receive_maximum=receive_maximum,
            max_packet_size=MAX_RESULT + _OVERHEAD,
        )
        self._subscribing: asyncio.Task[None] | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._last: asyncio.Future[None] | None = None
        self._ending = False

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        self._subscribing = asyncio.create_task(self._subscribe(), name="subscriptions of the recorder")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End, once all that came so far is written and acknowledged, or the writer does not do that in time."""
        self._ending = True
        for task in (self._subscribing, self._fetching):
            if task is not None:
                task.cancel()
        if self._last is not None and self._connection.connected:
            await asyncio.wait([self._last], timeout=CLOSING)
        await self._connection.disconnect()

    @property
    def connected(self) -> bool:
        """Whether the broker is there, and all that it lets this client hear is subscribed to."""
        return self._connection.connected and self._subscribing is not None and self._subscribing.done()

    async def wait_subscribed(self) -> None:
        """Return when the broker has confirmed the subscriptions: what is said from then on is recorded."""
        if self._subscribing is not None:
            await asyncio.shield(self._subscribing)

    async def _subscribe(self) -> None:
        topics = self._topics
        for filter in (
            topics.commands_to_device(ANY),
            topics.commands_to_group(ANY),
            topics.state(ANY),
            topics.progress(ANY, ANY),
            f"{topics.result(ANY)}/#",  # the topic without a requester is in it
            topics.event(ANY, ANY),
        ):
            # A session that the broker still has brings what came meanwhile, so what stands is asked for only once.
            subscription = Subscription(filter, retain_handling=0, retain_handling_again=1)
            try:
                await self._connection.subscribe(subscription)
            except SubscribeRefused as error:
                logger.error("%s", error)  # noqa: TRY400  # what happened is all in its words
                self.deaf.append(filter)
            except BrokerUnreachable:  # ended meanwhile
                return

    def _receive(self, messages: Sequence[Message]) -> asyncio.Future[None] | None:
        """Give what came to the writer; it is acknowledged when the future is done."""
        if self._ending or self._writer.full:
            return self._leave()
        now = self._clock()
        make = self._transcript.record
        records: list[Record] = []
        for message in messages:
            try:
                record = make(message, now)
            except InvalidMessage as error:
                self._drop(message, error.code, error)
                continue
            except Exception as error:  # what nobody thought of must not take along all that came with it
                self._drop(message, Code.INTERNAL, error)
                continue
            if record is not None:
                records.append(record)
        self.received += len(messages)
        if not records:
            return None
        try:
            self._last = self._writer.put(records)
        except LocalError:  # it has no room, or has ended before this
            return self._leave()
        return self._last

    def _leave(self) -> asyncio.Future[None]:
        """Leave what came unacknowledged: the broker keeps it, and sends it over another connection."""
        left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        left.cancel()
        if not self._ending and (self._fetching is None or self._fetching.done()):
            self._fetching = asyncio.create_task(self._fetch(), name="fetching what was left at the broker")
        return left

    async def _fetch(self) -> None:
        """Connect once more when what waits now has been written."""
        if self._last is not None:
            await asyncio.wait([self._last])
        self._connection.reconnect()

    def _drop(self, message: Message, code: Code, error: Exception) -> None:
        first = not self.dropped[code]
        self.dropped[code] += 1
        level = logging.WARNING if first or code is Code.INTERNAL else logging.DEBUG
        logger.log(level, "dropped what came on %r: %s", message.topic, error, exc_info=code is Code.INTERNAL)
