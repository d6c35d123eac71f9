"""What is relied on of paho's inside. If one of these fails, a new paho has moved it: see the module's docstring."""

import inspect

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes

from outrider.device.client import Expiry, SocketClient, knows_paho, properties


def test_paho_takes_its_socket_from_create_socket() -> None:
    assert "self._sock = self._create_socket()" in inspect.getsource(Client.reconnect)


@pytest.mark.parametrize("protocol", [MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311])
def test_paho_keeps_packets_as_expected(protocol: MQTTProtocolVersion) -> None:
    assert knows_paho(Client(CallbackAPIVersion.VERSION2, protocol=protocol))


@pytest.mark.parametrize("method", ["_handle_publish", "_handle_pubackcomp", "_create_socket"])
def test_our_methods_take_the_place_of_pahos(method: str) -> None:
    ours, theirs = getattr(SocketClient, method), getattr(Client, method)
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


@pytest.mark.parametrize("seconds", [1, 255, 256, 2**32 - 1])
def test_expiry_is_packed_as_paho_would(seconds: int) -> None:
    assert Expiry(seconds).pack() == properties(PacketTypes.PUBLISH, MessageExpiryInterval=seconds).pack()  # type: ignore[no-untyped-call]  # paho has not annotated it
