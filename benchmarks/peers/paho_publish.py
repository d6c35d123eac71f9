"""Events over bare paho-mqtt: MQTT 5, QoS 1, payloads as a device's events have them, paho's own loop.

python -m benchmarks.peers.paho_publish PORT COUNT WINDOW    prints events a second, each acknowledged by the broker
"""

import sys
from time import perf_counter

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from .paho_echo import no_delay

TOPIC = "devices/bench-1/event/measured"
PAYLOAD = (
    b'{"id":"0123456789abcdef-12345","device":"bench-1","name":"measured","key":"e",'
    b'"subject":"0123456789abcdef","time":1795387232.2056549,"data":{"number":12345,"celsius":21.5}}'
)


def publish(client: Client, count: int, window: int) -> None:
    """Publish `count` times with `window` unacknowledged."""
    sent = acknowledged = 0
    began = 0.0

    def send() -> None:
        nonlocal sent
        sent += 1
        client.publish(TOPIC, PAYLOAD, 1)

    def connected(*_: object) -> None:
        nonlocal began
        began = perf_counter()
        for _each in range(window):
            send()

    def published(*_: object) -> None:
        nonlocal acknowledged
        acknowledged += 1
        if sent < count:
            send()
        if acknowledged == count:
            print(count / (perf_counter() - began), flush=True)
            client.disconnect()

    client.on_connect = connected
    client.on_publish = published


def main(port: int, count: int, window: int) -> None:
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(65535)
    client.on_socket_open = no_delay
    publish(client, count, window)
    client.connect("127.0.0.1", port)
    client.loop_forever()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
