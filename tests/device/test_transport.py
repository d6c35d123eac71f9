import asyncio
import contextlib
import gc
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from pathlib import Path

import pytest
import trustme

from outrider.device.address import Address
from outrider.device.connection import Connection, Message
from outrider.device.stream import BufferedSocket
from outrider.device.transport import open_socket, reason_of
from outrider.schema.errors import BrokerUnreachable
from tests.device.scripted import Kind, Wire, scripted

LONGEST_STALL = 0.05


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # names pyOpenSSL, which is not here
    return context


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return str(file)


@contextlib.contextmanager
def silent_listener() -> Generator[int]:
    """A port whose queue of connections is full: the kernel answers no further SYN, as a blackholed host would not."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port


@pytest.mark.parametrize("turns", range(16))
async def test_connecting_that_is_cancelled_at_any_moment_leaves_no_socket_open(turns: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address.parse(f"mqtt://127.0.0.1:{listener.getsockname()[1]}")
        connecting = asyncio.create_task(open_socket(address, timeout=10))
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await connecting).abort()
            await asyncio.sleep(0)  # it closes in the loop's next turn
        del connecting
        gc.collect()  # a socket that is open still warns, which is an error here


async def longest_stall(during: Callable[[], Awaitable[object]]) -> float:
    """The longest time, in seconds, for which the loop did not run anything else while `during` ran."""
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest = max(longest, now - last)
            last = now

    task = asyncio.create_task(beat())
    await asyncio.sleep(0)
    try:
        await during()
    finally:
        task.cancel()
    return longest


async def assert_no_stall(during: Callable[[], Awaitable[object]]) -> None:
    """The best of three counts: the machine is shared and may stop us, but what blocks would block each time."""
    stalls: list[float] = []
    for _ in range(3):
        stalls.append(await longest_stall(during))
        if stalls[-1] < LONGEST_STALL:
            return
    raise AssertionError(f"the loop stood still for {', '.join(f'{stall:.3f}' for stall in stalls)} s")


@pytest.fixture
async def plain_pair() -> AsyncIterator[tuple[BufferedSocket, asyncio.StreamReader, asyncio.StreamWriter]]:
    accepted = asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.put_nowait((reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        opened = await open_socket(Address("127.0.0.1", server.sockets[0].getsockname()[1]), timeout=5)
        reader, writer = await accepted.get()
        yield opened, reader, writer
        writer.close()
        opened.close()
        async with asyncio.timeout(5):
            await opened.closed
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def until_data(opened: BufferedSocket) -> None:
    arrived = asyncio.Event()
    opened.on_data = arrived.set
    if not opened.pending():
        async with asyncio.timeout(5):
            await arrived.wait()


Pair = tuple[BufferedSocket, asyncio.StreamReader, asyncio.StreamWriter]


async def test_received_bytes_are_read_in_any_portions(plain_pair: Pair) -> None:
    opened, _, writer = plain_pair
    writer.write(b"abcdef")
    await until_data(opened)
    assert (opened.recv(1), opened.recv(1), opened.pending(), opened.recv(99)) == (b"a", b"b", 4, b"cdef")


async def test_recv_with_nothing_there_would_block(plain_pair: Pair) -> None:
    opened, _, _ = plain_pair
    with pytest.raises(BlockingIOError):
        opened.recv(1)


async def test_recv_after_the_end_is_empty(plain_pair: Pair) -> None:
    opened, _, writer = plain_pair
    writer.close()
    async with asyncio.timeout(5):
        await opened.closed
    assert opened.recv(1) == b""
    with pytest.raises(ConnectionError):
        opened.send(b"x")


async def test_unread_bytes_stay_before_new_ones(plain_pair: Pair) -> None:
    opened, _, writer = plain_pair
    writer.write(b"ab")
    await until_data(opened)
    assert opened.recv(1) == b"a"
    more = asyncio.Event()
    opened.on_data = more.set
    writer.write(b"cd")
    async with asyncio.timeout(5):
        await more.wait()
    assert opened.recv(9) == b"bcd"


async def test_what_is_sent_leaves_at_flush(plain_pair: Pair) -> None:
    opened, reader, _ = plain_pair
    assert opened.send(b"ab") == 2
    assert opened.send(bytearray(b"cd")) == 2
    opened.flush()
    async with asyncio.timeout(5):
        assert await reader.readexactly(4) == b"abcd"


async def test_close_sends_what_is_unsent(plain_pair: Pair) -> None:
    opened, reader, _ = plain_pair
    opened.send(b"bye")
    opened.close()
    async with asyncio.timeout(5):
        assert await reader.read() == b"bye"


async def test_full_network_makes_it_unwritable_until_it_drains(plain_pair: Pair) -> None:
    opened, reader, _ = plain_pair
    room = asyncio.Event()
    opened.on_writable = room.set
    size = 0
    while opened.writable:
        size += opened.send(bytes(100_000))
        opened.flush()
    async with asyncio.timeout(10):
        await reader.readexactly(size)
        await room.wait()
    assert opened.writable


async def test_nothing_is_received_while_held(plain_pair: Pair) -> None:
    opened, reader, writer = plain_pair
    opened.hold()
    writer.write(b"late")
    opened.send(b"x")
    opened.flush()
    async with asyncio.timeout(5):
        await reader.readexactly(1)
    assert opened.pending() == 0
    opened.release()
    await until_data(opened)
    assert opened.recv(9) == b"late"


async def test_nagle_is_off(plain_pair: Pair) -> None:
    opened, _, _ = plain_pair
    with socket.socket(fileno=os.dup(opened.fileno())) as same:
        assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_host_that_does_not_answer_times_out_without_stalling_the_loop() -> None:
    with silent_listener() as port:
        address = Address("127.0.0.1", port)

        async def attempt() -> None:
            async with Connection(address, client_id="c", receive=ignore, connect_timeout=0.3) as connection:
                with pytest.raises(BrokerUnreachable, match=f"127.0.0.1:{port}: it does not answer"):
                    await connection.wait_connected(retry=False, timeout=10)

        await assert_no_stall(attempt)


async def test_server_that_never_shakes_hands_times_out_without_stalling_the_loop(ca_file: str) -> None:
    async def mute(_: Wire) -> None:
        pass

    async with scripted(mute) as port:
        address = Address("127.0.0.1", port, tls=True, ca=ca_file)

        async def attempt() -> None:
            async with Connection(address, client_id="c", receive=ignore, connect_timeout=0.3) as connection:
                with pytest.raises(BrokerUnreachable, match="it does not answer"):
                    await connection.wait_connected(retry=False, timeout=10)

        await assert_no_stall(attempt)


async def test_system_authorities_are_loaded_without_stalling_the_loop(server_tls: ssl.SSLContext) -> None:
    async def wait(wire: Wire) -> None:
        await wire.accept()

    async with scripted(wait, tls=server_tls) as port:

        async def attempt() -> None:
            with pytest.raises(ssl.SSLCertVerificationError):
                await open_socket(Address("127.0.0.1", port, tls=True), timeout=5)

        await assert_no_stall(attempt)


async def test_fifty_messages_in_one_tls_record_all_arrive(
    server_tls: ssl.SSLContext, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.device.link._TURN", 10.0)  # the machine may stop us, and then it would be two batches
    acknowledged = asyncio.Event()

    async def burst(wire: Wire) -> None:
        await wire.accept()
        record = b"".join(wire.publish(b"t", b"%d" % number, packet_id=number + 1) for number in range(50))
        assert len(record) < 16_384, "one TLS record holds no more"
        wire.send(record)
        assert [(await wire.expect(Kind.PUBACK)).packet_id for _ in range(50)] == list(range(1, 51))
        acknowledged.set()

    batches: list[list[Message]] = []
    async with (
        scripted(burst, tls=server_tls) as port,
        Connection(
            Address("127.0.0.1", port, tls=True, ca=ca_file),
            client_id="c",
            receive=lambda messages: batches.append(list(messages)),
        ),
        asyncio.timeout(10),
    ):
        await acknowledged.wait()
    assert [int(message.payload) for batch in batches for message in batch] == list(range(50))
    assert len(batches) == 1


async def test_untrusted_certificate_is_explained(server_tls: ssl.SSLContext) -> None:
    async def never(wire: Wire) -> None:
        await wire.accept()

    async with scripted(never, tls=server_tls) as port:
        address = Address("127.0.0.1", port, tls=True)
        async with Connection(address, client_id="c", receive=ignore) as connection:
            with pytest.raises(BrokerUnreachable, match=r"certificate is not trusted .*\?ca=FILE"):
                await connection.wait_connected(retry=False, timeout=10)


async def test_certificate_for_another_host_is_refused(authority: trustme.CA, ca_file: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # names pyOpenSSL, which is not here

    async def never(wire: Wire) -> None:
        await wire.accept()

    async with scripted(never, tls=context) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await open_socket(Address("127.0.0.1", port, tls=True, ca=ca_file), timeout=5)


async def test_client_certificate_lets_in_and_its_lack_is_explained(
    authority: trustme.CA, server_tls: ssl.SSLContext, ca_file: str, tmp_path: Path
) -> None:
    server_tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server_tls)  # pyright: ignore[reportUnknownMemberType]  # names pyOpenSSL, which is not here
    both = tmp_path / "client.pem"
    authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(str(both))

    async def let_in(wire: Wire) -> None:
        await wire.accept()

    async with scripted(let_in, tls=server_tls) as port:
        with_it = Address("127.0.0.1", port, tls=True, ca=ca_file, cert=str(both))
        async with Connection(with_it, client_id="c", receive=ignore) as connection:
            await connection.wait_connected(retry=False, timeout=10)
        without = Address("127.0.0.1", port, tls=True, ca=ca_file)
        async with Connection(without, client_id="c", receive=ignore) as connection:
            with pytest.raises(BrokerUnreachable, match=r"CERTIFICATE_REQUIRED|wants a client certificate"):
                await connection.wait_connected(retry=False, timeout=10)


async def test_missing_file_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    address = Address("127.0.0.1", 1, tls=True, ca=missing)
    with pytest.raises(FileNotFoundError) as caught:
        await open_socket(address, timeout=5)
    assert reason_of(caught.value, address) == f"cannot read {missing} (No such file or directory)"


async def test_plain_port_is_told_from_a_tls_port() -> None:
    async def plain(wire: Wire) -> None:
        wire.send(b"\x20\x02\x00\x00 this is no TLS")

    async with (
        scripted(plain) as port,
        Connection(Address("127.0.0.1", port, tls=True), client_id="c", receive=ignore) as connection,
    ):
        with pytest.raises(BrokerUnreachable, match="does not speak TLS on this port: use mqtt://"):
            await connection.wait_connected(retry=False, timeout=10)


async def test_all_addresses_of_a_host_are_tried() -> None:
    async def let_in(wire: Wire) -> None:
        await wire.accept()

    async with (
        scripted(let_in) as port,  # on 127.0.0.1 only, and localhost may be ::1 first
        Connection(Address("localhost", port), client_id="c", receive=ignore) as connection,
    ):
        await connection.wait_connected(retry=False, timeout=10)


async def test_unknown_host_is_named() -> None:
    address = Address("no-such-host.invalid", 1883)
    with pytest.raises(socket.gaierror) as caught:
        await open_socket(address, timeout=20)
    assert reason_of(caught.value, address) == "no such host as no-such-host.invalid"


def ignore(_: object) -> None:
    pass
