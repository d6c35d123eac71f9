"""paho's client on a socket that is already open, with the two packets that make up the traffic decoded here.

This is the only file that relies on paho's inside: on `_create_socket`, so that no connecting blocks the loop; on
`_out_messages`, to see what the broker owes; on `_ping_t` and `_last_bytes_received`, so that no silence of this side
is taken for the broker's; and, for speed, on `_in_packet`, `_handle_publish` and `_handle_pubackcomp`. In MQTT 5 mode
paho builds two tables of all properties and reason codes for each packet received. An echo with 100 messages in flight
is 1.6 to 1.9 times as fast without them. It also reads a header byte by byte, so messages that have come whole are
taken without it. Should paho move these methods or the packet they read, its own decoding takes over; a test tells.
"""

import contextlib
import struct
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from .stream import BufferedSocket

if TYPE_CHECKING:
    from paho.mqtt.client import SocketLike

MQTT_5: Final = 5
MQTT_3_1_1: Final = 4

_PUBLISH: Final = {header: header >> 1 & 1 for header in (0x30, 0x31, 0x32, 0x33, 0x3A, 0x3B)}
"""The first byte of a PUBLISH with QoS 0 or 1, and that QoS."""


class Message(NamedTuple):
    """A message from the broker. `dup` marks a redelivery, `retain` one that was stored (or is to be)."""

    topic: str
    payload: bytes
    retain: bool
    dup: bool


