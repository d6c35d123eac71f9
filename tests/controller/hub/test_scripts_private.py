"""What a client runs is nobody else's: not its status, nor that there is one, whichever way one asks."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from outrider.controller.hub.owners import behalf_of, is_clients, is_of, is_run, new_run
from outrider.controller.hub.tokens import Scope
from outrider.schema import check_name
from tests.brokers import ONE, BrokerUnderTest
from tests.controller.hub.running import RunningHub, found, sse
from tests.controller.hub.scripting import asking, run, start_runner, status, until
from tests.processes import Processes

ALIKE = [
    *("a b", "a-b", "A-B", "a b ", " a b", "a  b", "a_b", "a+b", "a%20b", "a\tb", "a\nb", "a\0b", "a/b", "../a"),
    *("local", "\u00e9", "e\u0301", "a", "\u0430", "\uff41", "\ufb01", "fi", "\u00df", "ss", "\u0130", "i"),
    *("\u200b", "\ufeffa", "\U0001f600", "a;b", "a&b", "a=b", "#", "true", "1", "1.0", "null"),
    *("x" * 300, "x" * 299 + "y", "x" * 1000),
]
"""Names that something between a client and a device might take for each other."""

HELD = "import time; print('begun', flush=True); time.sleep(60)"

pytestmark = pytest.mark.parametrize("broker", [ONE], indirect=True, scope="session")


@pytest_asyncio.fixture
async def hub(broker: BrokerUnderTest, prefix: str, tmp_path: Path, spawn: Processes) -> RunningHub:
    return RunningHub(broker, prefix, tmp_path, spawn)


@pytest_asyncio.fixture
async def client(hub: RunningHub) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a hub without tokens, with a device that runs scripts."""
    await hub.start()
    await start_runner(hub)
    async with hub.client() as client:
        yield client


def stranger(answer: httpx.Response) -> bytes:
    """What somebody is told who asks for what is not theirs."""
    assert answer.status_code == 404, answer.text
    return answer.content


@pytest.mark.usefixtures("broker")
def test_names_that_are_alike_are_owners_of_their_own() -> None:
    owners = {behalf_of(name) for name in ALIKE}
    assert len(owners) == len(ALIKE)
    for owner in owners:
        check_name(owner, "owner")
        assert is_clients(owner)
        id = new_run(owner)
        check_name(id, "id")
        assert is_run(id)
        assert [each for each in owners if is_of(id, each)] == [owner]
        assert not is_of(id.removeprefix("run-"), owner)
        assert not is_of("run-", owner)


async def test_clients_with_like_names_share_nothing(client: httpx.AsyncClient) -> None:
    names = ALIKE[:20]
    code = "import os; print(os.path.exists('mine')); open('mine', 'w')"
    ids = await asyncio.gather(*(run(client, code, name) for name in names))
    for id, name in zip(ids, names, strict=True):
        assert (await status(client, id, name))["stdout"] == "False\n"
    for id, name in zip(ids, names, strict=True):
        others = (client.get(f"/status/{id}", params=asking(other)) for other in names if other != name)
        assert {each.status_code for each in await asyncio.gather(*others)} == {404}
    assert (await status(client, await run(client, code, "a b"), "a b"))["stdout"] == "True\n"


async def test_another_clients_script_is_as_unknown_as_one_that_never_was(client: httpx.AsyncClient) -> None:
    id = await run(client, HELD)
    await until(client, id, lambda said: said["stdout"])
    never = "run-0123456789abcdef0123-0123456789abcdef0123"
    answers = {
        stranger(await client.request(method, f"/status/{each}", params=asking(name)))
        for method in ("GET", "DELETE")
        for each in (id, never, "x", "run-", "run--", id.upper(), id + "0")
        for name in ("bob", "Ada", "ada ", None)
    }
    assert len(answers) == 1
    assert id.encode() not in answers.pop()
    assert (await status(client, id, wait=0))["status"] == "RUNNING"
    await client.delete(f"/status/{id}", params=asking("ada"))
    assert (await status(client, id))["status"] == "CANCELLED"
    stranger(await client.get(f"/status/{id}", params=asking("bob", wait=10)))


