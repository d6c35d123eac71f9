"""Real clients that reach a broker through a fault proxy."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence

from outrider.controller.faults import FaultProxy
from outrider.device import Address, Connection, Message, Subscription, Will
from tests.brokers import BrokerUnderTest

LIMIT = 10.0


class Inbox:
    """What a connection received, in order."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._changed = asyncio.Event()

    def __call__(self, batch: Sequence[Message]) -> None:
        self.messages.extend(batch)
        self._changed.set()

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.messages]

    async def until(self, count: int) -> list[bytes]:
        """Wait for so many and return the payloads of all."""
        async with asyncio.timeout(LIMIT):
            while len(self.messages) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.payloads


def proxied(broker: BrokerUnderTest, version: str = "5", *, seed: int = 0) -> FaultProxy:
    """A proxy to where the version is spoken."""
    return FaultProxy(broker.address_for(version), seed=seed)


@contextlib.asynccontextmanager
async def connected(
    address: str,
    name: str,
    *filters: str,
    receive: Callable[[Sequence[Message]], None] | None = None,
    will: Will | None = None,
    keepalive: int = 30,
    session_expiry: int = 0,
    lost: Callable[[str], None] | None = None,
) -> AsyncGenerator[Connection]:
    """A connection of ours, subscribed to these."""
    async with Connection(
        Address.parse(address),
        client_id=name,
        receive=receive or Inbox(),
        will=lambda: will,
        keepalive=keepalive,
        session_expiry=session_expiry,
        on_disconnect=lost,
    ) as connection:
        await connection.wait_connected(timeout=LIMIT)
        await connection.subscribe(*map(Subscription, filters))
        yield connection
