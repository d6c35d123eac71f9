"""MQTT over WebSocket, as a scripted broker sends it. With Mosquitto it is in test_transports.py."""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import trustme

from outrider.device.address import Address
from outrider.device.connection import Connection, Message, Subscription
from outrider.schema.errors import BrokerUnreachable
from tests.device.framed import FramedWire, Op, frame, framed
from tests.device.scripted import Kind, Wire, acknowledge_all, scripted
from tests.device.test_transport import assert_no_stall
from tests.processes import Processes, until

LIMIT = 10.0


def ignore(_: Sequence[Message]) -> None:
    pass


def at(port: int, path: str = "/mqtt") -> Address:
    return Address.parse(f"ws://127.0.0.1:{port}{path}")


async def serve(wire: FramedWire) -> None:
    await wire.upgrade()
    await wire.accept()
    await acknowledge_all(wire)


async def refused(port: int, path: str = "/mqtt") -> str:
    """What a connection says that does not come about."""
    async with Connection(at(port, path), client_id="c", receive=ignore) as connection:
        with pytest.raises(BrokerUnreachable) as caught:
            await connection.wait_connected(retry=False, timeout=LIMIT)
    return str(caught.value)


async def test_request_asks_for_mqtt_at_the_path() -> None:
    wires: list[FramedWire] = []

    async def look(wire: FramedWire) -> None:
        wires.append(wire)
        await serve(wire)

    async with framed(look) as port:
        for path in ("", "/", "/a/b%20c"):
            address = Address.parse(f"ws://al:secret@127.0.0.1:{port}{path}")
            async with Connection(address, client_id="c", receive=ignore) as connection:
                await connection.wait_connected(retry=False, timeout=LIMIT)
    lines = [wire.request.splitlines()[0] for wire in wires]
    assert lines == ["GET /mqtt HTTP/1.1", "GET / HTTP/1.1", "GET /a/b%20c HTTP/1.1"]
    assert wires[0].header("Host") == f"127.0.0.1:{port}"
    assert wires[0].header("Sec-WebSocket-Protocol") == "mqtt"
    assert wires[0].header("Sec-WebSocket-Version") == "13"
    assert "uthorization" not in wires[0].request, "user and password are MQTT's, not HTTP's"


async def test_what_is_sent_in_one_turn_is_one_frame_and_large_ones_are_cut() -> None:
    wires: list[FramedWire] = []

    async def look(wire: FramedWire) -> None:
        wires.append(wire)
        await serve(wire)

    async with framed(look) as port, Connection(at(port), client_id="c", receive=ignore) as connection:
        await connection.wait_connected(timeout=LIMIT)
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*(connection.publish("t", b"x") for _ in range(100)))
            before = [each.op for each in wires[0].frames]
            assert len(before) < 10
            await connection.publish("t", bytes(1_000_000))
    after = wires[0].frames[len(before) :]
    assert [len(each.payload) for each in after[:15]] == [65_536] * 15
    assert {each.op for each in wires[0].frames} == {Op.BINARY, Op.CLOSE}


async def send_whole(wire: FramedWire, data: bytes) -> None:
    wire.send(data)


async def send_in_two_frames(wire: FramedWire, data: bytes) -> None:
    middle = len(data) // 2
    wire.send_raw(frame(data[:middle]) + frame(data[middle:]))


async def send_in_fragments(wire: FramedWire, data: bytes) -> None:
    first, *middle, last = [data[start : start + 7] for start in range(0, len(data), 7)]
    wire.send_raw(frame(first, fin=False))
    for each in middle:
        await asyncio.sleep(0)
        wire.send_raw(frame(each, Op.CONT, fin=False) + frame(b"alive?", Op.PING))
    wire.send_raw(frame(last, Op.CONT))


async def send_byte_by_byte(wire: FramedWire, data: bytes) -> None:
    for byte in b"".join(frame(bytes([byte])) for byte in data):
        wire.send_raw(bytes([byte]))
        await asyncio.sleep(0)


async def send_with_empty_frames(wire: FramedWire, data: bytes) -> None:
    wire.send_raw(frame(b"") + b"".join(frame(data[start : start + 50]) + frame(b"") for start in range(0, 999, 50)))


