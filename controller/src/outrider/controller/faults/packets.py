"""MQTT packets out of a stream of bytes, as far as a proxy needs to tell them apart. Nothing here is believed."""

import enum
from dataclasses import dataclass
from typing import Final, Literal

Direction = Literal["to_broker", "to_client"]
"""Which way a packet goes."""

DIRECTIONS: Final[tuple[Direction, ...]] = ("to_broker", "to_client")


class Kind(enum.IntEnum):
    """What a packet is, with the number that MQTT gives it (MQTT 5.0, 2.1.2)."""

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
    AUTH = 15


_IDENTIFIED: Final = frozenset(
    (
        *(Kind.PUBACK, Kind.PUBREC, Kind.PUBREL, Kind.PUBCOMP),
        *(Kind.SUBSCRIBE, Kind.SUBACK, Kind.UNSUBSCRIBE, Kind.UNSUBACK),
    )
)
"""Packets that begin with a packet id."""

_TOPIC_ALIAS: Final = 0x23
_SIZES: Final = {0x01: 1, 0x02: 4, _TOPIC_ALIAS: 2}
"""Bytes of a PUBLISH's properties of fixed size; the others begin with their length (MQTT 5.0, 3.3.2.3)."""
_SUBSCRIPTION_ID, _USER_PROPERTY = 0x0B, 0x26


class NotMqtt(Exception):
    """Bytes that are no MQTT packet."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet as it came. `topic`, `payload`, `qos`, `dup` and `retain` are those of a PUBLISH.

    :ivar data: all of its bytes.
    :ivar packet_id: None where it has none.
    """

    kind: Kind
    data: bytes
    packet_id: int | None = None
    topic: str | None = None
    payload: bytes = b""
    qos: int = 0
    dup: bool = False
    retain: bool = False

    def repeated(self) -> "Packet":
        """The same PUBLISH sent once more: with DUP where it has a packet id (MQTT 5.0, 3.3.1.1)."""
        if self.packet_id is None:
            return self
        data = bytes((self.data[0] | 0x08,)) + self.data[1:]
        return _with(self, data, self.packet_id, dup=True)

    def renumbered(self, packet_id: int) -> "Packet":
        """The same PUBLISH as another message, with this packet id and without DUP; one of QoS 0 as it is."""
        if self.packet_id is None:
            return self
        _, body = _length(self.data, 1)
        at = body + 2 + int.from_bytes(self.data[body : body + 2])
        data = bytes((self.data[0] & ~0x08,)) + self.data[1:at] + packet_id.to_bytes(2) + self.data[at + 2 :]
        return _with(self, data, packet_id, dup=False)


def release_of(packet_id: int) -> bytes:
    """The PUBREL of a packet id."""
    return b"\x62\x02" + packet_id.to_bytes(2)


