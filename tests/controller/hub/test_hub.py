"""The hub as a process: who may use it, that what it accepted outlives it, and that it ends cleanly."""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from outrider.controller.hub.tokens import Scope
from tests.brokers import ONE, BrokerUnderTest
from tests.controller.hub.postgresql import Server
from tests.controller.hub.running import RunningHub, ended, found, polled, sse
from tests.controller.hub.test_api import post, problem
from tests.processes import Processes, script

pytestmark = pytest.mark.parametrize("broker", [ONE], indirect=True, scope="session")


@pytest_asyncio.fixture
async def hub(broker: BrokerUnderTest, prefix: str, tmp_path: Path, spawn: Processes) -> AsyncIterator[RunningHub]:
    yield RunningHub(broker, prefix, tmp_path, spawn)


async def test_kill_and_restart_go_on_with_what_was_accepted(hub: RunningHub, tmp_path: Path) -> None:
    await hub.start()
    await hub.start_device("lamp-1")
    go = tmp_path / "go"
    async with hub.client() as client:
        order = {"target": "lamp-1,lamp-9", "command": "hold", "args": [str(go)], "if_offline": "queue", "expires": 600}
        first = await client.post("/api/v1/commands", json=order, headers={"Idempotency-Key": "k"})
        assert first.status_code == 202, first.text
    id = first.json()["id"]
    await hub.kill()
    go.touch()
    await hub.start()
    async with hub.client() as client:
        again = await client.post("/api/v1/commands", json=order, headers={"Idempotency-Key": "k"})
        assert again.json()["id"] == id
        path, half = f"/api/v1/commands/{id}", {"done": 1, "queued": 1}
        body = (await polled(client, path, lambda answer: answer.json()["counts"] == half)).json()
        assert (body["ended"], body["behalf"], body["target"]) == (False, "local", "lamp-1,lamp-9")
        await hub.start_device("lamp-9")
        assert (await ended(client, id))["counts"] == {"done": 2}
    assert sorted(go.with_suffix(".runs").read_text().split()) == ["lamp-1", "lamp-9"]
    assert await hub.stop() == 0


async def test_old_outcome_is_found_after_a_restart(hub: RunningHub) -> None:
    await hub.start()
    await hub.start_device("lamp-1")
    async with hub.client() as client:
        id = (await post(client, "lamp-1", "dim", args=[3], wait=10)).json()["id"]
    assert await hub.stop() == 0
    (hub.folder / "state" / "outrider" / "hub-outbox.sqlite").unlink()  # a week later: only the store remembers
    await hub.start()
    async with hub.client() as client:
        body = (await client.get(f"/api/v1/commands/{id}")).json()
        assert (body["counts"], body["outcomes"][0]["value"], body["args"]) == ({"done": 1}, 3, [3])


async def test_one_client_never_sees_what_is_anothers(hub: RunningHub, tmp_path: Path) -> None:
    alice, bob = (hub.token(name, Scope.READ, Scope.SEND) for name in ("alice", "bob"))
    auditor, reader = hub.token("auditor", Scope.READ, Scope.AUDIT), hub.token("reader", Scope.READ)
    admin = hub.token("admin", Scope.ADMIN)
    await hub.start()
    await hub.start_device("lamp-1", token=reader)
    async with hub.client() as nobody, hub.client("outrider_wrong") as wrong:
        problem(await nobody.get("/api/v1/devices"), 401, "unauthenticated")
        answer = await wrong.get("/api/v1/devices")
        problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert (await nobody.get("/health")).status_code == 200
    async with hub.client(alice) as a, hub.client(bob) as b, hub.client(auditor) as c, hub.client(reader) as d:
        streams = [await sse(each, ["command", "progress", "result"]) for each in (b, c)]
        id = (await post(a, "lamp-1", "hold", args=[str(tmp_path / "never")])).json()["id"]
        for kind in ("command", "progress"):
            async with asyncio.timeout(10):
                while (come := await streams[1].next())[0] != kind or come[1]["id"] != id:
                    pass
        assert (await b.get("/api/v1/jobs")).json()["running"] == []
        assert [each["job"]["behalf"] for each in (await c.get("/api/v1/jobs")).json()["running"]] == ["alice"]
        problem(await post(b, "lamp-1", "jobs", wait=5), 403, "forbidden", "command")
        problem(await b.get(f"/api/v1/commands/{id}"), 404, "not-found")
        problem(await b.delete(f"/api/v1/commands/{id}"), 404, "not-found")
        problem(await c.delete(f"/api/v1/commands/{id}"), 403, "forbidden")
        problem(await post(d, "lamp-1", "dim", args=[1]), 403, "forbidden")
        assert (await c.get(f"/api/v1/commands/{id}")).json()["behalf"] == "alice"
        # bob may send the device's own `cancel`, which is for his own jobs only
        body = (await post(b, "lamp-1", "cancel", args=[id], wait=10)).json()
        assert body["outcomes"][0]["value"] is False
        async with hub.client(admin) as e:
            assert (await e.delete(f"/api/v1/commands/{id}")).status_code == 202
        assert (await ended(a, id))["counts"] == {"cancelled": 1}
        await found(a, "/api/v1/results", id=id)
        for path in ("results", "commands"):
            assert (await b.get(f"/api/v1/{path}", params={"id": id, "behalf": "alice"})).json()["items"] == []
            assert len((await c.get(f"/api/v1/{path}", params={"id": id})).json()["items"]) == 1
        mine = (await post(b, "lamp-1", "dim", args=[1], wait=10)).json()["id"]
        async with asyncio.timeout(10):
            assert {(await streams[0].next())[1]["id"] for _ in range(4)} >= {
                mine
            }  # after `cancel`, nothing of alice's
        for stream in streams:
            await stream.close()


