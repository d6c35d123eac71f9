"""Publishes COUNT events with QoS 1 on a bare socket, as fast as the broker takes them, so as not to be the limit.

python -m benchmarks.source PORT COUNT    prints messages a second when the broker has acknowledged all
"""

import json
import socket
import struct
import sys
from time import perf_counter

WINDOW = 1_000
TOGETHER = 100
DEVICES = 100
CONNECT = b"\x10\x12\x00\x04MQTT\x04\x02\x00\x3c\x00\x06source"  # 3.1.1, where a PUBACK is always 4 bytes
PUBACK = 4


def packet(number: int) -> bytes:
    """A PUBLISH with an event, as a device would send it."""
    device = f"bench-{number % DEVICES}"
    topic = f"devices/{device}/event/reading".encode()
    event = {
        "id": f"{number:016x}",
        "device": device,
        "name": "reading",
        "key": "temperature",
        "time": 1_764_000_000 + number / 1000,
        "data": {"value": 21.5, "unit": "C", "ok": True},
    }
    body = struct.pack(">H", len(topic)) + topic + struct.pack(">H", number % 65_535 + 1) + json.dumps(event).encode()
    return bytes([0x32, len(body) & 127 | 128, len(body) >> 7]) + body


def main(port: int, count: int) -> None:
    packets = [packet(number) for number in range(count)]
    bursts = [b"".join(packets[begin : begin + TOGETHER]) for begin in range(0, count, TOGETHER)]
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(CONNECT)
        assert len(connection.recv(4, socket.MSG_WAITALL)) == PUBACK
        began = perf_counter()
        sent = acknowledged = 0
        for burst in bursts:
            connection.sendall(burst)
            sent += TOGETHER
            if sent - acknowledged >= WINDOW:
                acknowledged += len(connection.recv(TOGETHER * PUBACK, socket.MSG_WAITALL)) // PUBACK
        while acknowledged < count:
            acknowledged += len(connection.recv(PUBACK, socket.MSG_WAITALL)) // PUBACK
        print(count / (perf_counter() - began), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
