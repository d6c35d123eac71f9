"""The socket under paho, in the shape of a plain non-blocking one, buffered in both directions.

paho wants an object with a socket's methods, reads a packet's header in single bytes and writes each packet with its
own `send`. `BufferedSocket` gives it those methods over an asyncio transport: a read takes from what has already come,
however many packets one TLS record held, and everything sent in one turn of the loop leaves in one write.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final, cast

_IPPROTO_TCP: Final = socket.IPPROTO_TCP
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
_BUFFER, _LARGEST_BUFFER = 4096, 65_536
"""Bytes that one read takes. It begins small, for there may be thousands of connections, and doubles when it was full.

It is kept from read to read: an `asyncio.Protocol` gets 256 KiB from the kernel and gives them back at each one, which
took a tenth of a round trip's time on either side.
"""


class Refusal(ConnectionError):
    """The other side does not want this connection (any more); the message says why and fits after a colon."""


class BufferedSocket(asyncio.BufferedProtocol):
    """An open connection in the shape of a non-blocking socket.

    The owner sets `on_data` (bytes have come), `on_lost` (the connection has ended, with the exception if there was
    one) and `on_writable` (the peer takes data again after `writable` had become false).
    """

    def __init__(self) -> None:
        self.on_data: Callable[[], None] = _nothing
        self.on_lost: Callable[[Exception | None], None] = _nothing_with
        self.on_writable: Callable[[], None] = _nothing
        self.writable = True
        self.closed = asyncio.get_running_loop().create_future()
        """Done when the connection has ended on both sides."""
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._tcp: socket.socket | None = None
        self._arriving = memoryview(bytearray(_BUFFER))
        self._received = b""
        self._position = 0
        self._unsent: list[bytes | bytearray] = []

    async def ready(self) -> None:
        """Return when it can be used: at once, where nothing has to be agreed on first.

        :raises OSError: the other side does not agree.
        """

    def recv(self, buffer_size: int) -> bytes:
        """Take up to `buffer_size` bytes of what has come; b"" when the connection has ended.

        :raises BlockingIOError: nothing is there now.
        """
        position = self._position
        chunk = self._received[position : position + buffer_size]
        if chunk:
            self._position = position + len(chunk)
            return chunk
        if self._transport is None:
            return b""
        raise BlockingIOError

    def pending(self) -> int:
        """How many received bytes have not been read."""
        return len(self._received) - self._position

    def arrived(self) -> tuple[bytes, int]:
        """What has come, and the position in it up to which it has been read."""
        return self._received, self._position

    def skip(self, count: int) -> None:
        """Take `count` bytes that `arrived` has shown."""
        self._position += count

    def send(self, buffer: bytes | bytearray) -> int:
        """Take all of `buffer`; it leaves with the next `flush`.

        :raises ConnectionError: the connection has ended.
        """
        if self._transport is None:
            raise ConnectionResetError(errno.ECONNRESET, "the connection has ended")
        self._unsent.append(buffer)
        return len(buffer)

    def flush(self) -> None:
        """Write what `send` has taken, and acknowledge at once on TCP's level what has been read.

        A broker that leaves Nagle's algorithm on holds its next packet until then: measured with rumqttd, 44 ms a
        round trip against 0.12. The kernel falls back to delayed acknowledgements, so this is asked anew each time.
        """
        if self._transport is None:
            return
        if self._unsent:
            data = self._unsent[0] if len(self._unsent) == 1 else b"".join(self._unsent)
            self._unsent.clear()
            self._write(data)
        if _QUICKACK is not None and self._tcp is not None:
            try:
                self._tcp.setsockopt(_IPPROTO_TCP, _QUICKACK, 1)
            except OSError:  # closed by the peer in the meantime; the loop will say so
                self._tcp = None

    def close(self) -> None:
        """Send what is still unsent, then close."""
        if self._transport is not None:
            self.flush()
            self._transport.close()

    def abort(self) -> None:
        """Close at once; what is unsent is lost."""
        if self._transport is not None:
            self._transport.abort()

    def hold(self) -> None:
        """Receive nothing more until `release`; what has come can still be read."""
        if self._transport is not None:
            self._transport.pause_reading()

    def release(self) -> None:
        """Receive again."""
        if self._transport is not None:
            self._transport.resume_reading()

    def fileno(self) -> int:
        """The file descriptor, -1 once the connection has ended."""
        return -1 if self._socket is None else self._socket.fileno()

    def setblocking(self, flag: bool) -> None:
        """Do nothing: this socket never blocks."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.BaseProtocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._socket = cast("socket.socket | None", transport.get_extra_info("socket"))
        if self._socket is not None and self._socket.family in (socket.AF_INET, socket.AF_INET6):
            self._tcp = self._socket
            self._tcp.setsockopt(_IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Part of asyncio.BufferedProtocol."""
        return self._arriving

    def buffer_updated(self, nbytes: int) -> None:
        """Part of asyncio.BufferedProtocol."""
        data = bytes(self._arriving[:nbytes])
        if nbytes == len(self._arriving) < _LARGEST_BUFFER:
            self._arriving = memoryview(bytearray(2 * nbytes))
        self._arrived(data)

    def pause_writing(self) -> None:
        """Part of asyncio.BaseProtocol."""
        self.writable = False

    def resume_writing(self) -> None:
        """Part of asyncio.BaseProtocol."""
        self.writable = True
        self.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.BaseProtocol."""
        self._transport = self._socket = self._tcp = None
        self._unsent.clear()
        if not self.closed.done():
            self.closed.set_result(None)
        self.on_lost(exc)

    def _arrived(self, data: bytes) -> None:
        """Bytes have come from the network."""
        self._keep(data)
        self.on_data()

    def _keep(self, data: bytes) -> None:
        """Let `recv` find `data` after what it has not taken yet."""
        # paho keeps partial packets itself, so the buffer is mostly empty here.
        self._received = self._received[self._position :] + data if self._position < len(self._received) else data
        self._position = 0

    def _write(self, data: bytes | bytearray) -> None:
        """Give bytes to the network."""
        if self._transport is not None:
            self._transport.write(data)


def _nothing() -> None:
    pass


def _nothing_with(_: Exception | None) -> None:
    pass
