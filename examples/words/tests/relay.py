"""One address for several hubs, as a load balancer gives them: a TCP relay."""

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from itertools import cycle


class Relay:
    """Takes each new connection to the next of the ports in turn, and past those where nobody listens.

    :ivar carried: how many connections each port got.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self.url = ""
        self.carried: Counter[int] = Counter()
        self._turns = cycle([*ports[turn:], *ports[:turn]] for turn in range(len(ports)))

    async def carry(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Carry a connection until one side ends it."""
        with contextlib.closing(writer):
            for port in next(self._turns):
                try:
                    answers, requests = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    continue
                self.carried[port] += 1
                with contextlib.closing(requests):
                    ways = [asyncio.create_task(_copy(*way)) for way in ((reader, requests), (answers, writer))]
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                    for way in ways:
                        way.cancel()
                return


@contextlib.asynccontextmanager
async def relay(*urls: str) -> AsyncGenerator[Relay]:
    """An address before these, as long as the context is open."""
    relay = Relay([int(url.rpartition(":")[2]) for url in urls])
    async with asyncio.TaskGroup() as tasks:

        def connected(reader: StreamReader, writer: StreamWriter) -> None:
            tasks.create_task(relay.carry(reader, writer))

        async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
            relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield relay


async def _copy(reader: StreamReader, writer: StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while some := await reader.read(65_536):
            writer.write(some)
            await writer.drain()
