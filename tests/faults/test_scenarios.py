"""Every scenario of the table, on every broker that behaves: the outcomes, and what ran."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider.controller.broker import BrokerProcess
from tests.brokers import SHARED, STARTED, BrokerUnderTest
from tests.faults.scenario import Scenario
from tests.faults.scenarios import SCENARIOS
from tests.faults.stage import Stage, word_of
from tests.processes import Processes

EVERY = [scenario for group in SCENARIOS.values() for scenario in group]


def cases(kinds: tuple[str, ...], *, own_broker: bool) -> Iterator[object]:
    """Each scenario with each of these brokers."""
    for scenario in EVERY:
        for kind in kinds:
            if scenario.own_broker == own_broker and (kind == "external" or kind in scenario.brokers):
                marks = [pytest.mark.slow] if scenario.slow else []
                yield pytest.param(kind, scenario, id=f"{kind}-{scenario.name}", marks=marks)


async def play(scenario: Scenario, stage: Stage) -> None:
    async with stage.open():
        for step in scenario.script:
            await step(stage)
        results = await stage.outcomes()
        await stage.settle()
        assert tuple(map(word_of, results)) == scenario.gets, results
        assert stage.runs() == scenario.runs
        if scenario.says:
            assert results[-1].error is not None
            assert scenario.says in results[-1].error.message
        for step in scenario.then:
            await step(stage)


@pytest.mark.parametrize(
    ("broker", "scenario"), [*cases(SHARED, own_broker=False)], indirect=["broker"], scope="session"
)
async def test_scenario(
    broker: BrokerUnderTest,
    scenario: Scenario,
    prefix: str,
    tmp_path: Path,
    spawn: Processes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(
        broker.address, prefix, tmp_path, spawn, monkeypatch, process=scenario.process, entries=scenario.entries
    )
    await play(scenario, stage)


@pytest.mark.parametrize(
    ("restartable_broker", "scenario"), [*cases(STARTED, own_broker=True)], indirect=["restartable_broker"]
)
async def test_scenario_that_ends_its_broker(
    restartable_broker: BrokerProcess,
    scenario: Scenario,
    prefix: str,
    tmp_path: Path,
    spawn: Processes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = restartable_broker
    stage = Stage(broker.address, prefix, tmp_path, spawn, monkeypatch, process=scenario.process, own=broker)
    await play(scenario, stage)


def test_names_of_scenarios_are_unique() -> None:
    names = [scenario.name for scenario in EVERY]
    assert len(set(names)) == len(names)