async def test_nothing_else_of_the_hub_tells_of_a_clients_script(hub: RunningHub, client: httpx.AsyncClient) -> None:
    stream = await sse(client, ["command", "progress", "result"])
    secret = "print('secret'); "
    done = await run(client, secret)
    await status(client, done)
    id = await run(client, secret + HELD)
    await until(client, id, lambda said: said["stdout"])
    owner = behalf_of("ada")
    for path in ("commands", "results"):
        for params in ({}, {"id": id}, {"id": done}, {"behalf": owner}, {"device": "runner-1"}):
            assert (await client.get(f"/api/v1/{path}", params=params)).json()["items"] == []
    for each in (id, done):
        for answer in (
            await client.get(f"/api/v1/commands/{each}", params={"wait": 1}),
            await client.get(f"/api/v1/commands/{each}/progress"),
            await client.delete(f"/api/v1/commands/{each}"),
        ):
            stranger(answer)
    assert (await client.get("/api/v1/jobs")).json()["running"] == []
    assert (await client.get("/api/v1/rollouts")).json()["items"] == []
    assert (await client.get("/api/v1/events")).json()["items"] == []
    body: dict[str, Any] = {"target": "runner-1", "wait": 5}
    answer = await client.post("/api/v1/commands", json={**body, "command": "jobs"})
    assert answer.status_code == 403
    for command, nothing in (("result", None), ("cancel", False)):
        answer = await client.post("/api/v1/commands", json={**body, "command": command, "args": [id]})
        assert answer.json()["outcomes"][0].get("value") == nothing
    assert (await status(client, id, wait=0))["status"] == "RUNNING"
    answer = await client.post("/api/v1/commands", json={**body, "command": "ping"})
    mine = answer.json()["id"]
    heard: list[str] = []
    async with asyncio.timeout(10):
        while mine not in heard or (await stream.next())[0] != "result":
            heard.append(str((await stream.next())[1]["id"]))
    assert not {id, done} & set(heard)
    await stream.close()
    assert await hub.stop() == 0
    (hub.folder / "state" / "outrider" / "hub-outbox.sqlite").unlink()
    await hub.start()
    async with hub.client() as again:
        stranger(await again.get(f"/api/v1/commands/{done}"))
        assert (await status(again, done))["stdout"] == "secret\n"


async def test_token_owns_what_it_sent_and_its_scope_is_enough(hub: RunningHub) -> None:
    alice, bob = (hub.token(name, Scope.SCRIPTS) for name in ("alice", "bob"))
    sender, reader = hub.token("sender", Scope.SEND), hub.token("reader", Scope.READ)
    auditor = hub.token("auditor", Scope.AUDIT)
    await hub.start()
    await start_runner(hub, token=reader)
    async with hub.client(alice) as a, hub.client(bob) as b, hub.client(sender) as s, hub.client(reader) as r:
        id = await run(a, HELD, None)
        await until(a, id, lambda said: said["stdout"], None)
        assert (await a.get(f"/status/{id}", params=asking("who knows"))).status_code == 200
        for other in (b, s):
            for params in (asking(None), asking("alice"), asking("ada")):
                stranger(await other.get(f"/status/{id}", params=params))
                stranger(await other.delete(f"/status/{id}", params=params))
        stranger(await s.get(f"/api/v1/commands/{id}"))
        assert (await s.get("/api/v1/commands")).json()["items"] == []
        assert (await s.get("/api/v1/jobs")).json()["running"] == []
        assert (await r.get(f"/status/{id}")).status_code == 403
        assert (await r.post("/run-json", json={"code": "1"})).status_code == 403
        for path in ("devices", "commands", "jobs", "live", f"commands/{id}"):
            assert (await a.get(f"/api/v1/{path}")).status_code == 403
        assert (await a.post("/api/v1/commands", json={"target": "all", "command": "ping"})).status_code == 403
        assert (await a.get("/api/v1/me")).json()["scopes"] == ["scripts"]
        code = "import os; print(os.path.exists('mine')); open('mine', 'w')"
        assert (await outcome_of(b, code, "alice"))["stdout"] == "False\n"
        assert (await outcome_of(s, code, None))["stdout"] == "False\n"
        assert (await outcome_of(b, code, "somebody else"))["stdout"] == "True\n"
        async with hub.client() as nobody, hub.client(auditor) as c:
            assert (await nobody.get(f"/status/{id}", params=asking("alice"))).status_code == 401
            assert (await nobody.post("/run-json", json={"client": "alice", "code": "1"})).status_code == 401
            assert (await c.get(f"/status/{id}")).status_code == 403
            assert (await found(c, "/api/v1/commands", id=id))[0]["behalf"] == "alice"
        await a.delete(f"/status/{id}")
        assert (await status(a, id, None))["status"] == "CANCELLED"


async def outcome_of(client: httpx.AsyncClient, code: str, name: str | None) -> dict[str, Any]:
    """Send a script with a token, and return what became of it."""
    return await status(client, await run(client, code, name), None)
