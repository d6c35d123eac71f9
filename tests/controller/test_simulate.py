"""The simulator: a population of exactly the devices asked for, over real connections."""

import asyncio
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from outrider.controller import Fleet
from outrider.controller.plan import Plan, Share
from outrider.controller.simulator import Execution, InvalidPopulation, Population, Role, Simulation, Span
from outrider.schema import Result, State, Status
from tests.brokers import BrokerUnderTest
from tests.peers import Connect, Peer
from tests.processes import Processes, Spawned, script


def lines(path: Path) -> list[Execution]:
    return [json.decode(line, type=Execution) for line in path.read_bytes().splitlines()]


def simulate(spawn: Processes, broker: BrokerUnderTest, prefix: str, *words: str) -> Spawned:
    at = ("--broker", broker.address, "--prefix", prefix)
    return spawn(script("outrider"), "simulate", *words, "--json", *at)


async def connected(process: Spawned) -> dict[str, Any]:
    found = await process.wait_for(r'(\{"event": "connected".*\})\n', timeout=40)
    return json.decode(found[1], type=dict[str, Any])


@given(
    st.integers(1, 300),
    st.integers(),
    st.lists(
        st.one_of(st.none(), st.integers(1, 30), st.integers(1, 25).map(lambda n: f"{n}%")), min_size=4, max_size=4
    ),
)
def test_population_has_exactly_so_many_of_each_role(count: int, seed: int, shares: Sequence[int | str | None]) -> None:
    read = [None if share is None else Share.parse(str(share)) for share in shares]
    failing, silent, flapping, offline = read
    asked = [0 if share is None else share.of(count) for share in read]
    if sum(asked) > count:
        with pytest.raises(InvalidPopulation, match=f"of {count}"):
            Population(count=count, failing=failing, silent=silent, flapping=flapping, offline=offline, seed=seed)
        return
    population = Population(count=count, failing=failing, silent=silent, flapping=flapping, offline=offline, seed=seed)
    roles = population.roles()
    assert roles == population.roles()
    assert list(roles) == sorted(roles)
    found = Counter(roles.values())
    assert [found[role] for role in (Role.FAILING, Role.SILENT, Role.FLAPPING, Role.OFFLINE)] == asked
    assert found.total() == count


def test_tags_are_spread_evenly() -> None:
    population = Population(count=10, tags={"fw": ["2.0", "2.1"], "room": ["hall"]})
    assert Counter(population.tags_of(n)["fw"] for n in range(10)) == {"2.0": 5, "2.1": 5}
    assert population.tags_of(3)["room"] == "hall"


@pytest.mark.parametrize("count", [0, -1])
def test_population_of_nobody_is_refused(count: int) -> None:
    with pytest.raises(InvalidPopulation, match="give 1 or more"):
        Population(count=count)
    with pytest.raises(InvalidPopulation, match="ends before it begins"):
        Population(count=1, latency=Span(2, 1))


