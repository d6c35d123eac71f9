"""Routes of plugins on a real hub: what they are given, who may call them, and those that cannot be."""

from pathlib import Path

import pytest

from outrider.controller.hub.tokens import Scope
from tests.brokers import ONE, BrokerUnderTest
from tests.controller.hub.running import RunningHub, found
from tests.processes import Processes, script

TALLY = """
import asyncio
from typing import Annotated

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.enums import RequestEncodingType
from litestar.params import Body
from msgspec import Struct

from outrider.controller.hub import Context, Plugin


class Vote(Struct):
    name: str


def unfit(request: Request, error: Exception) -> Response[str]:
    return Response("not so: " + str(error.detail), status_code=422)


@post("/votes", exception_handlers={400: unfit})
async def vote(
    hub: Context, request: Request, data: Annotated[Vote, Body(media_type=RequestEncodingType.URL_ENCODED)]
) -> str:
    await hub.emit("vote", key=data.name, by=request.user.name)
    (summary,) = await asyncio.to_thread(hub.store.summary, "vote", key=data.name)
    return f"{hub.name}: {summary.count}"


@get("/votes/{name:str}")
async def votes(hub: Context, name: str) -> int:
    return sum(each.count for each in await asyncio.to_thread(hub.store.summary, "vote", key=name))


@post("/votes/{name:str}/at/{time:float}")
async def vote_of_then(hub: Context, name: str, time: float) -> None:
    await hub.emit("vote", key=name, time=time)


@get("/open", opt={"exclude_from_auth": True})
async def everybody(hub: Context) -> dict[str, bool]:
    return {"database": hub.database.startswith("sqlite:///"), "folder": hub.folder.is_dir()}


tally = Plugin("tally", routes=[vote, votes, vote_of_then, everybody])
"""

pytestmark = pytest.mark.parametrize("broker", [ONE], indirect=True, scope="session")


@pytest.fixture
def hub(broker: BrokerUnderTest, prefix: str, tmp_path: Path, spawn: Processes) -> RunningHub:
    (tmp_path / "tally.py").write_text(TALLY)
    return RunningHub(broker, prefix, tmp_path, spawn, options=("--plugin", "tally"))


async def test_plugin_serves_its_routes_and_records_events_at_once(hub: RunningHub) -> None:
    await hub.start()
    async with hub.client() as client:
        for count in (1, 2):
            answer = await client.post("/votes", data={"name": "ann"})
            assert (answer.status_code, answer.text) == (201, f"hub: {count}"), hub.process and hub.process.errors
        assert (await client.get("/votes/ann")).json() == 2
        assert (await client.get("/open")).json() == {"database": True, "folder": True}
        (event, _) = await found(client, "/api/v1/events", name="vote")
        assert (event["device"], event["key"], event["data"]) == ("hub", "ann", {"by": "local"})
        answer = await client.post("/votes", data={"nome": "ann"})
        assert (answer.status_code, answer.text[:7]) == (422, "not so:")
        answer = await client.post("/votes", data={"name": "a" * 300})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")
        assert "/votes" in (await client.get("/api/v1/openapi.json")).json()["paths"]
        elsewhere = {"Origin": "http://elsewhere.example"}
        assert (await client.post("/votes", data={"name": "ann"}, headers=elsewhere)).status_code == 403
    assert await hub.stop() == 0


async def test_event_of_the_hub_may_be_of_another_time(hub: RunningHub) -> None:
    await hub.start()
    async with hub.client() as client:
        assert (await client.post("/votes/bob/at/1700000000.123456")).status_code == 201
        (event,) = await found(client, "/api/v1/events", name="vote", key="bob")
        assert event["time"] == 1700000000.123456
        assert event["received"] > 1700000001


@pytest.mark.parametrize("time", ["nan", "inf", "-1.5", "1e12"])
async def test_time_that_no_event_can_have_is_refused_and_recording_goes_on(hub: RunningHub, time: str) -> None:
    await hub.start()
    async with hub.client() as client:
        assert (await client.post(f"/votes/bob/at/{time}")).status_code in (400, 404)
        assert (await client.post("/votes", data={"name": "ann"})).text == "hub: 1"


async def test_body_that_is_nested_too_deep_reaches_no_plugin_whatever_it_is_called(hub: RunningHub) -> None:
    await hub.start()
    async with hub.client() as client:
        answer = await client.post("/votes", content=b"[" * 10_000, headers={"Content-Type": "text/plain"})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")
        assert "levels" in answer.json()["detail"] or "deep" in answer.json()["detail"]


async def test_routes_of_a_plugin_need_a_token_with_the_scope(hub: RunningHub) -> None:
    reader, sender = hub.token("reader", Scope.READ), hub.token("sender", Scope.SEND)
    await hub.start()

    async def status(token: str | None, method: str, path: str) -> int:
        async with hub.client(token) as client:
            form = {"name": "ann"} if method == "POST" else None
            return (await client.request(method, path, data=form)).status_code

    assert [await status(token, "POST", "/votes") for token in (None, reader, sender)] == [401, 403, 201]
    assert [await status(token, "GET", "/votes/ann") for token in (None, reader, sender)] == [401, 200, 200]
    assert await status(None, "GET", "/open") == 200


async def test_route_that_the_hub_has_keeps_it_from_starting(hub: RunningHub) -> None:
    (hub.folder / "tally.py").write_text(TALLY.replace('"/open"', '"/health"'))
    process = hub.processes(
        script("outrider"), "hub", "--http", hub.http, *hub.options, env=hub.environment, cwd=hub.folder
    )
    assert await process.wait(30) != 0
    assert "the routes of the plugin 'tally' cannot be served" in process.errors
    assert "/health" in process.errors
    assert "Traceback" not in process.errors