@pytest.mark.parametrize(
    "send", [send_whole, send_in_two_frames, send_in_fragments, send_byte_by_byte, send_with_empty_frames]
)
async def test_packets_arrive_however_frames_cut_them(send: Callable[[FramedWire, bytes], Awaitable[None]]) -> None:
    done = asyncio.Event()
    messages: list[Message] = []

    async def script(wire: FramedWire) -> None:
        await wire.upgrade()
        await wire.accept()
        packets = [wire.publish(b"topic", bytes([number]) * 200, packet_id=number) for number in range(1, 4)]
        await send(wire, b"".join(packets))
        assert [(await wire.expect(Kind.PUBACK)).packet_id for _ in range(3)] == [1, 2, 3]
        done.set()

    async with (
        framed(script) as port,
        Connection(at(port), client_id="c", receive=messages.extend),
        asyncio.timeout(LIMIT),
    ):
        await done.wait()
    assert [message.payload for message in messages] == [bytes([number]) * 200 for number in range(1, 4)]


async def test_messages_in_one_frame_are_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outrider.device.link._TURN", LIMIT)
    batches: list[int] = []
    done = asyncio.Event()

    async def script(wire: FramedWire) -> None:
        await wire.upgrade()
        await wire.accept()
        wire.send(b"".join(wire.publish(b"t", bytes(200), packet_id=number) for number in range(1, 51)))
        assert [(await wire.expect(Kind.PUBACK)).packet_id for _ in range(50)] == list(range(1, 51))
        done.set()

    async with (
        framed(script) as port,
        Connection(at(port), client_id="c", receive=lambda batch: batches.append(len(batch))) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.wait_connected()
        await done.wait()
    assert sum(batches) == 50
    assert len(batches) <= 4, "at most one for each read of the socket's small first buffers"


async def test_large_message_arrives_whole() -> None:
    messages: list[Message] = []
    payload = bytes(range(256)) * 4000

    async def script(wire: FramedWire) -> None:
        await wire.upgrade()
        await wire.accept()
        wire.send(wire.publish(b"t", payload))
        await acknowledge_all(wire)

    async with framed(script) as port, Connection(at(port), client_id="c", receive=messages.extend):
        await until(lambda: messages, LIMIT)
    assert messages[0].payload == payload


async def test_ping_is_answered_with_its_payload() -> None:
    wires: list[FramedWire] = []

    async def script(wire: FramedWire) -> None:
        wires.append(wire)
        await wire.upgrade()
        await wire.accept()
        wire.send_raw(frame(b"are you there", Op.PING))
        assert (await wire.came(Op.PONG)).payload == b"are you there"
        await acknowledge_all(wire)

    async with (
        framed(script) as port,
        Connection(at(port), client_id="c", receive=ignore) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.publish("t", b"x")


async def test_close_frame_is_answered_named_and_what_came_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outrider.device.link._TURN", 0.0)
    reasons: list[str] = []
    messages: list[Message] = []
    answered = asyncio.Event()

    async def close(wire: FramedWire) -> None:
        await wire.upgrade()
        await wire.accept()
        await wire.expect(Kind.PUBLISH)
        packets = b"".join(frame(wire.publish(b"t", b"%d" % number, qos=0)) for number in range(50))
        wire.send_raw(packets + frame((1008).to_bytes(2, "big") + b"too\x1b long", Op.CLOSE))
        assert (await wire.came(Op.CLOSE)).payload[:2] == (1008).to_bytes(2, "big")
        answered.set()

    async with (
        framed(close, serve) as port,
        Connection(at(port), client_id="c", receive=messages.extend, on_disconnect=reasons.append) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.publish("t", b"x")
        await answered.wait()
    assert reasons == ["the broker closed the WebSocket (code 1008 'too\\x1b long')"]
    assert [int(message.payload) for message in messages] == list(range(50))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame("héllo".encode(), Op.TEXT), "the broker sent text over the WebSocket, which cannot be MQTT"),
        (b"\xf2\x00", "the broker broke the rules of WebSocket (reserved bits must be 0)"),
        (b"\x82\x81abcdx", "the broker broke the rules of WebSocket (incorrect masking)"),
        (frame(b"x", Op.CONT), "the broker broke the rules of WebSocket (unexpected continuation frame)"),
        (b"\x82\x7f" + (2**40).to_bytes(8, "big"), "the broker broke the rules of WebSocket ("),
        (frame(b"\x32\x05\x00\x01a\x00\x01"), "the broker sent something that is not MQTT"),
        (frame(b"", Op.CLOSE), "the broker closed the WebSocket (code 1005)"),
    ],
)
async def test_what_cannot_be_ends_the_connection_and_a_new_one_is_made(data: bytes, reason: str) -> None:
    reasons: list[str] = []

    async def spoil(wire: FramedWire) -> None:
        await wire.upgrade()
        await wire.accept()
        await wire.expect(Kind.PUBLISH)
        wire.send_raw(data)

    async with (
        framed(spoil, serve) as port,
        Connection(at(port), client_id="c", receive=ignore, on_disconnect=reasons.append) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.publish("t", b"x")
    assert len(reasons) == 1
    assert reasons[0].startswith(reason)


@pytest.mark.parametrize(
    ("status", "headers", "says"),
    [
        ("404 Not Found", [], "it refused the WebSocket at /mqtt (HTTP 404 Not Found): check the path in the URL"),
        ("401 Unauthorized", [], "(HTTP 401 Unauthorized): it, or a proxy before it, lets nobody in there"),
        ("403 Forbidden", [], "(HTTP 403 Forbidden): it, or a proxy"),
        ("301 Moved", ["Location: wss://x.example/\x9bmqtt"], "(HTTP 301 Moved): it sends to wss://x.example/?mqtt"),
        ("503 Service Unavailable", [], "(HTTP 503 Service Unavailable): is the broker behind it running?"),
        ("200 OK", [], "(HTTP 200 OK): check the path"),
    ],
)
async def test_refused_upgrade_is_said_with_its_status(status: str, headers: list[str], says: str) -> None:
    async def refuse(wire: FramedWire) -> None:
        await wire.read_request()
        wire.answer(status, *headers, "Content-Length: 2")
        wire.send_raw(b"no")

    async with framed(refuse) as port:
        assert says in await refused(port)


@pytest.mark.parametrize("protocol", [None, "graphql-ws"])
async def test_websocket_that_is_not_for_mqtt_is_told(protocol: str | None) -> None:
    async def other(wire: FramedWire) -> None:
        await wire.upgrade(protocol=protocol)

    async with framed(other) as port:
        said = await refused(port, "/chat")
    assert "there is a WebSocket at /chat, but not for MQTT" in said
    assert (protocol or "no subprotocol") in said


async def test_wrong_proof_of_the_handshake_is_told() -> None:
    async def pretend(wire: FramedWire) -> None:
        await wire.read_request()
        wire.answer(
            "101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: nonsense"
        )

    async with framed(pretend) as port:
        assert "there is no WebSocket at /mqtt (invalid Sec-WebSocket-Accept header" in await refused(port)


async def hang_up(wire: FramedWire) -> None:
    await wire.read_request()
    wire.close()


async def answer_in_mqtt(wire: FramedWire) -> None:
    wire.send_raw(b"\x20\x02\x00\x00")
    wire.close()


async def answer_without_end(wire: FramedWire) -> None:
    wire.send_raw(b"220 mail.example ESMTP\r\n" * 1000)


@pytest.mark.parametrize("script", [hang_up, answer_in_mqtt, answer_without_end])
async def test_port_without_websocket_is_told(script: Callable[[FramedWire], Awaitable[None]]) -> None:
    async with framed(script) as port:
        said = await refused(port)
    assert "it does not speak WebSocket on this port: use mqtt://, or wss:// if it wants TLS," in said


async def test_server_that_never_answers_the_upgrade_times_out_without_stalling_the_loop() -> None:
    async def mute(wire: FramedWire) -> None:
        await wire.read_request()

    async with framed(mute) as port:

        async def attempt() -> None:
            async with Connection(at(port), client_id="c", receive=ignore, connect_timeout=0.3) as connection:
                with pytest.raises(BrokerUnreachable, match="it does not answer"):
                    await connection.wait_connected(retry=False, timeout=LIMIT)

        await assert_no_stall(attempt)


async def test_burst_of_small_frames_is_taken_in_turns() -> None:
    """Counted in seconds of this thread's work, which a busy machine does not lengthen."""
    count = 8000
    taken = 0
    turns = [time.thread_time()]

    async def burst(wire: FramedWire) -> None:
        await wire.upgrade()
        await wire.accept()
        wire.send_raw(b"".join(frame(bytes([byte])) for byte in wire.publish(b"t", b"x", qos=0)) * count)

    def take(messages: Sequence[Message]) -> None:
        nonlocal taken
        taken += len(messages)

    async with framed(burst) as port, Connection(at(port), client_id="c", receive=take), asyncio.timeout(30):
        while taken < count:
            await asyncio.sleep(0)
            turns.append(time.thread_time())
    assert max(after - before for before, after in pairwise(turns)) < 0.05


async def test_mqtt_3_1_1_is_spoken_where_5_is_refused() -> None:
    async def refuse_5(wire: FramedWire) -> None:
        await wire.upgrade()
        await wire.expect(Kind.CONNECT)
        wire.send(wire.connack(code=0x84))
        wire.close()

    async with (
        framed(refuse_5, serve) as port,
        Connection(at(port), client_id="c", receive=ignore) as connection,
        asyncio.timeout(LIMIT),
    ):
        await connection.subscribe(Subscription("t"))
        assert connection.protocol == 4


async def test_fifty_messages_in_one_tls_record_all_arrive(tmp_path: Path) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)  # pyright: ignore[reportUnknownMemberType]  # names pyOpenSSL, which is not here
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    messages: list[Message] = []
    done = asyncio.Event()

    async def burst(wire: FramedWire) -> None:
        await wire.upgrade()
        await wire.accept()
        packets = [wire.publish(b"t", b"%d" % number, packet_id=number + 1) for number in range(50)]
        wire.send_raw(b"".join(frame(packet) for packet in packets))
        for number in range(50):
            assert (await wire.expect(Kind.PUBACK)).packet_id == number + 1
        done.set()

    async with (
        framed(burst, tls=tls) as port,
        Connection(
            Address.parse(f"wss://127.0.0.1:{port}?ca={tmp_path / 'ca.pem'}"), client_id="c", receive=messages.extend
        ),
        asyncio.timeout(LIMIT),
    ):
        await done.wait()
    assert [int(message.payload) for message in messages] == list(range(50))