async def test_outcomes_of_a_simulated_fleet_add_up_against_its_own_log(
    broker: BrokerUnderTest, prefix: str, spawn: Processes, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    words = ("30", "--group", "shop", "--failure-rate", "10%", "--silent", "2", "--offline", "4", "--seed", "7")
    process = simulate(spawn, broker, prefix, *words, "--log", str(log))
    told = await connected(process)
    assert told["roles"] == {"failing": 3, "silent": 2, "offline": 4, "good": 21}
    async with Fleet(broker.address, requester="tester", prefix=prefix) as fleet:
        found = {state.device: state.status for state in fleet.devices("@shop")}
        assert Counter(found.values()) == {"ready": 26, "lost": 4}
        dispatch = fleet.dispatch("@shop", "work", wait=3)
        async for _ in dispatch:
            pass
    executed = lines(log)
    assert len(executed) == len({execution.device for execution in executed}) == 24
    ended = {execution.device: execution.outcome for execution in executed}
    assert {execution.id for execution in executed} == {dispatch.id}
    counts = Counter(result.status for result in dispatch.outcomes.values())
    assert counts == {Status.DONE: 21, Status.FAILED: 3, Status.QUEUED: 6}
    for device, result in dispatch.outcomes.items():
        assert ended.get(device) == (None if result.status is Status.QUEUED else result.status)
    process.send_signal(signal.SIGINT)
    assert await process.wait(20) == 0
    assert '{"event": "ended", "executions": 24, "outcomes": {"done": 21, "failed": 3}}' in process.output
    async with Fleet(broker.address, requester="tester", prefix=prefix) as fleet:
        assert fleet.devices() == []


async def test_devices_emit_events_in_pairs_at_the_rate_asked_for(
    broker: BrokerUnderTest, prefix: str, spawn: Processes, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    await peer.subscribe(f"{prefix}/devices/+/event/#")
    process = simulate(spawn, broker, prefix, "4", "--events", "20", "--silent", "1", "--latency", "1ms")
    await connected(process)
    heard = await peer.wait_for_count(60, 20)
    process.send_signal(signal.SIGINT)
    assert await process.wait(20) == 0
    events = [message.json() for message in heard]
    assert {event["name"] for event in events} == {"started", "finished"}
    assert len({event["device"] for event in events}) == 3
    opened = {event["subject"] for event in events if event["name"] == "started"}
    assert all(event["subject"] in opened for event in events if event["name"] == "finished")
    assert {event.get("key") for event in events if event["name"] == "finished"} == {None}
    took = max(event["time"] for event in events) - min(event["time"] for event in events)
    assert took > 0.5  # not all at once
    ended = json.decode(process.output.splitlines()[-1], type=dict[str, Any])
    assert ended["events"] >= 60


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_states_are_cleared_whichever_signal_ends_it(
    broker: BrokerUnderTest, prefix: str, spawn: Processes, number: signal.Signals
) -> None:
    process = simulate(spawn, broker, prefix, "3")
    await connected(process)
    process.send_signal(number)
    assert await process.wait(20) == 0
    async with Fleet(broker.address, requester="tester", prefix=prefix) as fleet:
        assert fleet.devices() == []


async def test_states_stay_at_the_end_with_keep(broker: BrokerUnderTest, prefix: str, spawn: Processes) -> None:
    process = simulate(spawn, broker, prefix, "3", "--keep", "--unready", "--pool", "words", "--tag", "fw=1,2")
    await connected(process)
    async with Fleet(broker.address, requester="tester", prefix=prefix) as fleet:
        assert [(state.device, state.status, state.pools) for state in fleet.devices()] == [
            (f"sim-{n}", "unready", ["words"]) for n in (1, 2, 3)
        ]
        process.terminate()
        assert await process.wait(20) == 0
        await fleet.connection.roundtrip()
        assert {state.status for state in fleet.devices()} == {"terminated"}


async def test_flapping_devices_are_lost_and_come_back(broker: BrokerUnderTest, prefix: str) -> None:
    population = Population(count=3, flapping=Share(1), flap=Span(0.2, 0.4), seed=1)
    async with Simulation(population, broker.address, prefix=prefix) as simulation:
        (flapping,) = (id for id, role in simulation.roles.items() if role is Role.FLAPPING)
        seen: list[str] = []
        changed = asyncio.Event()

        def note(state: State) -> None:
            seen.append(f"{state.device} {state.status}")
            changed.set()

        with simulation.fleet.roster.watch(note):
            async with asyncio.timeout(30):
                await simulation.wait_connected()
                while not (
                    f"{flapping} lost" in seen and f"{flapping} ready" in seen[seen.index(f"{flapping} lost") :]
                ):
                    changed.clear()
                    await changed.wait()
        assert not any("lost" in each for each in seen if flapping not in each)


async def test_silent_device_is_no_more_than_silent(broker: BrokerUnderTest, prefix: str) -> None:
    executions: list[Execution] = []
    population = Population(count=2, silent=Share(1), latency=Span(0.01, 0.01))
    async with Simulation(population, broker.address, prefix=prefix, log=executions.append) as simulation:
        async with asyncio.timeout(30):
            await simulation.wait_connected()
        fleet = simulation.fleet
        dispatch = fleet.dispatch("all", "echo", ["hi"], plan=Plan.of("1", settle=0.5))
        async for reply in dispatch:
            assert isinstance(reply.message, Result)
        (silent,) = (id for id, role in simulation.roles.items() if role is Role.SILENT)
        assert dispatch.outcomes[silent].status is Status.QUEUED
        assert set(await fleet.abouts([silent])) == {silent}
        assert [execution.outcome for execution in executions] == ["done"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["5", "--silent", "6"], "6 devices would be"),
        (["5", "--tag", "room"], "'room' is no tag"),
        (["5", "--latency", "2s..1s"], "ends before it begins"),
        (["5", "--flapping", "often"], "'often' is not well formed"),
        (["5", "--events", "2000"], "give 0 to 1000 a device"),
        (["5", "--failure-rate", "half"], "'half' is no number of devices"),
        (["5", "--log", "/"], "--log"),
        (["0"], "COUNT"),
        (["5", "--broker", "mqtt://127.0.0.1:1"], "127.0.0.1:1"),
    ],
)
async def test_simulation_that_cannot_be_says_why(spawn: Processes, words: list[str], said: str) -> None:
    process = spawn(script("outrider"), "simulate", *words)
    assert await process.wait(20) == (3 if "--broker" in words else 2)
    assert said in process.errors
    assert "Traceback" not in process.errors
