"""The command line asks a hub: results, jobs and events."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from outrider.controller.hub.tokens import Scope
from tests.brokers import ONE, BrokerUnderTest
from tests.controller.hub.running import RunningHub, ended, found
from tests.controller.hub.test_api import post
from tests.processes import Processes, Spawned, script

pytestmark = pytest.mark.parametrize("broker", [ONE], indirect=True, scope="session")


@pytest_asyncio.fixture
async def hub(broker: BrokerUnderTest, prefix: str, tmp_path: Path, spawn: Processes) -> AsyncIterator[RunningHub]:
    running = RunningHub(broker, prefix, tmp_path, spawn)
    await running.start()
    await running.start_device("lamp-1")
    yield running


async def outrider(hub: RunningHub, *words: str, code: int = 0) -> Spawned:
    process = hub.processes(script("outrider"), *words, env={**hub.environment, "OUTRIDER_HUB": hub.url})
    assert await process.wait(30) == code, str(process)
    return process


async def test_results_and_jobs_come_from_the_hub(hub: RunningHub, tmp_path: Path) -> None:
    async with hub.client() as client:
        done = (await post(client, "lamp-1", "dim", args=[5], wait=10)).json()["id"]
        running = (await post(client, "lamp-1", "hold", args=[str(tmp_path / "go")])).json()["id"]
        await found(client, "/api/v1/results", id=done)
        listed = json.loads((await outrider(hub, "results", "--json")).output)
        assert [(each["id"], each["value"]) for each in listed["results"]] == [(done, 5)]
        jobs = json.loads((await outrider(hub, "jobs", "--json")).output)
        assert [each["id"] for each in jobs["jobs"]] == [running]
        assert "running" in (await outrider(hub, "results", running, code=1)).output
        (tmp_path / "go").touch()
        await ended(client, running)
    assert "held" in (await outrider(hub, "results", running)).output
    assert "no command nothing is known" in (await outrider(hub, "results", "nothing", code=2)).errors


async def test_events_are_queried_at_the_hub_and_followed(hub: RunningHub) -> None:
    async with hub.client() as client:
        await post(client, "lamp-1", "tell", args=["switched", "on"], wait=10)
        await found(client, "/api/v1/events", name="switched")
        listed = json.loads((await outrider(hub, "events", "lamp-1", "--name", "switched", "--json")).output)
        assert [(each["device"], each["key"], each["data"]) for each in listed["events"]] == [
            ("lamp-1", "on", {"level": 7})
        ]
        following = hub.processes(
            *(script("outrider"), "events", "--follow", "--ndjson"), env={**hub.environment, "OUTRIDER_HUB": hub.url}
        )
        await following.wait_for('"key": ?"on"')
        await post(client, "lamp-1", "tell", args=["switched", "off"], wait=10)
        await following.wait_for('"key": ?"off"')


async def test_events_are_followed_over_mqtt_without_a_hub(hub: RunningHub) -> None:
    following = hub.processes(script("outrider"), "events", "lamp-1", "--key", "on", env=hub.environment)
    await following.wait_for("Ctrl-C ends it", errors=True)
    async with hub.client() as client:
        await post(client, "lamp-1", "tell", args=["switched", "off"], wait=10)
        await post(client, "lamp-1", "tell", args=["switched", "on"], wait=10)
    await following.wait_for("switched  key=on")
    assert "off" not in following.output


async def test_hub_that_is_not_there_is_exit_code_3(hub: RunningHub) -> None:
    gone = await outrider(hub, "results", "--hub", "http://127.0.0.1:9", code=3)
    assert "no hub answers" in gone.errors
    for url in ("localhost:8420", "ftp://localhost", "http://"):
        wrong = await outrider(hub, "results", "--hub", url, code=3)
        assert f"'{url}' is no address of a hub: write http://HOST:PORT" in wrong.errors
    astray = await outrider(hub, "results", "--hub", f"{hub.url}/devices", code=3)
    assert "but not there: write http://HOST:PORT alone" in astray.errors


async def test_each_token_is_told_of_its_own(
    broker: BrokerUnderTest, prefix: str, tmp_path: Path, spawn: Processes
) -> None:
    hub = RunningHub(broker, prefix, tmp_path, spawn)
    alice, bob = (hub.token(name, Scope.READ, Scope.SEND) for name in ("alice", "bob"))
    auditor = hub.token("auditor", Scope.READ, Scope.AUDIT)
    await hub.start()
    await hub.start_device("lamp-1", token=alice)
    async with hub.client(alice) as client:
        done = (await post(client, "lamp-1", "dim", args=[5], wait=10)).json()["id"]
        running = (await post(client, "lamp-1", "hold", args=[str(tmp_path / "go")])).json()["id"]
        await found(client, "/api/v1/results", id=done)

    async def asked(token: str, *words: str, code: int = 0) -> Spawned:
        environment = {**hub.environment, "OUTRIDER_HUB": hub.url, "OUTRIDER_HUB_TOKEN": token}
        process = hub.processes(script("outrider"), *words, env=environment)
        assert await process.wait(30) == code, str(process)
        return process

    for token, words, told in (
        (alice, ("results",), [done]),
        (bob, ("results",), []),
        (auditor, ("results", "--everyone"), [done]),
        (alice, ("jobs",), [running]),
        (bob, ("jobs",), []),
        (auditor, ("jobs",), [running]),
    ):
        lines = (await asked(token, *words, "--ndjson")).output.splitlines()
        assert [json.loads(line)["id"] for line in lines] == told, words
    assert "done  5" in (await asked(alice, "results", done)).output
    assert "has not the scope audit" in (await asked(bob, "results", "--everyone", code=2)).errors
    assert f"no command {done} is known" in (await asked(bob, "results", done, code=2)).errors
    assert "OUTRIDER_HUB_TOKEN" in (await asked("", "results", code=2)).errors
    assert "OUTRIDER_HUB_TOKEN" in (await asked("outrider_wrong", "jobs", code=2)).errors
