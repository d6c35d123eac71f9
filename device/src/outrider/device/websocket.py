"""MQTT over WebSocket (RFC 6455; MQTT 5.0, section 6): the same non-blocking socket, with frames around the bytes.

The only file that imports `websockets`, and of that its protocol without I/O. Frames are decoded as they are read, in
slices, so that a burst of small ones is shared out over the turns of the loop like the packets in them; and everything
sent in one turn leaves in one frame.
"""

import asyncio
import logging
from typing import Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHeader, InvalidStatus, InvalidUpgrade, InvalidURI, NegotiationError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from .address import Address
from .stream import BufferedSocket, Refusal

_MQTT: Final = Subprotocol("mqtt")
_LARGEST_FRAME: Final = 65_536
"""Bytes of a frame that is sent: brokers and proxies may limit frames, and a packet may span several."""
_LARGEST_MESSAGE: Final = 268_435_460
"""Bytes of a message that is taken: as many as an MQTT packet can have."""
_SLICE: Final = 1024
"""Bytes that are decoded at once: at most five hundred frames, which take a few milliseconds."""
_SILENT: Final = logging.getLogger("outrider.websocket")
_SILENT.setLevel(logging.CRITICAL)
"""What `websockets` logs holds the first bytes of each frame, and so the password."""


class WebSocket(BufferedSocket):
    """A WebSocket in the shape of a non-blocking socket; it can be used once `ready` has returned."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self._address = address
        try:
            uri = parse_uri(f"{address.scheme}://{address.place}{address.path}")
        except InvalidURI as error:
            raise Refusal(f"its name cannot stand in a WebSocket's request ({error})") from None
        uri.path = address.path  # `websockets` escapes it once more where the host is not ASCII
        self._protocol = ClientProtocol(uri, subprotocols=[_MQTT], max_size=_LARGEST_MESSAGE, logger=_SILENT)
        self._upgraded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._coded = b""
        self._fed = 0
        self._end: Refusal | None = None

    async def ready(self) -> None:
        """Return when the broker has agreed to speak MQTT over this WebSocket.

        :raises OSError: it has not; `Refusal` if it said so.
        """
        await self._upgraded

    def recv(self, buffer_size: int) -> bytes:
        """Take up to `buffer_size` bytes of what has come; b"" when the connection has ended.

        :raises BlockingIOError: nothing is there now.
        """
        while not super().pending() and self._fed < len(self._coded):
            self._decode()
        chunk = super().recv(buffer_size)
        self._close_at_the_end()
        return chunk

    def pending(self) -> int:
        """How many received bytes have not been read; while frames are not decoded they are counted whole."""
        return super().pending() + len(self._coded) - self._fed

    def skip(self, count: int) -> None:
        """Take `count` bytes that `arrived` has shown."""
        super().skip(count)
        self._close_at_the_end()

    def close(self) -> None:
        """Send what is still unsent and a close frame, then close."""
        self.flush()
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
            self._reply()
        super().close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.BaseProtocol."""
        super().connection_made(transport)
        self._protocol.send_request(self._protocol.connect())
        self._reply()

    def eof_received(self) -> None:
        """Part of asyncio.BufferedProtocol."""
        if not self._upgraded.done():
            self._protocol.receive_eof()
            self._see_the_answer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.BaseProtocol."""
        if not self._upgraded.done():
            if exc is None or isinstance(exc, ConnectionError):
                exc = Refusal(_in_words(EOFError(), self._address))
            self._refuse(exc)
        super().connection_lost(self._end or exc)

    def _arrived(self, data: bytes) -> None:
        self._coded = self._coded[self._fed :] + data
        self._fed = 0
        if self._upgraded.done():
            self.on_data()
            return
        while not self._upgraded.done() and self._fed < len(self._coded):
            self._decode()
            self._see_the_answer()

    def _write(self, data: bytes | bytearray) -> None:
        if self._protocol.state is not State.OPEN:  # it is ending: nobody would read it
            return
        for start in range(0, len(data), _LARGEST_FRAME):
            self._protocol.send_binary(data[start : start + _LARGEST_FRAME])
        self._reply()

    def _decode(self) -> None:
        """Decode the next slice of what has come, and answer pings and a close frame."""
        part = self._coded[self._fed : self._fed + _SLICE]
        self._fed += len(part)
        protocol = self._protocol
        protocol.receive_data(part)
        payloads: list[bytes | bytearray | memoryview] = []
        for event in protocol.events_received():
            if not isinstance(event, Frame):
                continue
            # A packet may be cut by frames and by fragments of frames anywhere, so all that counts is their order.
            match event.opcode:
                case Opcode.BINARY | Opcode.CONT:
                    payloads.append(event.data)
                case Opcode.TEXT:
                    protocol.fail(CloseCode.UNSUPPORTED_DATA, "MQTT is binary")
                    self._end = Refusal("the broker sent text over the WebSocket, which cannot be MQTT")
                    break
                case _:
                    pass
        if payloads:
            self._keep(b"".join(payloads))
        self._reply()
        if protocol.state is not State.OPEN and self._upgraded.done():
            self._end = self._end or self._reason()
            self._coded, self._fed = b"", 0
            self._close_at_the_end()

    def _reason(self) -> Refusal:
        """Why the WebSocket is ending, by its own means."""
        if closed := self._protocol.close_rcvd:
            said = f" {closed.reason!r}" if closed.reason else ""
            return Refusal(f"the broker closed the WebSocket (code {closed.code}{said})")
        return Refusal(f"the broker broke the rules of WebSocket ({self._protocol.parser_exc})")

    def _reply(self) -> None:
        """Write what the protocol wants to say."""
        super()._write(b"".join(self._protocol.data_to_send()))

    def _close_at_the_end(self) -> None:
        """Close once everything that came before the end has been read."""
        if self._end is not None and not super().pending() and self._transport is not None:
            self._transport.close()

    def _see_the_answer(self) -> None:
        """Look whether the opening handshake is over, and how."""
        protocol = self._protocol
        if self._upgraded.done():
            return
        if (failure := protocol.handshake_exc) is not None:
            self._refuse(Refusal(_in_words(failure, self._address)))
        elif protocol.state is not State.CONNECTING:
            if protocol.subprotocol == _MQTT:
                self._upgraded.set_result(None)
            else:
                self._refuse(Refusal(_in_words(NegotiationError("no subprotocol"), self._address)))

    def _refuse(self, error: Exception) -> None:
        self._upgraded.set_exception(error)
        self._upgraded.exception()  # whoever opens it may have been cancelled: then nobody asks
        self.abort()


def _in_words(failure: Exception, address: Address) -> str:
    match failure:
        case InvalidStatus():
            response = failure.response
            status = f"HTTP {response.status_code} {_printable(response.reason_phrase)}".rstrip()
            match response.status_code:
                case 401 | 403 | 407:
                    advice = "it, or a proxy before it, lets nobody in there"
                case 301 | 302 | 303 | 307 | 308:
                    advice = f"it sends to {_printable(response.headers.get('Location', 'somewhere else'))}"
                case 500 | 502 | 503 | 504:
                    advice = "is the broker behind it running?"
                case _:
                    advice = "check the path in the URL; most brokers have /mqtt"
            return f"it refused the WebSocket at {address.path} ({status}): {advice}"
        case NegotiationError():
            return f"there is a WebSocket at {address.path}, but not for MQTT ({failure}): check the path in the URL"
        case InvalidUpgrade() | InvalidHeader():
            return f"there is no WebSocket at {address.path} ({_printable(str(failure))}): check the path in the URL"
        case _:
            others = "mqtts://" if address.tls else "mqtt://, or wss:// if it wants TLS,"
            return f"it does not speak WebSocket on this port: use {others} or the port of its WebSocket listener"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
