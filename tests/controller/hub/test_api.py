"""The HTTP API of a real hub: each route's good case and its errors."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.brokers import ONE, BrokerUnderTest
from tests.controller.hub.running import RunningHub, ended, found, polled, sse
from tests.peers import Connect, Peer
from tests.processes import Processes

WORDS = '''
from outrider.controller.hub import Plugin

words = Plugin("words")


@words.function
async def count_words(text: str) -> int:
    """Count the words of a text."""
    if not text:
        raise ValueError("no text")
    return len(text.split())
'''

JSON = {"Content-Type": "application/json"}

pytestmark = pytest.mark.parametrize("broker", [ONE], indirect=True, scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hub(broker: BrokerUnderTest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    folder = tmp_path_factory.mktemp("api")
    (folder / "words.py").write_text(WORDS)
    processes = Processes(folder)
    running = RunningHub(broker, "test-api-" + folder.name, folder, processes, options=("--plugin", "words"))
    try:
        await running.start()
        await running.start_device("lamp-1")
        await running.start_device("lamp-2")
        yield running
    finally:
        processes.close()


@pytest_asyncio.fixture
async def client(hub: RunningHub) -> AsyncIterator[httpx.AsyncClient]:
    async with hub.client() as client:
        yield client


async def post(client: httpx.AsyncClient, target: str, command: str, **more: object) -> httpx.Response:
    return await client.post("/api/v1/commands", json={"target": target, "command": command, **more})


def problem(answer: httpx.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = answer.json()
    assert (said["code"], said["status"], said.get("field")) == (code, status, field), said
    assert said["title"]
    assert said["detail"]
    return said


# Devices


async def test_devices_are_listed_in_pages(client: httpx.AsyncClient) -> None:
    first = (await client.get("/api/v1/devices", params={"target": "@kitchen", "limit": 1})).json()
    assert [state["device"] for state in first["items"]] == ["lamp-1"]
    second = (
        await client.get("/api/v1/devices", params={"target": "@kitchen", "limit": 1, "cursor": first["next"]})
    ).json()
    assert [state["device"] for state in second["items"]] == ["lamp-2"]
    assert second["next"] is None


async def test_device_tells_state_about_and_history(client: httpx.AsyncClient) -> None:
    state = (await client.get("/api/v1/devices/lamp-1")).json()
    assert (state["status"], state["groups"], state["tags"]) == ("ready", ["kitchen"], {"room": "kitchen"})
    about = (await client.get("/api/v1/devices/lamp-1/about")).json()
    assert about["commands"]["dim"]["arguments"]["properties"]["level"]["maximum"] == 100
    states = await found(client, "/api/v1/devices/lamp-1/states")
    assert states[0]["status"] == "ready"


async def test_target_is_previewed(client: httpx.AsyncClient) -> None:
    preview = (await client.get("/api/v1/targets", params={"target": "room=kitchen"})).json()
    assert preview["devices"] == ["lamp-1", "lamp-2"]
    assert (preview["count"], preview["statuses"]) == (2, {"ready": 2})


@pytest.mark.parametrize(
    ("path", "status", "code", "field"),
    [
        ("/api/v1/devices/nobody", 404, "unknown-device", None),
        ("/api/v1/devices/nobody/about", 404, "unknown-device", None),
        ("/api/v1/devices?target=nobody", 404, "unknown-target", "target"),
        ("/api/v1/devices?target=((", 400, "target-syntax", "target"),
        ("/api/v1/targets", 400, "invalid-request", "target"),
        ("/api/v1/devices?limit=0", 400, "invalid-request", "limit"),
        ("/api/v1/results?cursor=abc", 400, "invalid-request", "cursor"),
        ("/api/v1/results?status=fine", 400, "invalid-request", "status"),
        ("/api/v1/commands?since=yesterday", 400, "invalid-request", "since"),
        ("/api/v1/commands/nothing", 404, "not-found", None),
        ("/api/v1/commands/nothing/progress", 404, "not-found", None),
        ("/api/v1/events/series?name=a&since=0&until=100&step=7", 400, "invalid-request", "step"),
        ("/api/v1/events/series?name=a&since=100&until=0&step=1", 400, "invalid-request", "until"),
        ("/api/v1/events/series?name=a&since=0&until=1000000&step=1", 400, "invalid-request", "step"),
        ("/api/v1/live?types=weather", 400, "invalid-request", "types"),
        ("/api/v1/nowhere", 404, "not-found", None),
        ("/api/v1/devices/..%2F..%2Fetc%2Fpasswd", 404, "not-found", None),
        ("/api/v1/devices/%00", 400, "invalid-request", "device"),
        ("/api/v1/devices/' OR 1=1 --", 400, "invalid-request", "device"),
    ],
)
async def test_bad_question_names_what_is_wrong(
    client: httpx.AsyncClient, path: str, status: int, code: str, field: str | None
) -> None:
    problem(await client.get(path), status, code, field)


# Commands


async def test_command_that_ends_while_it_is_waited_for_is_answered_with_outcomes(client: httpx.AsyncClient) -> None:
    answer = await post(client, "@kitchen", "dim", args={"level": 40}, wait=10)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["counts"] == {"done": 2}
    assert [(each["device"], each["status"], each["value"]) for each in body["outcomes"]] == [
        ("lamp-1", "done", 40),
        ("lamp-2", "done", 40),
    ]
    assert (body["behalf"], body["requester"], body["args"]) == ("local", "hub", {"level": 40})
    assert answer.headers["location"] == f"/api/v1/commands/{body['id']}"


async def test_command_that_runs_is_found_at_its_location(client: httpx.AsyncClient, tmp_path: Path) -> None:
    answer = await post(client, "lamp-1", "hold", args=[str(tmp_path / "go")])
    assert answer.status_code == 202, answer.text
    location = answer.headers["location"]
    body = (await polled(client, location, lambda answer: answer.json()["outcomes"][0].get("fraction"))).json()
    assert (body["ended"], body["outcomes"][0]["fraction"], body["outcomes"][0]["text"]) == (False, 0.5, "holding")
    running = (await client.get("/api/v1/jobs")).json()["running"]
    assert [(each["device"], each["job"]["id"], each["job"]["behalf"]) for each in running] == [
        ("lamp-1", body["id"], "local")
    ]
    (tmp_path / "go").touch()
    assert (await ended(client, body["id"]))["counts"] == {"done": 1}


async def test_cancelled_command_ends(client: httpx.AsyncClient, tmp_path: Path) -> None:
    id = (await post(client, "lamp-1", "hold", args=[str(tmp_path / "never")])).json()["id"]
    assert (await client.delete(f"/api/v1/commands/{id}")).status_code == 202
    assert (await ended(client, id))["counts"] == {"cancelled": 1}


async def test_rollout_goes_in_batches_and_is_aborted(client: httpx.AsyncClient, tmp_path: Path) -> None:
    plan = {"batch": "1", "settle": 30}
    answer = await post(client, "@kitchen", "hold", args=[str(tmp_path / "never")], plan=plan)
    id = answer.json()["id"]
    body = (await client.get(f"/api/v1/commands/{id}")).json()
    assert body["rollout"]["batches"] == [1, 1]
    assert body["counts"].get("queued", 0) >= 1
    assert id in [each["id"] for each in (await client.get("/api/v1/rollouts")).json()["items"]]
    await client.delete(f"/api/v1/commands/{id}")
    assert (await ended(client, id))["counts"] == {"cancelled": 2}
    rollout = (await client.get(f"/api/v1/commands/{id}")).json()["rollout"]
    assert (rollout["addressed"], rollout["aborted"]) == (1, "it was cancelled")


async def test_command_that_nobody_heard_of_has_ended_after_its_expiry(
    hub: RunningHub, client: httpx.AsyncClient, unique: str, connect: Connect
) -> None:
    peer = await connect(Peer(hub.broker.address))
    for id, expires in ((f"{unique}-1", time.time() - 100), (f"{unique}-2", time.time() + 100)):
        command = {"id": id, "command": "dim", "issued": expires - 10, "expires": expires}
        await peer.publish(f"{hub.prefix}/devices/nobody/cmd/ann", json.dumps(command).encode())
    gone = (await polled(client, f"/api/v1/commands/{unique}-1", lambda answer: answer.status_code == 200)).json()
    assert (gone["ended"], gone["counts"], gone["outcomes"][0]["error"]["code"]) == (True, {"queued": 1}, "expired")
    waiting = (await polled(client, f"/api/v1/commands/{unique}-2", lambda answer: answer.status_code == 200)).json()
    assert (waiting["ended"], waiting["counts"], waiting["outcomes"][0]["error"]["code"]) == (False, {"queued": 1}, "")


@pytest.mark.parametrize("path", ["devices", "commands", "events", "results", "events/summary", "jobs", "rollouts"])
async def test_unknown_query_parameter_is_refused_by_name(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/api/v1/{path}", params={"devcie": "lamp-1", "name": "x", "cursor": 1})
    assert "devcie" in problem(answer, 400, "invalid-request", "devcie")["detail"]


async def test_device_that_refuses_has_its_outcome(client: httpx.AsyncClient) -> None:
    body = (await post(client, "lamp-1", "dim", args={"level": 400}, wait=10)).json()
    assert body["outcomes"][0]["status"] == "rejected"
    assert body["outcomes"][0]["error"]["code"] == "invalid-arguments"
    body = (await post(client, "lamp-1", "fail", wait=10)).json()
    assert (body["outcomes"][0]["status"], body["outcomes"][0]["error"]["message"]) == ("failed", "ValueError: no bulb")


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b"", 400, "invalid-request", None),
        (b"{", 400, "invalid-request", None),
        (b"[]", 400, "invalid-request", None),
        (b"[" * 100_000, 400, "invalid-request", None),
        (b'{"target": "lamp-1"}', 400, "invalid-request", "command"),
        (b'{"target": 1, "command": "dim"}', 400, "invalid-request", "target"),
        (b'{"target": "", "command": "dim"}', 400, "invalid-request", "target"),
        (b'{"target": "lamp-1", "command": "dim", "args": 5}', 400, "invalid-request", "args"),
        (b'{"target": "lamp-1", "command": "dim", "waits": 5}', 400, "invalid-request", "waits"),
        (b'{"target": "lamp-1", "command": "dim", "wait": 1e9}', 400, "invalid-request", "wait"),
        (b'{"target": "lamp-1", "command": "dim", "plan": {"batch": 1}}', 400, "invalid-request", "plan.batch"),
        (b'{"target": "lamp-1", "command": "dim", "plan": {"batch": "x"}}', 400, "invalid-request", "plan.batch"),
        (b'{"target": "lamp-1", "command": "dim", "limit": "200%"}', 400, "invalid-request", "limit"),
        (b'{"target": "lamp-1", "command": "dim", "wait": "5"}', 400, "invalid-request", "wait"),
        (b'{"target": "nobody", "command": "dim"}', 404, "unknown-target", "target"),
        (b'{"target": "any:nothing", "command": "dim"}', 404, "no-member", "target"),
        (b'{"target": "))", "command": "dim"}', 400, "target-syntax", "target"),
        (b'{"target": "lamp-1", "command": "dim", "args": [' + b" " * 300_000 + b"]}", 413, "too-large", None),
        (b"\xff\xfe", 400, "invalid-request", None),
    ],
)
async def test_bad_command_is_refused_and_the_field_named(
    client: httpx.AsyncClient, body: bytes, status: int, code: str, field: str | None
) -> None:
    problem(await client.post("/api/v1/commands", content=body, headers=JSON), status, code, field)


async def test_body_that_is_not_json_by_its_type_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/commands", content=b"{}", headers={"Content-Type": "text/plain"})
    problem(answer, 415, "unsupported")


async def test_page_of_another_site_may_not_use_it(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/commands", json={}, headers={"Origin": "https://evil.example"})
    problem(answer, 403, "wrong-origin")
    answer = await client.get("/api/v1/devices", headers={"Host": "evil.example"})
    problem(answer, 421, "wrong-host")
    assert "access-control-allow-origin" not in (await client.get("/health")).headers


async def test_same_key_and_body_is_the_same_command(client: httpx.AsyncClient, unique: str) -> None:
    headers = {"Idempotency-Key": unique}
    body = {"target": "lamp-1", "command": "dim", "args": {"level": 1}, "wait": 10}
    answers = await asyncio.gather(*(client.post("/api/v1/commands", json=body, headers=headers) for _ in range(5)))
    assert len({answer.json()["id"] for answer in answers}) == 1, [answer.text for answer in answers]
    other = await client.post("/api/v1/commands", json={**body, "args": {"level": 2}}, headers=headers)
    problem(other, 409, "idempotency-conflict")


# History


async def test_audit_results_and_progress_are_recorded(client: httpx.AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    id = (await post(client, "lamp-1", "hold", args=[str(tmp_path / "go")], wait=10)).json()["id"]
    (command,) = await found(client, "/api/v1/commands", id=id)
    assert (command["command"], command["behalf"], command["device"]) == ("hold", "local", "lamp-1")
    (result,) = await found(client, "/api/v1/results", id=id)
    assert (result["status"], result["value"]) == ("done", "held")
    progress = await found(client, f"/api/v1/commands/{id}/progress")
    assert progress[-1]["text"] == "holding"


async def test_events_are_listed_and_summed_up(client: httpx.AsyncClient, unique: str) -> None:
    for level in range(3):
        await post(client, "lamp-1", "tell", args={"name": f"n-{unique}", "key": f"k{level % 2}"}, wait=10)
    name = f"n-{unique}"
    events = await found(client, "/api/v1/events", 3, name=name)
    assert {event["key"] for event in events} == {"k0", "k1"}
    summary = await found(client, "/api/v1/events/summary", name=name)
    assert [(each["key"], each["count"]) for each in summary] == [("k0", 2), ("k1", 1)]
    assert name in (await client.get("/api/v1/events/names")).json()["items"]
    at = events[0]["time"]
    bars = await found(client, "/api/v1/events/series", name=name, since=at - 60, until=at + 60, step=60)
    assert sum(bar["count"] for bar in bars) == 3


# Functions


async def test_functions_of_plugins_are_listed_and_called(client: httpx.AsyncClient) -> None:
    (function,) = [
        each for each in (await client.get("/api/v1/functions")).json()["items"] if each["name"] == "count_words"
    ]
    assert function["help"] == "Count the words of a text."
    assert (await client.post("/api/v1/functions/count_words", json={"text": "a b c"})).json() == {"value": 3}
    assert (await client.post("/api/v1/functions/count_words", json=["a b"])).json() == {"value": 2}
    problem(await client.post("/api/v1/functions/count_words", json={"text": 5}), 400, "invalid-arguments", "args.text")
    problem(await client.post("/api/v1/functions/count_words", json=[""]), 502, "error")
    problem(await client.post("/api/v1/functions/nothing", json=[]), 404, "unknown-function")


# Live


async def test_live_stream_tells_of_commands_and_results(hub: RunningHub) -> None:
    async with asyncio.timeout(20), hub.client() as follower, hub.client() as client:
        stream = await sse(follower, ["command", "result"], target="lamp-1")
        id = (await post(client, "@kitchen", "dim", args=[9])).json()["id"]
        kinds = set[str]()
        while kinds != {"command", "result"}:
            kind, record = await stream.next()
            if record["id"] == id:
                assert record.get("device") in (None, "lamp-1")
                kinds.add(kind)
        await stream.close()


# The hub itself


@pytest.mark.parametrize(
    ("route", "path"),
    [
        ("/commands", "/commands"),
        ("/commands/ID", "/commands/{id}"),
        ("/results", "/results"),
        ("/events", "/events"),
        ("/events/summary", "/events/summary"),
        ("/events/series", "/events/series"),
    ],
)
async def test_parameters_of_the_page_are_those_of_the_api(client: httpx.AsyncClient, route: str, path: str) -> None:
    """Those that all lists have, `cursor` and `limit`, are told beside the table."""
    lines = (Path(__file__).parents[3] / "docs/http-api.md").read_text().splitlines()
    row = next(line for line in lines if line.startswith(f"| `{route}` | `"))
    told = set(re.findall(r"`([a-z]+)[`=]", row))
    paths = (await client.get("/api/v1/openapi.json")).json()["paths"]
    known = {each["name"] for each in paths[f"/api/v1{path}"]["get"]["parameters"] if each["in"] == "query"}
    assert told == known - {"cursor", "limit"}


async def test_health_readiness_and_who_one_is(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).json() == {"status": "ok"}
    assert (await client.get("/ready")).json() == {"ready": True, "broker": True, "recorder": True, "store": True}
    assert (await client.get("/api/v1/me")).json() == {
        "name": "local",
        "scopes": ["admin", "audit", "read", "scripts", "send"],
        "hub": "hub",
    }
