"""The session as its users see it, on real brokers. What only a scripted broker shows is in test_link.py."""

import asyncio
import contextlib
import shutil
import statistics
import subprocess
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from outrider.controller.broker import BrokerProcess
from outrider.device.address import Address
from outrider.device.connection import Connection, Message, Subscription, Will
from outrider.schema.errors import BrokerUnreachable, InvalidName, MessageTooLarge, PublishRefused, QueueFull
from tests.brokers import BrokerUnderTest
from tests.device.listeners import within
from tests.device.mosquitto import free_port, mosquitto
from tests.device.scripted import without_mqtt_5
from tests.processes import until

LIMIT = 10.0
PATIENCE = 20.0


class Inbox:
    """What a connection has received, and the ways of waiting for it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def __call__(self, messages: Sequence[Message]) -> None:
        self.messages.extend(messages)

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.messages]

    async def until(self, count: int) -> list[Message]:
        await until(lambda: len(self.messages) >= count, LIMIT)
        return self.messages


@pytest.fixture(params=["5", "3.1.1"])
def version(request: pytest.FixtureRequest) -> str:
    param: str = request.param
    return param


@pytest.fixture
async def address(broker: BrokerUnderTest, version: str) -> AsyncIterator[Address]:
    """Where only this version is spoken."""
    address = Address.parse(broker.address_for(version))
    if version == "5" or broker.ports["5"] != broker.ports["3.1.1"]:
        yield address
    else:
        async with without_mqtt_5(address.host, address.port) as port:
            yield replace(address, host="127.0.0.1", port=port)


def ignore(_: Sequence[Message]) -> None:
    pass


@contextlib.asynccontextmanager
async def listening(address: Address, *filters: str) -> AsyncGenerator[Inbox]:
    inbox = Inbox()
    async with Connection(address, client_id=f"listener-{time.monotonic_ns()}", receive=inbox) as connection:
        async with within(PATIENCE, f"{address} did not confirm a subscription"):
            await connection.subscribe(*(Subscription(each) for each in filters))
        yield inbox


async def test_published_messages_arrive_in_order(address: Address, prefix: str) -> None:
    async with listening(address, f"{prefix}/#") as inbox:
        async with Connection(address, client_id=prefix, receive=ignore) as connection:
            for number in range(1000):
                connection.publish(f"{prefix}/t", b"%d" % number)
            assert await connection.flush(LIMIT)
        await inbox.until(1000)
    assert inbox.payloads == [b"%d" % number for number in range(1000)]
    assert inbox.messages[0] == Message(f"{prefix}/t", b"0", False, False)


async def test_publish_is_done_when_the_broker_has_acknowledged_it(address: Address, prefix: str) -> None:
    async with Connection(address, client_id=prefix, receive=ignore) as connection, asyncio.timeout(LIMIT):
        await connection.publish(f"{prefix}/t", b"x")


async def test_version_is_the_one_the_broker_speaks(address: Address, version: str, prefix: str) -> None:
    async with Connection(address, client_id=prefix, receive=ignore) as connection:
        assert connection.protocol is None
        await connection.wait_connected(timeout=LIMIT)
        assert connection.protocol == {"5": 5, "3.1.1": 4}[version]


async def test_ping_pong_is_quick(address: Address, prefix: str) -> None:
    """A broker that leaves Nagle on answers after 44 ms unless each read is acknowledged at once.

    It takes two connections to see it: what one sends to itself carries the acknowledgements along.
    """
    arrived = asyncio.Event()

    def answer(_: Sequence[Message]) -> None:
        pong.publish(f"{prefix}/pong", b"x")

    async with (
        Connection(address, client_id=f"{prefix}-1", receive=lambda _: arrived.set()) as ping,
        Connection(address, client_id=f"{prefix}-2", receive=answer) as pong,
        asyncio.timeout(LIMIT),
    ):
        await asyncio.gather(
            ping.subscribe(Subscription(f"{prefix}/pong")), pong.subscribe(Subscription(f"{prefix}/ping"))
        )

        async def median() -> float:
            times: list[float] = []
            for _ in range(21):
                began = time.perf_counter()
                arrived.clear()
                ping.publish(f"{prefix}/ping", b"x")
                await arrived.wait()
                times.append(time.perf_counter() - began)
            return statistics.median(times)

        assert min([await median() for _ in range(3)]) < 0.015


async def test_what_is_published_before_the_broker_is_there_is_sent_in_order(tmp_path: Path) -> None:
    address = Address("127.0.0.1", free_port())
    connected = asyncio.Event()
    async with Connection(address, client_id="early", receive=ignore, on_connect=connected.set) as connection:
        futures = [connection.publish("t", b"%d" % number, retain=True) for number in range(3)]
        with pytest.raises(BrokerUnreachable):
            await connection.wait_connected(retry=False, timeout=LIMIT)
        async with mosquitto(tmp_path, port=address.port):
            async with asyncio.timeout(LIMIT):
                await asyncio.gather(*futures)
                await connected.wait()
            async with listening(address, "t") as inbox:
                assert (await inbox.until(1))[0] == Message("t", b"2", True, False)


async def test_no_broker_is_said_at_once_when_asked_not_to_retry() -> None:
    address = Address("127.0.0.1", free_port(), user="alice", password="secret")
    async with Connection(address, client_id="c", receive=ignore) as connection:
        began = time.monotonic()
        with pytest.raises(BrokerUnreachable) as caught:
            await connection.wait_connected(retry=False, timeout=LIMIT)
        assert time.monotonic() - began < 2
    assert str(caught.value) == (
        f"No connection to the broker at 127.0.0.1:{address.port}: nothing listens there (connection refused). "
        f"Check that it runs and that the URL is right (mqtt://alice@127.0.0.1:{address.port})"
    )


async def test_no_broker_is_said_after_the_timeout_when_retrying() -> None:
    async with Connection(Address("127.0.0.1", free_port()), client_id="c", receive=ignore) as connection:
        with pytest.raises(BrokerUnreachable, match="nothing listens there"):
            await connection.wait_connected(timeout=0.5)


async def test_retained_messages_have_arrived_after_a_round_trip(broker: BrokerUnderTest, prefix: str) -> None:
    address = Address.parse(broker.address)
    count = 100 if broker.kind == "embedded" else 300  # rumqttd sends 100 retained messages to a subscription at most
    topics = [f"{prefix}/{number}" for number in range(count)]
    inbox = Inbox()
    async with Connection(address, client_id=prefix, receive=ignore) as publisher:
        for topic in topics:
            publisher.publish(topic, b"x", retain=True)
        assert await publisher.flush(LIMIT)
        async with Connection(address, client_id=f"{prefix}-2", receive=inbox) as connection, asyncio.timeout(LIMIT):
            await connection.subscribe(Subscription(f"{prefix}/#"))
            await connection.roundtrip()
            assert {message.topic for message in inbox.messages if message.retain} == set(topics)
        for topic in topics:
            publisher.publish(topic, b"", retain=True)
        assert await publisher.flush(LIMIT)


async def test_round_trip_waits_for_a_broker_that_sends_twenty_at_a_time(tmp_path: Path) -> None:
    inbox = Inbox()
    async with mosquitto(tmp_path, "max_inflight_messages 20") as port, asyncio.timeout(20):
        address = Address("127.0.0.1", port)
        async with Connection(address, client_id="a", receive=ignore) as publisher:
            for number in range(300):
                publisher.publish(f"r/{number}", b"x", retain=True)
            assert await publisher.flush(LIMIT)
        async with Connection(address, client_id="b", receive=inbox) as connection:
            await connection.subscribe(Subscription("r/#"))
            await connection.roundtrip()
            assert len(inbox.messages) == 300


async def test_subscription_waits_for_the_connection_and_is_made_once(address: Address, prefix: str) -> None:
    inbox = Inbox()
    async with (
        Connection(address, client_id=prefix, receive=ignore) as publisher,
        within(PATIENCE, f"{address} did not acknowledge a message"),
    ):
        await publisher.publish(f"{prefix}/t", b"stored", retain=True)
    async with Connection(address, client_id=prefix, receive=inbox) as connection, asyncio.timeout(LIMIT):
        await connection.subscribe(Subscription(f"{prefix}/t"), Subscription(f"{prefix}/u"))
        await connection.roundtrip()
        assert inbox.payloads == [b"stored"]
        await connection.publish(f"{prefix}/t", b"", retain=True)


async def test_unsubscribed_stays_silent(address: Address, prefix: str) -> None:
    inbox = Inbox()
    async with Connection(address, client_id=prefix, receive=inbox) as connection, asyncio.timeout(LIMIT):
        await connection.subscribe(Subscription(f"{prefix}/a"), Subscription(f"{prefix}/b"))
        await connection.unsubscribe(f"{prefix}/a")
        await connection.publish(f"{prefix}/a", b"no")
        await connection.publish(f"{prefix}/b", b"yes")
        await inbox.until(1)
        assert inbox.payloads == [b"yes"]


async def test_unsubscribed_while_away_stays_silent_in_a_kept_session(restartable_broker: BrokerProcess) -> None:
    inbox, address = Inbox(), Address.parse(restartable_broker.address)
    async with (
        asyncio.timeout(LIMIT),
        Connection(address, client_id="c", receive=inbox, session_expiry=600) as connection,
    ):
        await connection.subscribe(Subscription("a"), Subscription("b"))
        connection.reconnect()
        await connection.unsubscribe("a")
        await connection.wait_connected()
        assert connection.session_present
        await connection.publish("a", b"no")
        await connection.publish("b", b"yes")
        await inbox.until(1)
        assert inbox.payloads == [b"yes"]


async def test_what_an_earlier_process_subscribed_is_ended_or_made_anew(
    restartable_broker: BrokerProcess,
) -> None:
    address = Address.parse(restartable_broker.address)
    async with asyncio.timeout(LIMIT):
        async with Connection(address, client_id="c", receive=ignore, session_expiry=600) as earlier:
            await earlier.publish("a", b"standing", retain=True)
            await earlier.subscribe(Subscription("a"), Subscription("b"))
        inbox = Inbox()
        async with Connection(address, client_id="c", receive=inbox, session_expiry=600) as connection:
            await connection.wait_connected()
            assert connection.session_present
            await connection.subscribe(Subscription("a"), anew=True)
            await inbox.until(1)
            await connection.unsubscribe("b")
            await connection.publish("b", b"no")
            await connection.publish("a", b"yes")
            await inbox.until(2)
            assert inbox.payloads == [b"standing", b"yes"]


@pytest.mark.parametrize("bad", ["", "a/#/b", "a+", "#a", "a\0"])
async def test_ill_formed_filter_is_refused(bad: str) -> None:
    async with Connection(Address("127.0.0.1", 1), client_id="c", receive=ignore) as connection:
        with pytest.raises(InvalidName, match="is not a topic filter"):
            await connection.subscribe(Subscription(bad))


async def test_will_is_published_when_the_connection_is_cut(address: Address, prefix: str) -> None:
    async with (
        listening(address, f"{prefix}/will") as inbox,
        Connection(
            address, client_id=prefix, receive=ignore, will=lambda: Will(f"{prefix}/will", b"lost")
        ) as connection,
    ):
        await connection.wait_connected(timeout=LIMIT)
        connection.abort()
        assert (await inbox.until(1))[0].payload == b"lost"
    async with listening(address, f"{prefix}/will") as late:
        assert (await late.until(1))[0].retain


async def test_will_is_not_published_after_a_clean_end(address: Address, prefix: str) -> None:
    async with listening(address, f"{prefix}/#") as inbox:
        async with Connection(
            address, client_id=prefix, receive=ignore, will=lambda: Will(f"{prefix}/will", b"lost")
        ) as connection:
            await connection.wait_connected(timeout=LIMIT)
            connection.publish(f"{prefix}/last", b"word")
        async with (
            Connection(address, client_id=prefix, receive=ignore) as witness,
            within(PATIENCE, f"{address} did not acknowledge a message"),
        ):
            await witness.publish(f"{prefix}/after", b"")
        await inbox.until(2)
    assert [message.topic for message in inbox.messages] == [f"{prefix}/last", f"{prefix}/after"]


async def test_reconnect_asks_for_a_new_will_and_sends_none(address: Address, prefix: str) -> None:
    wills = [b"third", b"second", b"first"]
    async with (
        listening(address, f"{prefix}/#") as inbox,
        Connection(
            address, client_id=prefix, receive=ignore, will=lambda: Will(f"{prefix}/will", wills[-1])
        ) as connection,
    ):
        await connection.wait_connected(timeout=LIMIT)
        wills.pop()
        connection.reconnect()
        assert not connection.connected
        await connection.wait_connected(timeout=LIMIT)
        connection.abort()
        await inbox.until(1)
    assert inbox.payloads == [b"second"]


async def test_kept_session_holds_messages_until_it_is_ended(address: Address, prefix: str) -> None:
    inbox = Inbox()
    async with asyncio.timeout(20):
        async with Connection(address, client_id=prefix, receive=ignore, session_expiry=600) as connection:
            await connection.subscribe(Subscription(f"{prefix}/t"))
            assert not connection.session_present
        async with Connection(address, client_id=f"{prefix}-2", receive=ignore) as other:
            await other.publish(f"{prefix}/t", b"while away")
        async with Connection(address, client_id=prefix, receive=inbox, session_expiry=600) as connection:
            await inbox.until(1)
            await connection.wait_connected()
            assert connection.session_present
            await connection.disconnect(end_session=True)
        async with Connection(address, client_id=prefix, receive=ignore, session_expiry=600) as connection:
            await connection.wait_connected()
            assert not connection.session_present
            await connection.disconnect(end_session=True)
    assert inbox.payloads == [b"while away"]


async def test_clean_session_is_clean(address: Address, prefix: str) -> None:
    for _ in range(2):
        async with Connection(address, client_id=prefix, receive=ignore) as connection, asyncio.timeout(LIMIT):
            await connection.subscribe(Subscription(f"{prefix}/t"))
            assert not connection.session_present


async def test_restarted_broker_gets_what_was_queued_and_the_subscriptions(
    restartable_broker: BrokerProcess, version: str
) -> None:
    inbox = Inbox()
    events: list[str] = []
    address = Address.parse(restartable_broker.address_for(version))
    async with (
        asyncio.timeout(40),
        Connection(
            address,
            client_id="c",
            receive=inbox,
            on_connect=lambda: events.append("connected"),
            on_disconnect=lambda reason: events.append(reason),
        ) as connection,
    ):
        await connection.subscribe(Subscription("t/#"))
        await connection.publish("t", b"before")
        await restartable_broker.kill()
        await until(lambda: not connection.connected, LIMIT)
        futures = [connection.publish("t", b"%d" % number) for number in range(10)]
        await restartable_broker.restart()
        await asyncio.gather(*futures)
        await inbox.until(11)
    assert inbox.payloads == [b"before", *(b"%d" % number for number in range(10))]
    assert events[0] == events[2] == "connected"
    assert events[1] in ("the broker closed the connection", "the broker cut the connection")
    assert len(events) == 3


async def test_two_with_one_id_are_suspected_and_do_not_fight_at_full_speed(
    address: Address, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    connects = 0

    def connected() -> None:
        nonlocal connects
        connects += 1

    async with (
        Connection(address, client_id=prefix, receive=ignore, on_connect=connected),
        Connection(address, client_id=prefix, receive=ignore, on_connect=connected),
    ):
        await until(lambda: "another client connected" in caplog.text, 20)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await asyncio.Event().wait()
    assert f"with the client id {prefix}: give each its own" in caplog.text
    assert connects < 40


async def test_broker_killed_again_and_again_is_not_taken_for_another_client(
    restartable_broker: BrokerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    address = Address.parse(restartable_broker.address_for("3.1.1"))
    async with Connection(address, client_id="killed", receive=ignore) as connection:
        for _ in range(6):
            await connection.wait_connected(timeout=3)
            caplog.clear()
            await restartable_broker.kill()
            await until(lambda: "No connection to the broker" in caplog.text, LIMIT)
            assert "another client" not in caplog.text
            await restartable_broker.restart()
        await connection.wait_connected(timeout=3)
    assert "another client" not in caplog.text


async def test_wrong_password_is_said_in_words(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    await asyncio.to_thread(set_password, passwords, "alice", "right")
    async with mosquitto(tmp_path, "allow_anonymous false", f"password_file {passwords}") as port:
        right = Address("127.0.0.1", port, user="alice", password="right")
        async with Connection(right, client_id="c", receive=ignore) as connection:
            await connection.wait_connected(retry=False, timeout=LIMIT)
        for address, who in (
            (replace(right, password="wrong"), "user 'alice'"),
            (replace(right, user=None, password=None), "a client without user and password"),
        ):
            async with Connection(address, client_id="c", receive=ignore) as connection:
                with pytest.raises(BrokerUnreachable) as caught:
                    await connection.wait_connected(retry=False, timeout=LIMIT)
            assert f"127.0.0.1:{port}: it refused {who} (Not authorized): check user and password" in str(caught.value)
            assert "wrong" not in str(caught.value)


async def test_refused_publish_fails_with_the_reason_on_mqtt_5(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic read allowed/#\ntopic write allowed/#\n")
    async with (
        mosquitto(tmp_path, f"acl_file {rules}") as port,
        Connection(Address("127.0.0.1", port), client_id="c", receive=ignore) as connection,
        asyncio.timeout(LIMIT),
    ):
        with pytest.raises(PublishRefused, match=r"refused the message to forbidden \(Not authorized\)"):
            await connection.publish("forbidden", b"x")
        await connection.publish("allowed/t", b"x")


async def test_too_large_for_the_broker_is_refused_here_and_the_connection_stays(tmp_path: Path) -> None:
    async with mosquitto(tmp_path, "max_packet_size 1000") as port, asyncio.timeout(LIMIT):
        lost: list[str] = []
        async with Connection(
            Address("127.0.0.1", port), client_id="c", receive=ignore, on_disconnect=lost.append
        ) as connection:
            await connection.wait_connected()
            with pytest.raises(MessageTooLarge, match="to t has 1000 bytes"):
                connection.publish("t", bytes(1000))
            await connection.publish("t", bytes(970), expiry=60)
            await connection.publish("t" * 500, bytes(480))
        assert lost == []


async def test_too_large_while_not_connected_fails_later(tmp_path: Path) -> None:
    address = Address("127.0.0.1", free_port())
    async with Connection(address, client_id="c", receive=ignore) as connection:
        large, small = connection.publish("t", bytes(2000)), connection.publish("t", b"x")
        async with mosquitto(tmp_path, "max_packet_size 1000", port=address.port), asyncio.timeout(LIMIT):
            await small
            assert isinstance(large.exception(), MessageTooLarge)


async def test_full_queue_refuses_more() -> None:
    async with Connection(Address("127.0.0.1", 1), client_id="c", receive=ignore, max_queued=2) as connection:
        connection.publish("t", b"1")
        connection.publish("t", b"2")
        with pytest.raises(QueueFull, match="2 messages wait"):
            connection.publish("t", b"3")


async def test_nothing_goes_after_the_end(address: Address, prefix: str) -> None:
    async with Connection(address, client_id=prefix, receive=ignore) as connection:
        await connection.wait_connected(timeout=LIMIT)
    with pytest.raises(BrokerUnreachable, match="has been ended on this side"):
        connection.publish("t", b"x")
    async with within(PATIENCE, "what was ended still waits"):
        with pytest.raises(BrokerUnreachable):
            await connection.wait_connected()
        with pytest.raises(BrokerUnreachable):
            await connection.subscribe(Subscription("t"))
        await connection.disconnect()


async def test_end_fails_what_was_never_acknowledged() -> None:
    async with Connection(Address("127.0.0.1", 1), client_id="c", receive=ignore) as connection:
        future = connection.publish("t", b"x")
        assert not await connection.flush(0.01)
    assert isinstance(future.exception(), BrokerUnreachable)


async def test_window_is_filled_by_a_burst_and_all_of_it_arrives(address: Address, prefix: str) -> None:
    async with listening(address, f"{prefix}/t") as inbox:
        async with Connection(address, client_id=prefix, receive=ignore, window=10, max_queued=20_000) as connection:
            futures = [connection.publish(f"{prefix}/t", b"%d" % number) for number in range(5000)]
            assert await connection.flush(30)
            assert all(future.done() for future in futures)
        await inbox.until(5000)
    assert inbox.payloads == [b"%d" % number for number in range(5000)]


async def test_tls_with_mosquitto(tmp_path: Path) -> None:
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    ca, cert, key = tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem"
    authority.cert_pem.write_to_path(str(ca))
    server.cert_chain_pems[0].write_to_path(str(cert))
    server.private_key_pem.write_to_path(str(key))
    inbox = Inbox()
    async with mosquitto(tmp_path, f"certfile {cert}", f"keyfile {key}", "max_inflight_messages 0") as port:
        address = Address.parse(f"mqtts://localhost:{port}?ca={ca}")
        async with Connection(address, client_id="c", receive=inbox) as connection, asyncio.timeout(20):
            await connection.subscribe(Subscription("t"))
            for number in range(2000):
                connection.publish("t", b"%d" % number)
            await inbox.until(2000)
        plain = Address("127.0.0.1", port)
        async with Connection(plain, client_id="p", receive=ignore) as connection:
            with pytest.raises(BrokerUnreachable, match="if it wants TLS, the URL begins with mqtts://"):
                await connection.wait_connected(retry=False, timeout=20)
    assert inbox.payloads == [b"%d" % number for number in range(2000)]


def set_password(file: Path, user: str, password: str) -> None:
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed: apt install mosquitto")
    subprocess.run([program, "-b", str(file), user, password], check=True, capture_output=True)
