"""The socket under paho: opened by asyncio without blocking the loop, TLS included, buffered in both directions.

paho wants an object with a socket's methods, reads a packet's header in single bytes and writes each packet with its
own `send`. `BufferedSocket` gives it those methods over an asyncio transport: a read takes from what has already come,
however many packets one TLS record held, and everything sent in one turn of the loop leaves in one write.
"""

import asyncio
import errno
import re
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast

from .address import Address

_IPPROTO_TCP: Final = socket.IPPROTO_TCP
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
_TLS_SHUTDOWN = 1.0
_BUFFER, _LARGEST_BUFFER = 4096, 65_536
"""Bytes that one read takes. It begins small, for there may be thousands of connections, and doubles when it was full.

It is kept from read to read: an `asyncio.Protocol` gets 256 KiB from the kernel and gives them back at each one, which
took a tenth of a round trip's time on either side.
"""
_SECOND_FAMILY = 0.25
"""Seconds until the next of a host's addresses is tried beside one that does not answer (RFC 8305)."""


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
        self._arriving = memoryview(bytearray(_BUFFER))
        self._received = b""
        self._position = 0
        self._unsent: list[bytes | bytearray] = []

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
            self._transport.write(self._unsent[0] if len(self._unsent) == 1 else b"".join(self._unsent))
            self._unsent.clear()
        if _QUICKACK is not None and self._socket is not None:
            try:
                self._socket.setsockopt(_IPPROTO_TCP, _QUICKACK, 1)
            except OSError:  # closed by the peer in the meantime; the loop will say so
                self._socket = None

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
        if self._socket is not None:
            self._socket.setsockopt(_IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Part of asyncio.BufferedProtocol."""
        return self._arriving

    def buffer_updated(self, nbytes: int) -> None:
        """Part of asyncio.BufferedProtocol."""
        data = bytes(self._arriving[:nbytes])
        if nbytes == len(self._arriving) < _LARGEST_BUFFER:
            self._arriving = memoryview(bytearray(2 * nbytes))
        # paho keeps partial packets itself, so the buffer is empty here but for the time before `on_data` is set.
        self._received = self._received[self._position :] + data if self.pending() else data
        self._position = 0
        self.on_data()

    def pause_writing(self) -> None:
        """Part of asyncio.BaseProtocol."""
        self.writable = False

    def resume_writing(self) -> None:
        """Part of asyncio.BaseProtocol."""
        self.writable = True
        self.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.BaseProtocol."""
        self._transport = self._socket = None
        self._unsent.clear()
        if not self.closed.done():
            self.closed.set_result(None)
        self.on_lost(exc)


async def open_socket(address: Address, *, tls: ssl.SSLContext | None = None, timeout: float) -> BufferedSocket:
    """Connect to `address`, TLS handshake included, within `timeout` seconds and without blocking the loop.

    `tls` replaces the context that would be made from the address's files.

    :raises OSError: no connection, or TLS failed; `reason_of` puts it into words.
    :raises TimeoutError: nothing within `timeout`.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout):
        if address.tls:
            # In a thread: loading the system's authorities takes tens of milliseconds.
            context = tls or await loop.run_in_executor(None, _context, address)
            _, opened = await loop.create_connection(
                BufferedSocket,
                address.host,
                address.port,
                ssl=context,
                server_hostname=address.host,
                ssl_handshake_timeout=timeout,
                ssl_shutdown_timeout=_TLS_SHUTDOWN,
                happy_eyeballs_delay=_SECOND_FAMILY,
            )
        else:
            _, opened = await loop.create_connection(
                BufferedSocket, address.host, address.port, happy_eyeballs_delay=_SECOND_FAMILY
            )
    return opened


def reason_of(error: Exception | None, address: Address) -> str:
    """Why a connection could not be opened or has ended, in words that fit after a colon."""
    match error:
        case None:
            return "the broker closed the connection"
        case TimeoutError():
            return "it does not answer"
        case socket.gaierror():
            return f"no such host as {address.host}"
        case ssl.SSLCertVerificationError():
            return f"its TLS certificate is not trusted ({error.verify_message}): name its authority with ?ca=FILE"
        case ssl.SSLError() if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return "it does not speak TLS on this port: use mqtt://, or the port of its TLS listener"
        case ssl.SSLError():
            return f"TLS failed ({error.reason or error})"
        case FileNotFoundError() | PermissionError() | IsADirectoryError() if error.filename is not None:
            return f"cannot read {error.filename} ({error.strerror})"
        case OSError():
            return _reason_of_code(error)
        case _:
            return str(error) or type(error).__name__


def _reason_of_code(error: OSError) -> str:
    code = error.errno
    if code is None and (listed := re.search(r"\[Errno (\d+)\]", str(error))):  # "Multiple exceptions: …" of asyncio
        code = int(listed[1])
    match code:
        case errno.ECONNREFUSED:
            return "nothing listens there (connection refused)"
        case errno.EHOSTUNREACH | errno.ENETUNREACH:
            return "no route to it"
        case errno.ECONNRESET | errno.EPIPE:
            return "the broker cut the connection"
        case errno.ETIMEDOUT:
            return "it does not answer"
        case _:
            return str(error) or type(error).__name__


def _context(address: Address) -> ssl.SSLContext:
    for file in (address.ca, address.cert, address.key):
        if file is not None:  # ssl's own FileNotFoundError does not say which
            with open(file, "rb"):  # noqa: PTH123
                pass
    context = ssl.create_default_context(cafile=address.ca)
    if address.cert is not None:
        context.load_cert_chain(address.cert, address.key)
    return context


def _nothing() -> None:
    pass


def _nothing_with(_: Exception | None) -> None:
    pass
