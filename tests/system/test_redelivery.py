"""What a broker delivers again: marked DUP, and without an id it cannot be told from its repeat."""

import asyncio
import struct

from tests.device.scripted import Kind, Packet, Wire, encoded, scripted
from tests.processes import Processes, until
from tests.system.conftest import run_device
from tests.system.outsider import Decoded, decoded

DUP = 8
TOPIC = b"devices/lamp-1/cmd/ann"


async def test_redelivered_command_without_an_id_is_dropped_and_with_one_it_runs(spawn: Processes) -> None:
    answered: asyncio.Queue[Decoded] = asyncio.Queue()
    acknowledged: list[int] = []

    async def broker(wire: Wire) -> None:
        await wire.accept()
        subscribe = await wire.expect(Kind.SUBSCRIBE)
        wire.send(encoded(Kind.SUBACK, struct.pack(">H", subscribe.packet_id) + b"\0\1\1\1"))
        wire.send(wire.publish(TOPIC, b'{"command": "ping"}', packet_id=1, flags=DUP))
        wire.send(wire.publish(TOPIC, b'{"id": "a", "command": "ping"}', packet_id=2, flags=DUP))
        wire.send(wire.publish(TOPIC, b'{"id": "b", "command": "stats"}', packet_id=3))
        while True:
            packet = await wire.read()
            if packet.kind is Kind.PUBACK:
                acknowledged.append(packet.packet_id)
            elif packet.kind is Kind.PUBLISH:
                wire.acknowledge(packet)
                if packet.topic == "devices/lamp-1/result/ann":
                    answered.put_nowait(decoded(payload(packet)))

    async with scripted(broker) as port, asyncio.timeout(10):
        device = run_device(spawn, "--id", "lamp-1", "--ready", address=f"mqtt://127.0.0.1:{port}", prefix="")
        ping, stats = await answered.get(), await answered.get()
        await until(lambda: acknowledged == [1, 2, 3])
        device.kill()
    assert (ping["id"], ping["status"]) == ("a", "done")
    assert stats["id"] == "b"
    assert stats["value"]["dropped"] == {"duplicate": 1}


def payload(packet: Packet) -> bytes:
    """The payload of a PUBLISH on MQTT 5 without properties."""
    assert packet.rest[0] == 0
    return packet.rest[1:]
