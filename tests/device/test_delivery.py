"""What a connection sends, when, and again when: a scripted broker counts and withholds as no real one does."""

import asyncio
import contextlib
import struct
import time
from collections.abc import Sequence

import pytest

from outrider.device.address import Address
from outrider.device.connection import Connection, Message, Subscription
from outrider.schema.errors import BrokerUnreachable, PublishRefused, SubscribeRefused
from tests.device.scripted import Kind, Packet, Wire, acknowledge_all, encoded, scripted

LIMIT = 10.0
RECEIVE_MAXIMUM = 33
EXPIRY = 2
RUMQTTD = b"\x22\x10\x00"
"""All that rumqttd says of itself: how many topic aliases it takes."""


def ignore(_: Sequence[Message]) -> None:
    pass


def at(port: int) -> Address:
    return Address("127.0.0.1", port)


async def test_no_more_than_the_brokers_receive_maximum_is_under_way() -> None:
    most = 0

    async def withhold(wire: Wire) -> None:
        nonlocal most
        await wire.accept(struct.pack(">BH", RECEIVE_MAXIMUM, 20))
        held: list[Packet] = []
        for _ in range(100):
            held.append(await wire.expect(Kind.PUBLISH))
            most = max(most, len(held))
            if len(held) == 20:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await wire.read()
                for packet in held:
                    wire.acknowledge(packet)
                held.clear()

    async with (
        scripted(withhold) as port,
        Connection(at(port), client_id="c", receive=ignore) as connection,
        asyncio.timeout(LIMIT),
    ):
        for number in range(100):
            connection.publish("t", b"%d" % number)
        assert await connection.flush(LIMIT)
    assert most == 20


