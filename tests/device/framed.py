"""A scripted broker behind a WebSocket: frames written by hand, for those that no real broker sends on demand."""

import asyncio
import base64
import contextlib
import hashlib
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from enum import IntEnum
from typing import NamedTuple

from tests.device.scripted import Wire


class Op(IntEnum):
    """What a frame is (RFC 6455, 5.2)."""

    CONT = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class Frame(NamedTuple):
    """A frame as it came from the client."""

    op: Op
    payload: bytes


def frame(payload: bytes, op: Op = Op.BINARY, *, fin: bool = True) -> bytes:
    """Encode a frame as a server sends it, without a mask."""
    size = len(payload)
    if size < 126:
        length = bytes([size])
    elif size < 65_536:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    return bytes([fin << 7 | op]) + length + payload


class FramedWire(Wire):
    """One client's connection, seen from the broker. What `send` takes leaves in one binary frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request = ""
        self.frames: list[Frame] = []
        """All that came."""
        self._raw = reader
        self._writer_of_frames = writer
        self._packets = asyncio.StreamReader()
        self._pump: asyncio.Task[None] | None = None
        super().__init__(self._packets, writer)

    async def upgrade(self, *headers: str, protocol: str | None = "mqtt") -> None:
        """Read the request and agree to it."""
        await self.read_request()
        key = self.header("Sec-WebSocket-Key")
        accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
        chosen = [f"Sec-WebSocket-Protocol: {protocol}"] if protocol else []
        self.answer(
            "101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept.decode()}",
            *chosen,
            *headers,
        )
        self._pump = asyncio.create_task(self._read_frames())

    async def read_request(self) -> None:
        """Read the request; `request` and `header` tell of it."""
        self.request = (await self._raw.readuntil(b"\r\n\r\n")).decode()

    def header(self, name: str) -> str:
        """Return a header of the request."""
        [value] = [
            line.partition(":")[2].strip()
            for line in self.request.splitlines()
            if line.lower().startswith(f"{name.lower()}:")
        ]
        return value

    def answer(self, status: str, *headers: str) -> None:
        """Answer the request."""
        self.send_raw("\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1"))

    def send(self, data: bytes) -> None:
        """Send MQTT in one frame."""
        self.send_raw(frame(data))

    def send_raw(self, data: bytes) -> None:
        """Send bytes in one piece, without a frame around them."""
        self._writer_of_frames.write(data)

    async def came(self, op: Op) -> Frame:
        """Wait for a frame of this kind."""
        while True:
            for each in self.frames:
                if each.op is op:
                    return each
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Read no more frames."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)

    async def _read_frames(self) -> None:
        try:
            while True:
                first, second = await self._raw.readexactly(2)
                assert first & 0x70 == 0, "no extension was agreed on"
                assert second & 0x80, "a client masks what it sends"
                size = second & 0x7F
                if size > 125:
                    size = int.from_bytes(await self._raw.readexactly(2 if size == 126 else 8), "big")
                mask = await self._raw.readexactly(4)
                key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
                masked = int.from_bytes(await self._raw.readexactly(size), "big")
                payload = (masked ^ key).to_bytes(size, "big")
                self.frames.append(Frame(Op(first & 0x0F), payload))
                if first & 0x0F in (Op.BINARY, Op.CONT):
                    self._packets.feed_data(payload)
        except (asyncio.IncompleteReadError, ConnectionError):
            self._packets.feed_eof()


@contextlib.asynccontextmanager
async def framed(
    *scripts: Callable[[FramedWire], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncGenerator[int]:
    """Listen on a port, which is yielded; each connection gets the next script, those after the last one the last.

    A script that returns leaves the connection open until the context ends. One that fails fails the test.
    """
    failures: list[Exception] = []
    wires: list[tuple[FramedWire, asyncio.StreamWriter]] = []
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        script = scripts[min(len(wires), len(scripts) - 1)]
        wire = FramedWire(reader, writer)
        wires.append((wire, writer))
        try:
            await script(wire)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client ended it
        except Exception as error:
            failures.append(error)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for wire, writer in wires:
            writer.transport.abort()
            await wire.stop()
    if failures:
        raise failures[0]
