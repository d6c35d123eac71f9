"""Faults of single packets, between real clients and real brokers."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from outrider.controller.faults import (
    Cut,
    Delay,
    Direction,
    Drop,
    Duplicate,
    FaultProxy,
    HalfOpen,
    Hold,
    Match,
    NotSeen,
    Reorder,
)
from outrider.device import Will
from tests.brokers import BrokerUnderTest
from tests.controller.faults.through import LIMIT, Inbox, connected, proxied
from tests.peers import Connect, Peer


@pytest.fixture(params=["5", "3.1.1"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def payloads(peer: Peer) -> list[bytes]:
    return [message.payload for message in peer.messages]


async def test_everything_passes_and_is_noted(broker: BrokerUnderTest, version: str, prefix: str) -> None:
    inbox = Inbox()
    async with (
        proxied(broker, version) as proxy,
        connected(proxy.address, prefix, f"{prefix}/t", receive=inbox) as connection,
    ):
        for number in range(500):
            connection.publish(f"{prefix}/t", b"%d" % number)
        assert await inbox.until(500) == [b"%d" % number for number in range(500)]
        assert await connection.flush(LIMIT)
        sent = await proxy.seen("PUBLISH", direction="to_broker", topic=f"{prefix}/#", count=500)
        assert [event.packet.payload for event in sent if event.packet] == inbox.payloads
        assert {event.client for event in sent} == {prefix}
        await proxy.seen("PUBACK", direction="to_client", count=500)
        assert proxy.clients == [prefix]


async def test_large_payload_passes_whole(broker: BrokerUnderTest, prefix: str) -> None:
    inbox, payload = Inbox(), bytes(range(256)) * 3000
    async with (
        proxied(broker) as proxy,
        connected(proxy.address, prefix, f"{prefix}/t", receive=inbox) as connection,
    ):
        connection.publish(f"{prefix}/t", payload)
        assert await inbox.until(1) == [payload]


async def test_dropped_publish_does_not_arrive(broker: BrokerUnderTest, version: str, prefix: str) -> None:
    inbox = Inbox()
    async with (
        proxied(broker, version) as proxy,
        connected(proxy.address, prefix, f"{prefix}/#", receive=inbox) as connection,
    ):
        proxy.add(Drop(packet="PUBLISH", direction="to_broker", topic=f"{prefix}/t", skip=1, count=1))
        futures = [connection.publish(f"{prefix}/t", b"%d" % number) for number in range(3)]
        assert await inbox.until(2) == [b"0", b"2"]
        await asyncio.gather(futures[0], futures[2])
        assert not futures[1].done()
        (event,) = await proxy.seen("PUBLISH", action="dropped")
        assert event.packet is not None
        assert event.packet.payload == b"1"


async def test_publish_whose_puback_is_lost_comes_twice_after_a_reconnect(broker: BrokerUnderTest, prefix: str) -> None:
    inbox = Inbox()
    async with (
        connected(broker.address, f"{prefix}-1", f"{prefix}/t", receive=inbox),
        proxied(broker) as proxy,
        connected(proxy.address, f"{prefix}-2") as connection,
    ):
        proxy.add(Drop(packet="PUBACK", direction="to_client", count=1))
        future = connection.publish(f"{prefix}/t", b"x")
        await inbox.until(1)
        await proxy.seen("PUBACK", action="dropped")
        assert not future.done()
        proxy.cut()
        async with asyncio.timeout(LIMIT):
            await future
        assert await inbox.until(2) == [b"x", b"x"]


async def test_delayed_packet_is_late_and_others_overtake_it(broker: BrokerUnderTest, prefix: str) -> None:
    inbox = Inbox()
    async with (
        proxied(broker) as proxy,
        connected(proxy.address, prefix, f"{prefix}/#", receive=inbox) as connection,
    ):
        proxy.add(Delay(seconds=0.3, direction="to_broker", topic=f"{prefix}/late"))
        began = time.monotonic()
        for number in range(3):
            connection.publish(f"{prefix}/late", b"late %d" % number)
            connection.publish(f"{prefix}/t", b"%d" % number)
        assert await inbox.until(6) == [b"0", b"1", b"2", b"late 0", b"late 1", b"late 2"]
        assert time.monotonic() - began >= 0.3


async def test_delay_of_a_varying_length_keeps_the_order(broker: BrokerUnderTest, prefix: str) -> None:
    inbox = Inbox()
    async with (
        proxied(broker) as proxy,
        connected(proxy.address, prefix, f"{prefix}/#", receive=inbox) as connection,
    ):
        proxy.add(Delay(seconds=0, most=0.05, direction="to_broker"))
        for number in range(50):
            connection.publish(f"{prefix}/t", b"%d" % number)
        assert await inbox.until(50) == [b"%d" % number for number in range(50)]


async def test_end_of_a_connection_waits_for_what_is_delayed(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    """A client that says goodbye and goes: its last words are late, not lost, and its will is not published."""
    inbox = Inbox()
    async with connected(broker.address, f"{prefix}-1", f"{prefix}/#", receive=inbox), proxied(broker) as proxy:
        proxy.add(Delay(seconds=0.2))
        async with connected(proxy.address, f"{prefix}-2", will=Will(f"{prefix}/will", b"lost")) as connection:
            future = connection.publish(f"{prefix}/t", b"last")
            await future
        await proxy.seen("DISCONNECT", direction="to_broker")
        await proxy.seen(action="ended")
        assert await inbox.until(1) == [b"last"]


@pytest.mark.parametrize("as_new", [False, True])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_publish_duplicated_to_the_broker_is_taken_and_acknowledged_once(
    broker: BrokerUnderTest, version: str, prefix: str, connect: Connect, qos: int, as_new: bool
) -> None:
    inbox = Inbox()
    async with connected(broker.address, prefix, f"{prefix}/t", receive=inbox), proxied(broker, version) as proxy:
        peer = await connect(Peer(proxy.address, version))
        proxy.add(Duplicate(direction="to_broker", as_new=as_new, count=1))
        for payload in (b"1", b"2", b"3"):
            await peer.publish(f"{prefix}/t", payload, qos=qos)
        if as_new or qos < 2:
            expected = [b"1", b"1", b"2", b"3"]
        elif broker.kind == "embedded":
            # rumqttd takes a QoS 2 packet that is sent again for another one, against MQTT 5.0, 4.3.3, and with each
            # PUBREL passes on the oldest.
            expected = [b"1", b"1", b"2"]
        else:
            expected = [b"1", b"2", b"3"]
        assert await inbox.until(len(expected)) == expected
        if qos:
            await proxy.seen("PUBREC" if qos == 2 else "PUBACK", direction="to_client", action="absorbed")
        (event,) = await proxy.seen("PUBLISH", action="duplicated")
        assert event.packet is not None
        assert event.packet.dup == (qos > 0 and not as_new)


@pytest.mark.parametrize("as_new", [False, True])
async def test_publish_duplicated_to_a_client_comes_twice_and_the_broker_hears_one_puback(
    broker: BrokerUnderTest, version: str, prefix: str, connect: Connect, as_new: bool
) -> None:
    async with proxied(broker, version) as proxy:
        peer = await connect(Peer(proxy.address, version))
        await peer.subscribe(f"{prefix}/t")
        proxy.add(Duplicate(direction="to_client", topic=f"{prefix}/#", count=2, as_new=as_new))
        for payload in (b"1", b"2", b"3"):
            await peer.publish(f"{prefix}/t", payload)
        await peer.wait_for_count(5)
        assert payloads(peer) == [b"1", b"1", b"2", b"2", b"3"]
        assert [message.dup for message in peer.messages] == [False, not as_new, False, not as_new, False]
        await proxy.seen("PUBACK", direction="to_broker", count=3)
        await proxy.seen("PUBACK", direction="to_broker", action="absorbed", count=2)
        await peer.publish(f"{prefix}/t", b"4")  # the broker is still content
        await peer.wait_for_count(6)


async def test_result_arrives_before_the_puback_of_its_command_where_that_is_held(
    broker: BrokerUnderTest, prefix: str
) -> None:
    inbox = Inbox()
    async with (
        proxied(broker) as proxy,
        connected(proxy.address, prefix, f"{prefix}/t", receive=inbox) as connection,
    ):
        hold = Hold(packet="PUBACK", direction="to_client")
        proxy.add(hold)
        future = connection.publish(f"{prefix}/t", b"x")
        await inbox.until(1)
        await proxy.seen("PUBACK", action="held")
        assert not future.done()
        assert proxy.held == 1
        proxy.release(hold)
        async with asyncio.timeout(LIMIT):
            await future
        assert proxy.held == 0


async def test_hold_that_is_undone_lets_go_what_it_held(broker: BrokerUnderTest, prefix: str) -> None:
    async with proxied(broker) as proxy, connected(proxy.address, prefix) as connection:
        undo = proxy.do(Hold(packet="PUBLISH"))
        assert undo is not None
        future = connection.publish(f"{prefix}/t", b"x")
        await proxy.seen("PUBLISH", action="held")
        undo()
        async with asyncio.timeout(LIMIT):
            await future
        assert len(proxy.rules) == 0


async def test_what_is_held_is_lost_with_its_connection(broker: BrokerUnderTest, prefix: str) -> None:
    async with proxied(broker) as proxy, connected(proxy.address, prefix) as connection:
        proxy.add(Hold(packet="PUBLISH", count=1))
        future = connection.publish(f"{prefix}/t", b"x")
        await proxy.seen("PUBLISH", action="held")
        proxy.cut()
        await proxy.seen("PUBLISH", action="lost")
        proxy.release()
        async with asyncio.timeout(LIMIT):
            await future  # sent again over the next connection


async def test_will_overtakes_a_birth_that_is_held(broker: BrokerUnderTest, prefix: str) -> None:
    """A device loses its connection and comes back; its birth is on the way while the broker says the will."""
    inbox, state = Inbox(), f"{prefix}/state"
    async with (
        connected(broker.address, f"{prefix}-1", state, receive=inbox),
        proxied(broker) as proxy,
        connected(proxy.address, f"{prefix}-2", will=Will(state, b"lost")) as device,
    ):
        await device.publish(state, b"born 1", retain=True)
        await inbox.until(1)
        proxy.add(Hold(direction="to_broker", topic=state))
        proxy.cut()
        device.publish(state, b"born 2", retain=True)
        await proxy.seen("PUBLISH", action="held")
        assert await inbox.until(2) == [b"born 1", b"lost"]
        proxy.release()
        assert await inbox.until(3) == [b"born 1", b"lost", b"born 2"]


async def test_reordered_packet_comes_behind_the_next(broker: BrokerUnderTest, prefix: str) -> None:
    inbox = Inbox()
    async with (
        proxied(broker) as proxy,
        connected(proxy.address, prefix, f"{prefix}/t", receive=inbox) as connection,
    ):
        proxy.add(Reorder(packet="PUBLISH", direction="to_broker", by=2, count=1))
        for number in range(4):
            connection.publish(f"{prefix}/t", b"%d" % number)
        assert await inbox.until(4) == [b"1", b"2", b"0", b"3"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("reset", [False, True])
async def test_connection_is_cut_at_a_packet_or_behind_it(
    broker: BrokerUnderTest, prefix: str, connect: Connect, after: bool, reset: bool
) -> None:
    inbox = Inbox()
    async with connected(broker.address, prefix, f"{prefix}/#", receive=inbox), proxied(broker) as proxy:
        peer = await connect(Peer(proxy.address))
        proxy.add(Cut(packet="PUBLISH", direction="to_broker", skip=1, after=after, reset=reset))
        for payload in (b"1", b"2", b"3"):
            peer.send(f"{prefix}/t", payload)
        await proxy.seen(action="cut")
        await peer.wait_disconnected()
        await proxy.seen("PUBLISH", direction="to_broker", count=2 if after else 1)
        assert await inbox.until(2 if after else 1) == [b"1", b"2"][: 2 if after else 1]


async def test_connection_goes_half_open_at_a_packet(broker: BrokerUnderTest, prefix: str) -> None:
    inbox = Inbox()
    async with (
        connected(broker.address, f"{prefix}-1", f"{prefix}/#", receive=inbox),
        proxied(broker) as proxy,
        connected(proxy.address, f"{prefix}-2") as connection,
    ):
        proxy.add(HalfOpen(packet="PUBLISH", skip=1, count=1))
        futures = [connection.publish(f"{prefix}/t", b"%d" % number) for number in range(3)]
        await proxy.seen(action="half-open")
        assert await inbox.until(1) == [b"0"]
        assert proxy.half_open_clients == [f"{prefix}-2"]
        proxy.heal()
        assert await inbox.until(3) == [b"0", b"1", b"2"]
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*futures)


@pytest.mark.parametrize("direction", ["to_broker", "to_client"])
async def test_other_clients_and_the_other_direction_are_left_alone(
    broker: BrokerUnderTest, prefix: str, direction: Direction
) -> None:
    mine, yours = Inbox(), Inbox()
    async with (
        proxied(broker) as proxy,
        connected(proxy.address, f"{prefix}-mine", f"{prefix}/t", receive=mine) as connection,
        connected(proxy.address, f"{prefix}-yours", f"{prefix}/t", receive=yours),
    ):
        proxy.add(Drop(packet="PUBLISH", direction=direction, client="*-yours"))
        connection.publish(f"{prefix}/t", b"x")
        assert await mine.until(1) == [b"x"]
        if direction == "to_broker":
            assert await yours.until(1) == [b"x"]
        else:
            await proxy.seen("PUBLISH", action="dropped", client="*-yours")
            assert yours.messages == []


async def test_payload_chooses_the_packet(broker: BrokerUnderTest, prefix: str) -> None:
    inbox = Inbox()
    async with (
        proxied(broker) as proxy,
        connected(proxy.address, prefix, f"{prefix}/t", receive=inbox) as connection,
    ):
        proxy.add(Drop(contains=b'"c1"'))
        connection.publish(f"{prefix}/t", b'{"id":"c1"}')
        connection.publish(f"{prefix}/t", b'{"id":"c2"}')
        assert await inbox.until(1) == [b'{"id":"c2"}']


async def _lost(broker: BrokerUnderTest, prefix: str, seed: int) -> Sequence[bytes]:
    inbox = Inbox()
    async with (
        proxied(broker, seed=seed) as proxy,
        connected(proxy.address, prefix, f"{prefix}/#", receive=inbox) as connection,
    ):
        proxy.add(Drop(topic=f"{prefix}/t", direction="to_broker", chance=0.5))
        for number in range(100):
            connection.publish(f"{prefix}/t", b"%d" % number)
        connection.publish(f"{prefix}/end", b"end")
        await proxy.seen("PUBLISH", topic=f"{prefix}/end", direction="to_client")
        return [event.packet.payload for event in proxy.log.find(Match(), "dropped") if event.packet]


async def test_seed_repeats_what_chance_did(broker: BrokerUnderTest, prefix: str) -> None:
    first = await _lost(broker, prefix, 1)
    assert 20 < len(first) < 80
    assert await _lost(broker, prefix, 1) == first
    assert await _lost(broker, prefix, 2) != first


async def test_waiting_in_vain_says_what_happened_instead(broker: BrokerUnderTest, prefix: str) -> None:
    async with proxied(broker) as proxy, connected(proxy.address, prefix):
        with pytest.raises(NotSeen, match=r"1 dropped of PUBACK to client expected within 0\.05 s, 0 seen") as caught:
            await proxy.seen("PUBACK", direction="to_client", action="dropped", timeout=0.05)
    assert "CONNACK" in str(caught.value)


async def test_password_is_passed_on_and_not_shown() -> None:
    proxy = FaultProxy("mqtt://ann:secret@localhost:1", port=5)
    assert proxy.address == "mqtt://ann@127.0.0.1:5"