async def test_admin_cancels_what_somebody_else_began(hub: RunningHub, tmp_path: Path) -> None:
    alice, root = hub.token("alice", Scope.SEND), hub.token("root", Scope.ADMIN)
    await hub.start()
    await hub.start_device("lamp-1", token=alice)
    async with hub.client(alice) as a, hub.client(root) as r:
        id = (await post(a, "lamp-1", "hold", args=[str(tmp_path / "never")])).json()["id"]
        assert (await r.delete(f"/api/v1/commands/{id}")).status_code == 202
        assert (await ended(a, id))["counts"] == {"cancelled": 1}


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        (Scope.READ, ["read"]),
        (Scope.SEND, ["read", "scripts", "send"]),
        (Scope.AUDIT, ["audit", "read"]),
        (Scope.ADMIN, ["admin", "audit", "read", "scripts", "send"]),
    ],
)
async def test_scopes_that_come_with_another_are_there(hub: RunningHub, scope: Scope, allowed: list[str]) -> None:
    token = hub.token("ci", scope)
    await hub.start()
    async with hub.client(token) as client:
        assert (await client.get("/api/v1/me")).json()["scopes"] == allowed
        assert (await client.get("/api/v1/devices")).status_code == 200


async def test_removed_token_is_refused(hub: RunningHub) -> None:
    hub.token("other", Scope.READ)
    await hub.start()
    add = hub.processes(script("outrider"), "hub", "token", "add", "ci", "--scope", "read", env=hub.environment)
    assert await add.wait(30) == 0, str(add)
    token = add.output.strip()
    async with hub.client(token) as client:
        assert (await client.get("/api/v1/me")).json()["name"] == "ci"
        stream = await sse(client, ["state"])
        remove = hub.processes(script("outrider"), "hub", "token", "remove", "ci", env=hub.environment)
        assert await remove.wait(30) == 0, str(remove)
        await polled(client, "/api/v1/me", lambda answer: answer.status_code == 401)
        async with asyncio.timeout(20):
            assert await stream.ends()
        await stream.close()
    listed = hub.processes(script("outrider"), "hub", "token", "list", "--json", env=hub.environment)
    assert await listed.wait(30) == 0
    assert [each["name"] for each in json.loads(listed.output)["tokens"]] == ["other"]


async def test_stream_without_a_token_ends_once_there_is_one(hub: RunningHub) -> None:
    await hub.start()
    async with hub.client() as client:
        stream = await sse(client, ["state"])
        add = hub.processes(script("outrider"), "hub", "token", "add", "ci", "--scope", "read", env=hub.environment)
        assert await add.wait(30) == 0, str(add)
        async with asyncio.timeout(30):
            assert await stream.ends()
        await stream.close()


async def test_hub_that_others_can_reach_needs_a_token(hub: RunningHub) -> None:
    options = (script("outrider"), "hub", "--http", "0.0.0.0:0")
    refused = hub.processes(*options, env=hub.environment)
    assert await refused.wait(30) == 2
    assert "outrider hub token add" in refused.errors
    token = hub.token("ci", Scope.READ)
    hub.http = "0.0.0.0:0"
    await hub.start()
    async with hub.client(token) as client, hub.client() as nobody:
        assert (await client.get("/api/v1/me", headers={"Host": "fleet.example"})).status_code == 200
        problem(await nobody.get("/api/v1/me"), 401, "unauthenticated")


async def test_second_hub_on_the_database_and_a_taken_port_say_so(hub: RunningHub, tmp_path: Path) -> None:
    await hub.start()
    second = hub.processes(script("outrider"), "hub", "--http", "127.0.0.1:0", env=hub.environment)
    assert await second.wait(30) == 2
    assert "another hub has" in second.errors
    port = hub.url.rpartition(":")[2]
    database = f"sqlite:///{tmp_path}/other.sqlite"
    third = hub.processes(
        *(script("outrider"), "hub", "--http", f"127.0.0.1:{port}", "--db", database, "--as", "third"),
        env=hub.environment,
    )
    assert await third.wait(30) == 2
    assert "--http HOST:PORT" in third.errors
    # A database of its own is not enough: the broker would give the recorder's session to one, then to the other.
    fourth = hub.processes(
        *(script("outrider"), "hub", "--http", "127.0.0.1:0", "--db", database, "--as", hub.name), env=hub.environment
    )
    assert await fourth.wait(30) == 2
    assert f"a hub called {hub.name} is at" in " ".join(fourth.errors.split())
    assert "--as" in fourth.errors


