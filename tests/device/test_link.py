"""How a connection comes about, and how it takes what no real broker sends on demand: a scripted broker does."""

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from outrider.device.address import Address
from outrider.device.connection import Connection, Message, Subscription, Will
from outrider.schema.errors import BrokerUnreachable
from tests.device.scripted import Kind, Packet, Wire, acknowledge_all, encoded, scripted
from tests.processes import until

LIMIT = 10.0
RECEIVE_MAXIMUM = 33
EXPIRY = 2


def ignore(_: Sequence[Message]) -> None:
    pass


def at(port: int) -> Address:
    return Address("127.0.0.1", port)


async def test_message_right_behind_connack_is_delivered_and_acknowledged() -> None:
    acknowledged = asyncio.Event()
    messages: list[Message] = []

    async def eager(wire: Wire) -> None:
        await wire.expect(Kind.CONNECT)
        wire.send(wire.connack(session_present=True) + wire.publish(b"t", b"queued", packet_id=77, flags=0b1001))
        assert (await wire.expect(Kind.PUBACK)).packet_id == 77
        acknowledged.set()

    async with (
        scripted(eager) as port,
        Connection(at(port), client_id="c", receive=messages.extend, session_expiry=60) as connection,
        asyncio.timeout(LIMIT),
    ):
        await acknowledged.wait()
        await connection.wait_connected()
        assert connection.session_present
    assert messages == [Message("t", b"queued", True, True)]


async def test_messages_in_one_piece_are_one_batch_and_acknowledged_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outrider.device.link._TURN", LIMIT)
    seen: list[object] = []
    acknowledged = asyncio.Event()

    async def burst(wire: Wire) -> None:
        await wire.accept()
        wire.send(b"".join(wire.publish(b"t", b"%d" % number, packet_id=number) for number in range(1, 51)))
        for number in range(1, 51):
            assert (await wire.expect(Kind.PUBACK)).packet_id == number
            seen.append("acknowledged")
        acknowledged.set()

    async with (
        scripted(burst) as port,
        Connection(at(port), client_id="c", receive=lambda batch: seen.append(len(batch))),
        asyncio.timeout(LIMIT),
    ):
        await acknowledged.wait()
    assert seen == [50, *["acknowledged"] * 50]


async def test_long_burst_is_taken_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outrider.device.link._TURN", 0.0)
    batches: list[int] = []
    done = asyncio.Event()

    async def burst(wire: Wire) -> None:
        await wire.accept()
        wire.send(b"".join(wire.publish(b"t", b"%d" % number, packet_id=number) for number in range(1, 201)))
        assert [(await wire.expect(Kind.PUBACK)).packet_id for _ in range(200)] == list(range(1, 201))
        wire.send(wire.publish(b"t", b"last", packet_id=1))
        await wire.expect(Kind.PUBACK)
        done.set()

    async with (
        scripted(burst) as port,
        Connection(at(port), client_id="c", receive=lambda batch: batches.append(len(batch))),
        asyncio.timeout(LIMIT),
    ):
        await done.wait()
    assert batches == [1] * 201


@pytest.mark.parametrize("size", [1, 3])
async def test_packets_cut_anywhere_are_put_together(size: int) -> None:
    received = asyncio.Event()
    messages: list[Message] = []

    async def trickle(wire: Wire) -> None:
        await wire.accept()
        data = b"".join(wire.publish(b"topic", bytes([number]) * 200, packet_id=number) for number in range(1, 4))
        for start in range(0, len(data), size):
            wire.send(data[start : start + size])
            await asyncio.sleep(0)
        for _ in range(3):
            await wire.expect(Kind.PUBACK)
        received.set()

    async with (
        scripted(trickle) as port,
        Connection(at(port), client_id="c", receive=messages.extend),
        asyncio.timeout(LIMIT),
    ):
        await received.wait()
    assert [message.payload for message in messages] == [bytes([number]) * 200 for number in range(1, 4)]


