"""Forgetting: nothing retained is left of a device, and nobody is forgotten by accident."""

import os
import sys

import pytest

from outrider.controller import Fleet
from outrider.controller.forget import StillThere, forget, retained
from tests.brokers import BrokerUnderTest
from tests.peers import Connect, Peer
from tests.processes import Processes, Spawned, script
from tests.terminals import open_terminal


async def keep(peer: Peer, prefix: str, id: str, status: str = "terminated", session: int = 1) -> None:
    root = f"{prefix}/devices/{id}"
    state = {"device": id, "status": status, "session": session, "since": 0}
    await peer.publish(f"{root}/state", state, retain=True)
    await peer.publish(f"{root}/about", {"versions": {}, "commands": {}}, retain=True)
    result = {"id": "a", "device": id, "command": "c", "status": "done"}
    await peer.publish(f"{prefix}/pools/words/{id}", {"device": id}, retain=True)
    for topic in ("result", "result/ann", "result/bob"):
        await peer.publish(f"{root}/{topic}", result, retain=True)


def run(spawn: Processes, broker: BrokerUnderTest, prefix: str, *words: str) -> Spawned:
    return spawn(script("outrider"), "forget", *words, "--broker", broker.address, "--prefix", prefix)


async def test_nothing_is_left_of_the_devices_forgotten_and_everything_of_the_others(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    for id in ("lamp-1", "lamp-2", "lamp-3"):
        await keep(peer, prefix, id)
    async with Fleet(broker.address, requester="tester", prefix=prefix) as fleet:
        forgotten = await forget(fleet, ["lamp-1", "lamp-2", "nobody"])
        assert forgotten.topics == {"lamp-1": 6, "lamp-2": 6, "nobody": 0}
        assert forgotten.kept == {}
        await fleet.connection.roundtrip()
        assert [state.device for state in fleet.devices()] == ["lamp-3"]
        assert await retained(fleet, ["lamp-1", "lamp-2"]) == []
        assert len(await retained(fleet, ["lamp-3"])) == 6


async def test_results_of_a_device_that_nobody_has_seen_are_cleared(
    broker: BrokerUnderTest, prefix: str, connect: Connect, spawn: Processes
) -> None:
    peer = await connect(Peer(broker.address))
    await keep(peer, prefix, "lamp-1")
    await peer.publish(f"{prefix}/devices/lamp-1/state", b"", retain=True)
    process = run(spawn, broker, prefix, "lamp-1", "--yes")
    assert await process.wait(20) == 0
    assert "forgot 1 device: 5 retained messages cleared" in process.output


async def test_device_that_is_connected_is_not_forgotten(
    broker: BrokerUnderTest, prefix: str, connect: Connect, spawn: Processes
) -> None:
    peer = await connect(Peer(broker.address))
    await keep(peer, prefix, "lamp-1", "ready")
    await keep(peer, prefix, "lamp-2", "lost")
    async with Fleet(broker.address, requester="tester", prefix=prefix) as fleet:
        with pytest.raises(StillThere, match="lamp-1: connected"):
            await forget(fleet, ["lamp-1", "lamp-2"])
        assert len(await retained(fleet, ["lamp-1", "lamp-2"])) == 12
    process = run(spawn, broker, prefix, "all", "--yes")
    assert await process.wait(20) == 2
    assert "leave them out, as in 'TARGET - lamp-1'" in process.errors
    process = run(spawn, broker, prefix, "all - lamp-1", "--yes")
    assert await process.wait(20) == 0
    process = run(spawn, broker, prefix, "lamp-1", "--yes", "--force")
    assert await process.wait(20) == 0


async def test_device_that_comes_back_is_seen_again(broker: BrokerUnderTest, prefix: str, connect: Connect) -> None:
    peer = await connect(Peer(broker.address))
    await keep(peer, prefix, "lamp-1")
    async with Fleet(broker.address, requester="tester", prefix=prefix) as fleet:
        await forget(fleet, ["lamp-1"])
        await keep(peer, prefix, "lamp-1", "ready", session=2)
        await fleet.connection.roundtrip()
        assert [state.status for state in fleet.devices("lamp-1")] == ["ready"]


async def test_without_a_terminal_it_wants_a_yes(
    broker: BrokerUnderTest, prefix: str, connect: Connect, spawn: Processes
) -> None:
    peer = await connect(Peer(broker.address))
    await keep(peer, prefix, "lamp-1")
    process = run(spawn, broker, prefix, "is:terminated")
    assert await process.wait(20) == 2
    assert "clearing 1 device needs a yes: run it in a terminal, or add --yes" in process.errors
    async with Fleet(broker.address, requester="tester", prefix=prefix) as fleet:
        assert len(fleet.devices()) == 1


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 1)])
async def test_on_a_terminal_it_shows_whom_and_asks(
    broker: BrokerUnderTest, prefix: str, connect: Connect, answer: str, left: int
) -> None:
    peer = await connect(Peer(broker.address))
    await keep(peer, prefix, "lamp-1")
    words = ("forget", "lamp-*,lamp-1", "--broker", broker.address, "--prefix", prefix)
    async with open_terminal(sys.executable, script("outrider"), *words, env=dict(os.environ)) as terminal:
        await terminal.wait_for(r"^lamp-1 +terminated")
        await terminal.wait_for(r"Clear all that the broker keeps of 1 device\? \[y/N\]")
        terminal.type(answer + "\r")
        assert await terminal.wait() == (0 if left == 0 else 1)
    async with Fleet(broker.address, requester="tester", prefix=prefix) as fleet:
        assert len(fleet.devices()) == left