async def test_host_without_an_address_says_so(hub: RunningHub) -> None:
    refused = hub.processes(script("outrider"), "hub", "--http", "nowhere.invalid:8420", env=hub.environment)
    assert await refused.wait(30) == 2
    assert "no address for 'nowhere.invalid'" in refused.errors
    assert "--http HOST:PORT" in refused.errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_signal_ends_it_cleanly_while_clients_follow(hub: RunningHub, number: signal.Signals) -> None:
    await hub.start()
    async with hub.client() as client:
        stream = await sse(client, ["state"])
        assert hub.process is not None
        hub.process.send_signal(number)
        assert await hub.process.wait(15) == 0, str(hub.process)
        assert await stream.ends()
        await stream.close()
    assert "Traceback" not in hub.process.errors


async def test_records_are_exported_while_the_hub_runs(hub: RunningHub) -> None:
    await hub.start()
    await hub.start_device("lamp-1")
    async with hub.client() as client:
        id = (await post(client, "lamp-1", "dim", args=[3], wait=10)).json()["id"]
        await found(client, "/api/v1/results", id=id)
    export = hub.processes(
        script("outrider"), "hub", "export", "--since", "1h", "--kind", "result", env=hub.environment
    )
    assert await export.wait(30) == 0, str(export)
    lines = [json.loads(line) for line in export.output.splitlines()]
    assert [(line["type"], line["id"], line["value"]) for line in lines if line["id"] == id] == [("result", id, 3)]
    table = hub.processes(script("outrider"), "hub", "export", "--format", "csv", env=hub.environment)
    assert await table.wait(30) == 0
    assert id in table.output


async def test_hub_on_postgresql_records_answers_and_goes_on_after_a_kill(
    hub: RunningHub, postgresql: Server, unique: str
) -> None:
    url = postgresql.create()
    hub.options = ("--db", url)
    added = hub.processes(script("outrider"), "hub", "token", "add", "ci", "--scope", "send", "--db", url)
    assert await added.wait(30) == 0, str(added)
    token = added.output.strip()
    await hub.start()
    assert token not in str(hub.process)
    await hub.start_device("lamp-1", token=token)
    async with hub.client(token) as client:
        body = {"target": "lamp-1", "command": "tell", "args": [unique, "k"], "wait": 10}
        answer = await client.post("/api/v1/commands", json=body, headers={"Idempotency-Key": "key"})
        id = answer.json()["id"]
        assert (answer.status_code, answer.json()["counts"]) == (200, {"done": 1})
        await found(client, "/api/v1/results", id=id)
        (summary,) = await found(client, "/api/v1/events/summary", name=unique)
        assert (summary["key"], summary["count"]) == ("k", 1)
    await hub.kill()
    await hub.start()
    async with hub.client(token) as client:
        answer = await client.post("/api/v1/commands", json=body, headers={"Idempotency-Key": "key"})
        assert (answer.json()["id"], answer.json()["counts"]) == (id, {"done": 1})
        assert [each["behalf"] for each in await found(client, "/api/v1/commands", id=id)] == ["ci"]
    environment = {**hub.environment, "OUTRIDER_DB": url}
    export = hub.processes(script("outrider"), "hub", "export", "--kind", "event", env=environment)
    assert await export.wait(30) == 0, str(export)
    assert [json.loads(line)["name"] for line in export.output.splitlines()] == [unique]
    assert await hub.stop() == 0
    postgresql.drop(url)


async def test_flood_of_connections_leaves_files_to_the_database(hub: RunningHub) -> None:
    hub.files = 350
    await hub.start()
    await hub.start_device("lamp-1")
    address = ("127.0.0.1", int(hub.url.rpartition(":")[2]))
    async with hub.client() as client:
        assert (await client.get("/health")).status_code == 200  # its connection stands from here on
        with contextlib.ExitStack() as flood:
            for _ in range(600):
                flood.enter_context(socket.create_connection(address, timeout=10))
            body = (await post(client, "lamp-1", "dim", args=[3], wait=10)).json()
            assert body["counts"] == {"done": 1}, body
            await found(client, "/api/v1/results", id=body["id"])
        await polled(client, "/ready", lambda answer: answer.status_code == 200)
    assert await hub.stop() == 0
    assert hub.process is not None
    assert "Traceback" not in hub.process.errors


async def test_slow_and_long_headers_are_bounded(hub: RunningHub) -> None:
    await hub.start()
    port = int(hub.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        with socket.create_connection(("127.0.0.1", port), timeout=30) as long:
            long.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"x-filler: " + b"y" * 70_000)
            assert b"431" in (await asyncio.to_thread(long.recv, 1000)).split(b"\r\n")[0]
        async with hub.client() as client:
            assert (await client.get("/health")).status_code == 200
        answer = await asyncio.to_thread(slow.recv, 1000)
        assert b"408" in answer.split(b"\r\n")[0]
