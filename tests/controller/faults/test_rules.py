"""Which rules act on which packets, and how packets are told apart; nothing here has a network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.controller.faults import (
    Delay,
    Drop,
    Duplicate,
    InvalidFault,
    Kind,
    Match,
    Packet,
    Reorder,
    Rule,
    Rules,
    Throttle,
)
from outrider.controller.faults.packets import Reader, client_id_of, protocol_of

CONNECT = b"\x10\x12\0\4MQTT\x04\x02\0\x3c\0\6lamp-1"
CONNECT_5 = b"\x10\x18\0\4MQTT\x05\x02\0\x3c\x05\x11\0\0\0\x0a\0\6lamp-1"
PUBACK = b"\x40\2\0\7"
PINGREQ = b"\xc0\0"


def publish(topic: str, payload: bytes, qos: int = 1, packet_id: int = 7, properties: bytes | None = None) -> bytes:
    """A PUBLISH by hand; with properties one of MQTT 5."""
    name = topic.encode()
    body = len(name).to_bytes(2) + name + (packet_id.to_bytes(2) if qos else b"")
    body += (b"" if properties is None else bytes((len(properties),)) + properties) + payload
    size, length = len(body), bytearray()
    while True:
        size, digit = divmod(size, 128)
        length.append(digit | (0x80 if size else 0))
        if not size:
            return bytes((0x30 | qos << 1,)) + bytes(length) + body


def puback(number: int) -> Packet:
    return Packet(Kind.PUBACK, PUBACK, number)


def acted(rule: Rule, count: int, seed: int = 0) -> list[int]:
    """On which of so many packets a rule acts."""
    rules = Rules(seed)
    rules.add(rule)
    return [number for number in range(1, count + 1) if rules.acting(puback(number), "to_client", "lamp-1")]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=8), st.lists(st.integers(1, 40), min_size=1))
def test_packets_are_read_however_the_bytes_come(payloads: list[bytes], sizes: list[int]) -> None:
    stream = CONNECT + b"".join(publish("t", payload) for payload in payloads) + PUBACK + PINGREQ
    reader, packets, at, turn = Reader(Kind.CONNECT), list[Packet](), 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        packets += reader.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert b"".join(packet.data for packet in packets) == stream
    assert [packet.payload for packet in packets if packet.kind is Kind.PUBLISH] == payloads
    assert [packet.kind for packet in packets[-2:]] == [Kind.PUBACK, Kind.PINGREQ]
    assert packets[-2].packet_id == 7
    assert (reader.rest, reader.broken) == (b"", "")


def test_client_id_and_version_are_those_of_the_connect() -> None:
    assert (client_id_of(CONNECT), protocol_of(CONNECT)) == ("lamp-1", 4)
    assert (client_id_of(CONNECT_5), protocol_of(CONNECT_5)) == ("lamp-1", 5)


def test_topic_behind_an_alias_is_known() -> None:
    reader = Reader(Kind.CONNECT)
    reader.feed(CONNECT_5)
    alias = b"\x02\0\0\0\x3c\x26\0\1k\0\1v\x0b\x81\x01\x23\0\5"
    (first,) = reader.feed(publish("devices/lamp-1/cmd", b"1", properties=alias))
    (second,) = reader.feed(publish("", b"2", properties=alias))
    assert (first.topic, second.topic, second.payload) == ("devices/lamp-1/cmd", "devices/lamp-1/cmd", b"2")


@pytest.mark.parametrize(
    "data",
    [b"\x16\3\1\2\0\1\0\1\xfc\3\3", b"GET /mqtt HTTP/1.1\r\n", b"\0", b"\x10\xff\xff\xff\xff\xff", b"\x10\2\0\0"],
)
def test_what_is_no_mqtt_is_told_at_its_beginning(data: bytes) -> None:
    reader = Reader(Kind.CONNECT)
    assert reader.feed(data) == []
    assert reader.broken
    assert reader.rest == data


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    reader = Reader(Kind.CONNECT)
    packets = reader.feed(CONNECT_5) + reader.feed(data)
    assert b"".join(packet.data for packet in packets) + reader.rest == CONNECT_5 + data


def test_repeated_publish_differs_in_dup_alone_and_a_new_one_in_its_packet_id() -> None:
    (packet,) = Reader().feed(publish("t", b"x"))
    (repeated,) = Reader().feed(packet.repeated().data)
    assert (repeated.dup, repeated.packet_id, repeated.payload) == (True, 7, b"x")
    (new,) = Reader().feed(repeated.renumbered(65_535).data)
    assert (new.dup, new.packet_id, new.topic, new.payload) == (False, 65_535, "t", b"x")
    (plain,) = Reader().feed(publish("t", b"x", qos=0))
    assert plain.repeated() == plain.renumbered(9) == plain


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Drop(), [1, 2, 3, 4, 5]),
        (Drop(count=2), [1, 2]),
        (Drop(skip=2, count=1), [3]),
        (Drop(packet="PUBLISH"), []),
        (Drop(direction="to_broker"), []),
        (Drop(client="lamp-*", skip=4), [5]),
        (Drop(client="oven"), []),
        (Drop(topic="#"), []),
        (Duplicate(), []),
    ],
)
def test_rule_acts_on_what_it_means_as_often_as_it_says(rule: Rule, expected: list[int]) -> None:
    assert acted(rule, 5) == expected


@pytest.mark.parametrize(
    ("filter", "topic", "fits"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("+/+", "a/b", True),
        ("a/+/c", "a/b/d", False),
    ],
)
def test_topic_filter_means_what_the_standard_says(filter: str, topic: str, fits: bool) -> None:
    packet = Packet(Kind.PUBLISH, b"", topic=topic)
    assert Match(topic=filter).fits(packet, "to_broker", "") == fits


@given(st.floats(0.05, 0.95), st.integers(0, 1000))
def test_chance_is_the_seeds(chance: float, seed: int) -> None:
    hits = acted(Drop(chance=chance), 400, seed)
    assert hits == acted(Drop(chance=chance), 400, seed)
    assert abs(len(hits) / 400 - chance) < 0.15


def test_dropped_packet_meets_no_other_rule_and_two_of_a_kind_take_turns() -> None:
    rules = Rules()
    delay, one, two = Delay(seconds=1), Drop(count=1), Drop(count=2)
    rules.add(delay, one, two)
    assert [rules.acting(puback(number), "to_client", "c") for number in range(4)] == [(one,), (two,), (two,), (delay,)]
    assert rules.hits == {delay: 1, one: 1, two: 2}
    assert list(rules) == [delay]
    rules.remove(delay)
    assert rules.acting(puback(1), "to_client", "c") == ()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Drop(packet="PUBAK"), "'PUBAK' is no packet of MQTT"),
        (lambda: Drop(topic="a/#/b"), "is no topic filter"),
        (lambda: Drop(chance=1.5), "not above 0 and at most 1"),
        (lambda: Drop(count=0), "count 1 or more"),
        (lambda: Delay(seconds=2, most=1), "ends after it begins"),
        (lambda: Reorder(by=0), "1 packet or more"),
        (lambda: Throttle(rate=0), "1 byte a second"),
    ],
)
def test_fault_that_cannot_be_is_refused(make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(InvalidFault, match=said):
        make()
