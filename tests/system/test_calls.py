"""Devices as processes that call each other, while members of a pool are killed and the broker goes away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest
import pytest_asyncio

from outrider.controller import Fleet
from outrider.controller.broker import BrokerProcess
from outrider.schema import CommandFailed
from tests.brokers import BrokerUnderTest
from tests.device.mosquitto import mosquitto
from tests.processes import Processes, Spawned, until
from tests.system.conftest import run_device

CALLER = "tests.system.town:caller"
WORKER = "tests.system.town:worker"
PROMPT = 20.0
"""Seconds for a process to be on the broker."""


class Town:
    """One caller and some members of the pool `words`, and a fleet that looks at them."""

    def __init__(self, fleet: Fleet, spawn: Processes, address: str, prefix: str, folder: Path) -> None:
        self.fleet = fleet
        self.folder = folder
        self._spawn = spawn
        self._address = address
        self._prefix = prefix

    async def run(self, *ids: str) -> list[Spawned]:
        """Run devices, and return when they are ready."""
        known = {id: self.session(id) for id in ids}
        started = [
            run_device(
                self._spawn,
                CALLER if id == "caller" else WORKER,
                *("--id", id),
                address=self._address,
                prefix=self._prefix,
            )
            for id in ids
        ]
        await until(lambda: all(self.ready(id) and self.session(id) > known[id] for id in ids), PROMPT)
        return started

    def session(self, id: str) -> int:
        state = self.fleet.roster.states.get(id)
        return state.session if state else 0

    def ready(self, id: str) -> bool:
        state = self.fleet.roster.states.get(id)
        return state is not None and state.status == "ready"

    def ask(self, command: str, seconds: float, *, target: str = "any:words", by: str = "ask") -> asyncio.Task[object]:
        """Let the caller call."""
        arguments = (target, command, [str(self.folder), seconds])
        return asyncio.create_task(self.fleet.call("caller", by, *arguments))

    async def close(self) -> None:
        """Look no more: the broker is about to go."""
        await self.fleet.__aexit__(None, None, None)

    async def at_work(self) -> str:
        """The member that runs something."""
        await until(lambda: any(file.stat().st_size for file in self.folder.iterdir()), PROMPT)
        (file,) = self.folder.iterdir()
        return file.name

    def runs(self) -> dict[str, int]:
        return {file.name: len(file.read_text().splitlines()) for file in self.folder.iterdir()}


class Open(Protocol):
    async def __call__(self, address: str) -> Town: ...


@pytest_asyncio.fixture
async def opened(spawn: Processes, prefix: str, tmp_path: Path) -> AsyncIterator[Open]:
    fleets: list[Fleet] = []
    folder = tmp_path / "ran"
    folder.mkdir()

    async def open_town(address: str) -> Town:
        fleet = Fleet(address, requester="ann", prefix=prefix)
        fleets.append(await fleet.__aenter__())
        return Town(fleet, spawn, address, prefix, folder)

    yield open_town
    for fleet in fleets:
        if not fleet.connection.ended:
            await fleet.__aexit__(None, None, None)


@pytest.mark.parametrize("by", ["ask", "ask_plain"])
async def test_device_calls_another_and_a_pool(opened: Open, broker: BrokerUnderTest, by: str) -> None:
    town = await opened(broker.address)
    await town.run("caller", "words-1")
    assert await town.ask("once", 0, target="words-1", by=by) == "words-1"
    assert await town.ask("once", 0, by=by) == "words-1"
    assert town.runs() == {"words-1": 2}


async def test_idempotent_command_of_a_killed_member_runs_on_another(opened: Open, broker: BrokerUnderTest) -> None:
    town = await opened(broker.address)
    _, *members = await town.run("caller", "words-1", "words-2")
    call = town.ask("again", 2)
    killed = await town.at_work()
    members[int(killed[-1]) - 1].kill()
    other = await asyncio.wait_for(call, PROMPT)
    assert {killed, other} == {"words-1", "words-2"}
    assert town.runs() == {"words-1": 1, "words-2": 1}


async def test_other_command_of_a_killed_member_ends_interrupted(opened: Open, broker: BrokerUnderTest) -> None:
    """Where the member comes back and tells."""
    town = await opened(broker.address)
    _, *members = await town.run("caller", "words-1", "words-2")
    call = town.ask("once", 60)
    killed = await town.at_work()
    members[int(killed[-1]) - 1].kill()
    await town.run(killed)
    with pytest.raises(CommandFailed, match=f"CommandInterrupted: {killed}: once interrupted"):
        await asyncio.wait_for(call, PROMPT)
    assert town.runs() == {killed: 1}


async def test_other_command_of_a_member_that_stays_away_is_said_to_be_under_way(
    opened: Open, broker: BrokerUnderTest
) -> None:
    town = await opened(broker.address)
    _, member = await town.run("caller", "words-1")
    arguments = ("any:words", "once", [str(town.folder), 60.0], 3.0)
    call = asyncio.create_task(town.fleet.call("caller", "ask", *arguments))
    await town.at_work()
    member.kill()
    with pytest.raises(
        CommandFailed, match=r"NoAnswer: words-1 gave no final answer .* it is (queued|running), and the device is lost"
    ):
        await asyncio.wait_for(call, PROMPT)


async def test_pool_whose_members_are_gone_has_none(opened: Open, broker: BrokerUnderTest) -> None:
    town = await opened(broker.address)
    _, member = await town.run("caller", "words-1")
    assert await town.ask("once", 0) == "words-1"
    member.kill()
    await until(lambda: not town.ready("words-1"), PROMPT)
    with pytest.raises(CommandFailed, match=r"NoMember: no member of any:words is ready \(members: 1 lost\)"):
        await town.ask("once", 0)


async def test_call_goes_on_when_the_broker_is_back(opened: Open, restartable_broker: BrokerProcess) -> None:
    town = await opened(restartable_broker.address)
    await town.run("caller", "words-1", "words-2")
    calls = [town.ask("once", 3), town.ask("once", 3, target="words-1")]
    await until(lambda: len(town.runs()) > 0, PROMPT)
    await restartable_broker.restart()
    answers = await asyncio.wait_for(asyncio.gather(*calls), 60)
    assert answers[1] == "words-1"
    assert sum(town.runs().values()) == 2
    assert await asyncio.wait_for(town.ask("once", 0), PROMPT) in {"words-1", "words-2"}


async def test_caller_that_is_killed_calls_again_after_its_restart(opened: Open, tmp_path: Path) -> None:
    """What its earlier process followed comes to the new one, unasked. On Mosquitto: see protocol.md."""
    async with mosquitto(tmp_path) as port:
        town = await opened(f"mqtt://127.0.0.1:{port}")
        caller, _ = await town.run("caller", "words-1")
        assert await town.ask("once", 0) == "words-1"
        caller.kill()
        (restarted,) = await town.run("caller")
        await town.run("words-2")
        assert await town.ask("once", 0) in {"words-1", "words-2"}
        assert "dropped" not in restarted.errors
        await town.close()
