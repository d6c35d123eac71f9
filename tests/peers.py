"""A hand-written MQTT client on bare paho, with which tests speak to devices as an outsider would."""

import asyncio
import contextlib
import json
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

QUICKACK = getattr(socket, "TCP_QUICKACK", None)


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it arrived. `properties` is what MQTT 5 said beside it, by paho's names."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    properties: Mapping[str, object] = field(default_factory=dict[str, object])

    def json(self) -> dict[str, Any]:
        """Decode the payload, which must be a JSON object."""
        return msgspec.json.decode(self.payload, type=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when the peer is gone without a word."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


class Peer:
    """One MQTT connection, without reconnection. Everything that arrives is kept in `messages`, in order.

    `version` is `"5"` or `"3.1.1"`, `clean` the clean start (clean session), `session_expiry` seconds (MQTT 5).
    """

    def __init__(
        self,
        address: str,
        version: str = "5",
        *,
        client_id: str | None = None,
        clean: bool = True,
        session_expiry: int = 0,
        keep_alive: int = 60,
        receive_maximum: int | None = None,
        will: Will | None = None,
        manual_ack: bool = False,
    ) -> None:
        self.version = version
        self.client_id = client_id or f"peer-{secrets.token_hex(6)}"
        self.messages: list[Received] = []
        self.session_present = False
        self.connack: Mapping[str, object] = {}
        """Properties of the CONNACK (MQTT 5)."""
        self.disconnect_reason: ReasonCode | None = None
        """Why the connection ended, once it has."""
        self._parts = urlsplit(address)
        self._keep_alive = keep_alive
        self._clean = clean
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            self.client_id,
            protocol=mqtt.MQTTv5 if self._is_5 else mqtt.MQTTv311,
            clean_session=None if self._is_5 else clean,
            manual_ack=manual_ack,
            reconnect_on_failure=False,
        )
        self._client.max_inflight_messages_set(65_535)
        if self._parts.username:
            self._client.username_pw_set(unquote(self._parts.username), unquote(self._parts.password or ""))
        if self._parts.scheme == "mqtts":
            self._client.tls_set()  # pyright: ignore[reportUnknownMemberType]  # paho types it in part
        if will:
            self._client.will_set(will.topic, will.payload, will.qos, will.retain)
        self._connect_properties = _new_properties(
            PacketTypes.CONNECT, SessionExpiryInterval=session_expiry or None, ReceiveMaximum=receive_maximum
        )
        self._used = False
        self._acks: dict[tuple[str, int], asyncio.Future[Sequence[ReasonCode]]] = {}
        self._early: dict[tuple[str, int], Sequence[ReasonCode]] = {}
        self._changed: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._connected: asyncio.Future[ReasonCode]
        self._disconnected: asyncio.Event

    @property
    def _is_5(self) -> bool:
        return self.version == "5"

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self, timeout: float = 10.0) -> None:
        """Connect and wait for the CONNACK.

        :raises ConnectionError: refused; says why.
        """
        self._loop = asyncio.get_running_loop()
        self._changed, self._disconnected = asyncio.Event(), asyncio.Event()
        self._connected = self._loop.create_future()
        client = self._client
        client.on_socket_open = _no_delay
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = lambda _c, _u, mid, reason, _p: self._later(lambda: self._resolve("publish", mid, [reason]))
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: self._later(
            lambda: self._resolve("subscribe", mid, reasons)
        )
        client.on_unsubscribe = lambda _c, _u, mid, _r, _p: self._later(lambda: self._resolve("unsubscribe", mid, []))
        port = self._parts.port or (8883 if self._parts.scheme == "mqtts" else 1883)

        def open_socket() -> None:
            if self._is_5:
                client.connect(
                    self._parts.hostname or "localhost",
                    port,
                    self._keep_alive,
                    clean_start=self._clean,
                    properties=self._connect_properties,
                )
            else:
                client.connect(self._parts.hostname or "localhost", port, self._keep_alive)

        async with asyncio.timeout(timeout):
            await asyncio.to_thread(open_socket)
            client.loop_start()
            reason = await self._connected
        if reason.is_failure:
            await self._stop()
            raise ConnectionError(str(reason))

    async def subscribe(
        self,
        *filters: str,
        qos: int = 1,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        timeout: float = 10.0,
    ) -> Sequence[ReasonCode]:
        """Subscribe and return the broker's reason codes, one for each filter."""
        options = SubscribeOptions(qos, retainAsPublished=retain_as_published, retainHandling=retain_handling)

        def subscribe() -> tuple[MQTTErrorCode, int | None]:
            if self._is_5:
                return self._client.subscribe([(name, options) for name in filters])
            return self._client.subscribe([(name, qos) for name in filters])

        code, mid = subscribe()
        if code == mqtt.MQTT_ERR_NO_CONN and not self._used:
            # rumqttd rarely closes a connection at its very beginning, made in the moment when another ended.
            await self._stop()
            await self.connect(timeout)
            code, mid = subscribe()
        assert code == mqtt.MQTT_ERR_SUCCESS, code
        assert mid is not None
        self._used = True
        return await self._acknowledged("subscribe", mid, timeout)

    async def unsubscribe(self, *filters: str, timeout: float = 10.0) -> None:
        """Unsubscribe and wait for the broker's acknowledgement."""
        code, mid = self._client.unsubscribe(list(filters))
        assert code == mqtt.MQTT_ERR_SUCCESS, code
        assert mid is not None
        await self._acknowledged("unsubscribe", mid, timeout)

    async def publish(
        self,
        topic: str,
        payload: bytes | str | Mapping[str, object] = b"",
        *,
        qos: int = 1,
        retain: bool = False,
        expiry: int | None = None,
        timeout: float = 10.0,
    ) -> ReasonCode:
        """Publish and return the reason code of the broker's acknowledgement (QoS 0: once it was written).

        A mapping is sent as JSON. `expiry` is the message expiry in seconds (MQTT 5).
        """
        mid = self.send(topic, payload, qos=qos, retain=retain, expiry=expiry)
        return (await self._acknowledged("publish", mid, timeout))[0]

    def send(
        self,
        topic: str,
        payload: bytes | str | Mapping[str, object] = b"",
        *,
        qos: int = 1,
        retain: bool = False,
        expiry: int | None = None,
    ) -> int:
        """Publish without waiting and return the packet id.

        :raises ConnectionError: the connection has ended.
        """
        data = json.dumps(payload) if isinstance(payload, Mapping) else payload
        properties = _new_properties(PacketTypes.PUBLISH, MessageExpiryInterval=expiry) if self._is_5 else None
        info = self._client.publish(topic, data, qos, retain, properties)
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            raise ConnectionError(f"{mqtt.error_string(info.rc)} {self.disconnect_reason or ''}")
        return info.mid

    async def wait_for(
        self, predicate: Callable[[Received], object], timeout: float = 5.0, *, after: int = 0
    ) -> Received:
        """Return the first message that satisfies the predicate, of those that have come or come in time.

        `after` leaves out that many of the first messages: pass an earlier `len(peer.messages)`.
        """
        looked_at = after
        try:
            async with asyncio.timeout(timeout):
                while True:
                    while looked_at < len(self.messages):
                        message = self.messages[looked_at]
                        looked_at += 1
                        if predicate(message):
                            return message
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            came = "".join(f"\n  {message}" for message in self.messages[after:]) or " nothing"
            raise AssertionError(f"no such message within {timeout:g} s; there came:{came}") from None

    async def wait_for_topic(self, topic: str, timeout: float = 5.0, *, after: int = 0) -> Received:
        """Return the first message on this very topic."""
        return await self.wait_for(lambda message: message.topic == topic, timeout, after=after)

    async def wait_for_count(self, count: int, timeout: float = 5.0) -> Sequence[Received]:
        """Return all messages once there are at least `count`."""
        if count > 0:
            await self.wait_for(lambda _: len(self.messages) >= count, timeout)
        return tuple(self.messages)

    async def wait_disconnected(self, timeout: float = 5.0) -> ReasonCode | None:
        """Wait until the connection has ended and return the reason."""
        async with asyncio.timeout(timeout):
            await self._disconnected.wait()
        return self.disconnect_reason

    async def round_trip(self, timeout: float = 5.0) -> None:
        """Send a message to ourselves and return when it is here.

        What the broker had taken for us before has then arrived, so that "nothing came" can be asserted without a
        sleep. (Mosquitto keeps the order over all topics; rumqttd sweeps all that waits for a client at once.)
        """
        topic = f"round-trip/{secrets.token_hex(6)}"
        await self.subscribe(topic, timeout=timeout)
        await self.publish(topic, b"there and back", timeout=timeout)
        message = await self.wait_for_topic(topic, timeout)
        await self.unsubscribe(topic, timeout=timeout)
        self.messages.remove(message)

    async def close(self) -> None:
        """Disconnect cleanly. May be called twice."""
        self._client.disconnect()
        await self._stop()

    async def drop(self) -> None:
        """End the connection without a word, as a crash would: the broker publishes the will."""
        connection = self._client.socket()
        if isinstance(connection, socket.socket):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        await self._stop()

    async def _stop(self) -> None:
        await asyncio.to_thread(self._client.loop_stop)
        # paho closes what wakes its thread when it is collected itself, which the garbage collector may do too late.
        self._client._reset_sockets(sockpair_only=True)  # pyright: ignore[reportPrivateUsage]

    async def _acknowledged(self, kind: str, mid: int, timeout: float) -> Sequence[ReasonCode]:
        # The acknowledgement may have come before we knew the packet id.
        early = self._early.pop((kind, mid), None)
        if early is not None:
            return early
        future: asyncio.Future[Sequence[ReasonCode]] = self._loop.create_future()
        self._acks[kind, mid] = future
        async with asyncio.timeout(timeout):
            return await future

    def _resolve(self, kind: str, mid: int, reasons: Sequence[ReasonCode]) -> None:
        future = self._acks.pop((kind, mid), None)
        if future is None:
            self._early[kind, mid] = reasons
        elif not future.done():
            future.set_result(reasons)

    def _later(self, function: Callable[[], object]) -> None:
        """Run in the event loop's thread: callbacks come in paho's, or in the publisher's at QoS 0."""
        _quick_ack(self._client)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def _on_connect(
        self,
        _client: mqtt.Client,
        _data: object,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        def connected() -> None:
            self.session_present = flags.session_present
            self.connack = _properties(properties)
            if not self._connected.done():
                self._connected.set_result(reason)

        self._later(connected)

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _data: object,
        _flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        def disconnected() -> None:
            self.disconnect_reason = reason
            self._disconnected.set()
            # Closed without a CONNACK: nothing else would say so.
            if not self._connected.done():
                self._connected.set_exception(ConnectionError(f"closed before CONNACK: {reason}"))

        self._later(disconnected)

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        received = Received(
            message.topic,
            bytes(message.payload),
            message.qos,
            message.retain,
            message.dup,
            _properties(message.properties),
        )

        def arrived() -> None:
            self.messages.append(received)
            self._changed.set()

        self._later(arrived)


Connect = Callable[[Peer], Awaitable[Peer]]
"""What the `connect` fixture gives."""


def _new_properties(packet: int, **values: object) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]  # paho leaves it without annotations
    for name, value in values.items():
        if value is not None:
            setattr(properties, name, value)
    return properties


def _properties(properties: Properties | None) -> Mapping[str, object]:
    return properties.json() if properties is not None else {}  # type: ignore[no-untyped-call]  # as above


def _no_delay(_client: mqtt.Client, _data: object, connection: object) -> None:
    if isinstance(connection, socket.socket):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _quick_ack(client: mqtt.Client) -> None:
    """Re-arm TCP_QUICKACK: rumqttd leaves Nagle on, and a delayed acknowledgement would cost 40 ms a message."""
    connection = client.socket()
    if QUICKACK is not None and isinstance(connection, socket.socket):
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)
