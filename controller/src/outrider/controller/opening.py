"""Opening a connection for people, who are told at once where it does not come about."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from outrider.device import Connection
from outrider.schema import BrokerUnreachable

OPENING: Final = 15.0
"""Seconds for the broker to confirm the subscriptions and send what stands on it."""


async def opened(connection: Connection, subscribe: Callable[[], Awaitable[object]]) -> None:
    """Connect and subscribe. Where either fails the connection has ended; else whoever opened it ends it.

    :param subscribe: returns when all subscriptions are confirmed.
    :raises BrokerUnreachable: at the first attempt that fails, or the broker does not answer subscriptions.
    """
    await connection.__aenter__()
    try:
        await connection.wait_connected(retry=False)
        async with asyncio.timeout(OPENING):
            await subscribe()
    except TimeoutError:
        connection.abort()
        raise BrokerUnreachable(
            f"The broker at {connection.address.place} accepted the connection and then answered no subscription "
            f"within {OPENING:g} s: look at its log, or try again"
        ) from None
    except BaseException:
        await connection.__aexit__(None, None, None)
        raise
