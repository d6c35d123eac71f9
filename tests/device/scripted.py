"""A broker that does what a test tells it to: for answers that no real broker gives on demand."""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """MQTT control packets."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class Packet(NamedTuple):
    """A control packet as it came."""

    kind: Kind
    flags: int
    body: bytes

    @property
    def packet_id(self) -> int:
        """The packet id of a PUBLISH (QoS 1), SUBSCRIBE, UNSUBSCRIBE or acknowledgement."""
        start = 2 + int.from_bytes(self.body[:2], "big") if self.kind is Kind.PUBLISH else 0
        return int.from_bytes(self.body[start : start + 2], "big")

    @property
    def topic(self) -> str:
        """The topic of a PUBLISH."""
        return self.body[2 : 2 + int.from_bytes(self.body[:2], "big")].decode()

    @property
    def rest(self) -> bytes:
        """What follows topic and packet id of a PUBLISH: properties on MQTT 5, and the payload."""
        return self.body[4 + int.from_bytes(self.body[:2], "big") :]


class Wire:
    """One client's connection, seen from the broker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.version = 5
        self._reader = reader
        self._writer = writer

    async def read(self) -> Packet:
        """Return the next packet; raises asyncio.IncompleteReadError at the end of the connection."""
        first = (await self._reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await self._reader.readexactly(1))[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        return Packet(Kind(first >> 4), first & 15, await self._reader.readexactly(length))

    async def expect(self, kind: Kind) -> Packet:
        """Return the next packet, which must be of this kind."""
        packet = await self.read()
        assert packet.kind is kind, packet
        return packet

    async def accept(self, properties: bytes = b"", *, session_present: bool = False) -> Packet:
        """Read CONNECT and accept it, with these properties on MQTT 5."""
        connect = await self.expect(Kind.CONNECT)
        self.version = connect.body[6]
        self.send(self.connack(properties, session_present=session_present))
        return connect

    def connack(self, properties: bytes = b"", *, code: int = 0, session_present: bool = False) -> bytes:
        """A CONNACK for the version of the CONNECT that was read."""
        body = bytes([session_present, code])
        return encoded(Kind.CONNACK, body + (bytes([len(properties)]) + properties if self.version == 5 else b""))

    async def grant(self) -> Packet:
        """Read SUBSCRIBE (of one filter) and grant it."""
        packet = await self.expect(Kind.SUBSCRIBE)
        self.granted(packet)
        return packet

    def granted(self, packet: Packet) -> None:
        """Send the SUBACK of a SUBSCRIBE of one filter."""
        body = struct.pack(">H", packet.packet_id) + (b"\0" if self.version == 5 else b"")
        self.send(encoded(Kind.SUBACK, body + b"\x01"))

    def acknowledge(self, packet: Packet, code: int | None = None) -> None:
        """Send the PUBACK of a PUBLISH."""
        body = struct.pack(">H", packet.packet_id)
        self.send(encoded(Kind.PUBACK, body if code is None else body + bytes([code])))

    def publish(self, topic: bytes, payload: bytes, *, packet_id: int = 1, qos: int = 1, flags: int = 0) -> bytes:
        """A PUBLISH packet."""
        identifier = struct.pack(">H", packet_id) if qos else b""
        properties = b"\0" if self.version == 5 else b""
        body = struct.pack(">H", len(topic)) + topic + identifier + properties + payload
        return encoded(Kind.PUBLISH, body, flags | qos << 1)

    def send(self, data: bytes) -> None:
        """Send bytes in one piece: one TLS record, where there is TLS."""
        self._writer.write(data)

    def close(self) -> None:
        """End the connection."""
        self._writer.close()


async def acknowledge_all(wire: Wire) -> None:
    """A script's end: grant and acknowledge whatever comes."""
    while True:
        packet = await wire.read()
        match packet.kind:
            case Kind.PUBLISH:
                wire.acknowledge(packet)
            case Kind.SUBSCRIBE:
                wire.granted(packet)
            case Kind.PINGREQ:
                wire.send(encoded(Kind.PINGRESP))
            case _:
                pass


def encoded(kind: Kind, body: bytes = b"", flags: int = 0) -> bytes:
    """A control packet as bytes."""
    length, rest = b"", len(body)
    while True:
        rest, digit = divmod(rest, 128)
        length += bytes([digit | (128 if rest else 0)])
        if not rest:
            return bytes([kind << 4 | flags]) + length + body


@contextlib.asynccontextmanager
async def scripted(
    *scripts: Callable[[Wire], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncGenerator[int]:
    """Listen on a port, which is yielded; each connection gets the next script, those after the last one the last.

    A script that returns leaves the connection open until the context ends. One that fails fails the test.
    """
    failures: list[Exception] = []
    writers: list[asyncio.StreamWriter] = []
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        script = scripts[min(len(writers), len(scripts) - 1)]
        writers.append(writer)
        try:
            await script(Wire(reader, writer))
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
        for writer in writers:
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failures:
        raise failures[0]


@contextlib.asynccontextmanager
async def without_mqtt_5(host: str, port: int) -> AsyncGenerator[int]:
    """Stand before a broker, on the port that is yielded, and refuse MQTT 5 as a broker that only knows 3.1.1 does."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers = [writer]
        try:
            connect = await reader.readexactly(16)
            level = connect[connect.index(b"MQTT") + 4]
            if level == 5:
                writer.write(encoded(Kind.CONNACK, b"\0\x84\0"))
                return
            onward_reader, onward_writer = await asyncio.open_connection(host, port)
            writers.append(onward_writer)
            onward_writer.write(connect)
            await asyncio.gather(pass_on(reader, onward_writer), pass_on(onward_reader, writer))
        except (asyncio.IncompleteReadError, OSError):
            pass  # one of the two ended it
        finally:
            for each in writers:
                each.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