class Reader:
    """Cuts one direction of a connection into packets.

    :param begins: what the first packet may be; anything else is no MQTT.
    :ivar protocol: 5, or 4 for 3.1.1, in which a PUBLISH looks different; a CONNECT sets it.
    :ivar rest: what has come of a packet that is not complete, or of what is none.
    :ivar broken: why what follows is no MQTT; empty as long as it is.
    """

    def __init__(self, *begins: Kind, protocol: int = 4) -> None:
        self.protocol = protocol
        self._begins = frozenset(each << 4 for each in begins)
        self.rest = b""
        self.broken = ""
        self._aliases: dict[int, str] = {}

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that are complete with this. Once something is no MQTT, `broken` says why, for good."""
        self.rest += data
        packets: list[Packet] = []
        at = 0
        while not self.broken and (packet := self._next(at)):
            packets.append(packet)
            at += len(packet.data)
        self.rest = self.rest[at:]
        return packets

    def _next(self, at: int) -> Packet | None:
        try:
            if self._begins:
                if self.rest[at] not in self._begins:
                    raise NotMqtt(f"begins with the byte {self.rest[at]:#04x}, as no MQTT connection does")
                self._begins = frozenset[int]()
            length, body = _length(self.rest, at + 1)
            if len(self.rest) < body + length:
                return None
            return self._read(self.rest[at : body + length], body - at)
        except IndexError:
            return None
        except (NotMqtt, ValueError) as error:
            self.broken = str(error)
            return None

    def _read(self, data: bytes, body: int) -> Packet:
        kind = Kind(data[0] >> 4)  # 0 is none: ValueError
        if kind is Kind.CONNECT:
            self.protocol = protocol_of(data)
        if kind is Kind.PUBLISH:
            return self._publish(data, body)
        identified = kind in _IDENTIFIED and len(data) >= body + 2
        return Packet(kind, data, int.from_bytes(data[body : body + 2]) if identified else None)

    def _publish(self, data: bytes, body: int) -> Packet:
        flags = data[0] & 0x0F
        qos = flags >> 1 & 3
        at = body + 2 + int.from_bytes(data[body : body + 2])
        topic = data[body + 2 : at].decode(errors="replace")
        packet_id = int.from_bytes(data[at : at + 2]) if qos else None
        at += 2 if qos else 0
        if at > len(data):
            raise NotMqtt("a PUBLISH that ends within its header")
        if self.protocol == 5:
            try:
                length, at = _length(data, at)
                topic = self._named(topic, _alias(data[at : at + length]))
            except IndexError:
                raise NotMqtt("a PUBLISH that ends within its properties") from None
            at += length
        return Packet(Kind.PUBLISH, data, packet_id, topic, data[at:], qos, dup=bool(flags & 8), retain=bool(flags & 1))

    def _named(self, topic: str, alias: int | None) -> str:
        if alias is not None:
            if topic:
                self._aliases[alias] = topic
            else:
                return self._aliases.get(alias, "")
        return topic


def protocol_of(connect: bytes) -> int:
    """The protocol level of a CONNECT: 5, or 4 for 3.1.1, 3 for 3.1.

    :raises NotMqtt: it is not one.
    """
    try:
        _, at = _length(connect, 1)
        name_ends = at + 2 + int.from_bytes(connect[at : at + 2])
        if connect[at + 2 : name_ends] not in (b"MQTT", b"MQIsdp"):
            raise NotMqtt("a CONNECT of another protocol")
        return connect[name_ends]
    except IndexError:
        raise NotMqtt("a CONNECT that ends within its header") from None


def client_id_of(connect: bytes) -> str:
    """The client id in a CONNECT, empty where there is none to be read."""
    try:
        _, at = _length(connect, 1)
        at += 2 + int.from_bytes(connect[at : at + 2])
        level = connect[at]
        at += 4  # level, flags, keep-alive
        if level == 5:
            length, at = _length(connect, at)
            at += length
        end = at + 2 + int.from_bytes(connect[at : at + 2])
        return connect[at + 2 : end].decode(errors="replace")
    except (IndexError, NotMqtt):
        return ""


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer (MQTT 5.0, 1.5.5) and where it ends.

    :raises IndexError: it does not end.
    :raises NotMqtt: it has more than four bytes.
    """
    value = 0
    for place in range(4):
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise NotMqtt("a length of more than four bytes")


def _alias(properties: bytes) -> int | None:
    """The topic alias among the properties of a PUBLISH."""
    at = 0
    while at < len(properties):
        name = properties[at]
        at += 1
        if name == _TOPIC_ALIAS:
            return int.from_bytes(properties[at : at + 2])
        if name == _SUBSCRIPTION_ID:
            _, at = _length(properties, at)
        elif name in _SIZES:
            at += _SIZES[name]
        else:
            for _ in range(2 if name == _USER_PROPERTY else 1):
                at += 2 + int.from_bytes(properties[at : at + 2])
    return None


def _with(packet: Packet, data: bytes, packet_id: int, *, dup: bool) -> Packet:
    return Packet(Kind.PUBLISH, data, packet_id, packet.topic, packet.payload, packet.qos, dup, packet.retain)
