"""Idempotency keys long after: the command is known, whatever has been forgotten of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.brokers import ONE, BrokerUnderTest
from tests.controller.hub.running import RunningHub, found
from tests.processes import Processes

pytestmark = pytest.mark.parametrize("broker", [ONE], indirect=True, scope="session")


@pytest_asyncio.fixture
async def hub(broker: BrokerUnderTest, prefix: str, tmp_path: Path, spawn: Processes) -> AsyncIterator[RunningHub]:
    yield RunningHub(broker, prefix, tmp_path, spawn)


@pytest.mark.parametrize("outbox", ["kept", "gone"])
async def test_key_of_a_command_that_has_ended_sends_nothing_after_a_restart(hub: RunningHub, outbox: str) -> None:
    await hub.start()
    await hub.start_device("lamp-1")
    order = {"target": "@kitchen", "command": "dim", "args": [3], "wait": 10}
    headers = {"Idempotency-Key": "k"}
    async with hub.client() as client:
        first = await client.post("/api/v1/commands", json=order, headers=headers)
        assert first.status_code == 200, first.text
        id = first.json()["id"]
        await found(client, "/api/v1/results", id=id)
    assert await hub.stop() == 0
    if outbox == "gone":  # a week later: only the store remembers
        (hub.folder / "state" / "outrider" / "hub-outbox.sqlite").unlink()
    await hub.start()
    await hub.start_device("lamp-2")  # in the group now, but not when the command was sent
    async with hub.client() as client:
        again = await client.post("/api/v1/commands", json=order, headers=headers)
        assert again.status_code == 200, again.text
        assert again.json()["id"] == id
        assert [(each["device"], each["value"]) for each in again.json()["outcomes"]] == [("lamp-1", 3)]
        assert again.headers["location"] == f"/api/v1/commands/{id}"
        assert len(await found(client, "/api/v1/commands", id=id)) == 1
