"""What is relied on of paho's inside. If one of these fails, a new paho has moved it: see the module's docstring."""

import asyncio
import inspect

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes

from outrider.device.address import Address
from outrider.device.client import Expiry, SocketClient, knows_paho, properties
from outrider.device.connection import Connection, Message, Subscription
from tests.brokers import BrokerUnderTest


def test_paho_takes_its_socket_from_create_socket() -> None:
    assert "self._sock = self._create_socket()" in inspect.getsource(Client.reconnect)


@pytest.mark.parametrize("protocol", [MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311])
def test_paho_keeps_packets_as_expected(protocol: MQTTProtocolVersion) -> None:
    assert knows_paho(Client(CallbackAPIVersion.VERSION2, protocol=protocol))


@pytest.mark.parametrize("method", ["_handle_publish", "_handle_pubackcomp", "_create_socket"])
def test_our_methods_take_the_place_of_pahos(method: str) -> None:
    ours, theirs = getattr(SocketClient, method), getattr(Client, method)
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


def test_paho_keeps_what_it_judges_a_silence_by() -> None:
    client = Client(CallbackAPIVersion.VERSION2)
    assert {"_ping_t", "_last_bytes_received"} <= vars(client).keys()


@pytest.mark.parametrize("seconds", [1, 255, 256, 2**32 - 1])
def test_expiry_is_packed_as_paho_would(seconds: int) -> None:
    assert Expiry(seconds).pack() == properties(PacketTypes.PUBLISH, MessageExpiryInterval=seconds).pack()  # type: ignore[no-untyped-call]  # paho has not annotated it


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_pahos_own_decoding_takes_over_where_it_is_not_known(
    broker: BrokerUnderTest, version: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.device.client.knows_paho", _knows_nothing)
    messages: list[Message] = []
    async with (
        Connection(
            Address.parse(broker.address_for(version)), client_id=prefix, receive=messages.extend, window=5
        ) as connection,
        asyncio.timeout(10),
    ):
        await connection.subscribe(Subscription(f"{prefix}/t"))
        for number in range(200):
            connection.publish(f"{prefix}/t", b"%d" % number)
        assert await connection.flush()
        await connection.roundtrip()
    assert messages == [Message(f"{prefix}/t", b"%d" % number, False, False) for number in range(200)]


def _knows_nothing(_: Client) -> bool:
    return False
