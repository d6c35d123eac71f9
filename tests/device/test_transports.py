"""The session over WebSocket, WebSocket with TLS and Unix sockets, on a real Mosquitto; and fail-over between two."""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from pathlib import Path

import pytest

from outrider.controller.broker import BrokerProcess, start_broker
from outrider.device.address import Address
from outrider.device.attempts import Pauses
from outrider.device.connection import Connection, Subscription, Will
from outrider.schema.errors import BrokerUnreachable, InvalidAddress
from tests.brokers import kind_or_skip
from tests.device.listeners import listeners, within
from tests.device.mosquitto import free_port
from tests.device.scripted import Kind, Wire, acknowledge_all, scripted
from tests.device.test_connection import Inbox, ignore, set_password
from tests.processes import until

LIMIT = 10.0
PATIENCE = 20.0


@pytest.fixture(params=["ws", "wss", "unix"])
async def urls(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """The URL in question, and the ordinary one of the same broker."""
    folder = tmp_path / "b"  # a socket's path is a short one
    folder.mkdir()
    async with listeners(folder) as found:
        yield found[request.param], found["mqtt"]


Urls = tuple[str, str]


async def test_messages_go_both_ways_in_order(urls: Urls) -> None:
    inbox = Inbox()
    async with (
        within(PATIENCE, "the messages did not come"),
        Connection(Address.parse(urls[0]), client_id="c", receive=inbox) as connection,
    ):
        await connection.subscribe(Subscription("t/#"))
        for number in range(1000):
            connection.publish("t/x", b"%d" % number)
        assert await connection.flush()
        await inbox.until(1000)
        assert connection.protocol == 5
    assert inbox.payloads == [b"%d" % number for number in range(1000)]


async def test_a_megabyte_is_sent_whole(urls: Urls) -> None:
    """Sent only: Mosquitto 2.0 itself takes half a minute to send it through a WebSocket, 4 KiB every 0.1 s."""
    inbox = Inbox()
    payload = os.urandom(1_000_000)
    async with (
        within(PATIENCE, "the message did not come"),
        Connection(Address.parse(urls[1]), client_id="reader", receive=inbox) as reader,
        Connection(Address.parse(urls[0]), client_id="c", receive=ignore) as connection,
    ):
        await reader.subscribe(Subscription("t"))
        await connection.publish("t", payload)
        await inbox.until(1)
    assert inbox.payloads == [payload]


async def test_will_is_published_when_it_is_cut_and_not_after_a_clean_end(urls: Urls) -> None:
    inbox = Inbox()

    def connection(client_id: str) -> Connection:
        return Connection(
            Address.parse(urls[0]), client_id=client_id, receive=ignore, will=lambda: Will("will", client_id.encode())
        )

    async with (
        within(PATIENCE, "the will did not come"),
        Connection(Address.parse(urls[1]), client_id="reader", receive=inbox) as reader,
    ):
        await reader.subscribe(Subscription("will"))
        async with connection("clean") as clean:
            await clean.wait_connected()
        async with connection("cut") as cut:
            await cut.wait_connected()
            cut.abort()
            await inbox.until(1)
    assert inbox.payloads == [b"cut"]


async def test_session_outlives_the_connection(urls: Urls) -> None:
    inbox = Inbox()
    async with within(PATIENCE, "the session was not there"):
        address = Address.parse(urls[0])
        async with Connection(address, client_id="c", receive=ignore, session_expiry=600) as connection:
            await connection.subscribe(Subscription("t"))
        async with Connection(Address.parse(urls[1]), client_id="other", receive=ignore) as other:
            await other.publish("t", b"while away")
        async with Connection(address, client_id="c", receive=inbox, session_expiry=600) as connection:
            await connection.wait_connected()
            assert connection.session_present
            await inbox.until(1)
            await connection.disconnect(end_session=True)


@pytest.mark.parametrize("scheme", ["ws", "wss", "unix"])
async def test_user_and_password_stand_in_the_url(tmp_path: Path, scheme: str) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    await asyncio.to_thread(set_password, passwords, "al", "p/w@1")
    async with listeners(tmp_path, "allow_anonymous false", f"password_file {passwords}") as urls:
        url = urls[scheme]
        right = Address.parse(url.replace("://", "://al:p%2Fw%401@"))
        async with Connection(right, client_id="c", receive=ignore) as connection:
            await connection.wait_connected(retry=False, timeout=LIMIT)
        wrong = Address.parse(url.replace("://", "://al:nonsense@"))
        async with Connection(wrong, client_id="c", receive=ignore) as connection:
            with pytest.raises(BrokerUnreachable) as caught:
                await connection.wait_connected(retry=False, timeout=LIMIT)
    assert f"it refused user 'al' (Not authorized): check user and password in the URL, {scheme}://USER:" in str(
        caught.value
    )
    assert "nonsense" not in str(caught.value)


async def test_listeners_that_are_mistaken_for_another_are_told(tmp_path: Path) -> None:
    async with listeners(tmp_path) as urls:
        port = {scheme: Address.parse(url).port for scheme, url in urls.items()}
        for url, says in (
            (f"ws://127.0.0.1:{port['mqtt']}", "it does not speak WebSocket on this port: use mqtt://"),
            (f"ws://127.0.0.1:{port['wss']}", "it does not speak WebSocket on this port: use mqtt://, or wss://"),
            (f"mqtt://127.0.0.1:{port['ws']}", "if it wants WebSocket, with ws://"),
            (f"wss://127.0.0.1:{port['ws']}", "it does not speak TLS on this port: use ws://"),
            (f"wss://127.0.0.1:{port['wss']}", "its TLS certificate is not trusted"),
        ):
            async with Connection(Address.parse(url), client_id="c", receive=ignore) as connection:
                with pytest.raises(BrokerUnreachable, match=re.escape(says)):
                    await connection.wait_connected(retry=False, timeout=PATIENCE)


async def unreachable(url: str) -> str:
    async with Connection(Address.parse(url), client_id="c", receive=ignore) as connection:
        with pytest.raises(BrokerUnreachable) as caught:
            await connection.wait_connected(retry=False, timeout=LIMIT)
    return str(caught.value)


async def test_missing_unix_socket_is_named(tmp_path: Path) -> None:
    assert await unreachable(f"unix://{tmp_path}/none") == (
        f"No connection to the broker at {tmp_path}/none: there is no such file; in Mosquitto it takes "
        f"`listener 0 PATH`. Check that it runs and that the URL is right (unix://{tmp_path}/none)"
    )


async def test_file_that_is_no_socket_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "it is not a socket" in await unreachable(f"unix://{tmp_path}/file")
    assert "it is not a socket" in await unreachable(f"unix://{tmp_path}")
    assert "there is no such file" in await unreachable(f"unix://{tmp_path}/file/below")


async def test_unix_socket_that_nobody_listens_at_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
    assert "nothing listens there (connection refused)" in await unreachable(f"unix://{tmp_path}/left")


@contextlib.contextmanager
def as_nobody() -> Generator[None]:
    """Without root's right to do everything, where this is root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)


async def test_unix_socket_of_others_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other"))
        other.listen()
        (tmp_path / "other").chmod(0)
        with as_nobody():
            assert "permission denied: this user may not write to it" in await unreachable(f"unix://{tmp_path}/other")


async def test_path_that_is_too_long_for_a_socket_is_told() -> None:
    assert "it cannot be the path of a socket (AF_UNIX path too long)" in await unreachable(f"unix:///{'x' * 200}")


async def test_system_without_unix_sockets_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(InvalidAddress, match="this system has no Unix sockets"):
        Connection(Address.parse("unix:///run/m.sock"), client_id="c", receive=ignore)


@contextlib.asynccontextmanager
async def two_brokers() -> AsyncGenerator[tuple[BrokerProcess, BrokerProcess, Address]]:
    """Two brokers that know nothing of each other, and the address that has both."""
    kind = kind_or_skip("mosquitto")
    async with start_broker(kind=kind) as one, start_broker(kind=kind) as two:
        yield one, two, Address.parse(f"mqtt://127.0.0.1:{one.ports['5']},127.0.0.1:{two.ports['5']}")


async def test_lost_broker_is_replaced_by_the_next_with_subscriptions_and_queue(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    inbox, lost = Inbox(), list[str]()
    async with (
        within(3 * PATIENCE, "the other broker was not taken"),
        two_brokers() as (one, two, address),
        Connection(address, client_id="c", receive=inbox, on_disconnect=lost.append) as connection,
    ):
        places = [each.place for each in address.each]
        await connection.subscribe(Subscription("t"))
        await connection.publish("t", b"at one")
        await inbox.until(1)
        await one.kill()
        await until(lambda: len(lost) == 1, LIMIT)
        futures = [connection.publish("t", b"%d" % number) for number in range(5)]
        await asyncio.gather(*futures)
        await inbox.until(6)
        async with Connection(address.each[1], client_id="other", receive=ignore) as other:
            await other.publish("t", b"at two")
        await inbox.until(7)
        await one.restart()
        assert connection.connected, "nothing leaves a broker that is there"
        await two.kill()
        await until(lambda: len(lost) == 2, LIMIT)
        await connection.publish("t", b"at one again")
        await inbox.until(8)
    assert inbox.payloads == [b"at one", *(b"%d" % number for number in range(5)), b"at two", b"at one again"]
    connects = re.findall(r"c is connected to the broker at (\S+)", caplog.text)
    assert connects == [places[0], places[1], places[0]]


async def test_all_hosts_are_named_when_none_is_there() -> None:
    one, two = free_port(), free_port()
    said = await unreachable(f"mqtt://al:secret@127.0.0.1:{one},127.0.0.1:{two}")
    assert said == (
        f"No connection to the brokers at 127.0.0.1:{one},127.0.0.1:{two}: "
        f"127.0.0.1:{one}: nothing listens there (connection refused); "
        f"127.0.0.1:{two}: nothing listens there (connection refused). "
        f"Check that one of them runs and that the URL is right (mqtt://al@127.0.0.1:{one},127.0.0.1:{two})"
    )


async def cut_at_a_publish(wire: Wire) -> None:
    await wire.accept()
    await wire.expect(Kind.PUBLISH)
    wire.close()


async def keep(wire: Wire) -> None:
    await wire.accept()
    await acknowledge_all(wire)


async def never(_: Wire) -> None:
    raise AssertionError("nobody was to come here")


async def test_host_that_is_there_again_after_a_loss_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outrider.device.connection.STEADY", 0.0)  # the first connection counts as a good one
    async with (
        scripted(cut_at_a_publish, keep) as one,
        scripted(never) as two,
        Connection(
            Address.parse(f"mqtt://127.0.0.1:{one},127.0.0.1:{two}"), client_id="c", receive=ignore
        ) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.publish("t", b"x")


async def test_reconnecting_on_purpose_stays_at_the_host() -> None:
    connects = 0

    async def count(wire: Wire) -> None:
        nonlocal connects
        connects += 1
        await keep(wire)

    async with (
        scripted(count) as one,
        scripted(never) as two,
        Connection(
            Address.parse(f"mqtt://127.0.0.1:{one},127.0.0.1:{two}"), client_id="c", receive=ignore
        ) as connection,
        asyncio.timeout(LIMIT),
    ):
        for _ in range(4):
            await connection.wait_connected()
            connection.reconnect()
        await until(lambda: connects == 5, LIMIT)


async def test_host_that_drops_its_connections_is_left_for_the_next() -> None:
    async with (
        scripted(cut_at_a_publish) as one,
        scripted(keep) as two,
        Connection(
            Address.parse(f"mqtt://127.0.0.1:{one},127.0.0.1:{two}"), client_id="c", receive=ignore
        ) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.publish("t", b"x")


async def test_each_host_is_asked_in_the_version_that_it_speaks_and_gets_a_will_of_its_own() -> None:
    wills = iter(range(9))
    seen: list[tuple[str, int]] = []

    def look(name: str, code: int) -> Callable[[Wire], Awaitable[None]]:
        async def answer(wire: Wire) -> None:
            connect = await wire.expect(Kind.CONNECT)
            wire.version = connect.body[6]
            seen.append((f"{name} {connect.body.partition(b'will ')[2][:1].decode()}", wire.version))
            if wire.version == 4 or code == 0:
                wire.send(wire.connack(code=5 if name == "one" else 0))
                await acknowledge_all(wire)
            wire.send(wire.connack(code=code))
            wire.close()

        return answer

    async with (
        scripted(look("one", 0x84)) as one,
        scripted(look("two", 0)) as two,
        Connection(
            Address.parse(f"mqtt://127.0.0.1:{one},127.0.0.1:{two}"),
            client_id="c",
            receive=ignore,
            will=lambda: Will("w", b"will %d" % next(wills)),
        ) as connection,
    ):
        await connection.wait_connected(retry=False, timeout=LIMIT)
        assert connection.protocol == 5
    assert seen == [("one 0", 5), ("one 0", 4), ("two 1", 5)]


async def test_pauses_grow_with_whole_rounds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[float | None] = []

    class Counted(Pauses):
        def next(self, lived: float | None) -> float:
            rounds.append(lived)
            return 0.0 if len(rounds) < 5 else 60.0

    monkeypatch.setattr("outrider.device.connection.Pauses", Counted)
    asked = 0

    async def refuse(wire: Wire) -> None:
        nonlocal asked
        asked += 1
        await wire.expect(Kind.CONNECT)
        wire.send(wire.connack(code=0x88))
        wire.close()

    async with scripted(refuse) as port, contextlib.AsyncExitStack() as stack:
        hosts = ",".join([f"127.0.0.1:{port}"] * 3)
        await stack.enter_async_context(Connection(Address.parse(f"mqtt://{hosts}"), client_id="c", receive=ignore))
        await until(lambda: len(rounds) == 5, LIMIT)
    assert asked == 15