class SocketClient(Client):
    """One network connection's client. It collects what arrives; the owner of the socket takes it away.

    `messages` and `receipts` (packet id and QoS of what is to be acknowledged) fill while paho reads; `acknowledged`
    is called with a publish's packet id and, where the broker refused it, why.
    """

    def __init__(
        self,
        opened: BufferedSocket,
        *,
        client_id: str,
        protocol: int,
        clean: bool,
        acknowledged: Callable[[int, str | None], None],
    ) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if protocol == MQTT_5 else clean,
            protocol=MQTTProtocolVersion(protocol),
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self.messages: list[Message] = []
        self.receipts: list[tuple[int, int]] = []
        self.on_message = self._collect
        self.on_publish = self._settle
        # No limit: the window is the Connection's, and paho searches all that is under way at each PUBACK to keep its.
        self.max_inflight_messages_set(0)
        self._opened = opened
        self._acknowledged = acknowledged
        self._known = knows_paho(self)

    @property
    def unanswered(self) -> bool:
        """Whether the broker still owes an acknowledgement."""
        return bool(self._out_messages)

    @property
    def oldest(self) -> int | None:
        """The packet id of what the broker has owed an acknowledgement for longest: it gives them in order."""
        return next(iter(self._out_messages), None)

    @property
    def unanswered_bytes(self) -> int:
        """Bytes of the payloads that the broker has not acknowledged."""
        return sum(len(message.payload) for message in self._out_messages.values())

    def read(self, until: float) -> MQTTErrorCode:
        """Take the messages that have come whole, until the monotonic time `until`; else read on as paho does."""
        if self._known and self._in_packet["command"] == 0 and self._take_whole(until):
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        return self.loop_read()

    def acknowledge(self, receipts: Sequence[tuple[int, int]]) -> None:
        """Acknowledge messages, in this order."""
        if all(qos == 1 for _, qos in receipts):
            # The socket takes whatever it is given, so nothing of paho's can stand half written before these.
            self._opened.send(b"".join([b"\x40\x02" + packet_id.to_bytes(2) for packet_id, _ in receipts]))
            return
        for packet_id, qos in receipts:
            self.ack(packet_id, qos)

    def unheard(self) -> None:
        """While this side does not read, no silence is the broker's: it is pinged, and its answer not missed."""
        self._ping_t = 0.0

    def _take_whole(self, until: float) -> bool:
        """Decode PUBLISH packets up to the first that is cut, unusual, or another one; whether there were any."""
        data, begin = self._opened.arrived()
        at, available = begin, len(data)
        receipts, messages = self.receipts, self.messages
        version_5 = self._protocol == MQTT_5
        try:
            while at < available and (qos := _PUBLISH.get(header := data[at])) is not None:
                length, position = data[at + 1], at + 2
                if length > 127:
                    length, position = _long_length(data, at + 1)
                stop = position + length
                if stop > available:
                    break
                topic_begin = position + 2
                topic_end = position = topic_begin + (data[position] << 8 | data[position + 1])
                packet_id = 0
                if qos:
                    packet_id = data[position] << 8 | data[position + 1]
                    position += 2
                if version_5:
                    if data[position] > 127:
                        break
                    position += 1 + data[position]
                if position > stop:
                    break
                topic = data[topic_begin:topic_end].decode()
                if qos:
                    receipts.append((packet_id, 1))
                messages.append(Message(topic, data[position:stop], header & 1 != 0, header & 8 != 0))
                at = stop
                if monotonic() > until:
                    break
        except (IndexError, UnicodeDecodeError):  # cut short, or broken: paho judges
            pass
        if at == begin:
            return False
        self._opened.skip(at - begin)
        self._last_bytes_received = monotonic()
        return True

    def _create_socket(self) -> "SocketLike":
        return self._opened

    def _handle_publish(self) -> MQTTErrorCode:
        if not self._known:
            return super()._handle_publish()
        packet = self._in_packet["packet"]
        header = self._in_packet["command"]
        qos = header >> 1 & 3
        try:
            end = position = 2 + (packet[0] << 8 | packet[1])
            packet_id = 0
            if qos:
                packet_id = packet[end] << 8 | packet[end + 1]
                position += 2
            if self._protocol == MQTT_5:
                length = packet[position]
                position += 1 + length
                if length > 127:
                    return super()._handle_publish()
        except IndexError:
            raise MalformedPacket("PUBLISH is cut short") from None
        if position > len(packet):
            raise MalformedPacket("PUBLISH is cut short")
        if qos > 1:
            return super()._handle_publish()
        if qos:
            self.receipts.append((packet_id, qos))
        try:
            topic = packet[2:end].decode()
        except UnicodeDecodeError:  # cannot be one of ours; it is acknowledged and that is all
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        payload = bytes(memoryview(packet)[position:])
        self.messages.append(Message(topic, payload, header & 1 != 0, header & 8 != 0))
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        packet = self._in_packet["packet"] if self._known else b""
        if len(packet) != 2:  # with a reason code
            return super()._handle_pubackcomp(cmd)
        packet_id = packet[0] << 8 | packet[1]
        if self._out_messages.pop(packet_id, None) is not None:
            self._inflight_messages -= 1
            self._acknowledged(packet_id, None)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _collect(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        if message.qos:
            self.receipts.append((message.mid, message.qos))
        with contextlib.suppress(UnicodeDecodeError):
            self.messages.append(Message(message.topic, bytes(message.payload), message.retain, message.dup))

    def _settle(
        self, _client: Client, _userdata: object, packet_id: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._acknowledged(packet_id, in_words(reason, properties) if reason.is_failure else None)


def _long_length(data: bytes, at: int) -> tuple[int, int]:
    """A length of several bytes (MQTT 5.0, 1.5.5), and where it ends; one that is none takes all there is and more."""
    length = 0
    for shift in (0, 7, 14, 21):
        byte = data[at]
        at += 1
        length |= (byte & 127) << shift
        if byte < 128:
            return length, at
    return len(data), at


class Expiry(Properties):
    """The properties of a PUBLISH with nothing but an expiry, packed here: paho's way takes as long as all the rest."""

    def __init__(self, seconds: int) -> None:
        object.__setattr__(self, "_packed", struct.pack(">BBI", 5, 2, seconds))

    def pack(self) -> bytes:
        """The bytes that stand in the packet."""
        packed: bytes = object.__getattribute__(self, "_packed")
        return packed


def properties(packet_type: int, **values: int) -> Properties:
    """MQTT 5 properties by paho's names, such as `SessionExpiryInterval=60`."""
    made = Properties(packet_type)  # type: ignore[no-untyped-call]  # paho has not annotated it
    for name, value in values.items():
        setattr(made, name, value)
    return made


def in_words(reason: ReasonCode, properties: Properties | None) -> str:
    """A reason code by its name, with what the broker said about it."""
    details: str | None = getattr(properties, "ReasonString", None)
    return f"{reason}: {details}" if details else str(reason)


def knows_paho(client: Client) -> bool:
    """Whether paho's inside is as this file takes it to be."""
    packet: object = getattr(client, "_in_packet", None)
    return (
        isinstance(packet, dict)
        and {"command", "packet"} <= packet.keys()
        and isinstance(packet["packet"], bytearray)
        and isinstance(getattr(client, "_out_messages", None), dict)
        and isinstance(getattr(client, "_inflight_messages", None), int)
        and all(hasattr(Client, name) for name in ("_create_socket", "_handle_publish", "_handle_pubackcomp"))
    )