class Holder:
    """Holds each batch until the test lets it go."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[bytes], asyncio.Future[None]]] = []

    def __call__(self, messages: Sequence[Message]) -> asyncio.Future[None]:
        until = asyncio.get_running_loop().create_future()
        self.batches.append(([message.payload for message in messages], until))
        return until

    async def batch(self, number: int) -> asyncio.Future[None]:
        await until(lambda: len(self.batches) > number, LIMIT)
        return self.batches[number][1]


async def test_held_messages_are_acknowledged_in_order_once_all_before_them_may_be() -> None:
    holder = Holder()
    acknowledged: list[int] = []

    async def two(wire: Wire) -> None:
        await wire.accept()
        wire.send(wire.publish(b"t", b"one", packet_id=1))
        first = await holder.batch(0)
        wire.send(wire.publish(b"t", b"two", packet_id=2))
        (await holder.batch(1)).set_result(None)
        asyncio.get_running_loop().call_later(0.05, first.set_result, None)
        for _ in range(2):
            acknowledged.append((await wire.expect(Kind.PUBACK)).packet_id)
            assert first.done()

    async with (
        scripted(two) as port,
        Connection(at(port), client_id="c", receive=holder),
    ):
        await until(lambda: len(acknowledged) == 2, LIMIT)
    assert acknowledged == [1, 2]


async def test_cancelled_and_failed_receipts_do_not_stop_those_after_them(caplog: pytest.LogCaptureFixture) -> None:
    holder = Holder()
    acknowledged: list[int] = []

    async def three(wire: Wire) -> None:
        await wire.accept()
        for number in range(3):
            wire.send(wire.publish(b"t", b"", packet_id=number + 1))
            await holder.batch(number)
        (await holder.batch(2)).set_result(None)
        (await holder.batch(0)).cancel()
        (await holder.batch(1)).set_exception(ValueError("too much"))
        acknowledged.extend([(await wire.expect(Kind.PUBACK)).packet_id for _ in range(2)])

    async with (
        scripted(three) as port,
        Connection(at(port), client_id="c", receive=holder),
    ):
        await until(lambda: len(acknowledged) == 2, LIMIT)
    assert acknowledged == [2, 3]
    assert "too much" in caplog.text


async def test_held_receipt_does_not_reach_a_later_connection() -> None:
    holder = Holder()
    connections: list[Wire] = []
    acknowledged: list[int] = []

    async def twice(wire: Wire) -> None:
        await wire.accept(session_present=bool(connections))
        connections.append(wire)
        number = len(connections) - 1
        wire.send(wire.publish(b"t", b"", packet_id=40 + number))
        held = await holder.batch(number)
        if number == 0:
            wire.close()
            return
        (await holder.batch(0)).set_result(None)
        held.set_result(None)
        acknowledged.append((await wire.expect(Kind.PUBACK)).packet_id)

    async with (
        scripted(twice) as port,
        Connection(at(port), client_id="c", receive=holder, session_expiry=60),
    ):
        await until(lambda: acknowledged, LIMIT)
    assert acknowledged == [41]


async def test_more_than_the_receive_maximum_is_left_unread_and_the_broker_pinged() -> None:
    holder = Holder()
    payload = b"-" * 1000
    seen: list[object] = []

    async def flood(wire: Wire) -> None:
        connect = await wire.accept()
        assert bytes([RECEIVE_MAXIMUM]) + struct.pack(">H", 10) in connect.body
        for number in range(2000):
            wire.send(wire.publish(b"t", payload, packet_id=number + 1))
        for _ in range(3):  # more silence than a keep-alive allows, answered by nobody
            await wire.expect(Kind.PINGREQ)
        seen.append(sum(len(payloads) for payloads, _ in holder.batches))
        number = 0
        released = 0
        while number < 2000:
            while released < len(holder.batches):
                holder.batches[released][1].set_result(None)
                released += 1
            packet = await wire.read()
            if packet.kind is Kind.PUBACK:
                number += 1
                assert packet.packet_id == number
        seen.append(number)

    async with (
        scripted(flood) as port,
        Connection(at(port), client_id="c", receive=holder, receive_maximum=10, keepalive=1),
    ):
        await until(lambda: len(seen) == 2, LIMIT)
    assert isinstance(seen[0], int)
    assert 10 <= seen[0] <= 80  # 10, and what one read of 64 KiB may bring at once
    assert seen[1] == 2000


async def test_answer_behind_more_than_the_receive_maximum_is_heard() -> None:
    holder = Holder()
    subscribed = asyncio.Event()

    async def flood(wire: Wire) -> None:
        await wire.accept()
        for number in range(200):
            wire.send(wire.publish(b"t", b"-" * 1000, packet_id=number + 1))
        packet = await wire.expect(Kind.SUBSCRIBE)
        wire.send(wire.publish(b"t", b"-" * 1000, packet_id=201))
        wire.granted(packet)
        await subscribed.wait()

    async with (
        scripted(flood) as port,
        Connection(at(port), client_id="c", receive=holder, receive_maximum=10) as connection,
        asyncio.timeout(LIMIT),
    ):
        await until(lambda: sum(len(payloads) for payloads, _ in holder.batches) > 10)
        await connection.subscribe(Subscription("t"))
        subscribed.set()
    assert sum(len(payloads) for payloads, _ in holder.batches) == 201


async def test_failing_receiver_is_logged_and_the_messages_are_acknowledged(caplog: pytest.LogCaptureFixture) -> None:
    acknowledged = asyncio.Event()

    def fail(_: Sequence[Message]) -> None:
        raise RuntimeError("out of order")

    async def send(wire: Wire) -> None:
        await wire.accept()
        for number in (1, 2):
            wire.send(wire.publish(b"t", b"x", packet_id=number))
            assert (await wire.expect(Kind.PUBACK)).packet_id == number
        acknowledged.set()

    async with scripted(send) as port, Connection(at(port), client_id="c", receive=fail), asyncio.timeout(LIMIT):
        await acknowledged.wait()
    assert "out of order" in caplog.text


async def test_failing_callbacks_do_not_end_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("callback failed")

    async def cut(wire: Wire) -> None:
        await wire.accept()
        wire.close()

    async def keep(wire: Wire) -> None:
        await wire.accept()
        await acknowledge_all(wire)

    async with (
        scripted(cut, keep) as port,
        Connection(at(port), client_id="c", receive=ignore, on_connect=fail, on_disconnect=fail) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.publish("t", b"x")
    assert caplog.text.count("RuntimeError: callback failed") >= 3


async def test_qos_2_and_0_and_properties_are_taken() -> None:
    done = asyncio.Event()
    messages: list[Message] = []

    async def send(wire: Wire) -> None:
        await wire.accept()
        wire.send(wire.publish(b"zero", b"0", qos=0))
        wire.send(wire.publish(b"two", b"2", packet_id=9, qos=2))
        assert (await wire.expect(Kind.PUBREC)).packet_id == 9
        wire.send(encoded(Kind.PUBREL, struct.pack(">H", 9), 2))
        assert (await wire.expect(Kind.PUBCOMP)).packet_id == 9
        few = struct.pack(">BI", EXPIRY, 60)
        many = few + struct.pack(">BH", 3, 200) + b"c" * 200  # a content type
        for number, properties in ((1, few), (2, many)):
            length = bytes([len(properties)]) if len(properties) < 128 else bytes([len(properties) & 127 | 128, 1])
            body = struct.pack(">H", 4) + b"with" + struct.pack(">H", number) + length + properties + b"payload"
            wire.send(encoded(Kind.PUBLISH, body, 2))
            assert (await wire.expect(Kind.PUBACK)).packet_id == number
        done.set()

    async with (
        scripted(send) as port,
        Connection(at(port), client_id="c", receive=messages.extend),
        asyncio.timeout(LIMIT),
    ):
        await done.wait()
    assert [message[:2] for message in messages] == [("zero", b"0"), ("two", b"2"), *[("with", b"payload")] * 2]


async def test_topic_that_is_not_utf8_is_acknowledged_and_dropped() -> None:
    done = asyncio.Event()
    messages: list[Message] = []

    async def send(wire: Wire) -> None:
        await wire.accept()
        wire.send(wire.publish(b"\xff\xfe", b"x", packet_id=1) + wire.publish(b"good", b"y", packet_id=2))
        assert [(await wire.expect(Kind.PUBACK)).packet_id for _ in range(2)] == [1, 2]
        done.set()

    async with (
        scripted(send) as port,
        Connection(at(port), client_id="c", receive=messages.extend),
        asyncio.timeout(LIMIT),
    ):
        await done.wait()
    assert [message.topic for message in messages] == ["good"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x30\x01\x00",
        b"\x32\x05\x00\x01a\x00\x01",
        b"\x32\x04\x00\x09ab",
        b"\x30\xff\xff\xff\xff\xff",
        b"\x00\x00",
        b"\x40\x01\x00",
    ],
)
async def test_what_is_not_mqtt_ends_the_connection_and_a_new_one_is_made(garbage: bytes) -> None:
    reasons: list[str] = []

    async def spoil(wire: Wire) -> None:
        await wire.accept()
        await wire.expect(Kind.PUBLISH)
        wire.send(garbage)

    async def keep(wire: Wire) -> None:
        await wire.accept()
        await acknowledge_all(wire)

    async with (
        scripted(spoil, keep) as port,
        Connection(at(port), client_id="c", receive=ignore, on_disconnect=reasons.append) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.publish("t", b"x")
    assert reasons == ["the broker sent something that is not MQTT"]


async def refuse_version_5(wire: Wire) -> None:
    connect = await wire.expect(Kind.CONNECT)
    assert connect.body[6] == 5
    wire.send(wire.connack(code=0x84))
    wire.close()


async def refuse_as_3_1_1_does(wire: Wire) -> None:
    connect = await wire.expect(Kind.CONNECT)
    assert connect.body[6] == 5
    wire.send(b"\x20\x02\x00\x01")
    wire.close()


async def close_without_a_word(wire: Wire) -> None:
    connect = await wire.expect(Kind.CONNECT)
    assert connect.body[6] == 5
    wire.close()


async def never_answer(wire: Wire) -> None:
    connect = await wire.expect(Kind.CONNECT)
    assert connect.body[6] == 5


@pytest.mark.parametrize("refusal", [refuse_version_5, refuse_as_3_1_1_does, close_without_a_word, never_answer])
async def test_broker_that_does_not_take_mqtt_5_is_spoken_to_in_3_1_1(
    refusal: Callable[[Wire], Awaitable[None]],
) -> None:
    async def take_4(wire: Wire) -> None:
        connect = await wire.accept()
        assert connect.body[6] == 4
        await acknowledge_all(wire)

    async with (
        scripted(refusal, take_4) as port,
        Connection(at(port), client_id="c", receive=ignore, connect_timeout=1) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.wait_connected(retry=False)
        assert connection.protocol == 4
        await connection.subscribe(Subscription("t", retain_as_published=True, retain_handling=2))
        await connection.publish("t", b"x", expiry=60)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x86, "it refused user 'al' (Bad user name or password): check user and password in the URL"),
        (0x88, "Server unavailable"),
    ],
)
async def test_other_refusals_are_said_and_tried_with_no_other_version(code: int, words: str) -> None:
    versions: list[int] = []

    async def refuse(wire: Wire) -> None:
        versions.append((await wire.expect(Kind.CONNECT)).body[6])
        wire.send(wire.connack(code=code))
        wire.close()

    async with scripted(refuse) as port:
        address = Address("127.0.0.1", port, user="al", password="secret")
        async with Connection(address, client_id="c", receive=ignore) as connection:
            with pytest.raises(BrokerUnreachable) as caught:
                await connection.wait_connected(retry=False, timeout=LIMIT)
    assert words in str(caught.value)
    assert set(versions) == {5}


@pytest.mark.parametrize(("properties", "words"), [(b"\x24\x00", "no QoS 1"), (b"\x25\x00", "no retained messages")])
async def test_broker_that_lacks_what_we_need_is_named(properties: bytes, words: str) -> None:
    async def lack(wire: Wire) -> None:
        await wire.accept(properties)

    async with scripted(lack) as port, Connection(at(port), client_id="c", receive=ignore) as connection:
        with pytest.raises(BrokerUnreachable, match=words):
            await connection.wait_connected(retry=False, timeout=LIMIT)


async def test_taken_over_session_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def take_over(wire: Wire) -> None:
        await wire.accept()
        await wire.expect(Kind.PUBLISH)
        wire.send(encoded(Kind.DISCONNECT, b"\x8e\0"))

    async def keep(wire: Wire) -> None:
        await wire.accept()
        await acknowledge_all(wire)

    reasons: list[str] = []
    async with (
        scripted(take_over, keep) as port,
        Connection(at(port), client_id="lamp-1", receive=ignore, on_disconnect=reasons.append) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.publish("t", b"x")
    assert reasons == ["the broker ended it: Session taken over"]
    assert f"another client connected to the broker at 127.0.0.1:{port} with the client id lamp-1" in caplog.text


async def test_silent_broker_is_given_up_after_the_keepalive() -> None:
    reasons: list[str] = []

    async def fall_silent(wire: Wire) -> None:
        await wire.accept()
        await wire.expect(Kind.PINGREQ)

    async with (
        scripted(fall_silent, acknowledge_all) as port,
        Connection(at(port), client_id="c", receive=ignore, keepalive=1, on_disconnect=reasons.append),
    ):
        await until(lambda: reasons, LIMIT)
    assert reasons[0] == "no answer to a ping within 1 s"


async def test_half_open_connection_is_given_up_when_an_acknowledgement_is_overdue() -> None:
    reasons: list[str] = []

    async def swallow(wire: Wire) -> None:
        await wire.accept()
        await wire.expect(Kind.PUBLISH)

    async def answer(wire: Wire) -> None:
        await wire.accept()
        await acknowledge_all(wire)

    async with (
        scripted(swallow, answer) as port,
        Connection(at(port), client_id="c", receive=ignore, keepalive=4, on_disconnect=reasons.append) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.publish("t", b"x")
    assert reasons == ["nothing was heard for 2 s though answers are due: the connection is half open"]


@pytest.mark.parametrize(("query", "keepalive"), [("", 30), ("?keepalive=300", 300)])
async def test_keepalive_is_the_one_in_the_url(query: str, keepalive: int) -> None:
    told: list[int] = []

    async def note(wire: Wire) -> None:
        connect = await wire.expect(Kind.CONNECT)
        told.append(int.from_bytes(connect.body[8:10], "big"))
        wire.send(wire.connack())

    async with scripted(note) as port:
        address = Address.parse(f"mqtt://127.0.0.1:{port}{query}")
        async with Connection(address, client_id="c", receive=ignore):
            await until(lambda: told, LIMIT)
    assert told == [keepalive]


async def test_quiet_connection_whose_messages_are_acknowledged_is_kept() -> None:
    pings = 0

    async def answer(wire: Wire) -> None:
        nonlocal pings
        await wire.accept()
        wire.acknowledge(await wire.expect(Kind.PUBLISH))
        while (await wire.read()).kind is Kind.PINGREQ:
            pings += 1
            wire.send(encoded(Kind.PINGRESP))

    reasons: list[str] = []
    async with (
        scripted(answer) as port,
        Connection(at(port), client_id="c", receive=ignore, keepalive=1, on_disconnect=reasons.append) as connection,
    ):
        await connection.publish("t", b"x")
        await until(lambda: pings >= 2, LIMIT)
    assert reasons == []


async def test_message_that_is_passed_over_while_others_are_heard_is_sent_on_a_new_connection() -> None:
    reasons: list[str] = []

    async def lose_the_first(wire: Wire) -> None:
        await wire.accept()
        await wire.expect(Kind.PUBLISH)
        while True:
            wire.send(wire.publish(b"heard", b"", packet_id=1, qos=0))
            await asyncio.sleep(0.05)

    async def answer(wire: Wire) -> None:
        await wire.accept()
        await acknowledge_all(wire)

    async with (
        scripted(lose_the_first, answer) as port,
        Connection(at(port), client_id="c", receive=ignore, keepalive=1, on_disconnect=reasons.append) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.publish("t", b"x")
    assert reasons == ["a message was not acknowledged within 1 s"]


async def test_large_message_has_the_time_that_a_slow_link_takes() -> None:
    async def hear_late(wire: Wire) -> None:
        await wire.accept()
        packet = await wire.expect(Kind.PUBLISH)
        await asyncio.sleep(1.5)  # as 10 kB take over a link that carries 7 kB a second
        wire.acknowledge(packet)
        await acknowledge_all(wire)

    reasons: list[str] = []
    async with (
        scripted(hear_late) as port,
        Connection(at(port), client_id="c", receive=ignore, keepalive=1, on_disconnect=reasons.append) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.publish("t", bytes(10_000))
    assert reasons == []


async def test_quiet_connection_is_kept_by_pings() -> None:
    pings = 0

    async def answer(wire: Wire) -> None:
        nonlocal pings
        await wire.accept()
        while (await wire.read()).kind is Kind.PINGREQ:
            pings += 1
            wire.send(encoded(Kind.PINGRESP))

    reasons: list[str] = []
    async with (
        scripted(answer) as port,
        Connection(at(port), client_id="c", receive=ignore, keepalive=1, on_disconnect=reasons.append),
    ):
        await until(lambda: pings >= 3, LIMIT)
    assert reasons == []


async def test_connect_says_what_it_should() -> None:
    connects: list[bytes] = []

    async def look(wire: Wire) -> None:
        connects.append((await wire.accept()).body)

    async with scripted(look) as port:
        address = Address("127.0.0.1", port, user="al", password="pw")
        async with Connection(
            address,
            client_id="me",
            receive=ignore,
            will=lambda: Will("w", b"gone"),
            session_expiry=60,
            keepalive=7,
            max_packet_size=1000,
        ) as connection:
            await connection.wait_connected(timeout=LIMIT)
        async with Connection(at(port), client_id="me", receive=ignore, will=lambda: None) as connection:
            await connection.wait_connected(timeout=LIMIT)
    flags = 0b1110_1100  # user, password, will retained with QoS 1; no clean start
    properties = struct.pack(">BI", 17, 60) + struct.pack(">BI", 39, 1000)
    assert connects[0] == (
        b"\0\4MQTT\5"
        + bytes([flags])
        + b"\0\7"
        + bytes([len(properties)])
        + properties
        + b"\0\2me\0\0\1w\0\4gone\0\2al\0\2pw"
    )
    assert connects[1][7] == 0b0000_0010
    assert connects[1].endswith(b"\0\2me")


async def test_reconnect_leaves_with_disconnect_and_comes_back_at_once() -> None:
    packets: list[Packet] = []
    times: list[float] = []

    async def look(wire: Wire) -> None:
        await wire.accept()
        times.append(time.monotonic())
        packets.append(await wire.read())

    async with (
        scripted(look) as port,
        Connection(at(port), client_id="c", receive=ignore) as connection,
        asyncio.timeout(LIMIT),
    ):
        for _ in range(10):
            await connection.wait_connected()
            connection.reconnect()
        await connection.wait_connected()
    assert [packet.kind for packet in packets[:10]] == [Kind.DISCONNECT] * 10
    assert times[-1] - times[0] < 5, "with pauses it would be about half a minute"


async def test_reconnect_from_the_receiver_is_safe() -> None:
    rounds = asyncio.Event()
    connects = 0

    async def send(wire: Wire) -> None:
        nonlocal connects
        await wire.expect(Kind.CONNECT)
        connects += 1
        wire.send(wire.connack() + b"".join(wire.publish(b"t", b"x", packet_id=number) for number in (1, 2)))
        if connects == 3:
            rounds.set()
        await acknowledge_all(wire)

    async with (
        scripted(send) as port,
        Connection(at(port), client_id="c", receive=lambda _: connection.reconnect()) as connection,
        asyncio.timeout(LIMIT),
    ):
        await rounds.wait()
