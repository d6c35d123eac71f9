"""What hurts with other tools, each as a test: outcomes that vanish, batches that hang, aborts that do not abort."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest_asyncio
from msgspec import json

from outrider.controller.simulator import Execution
from tests.brokers import BrokerUnderTest
from tests.processes import Processes, Spawned, script


class Size(NamedTuple):
    """How many devices there are, and how many of them are bad."""

    devices: int
    failing: int
    offline: int
    silent: int

    @property
    def good(self) -> int:
        """How many devices do what they are told."""
        return self.devices - self.failing - self.offline - self.silent


SIZES: Final[Mapping[str, Size]] = {"embedded": Size(60, 6, 3, 2)}
"""The embedded broker shows at most 100 devices to who connects later."""

LARGE: Final = Size(200, 20, 10, 5)


class Shop:
    """A simulated fleet and its own log of what ran."""

    def __init__(self, size: Size, at: tuple[str, ...], spawn: Processes, log: Path) -> None:
        self.size = size
        self._at = at
        self._spawn = spawn
        self._log = log

    async def open(self) -> None:
        """Start it, and return when every device has connected."""
        bad = zip(("--failure-rate", "--offline", "--silent"), map(str, self.size[1:]), strict=True)
        words = (str(self.size.devices), "--group", "shop", "--seed", "7", *(word for pair in bad for word in pair))
        process = self._spawn(script("outrider"), "simulate", *words, "--log", str(self._log), "--json", *self._at)
        await process.wait_for('"event": "connected"', timeout=50)

    async def send(self, *words: str) -> Spawned:
        """Run `outrider send @shop work …` to its end."""
        process = self._spawn(script("outrider"), "send", "@shop", "work", *words, *self._at)
        await process.wait(50)
        return process

    @property
    def executed(self) -> dict[str, str]:
        """How it ended on each device that ran it, by the devices' own log."""
        executions = [json.decode(line, type=Execution) for line in self._log.read_bytes().splitlines()]
        assert len({execution.device for execution in executions}) == len(executions), "something ran twice"
        return {execution.device: execution.outcome for execution in executions}


@pytest_asyncio.fixture
async def shop(broker: BrokerUnderTest, prefix: str, spawn: Processes, tmp_path: Path) -> Shop:
    at = ("--broker", broker.address, "--prefix", prefix)
    shop = Shop(SIZES.get(broker.kind, LARGE), at, spawn, tmp_path / "executions")
    await shop.open()
    return shop


def outcomes(process: Spawned) -> dict[str, dict[str, Any]]:
    """What `--ndjson` told, by device."""
    lines = [json.decode(line, type=dict[str, Any]) for line in process.output.splitlines()]
    assert len({line["device"] for line in lines}) == len(lines), "a device has two outcomes"
    return {line["device"]: line for line in lines}


async def test_targets_never_silently_vanish_from_the_result(shop: Shop) -> None:
    found = outcomes(await shop.send("--wait", "4s", "--ndjson"))
    size = shop.size
    assert len(found) == size.devices
    counts = Counter(outcome["status"] for outcome in found.values())
    assert counts == {"done": size.good, "failed": size.failing, "queued": size.offline + size.silent}
    assert {device: found[device]["status"] for device in shop.executed} == shop.executed
    assert len(shop.executed) == size.good + size.failing


async def test_a_batch_does_not_hang_on_an_offline_or_silent_device_and_the_totals_add_up(shop: Shop) -> None:
    process = await shop.send("--batch", "1,25%", "--wait", "2s")
    size = shop.size
    *_, summary = process.output.splitlines()
    away = size.offline + size.silent
    assert summary == f"{size.devices} targets: {size.good} done, {size.failing} failed, {away} queued"
    assert Counter(shop.executed.values()) == {"done": size.good, "failed": size.failing}


async def test_abort_on_failure_aborts(shop: Shop) -> None:
    process = await shop.send("--batch", "5", "--abort-on-failure", "3", "--wait", "2s", "--ndjson")
    found = outcomes(process)
    executed = shop.executed
    never = {device for device, outcome in found.items() if outcome.get("error", {}).get("code") == "not-addressed"}
    assert len(found) == shop.size.devices
    assert never
    assert not never & executed.keys()
    assert {found[device]["status"] for device in never} == {"cancelled"}
    # Three failures, of those that fail and those that never answer, and what was in flight in that batch beside them.
    bad = [device for device, outcome in found.items() if outcome["status"] == "failed"]
    assert len(bad) <= 3 + 4
    assert f"{len(never)} never addressed" in process.errors
    assert {device: found[device]["status"] for device in executed} == executed
