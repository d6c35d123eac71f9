"""Functions that run beside the commands of a device."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from outrider.device import Device
from outrider.schema import InvalidDefinition
from tests.brokers import BrokerUnderTest
from tests.device.test_events import NOBODY, serving
from tests.peers import Connect, Peer
from tests.processes import until


async def test_background_function_emits_until_the_device_ends(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    lamp, ended = Device("lamp-1"), asyncio.Event()

    @lamp.background
    async def measure() -> None:
        try:
            while True:
                await lamp.emit("measured")
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    peer = await connect(Peer(broker.address))
    await peer.subscribe(f"{prefix}/devices/+/event/#")
    async with serving(lamp, broker.address, prefix):
        await until(lambda: len(peer.messages) >= 3, 10)
        assert not ended.is_set()
    assert ended.is_set()


async def test_background_function_that_raises_is_logged_and_the_device_goes_on(
    broker: BrokerUnderTest, prefix: str, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    lamp = Device("lamp-1", initial="ready")

    @lamp.background
    async def measure() -> None:
        raise ValueError("no sensor")

    peer = await connect(Peer(broker.address))
    await peer.subscribe(f"{prefix}/devices/lamp-1/result/#")
    async with serving(lamp, broker.address, prefix):
        await peer.publish(f"{prefix}/devices/lamp-1/cmd", {"command": "ping"})
        # It may not have subscribed yet: what is asked before, nobody keeps.
        while not peer.messages:
            await peer.publish(f"{prefix}/devices/lamp-1/cmd", {"command": "ping"})
    assert "lamp-1 goes on without its background function measure" in caplog.text
    assert "no sensor" in caplog.text


async def test_background_function_runs_without_a_broker() -> None:
    lamp, begun = Device("lamp-1"), asyncio.Event()

    @lamp.background
    async def measure() -> None:
        begun.set()

    async with serving(lamp, NOBODY), asyncio.timeout(10):
        await begun.wait()


async def one(wanted: int) -> None:
    await asyncio.sleep(wanted)


@pytest.mark.parametrize("function", [lambda: None, one])
def test_function_that_cannot_run_in_the_background_is_refused(function: Callable[[], Awaitable[object]]) -> None:
    lamp = Device("lamp-1")
    with pytest.raises(InvalidDefinition, match="lamp-1"):
        lamp.background(function)


def test_function_stays_as_it_is() -> None:
    lamp = Device("lamp-1")

    async def measure() -> None:
        """Measure."""

    assert lamp.background(measure) is measure
    assert lamp.backgrounds == [measure]