async def test_own_window_holds_where_the_broker_names_none() -> None:
    counted = asyncio.Event()

    async def count(wire: Wire) -> None:
        await wire.accept()
        packets = [await wire.expect(Kind.PUBLISH) for _ in range(7)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await wire.read()
        counted.set()
        for packet in packets:
            wire.acknowledge(packet)
        await acknowledge_all(wire)

    async with (
        scripted(count) as port,
        Connection(at(port), client_id="c", receive=ignore, window=7) as connection,
        asyncio.timeout(LIMIT),
    ):
        for _ in range(20):
            connection.publish("t", b"x")
        await counted.wait()
        assert await connection.flush(LIMIT)


async def test_network_that_takes_no_more_holds_publishes_back() -> None:
    read_on = asyncio.Event()
    payload = bytes(200_000)

    async def stall(wire: Wire) -> None:
        await wire.accept()
        await read_on.wait()
        await acknowledge_all(wire)

    async with (
        scripted(stall) as port,
        Connection(at(port), client_id="c", receive=ignore) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.wait_connected()
        futures = [connection.publish("t", payload) for _ in range(100)]
        assert not await connection.flush(0.1)
        read_on.set()
        await asyncio.gather(*futures)


async def test_unacknowledged_is_sent_again_first_and_in_order() -> None:
    again: list[bytes] = []

    async def take_and_cut(wire: Wire) -> None:
        await wire.accept()
        packets = [await wire.expect(Kind.PUBLISH) for _ in range(3)]
        wire.acknowledge(packets[1])
        wire.close()

    async def take(wire: Wire) -> None:
        await wire.accept()
        for _ in range(4):
            packet = await wire.expect(Kind.PUBLISH)
            again.append(packet.rest[1:])
            wire.acknowledge(packet)

    async with (
        scripted(take_and_cut, take) as port,
        Connection(at(port), client_id="c", receive=ignore, window=3) as connection,
        asyncio.timeout(LIMIT),
    ):
        await asyncio.gather(*(connection.publish("t", b"%d" % number) for number in range(5)))
    assert again == [b"0", b"2", b"3", b"4"]


async def test_refused_publish_fails_with_the_brokers_words() -> None:
    async def refuse(wire: Wire) -> None:
        await wire.accept()
        packet = await wire.expect(Kind.PUBLISH)
        words = b"not on Sundays"
        properties = struct.pack(">BH", 31, len(words)) + words
        body = struct.pack(">HBB", packet.packet_id, 0x97, len(properties)) + properties
        wire.send(encoded(Kind.PUBACK, body))
        wire.acknowledge(await wire.expect(Kind.PUBLISH), 0x10)  # no matching subscribers: a success

    async with (
        scripted(refuse) as port,
        Connection(at(port), client_id="c", receive=ignore) as connection,
        asyncio.timeout(LIMIT),
    ):
        with pytest.raises(PublishRefused, match=r"message to t \(Quota exceeded: not on Sundays\)"):
            await connection.publish("t", b"x")
        await connection.publish("t", b"x")


@pytest.mark.parametrize("version", [5, 4])
async def test_refused_subscription_is_named_and_forgotten(version: int) -> None:
    subscribed: list[int] = []

    async def refuse_second(wire: Wire) -> None:
        await wire.accept()
        packet = await wire.expect(Kind.SUBSCRIBE)
        properties = b"\0" if version == 5 else b""
        failure = b"\x87" if version == 5 else b"\x80"
        wire.send(encoded(Kind.SUBACK, packet.body[:2] + properties + b"\x01" + failure))
        await wire.expect(Kind.DISCONNECT)
        wire.close()

    async def count(wire: Wire) -> None:
        await wire.accept()
        packet = await wire.expect(Kind.SUBSCRIBE)
        subscribed.append(packet.body.count(b"yes"))
        subscribed.append(packet.body.count(b"no"))
        wire.granted(packet)

    async def refuse_5(wire: Wire) -> None:
        await wire.expect(Kind.CONNECT)
        wire.send(wire.connack(code=0x84))
        wire.close()

    scripts = [refuse_second, count] if version == 5 else [refuse_5, refuse_second, count]
    async with (
        scripted(*scripts) as port,
        Connection(at(port), client_id="c", receive=ignore) as connection,
        asyncio.timeout(LIMIT),
    ):
        with pytest.raises(
            SubscribeRefused, match=r"refused the subscription to no \((Not authorized|Unspecified error)"
        ):
            await connection.subscribe(Subscription("yes"), Subscription("no"))
        connection.reconnect()
        await connection.wait_connected()
    assert subscribed == [1, 0]


async def test_subscription_options_are_sent_on_mqtt_5() -> None:
    options: list[int] = []

    async def look(wire: Wire) -> None:
        await wire.accept()
        options.extend([(await wire.grant()).body[-1] for _ in range(2)])

    async with scripted(look) as port, Connection(at(port), client_id="c", receive=ignore) as connection:
        async with asyncio.timeout(LIMIT):
            await connection.subscribe(Subscription("t"))
            await connection.subscribe(Subscription("t", retain_as_published=True, retain_handling=2))
    assert options == [0b00_00_01, 0b10_10_01]


async def test_subscriptions_are_made_again_before_anything_is_sent() -> None:
    kinds: list[Kind] = []

    async def cut(wire: Wire) -> None:
        await wire.accept()
        await wire.grant()
        await wire.expect(Kind.PUBLISH)
        wire.close()

    async def look(wire: Wire) -> None:
        await wire.accept()
        for _ in range(2):
            packet = await wire.read()
            kinds.append(packet.kind)
            if packet.kind is Kind.SUBSCRIBE:
                wire.granted(packet)
            else:
                wire.acknowledge(packet)

    async with (
        scripted(cut, look) as port,
        Connection(at(port), client_id="c", receive=ignore) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.subscribe(Subscription("t"))
        await connection.publish("t", b"x")
    assert kinds == [Kind.SUBSCRIBE, Kind.PUBLISH]


async def test_stored_messages_are_wanted_on_later_connections_where_it_is_said_so() -> None:
    handlings: list[int] = []

    async def look(wire: Wire) -> None:
        await wire.accept()
        for _ in range(2):
            packet = await wire.expect(Kind.SUBSCRIBE)
            handlings.append(packet.body[-1] >> 4 & 3)
            wire.granted(packet)

    async def look_once(wire: Wire) -> None:
        await wire.accept()
        packet = await wire.expect(Kind.SUBSCRIBE)
        handlings.append(packet.body[-1] >> 4 & 3)
        wire.granted(packet)

    async with (
        scripted(look, look_once) as port,
        Connection(at(port), client_id="c", receive=ignore) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.wait_connected()
        for _ in range(2):
            await connection.subscribe(Subscription("t", retain_handling=2, retain_handling_again=0))
        connection.drop()
        await connection.wait_connected()
    assert handlings == [2, 2, 0]


async def test_expiry_is_sent_and_only_what_remains_of_it_after_a_reconnect() -> None:
    expiries: list[int] = []

    async def cut(wire: Wire) -> None:
        await wire.accept()
        expiries.append(expiry_of(await wire.expect(Kind.PUBLISH)))
        await asyncio.sleep(1.1)
        wire.close()

    async def take(wire: Wire) -> None:
        await wire.accept()
        packet = await wire.expect(Kind.PUBLISH)
        expiries.append(expiry_of(packet))
        wire.acknowledge(packet)

    async with (
        scripted(cut, take) as port,
        Connection(at(port), client_id="c", receive=ignore) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.wait_connected()
        await connection.publish("t", b"x", expiry=60)
    assert expiries[0] == 60
    assert 50 <= expiries[1] <= 59


async def test_rumqttd_is_sent_no_expiry() -> None:
    seen: list[bytes] = []

    async def take(wire: Wire) -> None:
        await wire.accept(RUMQTTD)
        packet = await wire.expect(Kind.PUBLISH)
        seen.append(packet.rest)
        wire.acknowledge(packet)

    async with (
        scripted(take) as port,
        Connection(at(port), client_id="c", receive=ignore) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.wait_connected()
        await connection.publish("t", b"x", expiry=60)
    assert seen == [b"\0x"]


def expiry_of(packet: Packet) -> int:
    length, identifier, seconds = struct.unpack(">BBI", packet.rest[:6])
    assert (length, identifier) == (5, EXPIRY)
    expiry: int = seconds
    return expiry


async def test_cancelled_publish_is_withdrawn() -> None:
    payloads: list[bytes] = []

    async def take(wire: Wire) -> None:
        await wire.accept()
        while (packet := await wire.read()).kind is Kind.PUBLISH:
            payloads.append(packet.rest[1:])
            wire.acknowledge(packet)

    async with (
        scripted(take) as port,
        Connection(at(port), client_id="c", receive=ignore) as connection,
        asyncio.timeout(LIMIT),
    ):
        connection.publish("t", b"withdrawn").cancel()
        await connection.publish("t", b"kept")
    assert payloads == [b"kept"]


async def test_end_of_session_is_said_with_disconnect() -> None:
    bodies: list[bytes] = []

    async def look(wire: Wire) -> None:
        connect = await wire.accept()
        bodies.append(connect.body[7:8])
        bodies.append((await wire.expect(Kind.DISCONNECT)).body)

    async with (
        scripted(look) as port,
        Connection(at(port), client_id="c", receive=ignore, session_expiry=60) as connection,
    ):
        await connection.wait_connected(timeout=LIMIT)
        await connection.disconnect(end_session=True)
    kept, ended, clean, _ = bodies
    assert (kept, ended, clean) == (b"\x00", b"\x00" + b"\x05" + struct.pack(">BI", 17, 0), b"\x02")


async def test_disconnect_waits_for_acknowledgements_within_its_bound() -> None:
    order: list[Kind] = []

    async def slow(wire: Wire) -> None:
        await wire.accept()
        packet = await wire.expect(Kind.PUBLISH)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                order.append((await wire.read()).kind)
        wire.acknowledge(packet)
        order.append((await wire.read()).kind)

    async with (
        scripted(slow) as port,
        Connection(at(port), client_id="c", receive=ignore) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.wait_connected()
        last_word = connection.publish("t", b"last word")
        await connection.disconnect(flush=5)
        assert last_word.done()
        assert not last_word.exception()
        began = time.monotonic()
    assert order == [Kind.DISCONNECT]
    assert time.monotonic() - began < 3


async def test_end_does_not_wait_for_a_broker_that_acknowledges_nothing() -> None:
    async def mute(wire: Wire) -> None:
        await wire.accept()

    async with scripted(mute) as port:
        async with Connection(at(port), client_id="c", receive=ignore) as connection:
            await connection.wait_connected(timeout=LIMIT)
            future = connection.publish("t", b"x")
            began = time.monotonic()
            await connection.disconnect(flush=0.2)
        assert time.monotonic() - began < 3
        assert isinstance(future.exception(), BrokerUnreachable)