async def test_end_says_goodbye_in_mqtt_and_in_websocket() -> None:
    wires: list[FramedWire] = []
    ended = asyncio.Event()

    async def look(wire: FramedWire) -> None:
        wires.append(wire)
        await wire.upgrade()
        await wire.accept()
        await wire.expect(Kind.DISCONNECT)
        assert (await wire.came(Op.CLOSE)).payload == (1000).to_bytes(2, "big")
        ended.set()

    async with framed(look) as port, asyncio.timeout(LIMIT):
        async with Connection(at(port), client_id="c", receive=ignore) as connection:
            await connection.wait_connected()
        await ended.wait()


async def test_abort_ends_it_without_a_word() -> None:
    wires: list[FramedWire] = []

    async def look(wire: FramedWire) -> None:
        wires.append(wire)
        await wire.upgrade()
        await wire.accept()
        with pytest.raises(asyncio.IncompleteReadError):
            await wire.read()

    async with framed(look) as port, Connection(at(port), client_id="c", receive=ignore) as connection:
        await connection.wait_connected(timeout=LIMIT)
        connection.abort()
    assert {each.op for each in wires[0].frames} == {Op.BINARY}


async def test_password_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with framed(serve) as port:
        address = Address.parse(f"ws://al:open-sesame@127.0.0.1:{port}")
        async with Connection(address, client_id="c", receive=ignore) as connection:
            await connection.wait_connected(timeout=LIMIT)
    assert "is connected to" in caplog.text
    assert "sesame" not in caplog.text
    assert b"sesame".hex(" ") not in caplog.text


async def test_mqtt_url_of_a_websocket_port_is_told() -> None:
    async def http(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        wire.close()

    async with (
        scripted(http) as port,
        Connection(Address("127.0.0.1", port), client_id="c", receive=ignore) as connection,
    ):
        with pytest.raises(BrokerUnreachable, match="if it wants WebSocket, with ws://"):
            await connection.wait_connected(retry=False, timeout=LIMIT)


@pytest.mark.parametrize("program", ["device", "controller"])
async def test_missing_library_is_named_at_once(spawn: Processes, program: str) -> None:
    calls = {
        "device": "from outrider.device.main import main; main(['run', '--id', 'x', '--broker', 'ws://al:pw@h'])",
        "controller": "from outrider.controller import Fleet; Fleet('ws://al:pw@h')",
    }
    process = spawn.python("-c", f"import sys; sys.modules['websockets'] = None; {calls[program]}")
    assert await process.wait(20) in (1, 2)
    assert "ws://al@h:80/mqtt needs the package websockets: pip install 'outrider-device[websocket]'" in process.errors
