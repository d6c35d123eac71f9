"""Faults of whole connections and of the way to the broker, between real clients and real brokers."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from outrider.controller.faults import CannotListen, Direction, Door, Drop, FaultProxy, InvalidFault
from outrider.device import Address, Connection, Will
from outrider.schema import BrokerUnreachable
from tests.brokers import BrokerUnderTest
from tests.controller.faults.through import LIMIT, Inbox, connected, proxied
from tests.device.listeners import listeners
from tests.device.mosquitto import free_port, mosquitto
from tests.processes import until


@pytest.mark.parametrize("reset", [True, False])
async def test_cut_publishes_the_will_and_the_client_comes_back(
    broker: BrokerUnderTest, prefix: str, reset: bool
) -> None:
    inbox, lost = Inbox(), list[str]()
    async with (
        connected(broker.address, f"{prefix}-1", f"{prefix}/#", receive=inbox),
        proxied(broker) as proxy,
        connected(proxy.address, f"{prefix}-2", will=Will(f"{prefix}/will", b"lost"), lost=lost.append) as connection,
    ):
        proxy.cut(reset=reset)
        assert await inbox.until(1) == [b"lost"]
        async with asyncio.timeout(LIMIT):
            await connection.publish(f"{prefix}/t", b"back")
        await proxy.seen(action="connected", count=2)
    assert len(lost) == 1


async def test_cut_resets_both_ends_or_ends_both_streams() -> None:
    arrived = asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()

    def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.put_nowait((reader, writer))

    server = await asyncio.start_server(arrive, "127.0.0.1", 0)
    async with server, FaultProxy(f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}") as proxy:
        for reset in (True, False):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            async with asyncio.timeout(LIMIT):
                far_reader, far_writer = await arrived.get()
                writer.write(b"hello")
                assert await far_reader.readexactly(5) == b"hello"
                proxy.cut(reset=reset)
                for end in (reader, far_reader):
                    if reset:
                        with pytest.raises(ConnectionResetError):
                            await end.read()
                    else:
                        assert await end.read() == b""
            writer.close()
            far_writer.close()
        await proxy.seen(action="cut", count=2)


async def test_only_the_clients_that_are_named_are_cut(broker: BrokerUnderTest, prefix: str) -> None:
    lost = list[str]()
    async with (
        proxied(broker) as proxy,
        connected(proxy.address, f"{prefix}-a", lost=lost.append) as other,
        connected(proxy.address, f"{prefix}-b", lost=lost.append),
    ):
        proxy.cut("*-b")
        await proxy.seen(action="connected", client="*-b", count=2)
        async with asyncio.timeout(LIMIT):
            await other.publish(f"{prefix}/t", b"x")
        assert proxy.log.counts["cut", ""] == len(lost) == 1


async def test_half_open_connection_is_noticed_by_the_acknowledgement_that_is_due(
    broker: BrokerUnderTest, prefix: str
) -> None:
    """Neither end hears anything; the client gives up and comes back, and the broker still has the old connection."""
    inbox, lost = Inbox(), list[str]()
    async with (
        connected(broker.address, f"{prefix}-1", f"{prefix}/#", receive=inbox),
        proxied(broker) as proxy,
        connected(proxy.address, f"{prefix}-2", keepalive=1, lost=lost.append) as connection,
    ):
        proxy.half_open()
        future = connection.publish(f"{prefix}/t", b"x")
        await until(lambda: lost, LIMIT)
        assert lost == ["nothing was heard for 0.5 s though answers are due: the connection is half open"]
        async with asyncio.timeout(LIMIT):
            await future
        assert await inbox.until(1) == [b"x"]
        await proxy.seen(action="connected", client=f"{prefix}-2", count=2)


async def test_half_open_connection_that_heals_goes_on_where_it_was(broker: BrokerUnderTest, prefix: str) -> None:
    inbox, lost = Inbox(), list[str]()
    async with (
        proxied(broker) as proxy,
        connected(proxy.address, prefix, f"{prefix}/#", receive=inbox, lost=lost.append) as connection,
    ):
        proxy.half_open()
        futures = [connection.publish(f"{prefix}/t", b"%d" % number) for number in range(100)]
        # Nobody tells that nothing passes: some other client's message does meanwhile.
        async with connected(proxy.address, f"{prefix}-2") as other, asyncio.timeout(LIMIT):
            await other.publish(f"{prefix}/t", b"other")
        assert inbox.messages == []
        proxy.heal()
        assert sorted(await inbox.until(101)) == sorted([b"other", *(b"%d" % number for number in range(100))])
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*futures)
        assert lost == []


@pytest.mark.parametrize("ways", ["to_broker", "to_client"])
async def test_half_open_one_way_lets_the_other_way_pass(broker: BrokerUnderTest, prefix: str, ways: Direction) -> None:
    inbox, outside = Inbox(), Inbox()
    async with (
        connected(broker.address, f"{prefix}-1", f"{prefix}/up", receive=outside) as outsider,
        proxied(broker) as proxy,
        connected(proxy.address, f"{prefix}-2", f"{prefix}/down", receive=inbox) as connection,
    ):
        proxy.half_open(ways)
        up = connection.publish(f"{prefix}/up", b"up")
        await outsider.publish(f"{prefix}/down", b"down")
        if ways == "to_broker":
            assert await inbox.until(1) == [b"down"]
            assert outside.messages == []
        else:
            assert await outside.until(1) == [b"up"]
            assert inbox.messages == []
            assert not up.done()


async def test_end_of_one_side_is_not_told_to_the_other_while_half_open(broker: BrokerUnderTest, prefix: str) -> None:
    inbox = Inbox()
    async with (
        connected(broker.address, f"{prefix}-1", f"{prefix}/#", receive=inbox) as outsider,
        proxied(broker) as proxy,
    ):
        async with connected(proxy.address, f"{prefix}-2", will=Will(f"{prefix}/will", b"lost")) as connection:
            proxy.half_open()
            connection.abort()
        await outsider.publish(f"{prefix}/t", b"x")
        assert await inbox.until(1) == [b"x"]
        assert proxy.half_open_clients == [f"{prefix}-2"]
        proxy.heal()
        assert await inbox.until(2) == [b"x", b"lost"]


@pytest.mark.parametrize("ways", ["to_broker", "to_client", None])
async def test_throttle_lets_so_many_bytes_a_second_pass(
    broker: BrokerUnderTest, prefix: str, ways: Direction | None
) -> None:
    inbox = Inbox()
    async with (
        proxied(broker) as proxy,
        connected(proxy.address, prefix, f"{prefix}/t", receive=inbox) as connection,
    ):
        proxy.throttle(100_000, ways)
        began = time.monotonic()
        connection.publish(f"{prefix}/t", bytes(50_000))
        await inbox.until(1)
        assert time.monotonic() - began >= 0.45
        began = time.monotonic()
        proxy.heal()
        connection.publish(f"{prefix}/t", bytes(500_000))
        await inbox.until(2)
        assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    ("door", "said"),
    [("blackhole", "no answer to CONNECT"), ("refuse", "connection refused"), ("unanswered", "it does not answer")],
)
async def test_new_connections_do_not_come_about_until_it_heals(
    broker: BrokerUnderTest, prefix: str, door: Door, said: str
) -> None:
    async with proxied(broker) as proxy, connected(proxy.address, f"{prefix}-1") as connection:
        proxy.new_connections(door)
        async with asyncio.timeout(LIMIT):
            await connection.publish(f"{prefix}/t", b"the old one goes on")
        async with Connection(
            Address.parse(proxy.address), client_id=f"{prefix}-2", receive=Inbox(), connect_timeout=0.5
        ) as late:
            with pytest.raises(BrokerUnreachable, match=said):
                await late.wait_connected(retry=False, timeout=LIMIT)
            proxy.heal()
            await late.wait_connected(timeout=LIMIT)
        assert proxy.door == "open"


async def test_client_that_waited_in_a_blackhole_is_relayed_when_it_heals(broker: BrokerUnderTest, prefix: str) -> None:
    async with proxied(broker) as proxy:
        proxy.blackhole()
        async with Connection(Address.parse(proxy.address), client_id=prefix, receive=Inbox()) as connection:
            await proxy.seen(action="blackholed")
            proxy.heal()
            await connection.wait_connected(timeout=LIMIT)
            await proxy.seen(action="connected")
        assert proxy.log.counts["blackholed", ""] == 1


async def test_client_that_gave_up_in_a_blackhole_does_not_haunt_the_broker(
    broker: BrokerUnderTest, prefix: str
) -> None:
    """Else its CONNECT would reach the broker later, and take the session over from the connection made since."""
    async with proxied(broker) as proxy:
        proxy.blackhole()
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"\x10\x0d\0\4MQTT\x04\x02\0\x3c\0\1x")
        await proxy.seen(action="blackholed")
        writer.close()
        await proxy.seen(action="ended")
        proxy.heal()
        async with connected(proxy.address, prefix):
            assert proxy.log.counts["connected", ""] == 1


async def test_broker_that_is_not_there_is_noted_and_used_once_it_is(tmp_path: Path, prefix: str) -> None:
    port = free_port()
    async with FaultProxy(f"mqtt://127.0.0.1:{port}") as proxy:
        address = Address.parse(proxy.address)
        async with Connection(address, client_id=prefix, receive=Inbox()) as connection:
            (event, *_) = await proxy.seen(action="unreachable")
            assert event.words == f"the broker at 127.0.0.1:{port}: Connection refused"
            async with mosquitto(tmp_path, port=port):
                await connection.wait_connected(timeout=LIMIT)


@pytest.mark.parametrize("scheme", ["ws", "wss", "unix"])
async def test_other_ways_to_a_broker_are_relayed(tmp_path: Path, prefix: str, scheme: str) -> None:
    """Single packets are seen only where they are neither in a WebSocket nor encrypted."""
    inbox = Inbox()
    async with contextlib.AsyncExitStack() as stack:
        urls = await stack.enter_async_context(listeners(tmp_path))
        # The certificate is for this name.
        host = "localhost" if scheme == "wss" else "127.0.0.1"
        proxy = await stack.enter_async_context(FaultProxy(urls[scheme], host=host))
        connection = await stack.enter_async_context(connected(proxy.address, prefix, f"{prefix}/t", receive=inbox))
        payload = bytes(range(256)) * 100
        connection.publish(f"{prefix}/t", payload)
        assert await inbox.until(1) == [payload]
        assert proxy.log.counts["opaque", ""] == (scheme != "unix")
        assert bool(proxy.log.counts["passed", "PUBLISH"]) == (scheme == "unix")
        proxy.cut()
        connection.publish(f"{prefix}/t", b"back")
        await inbox.until(2)


@pytest.mark.parametrize("scheme", ["mqtts", "ws", "wss"])
def test_faults_of_packets_are_refused_where_packets_do_not_show(scheme: str) -> None:
    proxy = FaultProxy(f"{scheme}://127.0.0.1")
    acts: tuple[Callable[[], object], ...] = (
        lambda: proxy.add(Drop(packet="PUBACK")),
        lambda: proxy.do(Drop(packet="PUBACK")),
        lambda: proxy.cut("lamp-1"),
        lambda: proxy.half_open(client="lamp-1"),
    )
    for act in acts:
        with pytest.raises(InvalidFault, match=f"do not show over {scheme}://"):
            act()
    assert list(proxy.rules) == []
    proxy.cut()
    proxy.half_open()
    proxy.throttle(1000)


async def test_port_is_the_one_asked_for_and_a_taken_one_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"127.0.0.1 port {port}: it is taken"):
            async with FaultProxy("mqtt://localhost", port=port):
                pass
    with pytest.raises(CannotListen, match=r"cannot listen on 192\.0\.2\.1"):
        async with FaultProxy("mqtt://localhost", host="192.0.2.1"):
            pass
    async with FaultProxy("mqtt://localhost", port=port) as proxy:
        assert proxy.address == f"mqtt://127.0.0.1:{port}"
        before = proxy.port
        proxy.refuse()
        proxy.heal()
        assert proxy.port == before


async def test_proxy_that_ends_takes_its_connections_along(broker: BrokerUnderTest, prefix: str) -> None:
    lost = list[str]()
    async with proxied(broker) as proxy, connected(proxy.address, prefix, lost=lost.append):
        await proxy.__aexit__(None, None, None)
        await until(lambda: lost)
        assert proxy.clients == []
