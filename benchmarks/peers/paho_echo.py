"""A request/reply echo over bare paho-mqtt: MQTT 5, QoS 1 both ways, 60 bytes, paho's own loop.

python -m benchmarks.peers.paho_echo answer PORT              prints "ready", then answers until it is killed
python -m benchmarks.peers.paho_echo ask PORT COUNT WINDOW    prints round trips a second
"""

import socket
import sys
from time import perf_counter

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

PAYLOAD = b'{"id":"0123456789ab","command":"ping","args":{},"from":"c1"}'
ASK, REPLY = "peer/d/cmd", "peer/d/result/c"


def answer(client: Client) -> None:
    """Send back whatever comes."""

    def echo(client: Client, _userdata: object, message: MQTTMessage) -> None:
        client.publish(REPLY, message.payload, 1)

    def connected(client: Client, *_: object) -> None:
        client.subscribe(ASK, 1)

    def subscribed(*_: object) -> None:
        print("ready", flush=True)

    client.on_connect = connected
    client.on_subscribe = subscribed
    client.on_message = echo


def ask(client: Client, count: int, window: int) -> None:
    """Ask `count` times with `window` in flight, from the moment the answers are subscribed to."""
    sent = received = 0
    began = 0.0

    def send(client: Client) -> None:
        nonlocal sent
        sent += 1
        client.publish(ASK, PAYLOAD, 1)

    def connected(client: Client, *_: object) -> None:
        client.subscribe(REPLY, 1)

    def subscribed(client: Client, *_: object) -> None:
        nonlocal began
        began = perf_counter()
        for _each in range(window):
            send(client)

    def answered(client: Client, _userdata: object, _message: MQTTMessage) -> None:
        nonlocal received
        received += 1
        if sent < count:
            send(client)
        if received == count:
            print(count / (perf_counter() - began), flush=True)
            client.disconnect()

    client.on_connect = connected
    client.on_subscribe = subscribed
    client.on_message = answered


def no_delay(_client: Client, _userdata: object, opened: object) -> None:
    assert isinstance(opened, socket.socket)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def main(role: str, port: int, count: int = 0, window: int = 0) -> None:
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(65535)
    client.on_socket_open = no_delay
    if role == "answer":
        answer(client)
    else:
        ask(client, count, window)
    client.connect("127.0.0.1", port)
    client.loop_forever()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
