"""One direction of a connection: what waits to be sent, how fast, and whether anything passes at all."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from .packets import Packet

ROOM: Final = 1_048_576
"""Bytes that may wait to be sent before no more is read from the other side."""

SLICE: Final = 0.05
"""Seconds' worth of bytes that a throttled connection sends at once."""


class Piece(NamedTuple):
    """Bytes to be sent; one packet, or a part of what is no MQTT."""

    data: bytes
    packet: Packet | None


class Lane:
    """Sends to one end of a connection.

    :param rate: bytes a second that may be sent now, None without a limit.
    :param passed: called with each packet when it has been sent.
    :ivar gate: set while something passes.
    """

    def __init__(
        self, sink: asyncio.StreamWriter, rate: Callable[[], float | None], passed: Callable[[Packet], None]
    ) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        # `drain` then means that the system has taken everything, and so an end may follow.
        sink.transport.set_write_buffer_limits(high=0)
        self._sink = sink
        self._rate = rate
        self._passed = passed
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Piece] = deque()
        self._later: list[tuple[float, int, Piece]] = []
        self._behind: list[tuple[int, Piece]] = []
        self._size = 0
        self._sequence = 0
        self._sent = 0
        self._finishing = False
        self._closed = False
        self._filled = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()

    def send(self, piece: Piece) -> None:
        """Send this behind all that is to be sent already, and then what was to come behind it."""
        self._put(piece)
        self._sent += 1
        due = [each for place, each in self._behind if place <= self._sent]
        self._behind = [each for each in self._behind if each[0] > self._sent]
        for each in due:
            self._put(each)

    def send_at(self, when: float, piece: Piece) -> None:
        """Send this at a time of the event loop's clock."""
        if self._closed:
            return
        self._sequence += 1
        self._count(len(piece.data))
        heapq.heappush(self._later, (when, self._sequence, piece))
        self._loop.call_at(when, self._mature)

    def send_behind(self, count: int, piece: Piece) -> None:
        """Send this when so many others have been sent."""
        self._behind.append((self._sent + count, piece))

    def hurry(self) -> None:
        """Send now what was to be sent later, in the order in which it came."""
        later, self._later = sorted(self._later, key=lambda each: each[1]), []
        behind, self._behind = self._behind, []
        for _, _, piece in later:
            self._count(-len(piece.data))
            self._put(piece)
        for _, piece in behind:
            self._put(piece)

    def flush(self) -> None:
        """Hand all that is to be sent now to the system, however slow the connection is to be."""
        if self.gate.is_set():
            while self._queue:
                self._write(self._queue.popleft())

    def finish(self) -> None:
        """The other side has nothing more to send: end this direction once everything has been sent."""
        self._finishing = True
        self._filled.set()

    def close(self) -> list[Packet]:
        """Send no more, and return the packets that waited."""
        waiting = [*self._queue, *(each[2] for each in sorted(self._later)), *(each[1] for each in self._behind)]
        self._queue.clear()
        self._later.clear()
        self._behind.clear()
        self._closed = True
        self._filled.set()
        self.gate.set()
        self._roomy.set()
        return [piece.packet for piece in waiting if piece.packet]

    async def room(self) -> None:
        """Return when more may be read for this lane."""
        await self._roomy.wait()

    async def run(self) -> None:
        """Send, until `finish` has been called and all was sent.

        :raises OSError: the connection broke.
        """
        while True:
            await self._filled.wait()
            await self.gate.wait()
            if self._closed:
                return
            if self._queue:
                await self._step()
            elif self._finishing and self._behind:
                self.hurry()
            elif self._finishing and not self._later:
                await self._sink.drain()
                self._sink.write_eof()
                return
            else:
                self._filled.clear()

    async def _step(self) -> None:
        rate = self._rate()
        if rate is None:
            self.flush()
            await self._sink.drain()
            return
        size = max(1, int(rate * SLICE))
        piece = self._queue.popleft()
        if len(piece.data) > size:
            self._queue.appendleft(Piece(piece.data[size:], piece.packet))
            piece = Piece(piece.data[:size], None)
        self._write(piece)
        await self._sink.drain()
        await asyncio.sleep(len(piece.data) / rate)

    def _write(self, piece: Piece) -> None:
        self._count(-len(piece.data))
        self._sink.write(piece.data)
        if piece.packet:
            self._passed(piece.packet)

    def _put(self, piece: Piece) -> None:
        if self._closed:
            return
        self._count(len(piece.data))
        self._queue.append(piece)
        self._filled.set()

    def _mature(self) -> None:
        now = self._loop.time()
        # A timer may fire a little early, by the resolution of the clock.
        while self._later and self._later[0][0] <= now + 0.001:
            piece = heapq.heappop(self._later)[2]
            self._count(-len(piece.data))
            self.send(piece)
        self._filled.set()

    def _count(self, size: int) -> None:
        self._size += size
        if self._size < ROOM:
            self._roomy.set()
        else:
            self._roomy.clear()
