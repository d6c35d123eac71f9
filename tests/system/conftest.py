"""Real devices as real processes, and outsiders who speak to them."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
import pytest_asyncio

from tests.brokers import BrokerUnderTest
from tests.peers import Connect, Peer
from tests.processes import Processes, Spawned, script
from tests.system.outsider import Outsider, RunningDevice

ROOT = Path(__file__).parents[2]
WORKBENCH = "tests.system.workbench:bench"
CONNECTS = 5
"""How often an outsider tries to connect."""


def run_device(processes: Processes, *arguments: str, address: str, prefix: str) -> Spawned:
    """Start `outrider-device run` where `tests.system.workbench` is found."""
    command = (script("outrider-device"), "run", *arguments, "--broker", address, "--prefix", prefix)
    return processes(*command, cwd=ROOT)


class Launch(Protocol):
    """What the `launch` fixture gives: start a device's process; `await outsider.state(…)` tells when it serves."""

    def __call__(
        self, *arguments: str, id: str | None = None, prefix: str | None = None, version: str = "5"
    ) -> RunningDevice: ...


class Meet(Protocol):
    """What the `meet` fixture gives: somebody who speaks to a device, and hears all under its prefix from now on."""

    def __call__(
        self, device: RunningDevice, *, version: str = "5", encoding: str = "json", name: str | None = None
    ) -> Awaitable[Outsider]: ...


@pytest.fixture
def launch(broker: BrokerUnderTest, prefix: str, unique: str, spawn: Processes) -> Launch:
    """Start a device of the test's own, an ordinary one with ping and calculate unless arguments say MODULE:NAME."""
    own = prefix

    def start(*arguments: str, id: str | None = None, prefix: str | None = None, version: str = "5") -> RunningDevice:
        id, prefix = id or f"device-{unique}", own if prefix is None else prefix
        address = broker.address_for(version)
        process = run_device(spawn, *arguments, "--id", id, address=address, prefix=prefix)
        return RunningDevice(id, prefix, broker, process)

    return start


@pytest_asyncio.fixture
async def meet(connect: Connect) -> AsyncIterator[Meet]:
    """Connect an outsider, to whom what is retained has come by then. What is retained for it goes with it."""
    outsiders: list[Outsider] = []

    async def connected(
        device: RunningDevice, *, version: str = "5", encoding: str = "json", name: str | None = None
    ) -> Outsider:
        for _ in range(CONNECTS):
            peer = await connect(Peer(device.broker.address_for(version), version))
            if await listening(peer, f"{device.prefix}/#"):
                outsider = Outsider(peer, device, encoding=encoding, name=name)
                outsiders.append(outsider)
                return outsider
        raise AssertionError(f"the broker ended {CONNECTS} connections in a row")

    yield connected
    for outsider in outsiders:
        with contextlib.suppress(ConnectionError, TimeoutError):
            await outsider.send(b"", topic=outsider.device.topic("result", outsider.name), retain=True)


@pytest.fixture(scope="module")
def bench(broker: BrokerUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDevice]:
    """One device of `workbench` for all tests of a module that leave it as they found it."""
    directory = tmp_path_factory.mktemp("bench")
    processes = Processes(directory)
    prefix = f"bench-{secrets.token_hex(5)}"
    try:
        journal = ("--journal", str(directory / "bench.sqlite"))
        process = run_device(processes, WORKBENCH, *journal, address=broker.address, prefix=prefix)
        yield RunningDevice("bench", prefix, broker, process)
        assert process.running, f"the device ended\n{process}"
    finally:
        processes.close()


@pytest_asyncio.fixture
async def outsider(bench: RunningDevice, meet: Meet) -> AsyncIterator[Outsider]:
    """An outsider at the module's device, by MQTT 5 and JSON."""
    yield await at_ready(meet(bench))


@pytest_asyncio.fixture(params=[("5", "json"), ("5", "msgpack"), ("3.1.1", "json"), ("3.1.1", "msgpack")], ids="-".join)
async def each_outsider(bench: RunningDevice, meet: Meet, request: pytest.FixtureRequest) -> AsyncIterator[Outsider]:
    """Outsiders at the module's device, of each protocol version and encoding."""
    version, encoding = request.param
    yield await at_ready(meet(bench, version=version, encoding=encoding))


async def listening(peer: Peer, filter: str) -> bool:
    """Subscribe, and return when what is retained has come; False if the connection ended meanwhile.

    rumqttd does that: a connection made in the moment in which another one ends (of the other protocol version, on
    its second port) may get that one's number, and the end that was meant for it.
    """

    async def hear() -> None:
        await peer.subscribe(filter)
        await peer.round_trip()

    hearing = asyncio.create_task(hear())
    lost = asyncio.create_task(peer.wait_disconnected(timeout=30))
    ended, _ = await asyncio.wait((hearing, lost), return_when=asyncio.FIRST_COMPLETED)
    for task in (hearing, lost):
        task.cancel()
    await asyncio.gather(hearing, lost, return_exceptions=True)
    if lost in ended:
        return False
    hearing.result()
    return True


async def at_ready(meeting: Awaitable[Outsider]) -> Outsider:
    """The outsider, once the device is ready."""
    outsider = await meeting
    await outsider.state("ready", timeout=10)
    return outsider
