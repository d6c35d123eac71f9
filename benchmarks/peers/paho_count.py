"""A bare paho-mqtt subscriber that only counts: MQTT 5, QoS 1, paho's own loop.

python -m benchmarks.peers.paho_count PORT COUNT    prints "ready", then messages a second
"""

import sys
from time import perf_counter

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from .paho_echo import no_delay


def main(port: int, count: int) -> None:
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    received = 0
    began = 0.0

    def connected(client: Client, *_: object) -> None:
        client.subscribe("devices/+/event/+", 1)

    def subscribed(*_: object) -> None:
        print("ready", flush=True)

    def counted(client: Client, _userdata: object, _message: MQTTMessage) -> None:
        nonlocal received, began
        began = began or perf_counter()
        received += 1
        if received == count:
            print(count / (perf_counter() - began), flush=True)
            client.disconnect()

    client.on_connect = connected
    client.on_subscribe = subscribed
    client.on_message = counted
    client.on_socket_open = no_delay
    client.connect("127.0.0.1", port)
    client.loop_forever()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
