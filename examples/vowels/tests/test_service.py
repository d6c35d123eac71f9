"""The service over HTTP and over MQTT, on real hubs: what it answers, what it refuses, and that it forgets nothing."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid1, uuid4

import httpx
import pytest

from outrider.controller import Fleet
from outrider.schema import CommandRejected

from .conftest import StartHub
from .processes import Hub, Process, run, script

STORAGES = ("hub", "redis", "sqlite", "null")


@pytest.fixture(scope="module", params=STORAGES)
def stored(request: pytest.FixtureRequest, start_hub: StartHub) -> tuple[Hub, str]:
    """A hub on each storage, and the storage's name."""
    name: str = request.param
    more: dict[str, str] = {"REDIS": request.getfixturevalue("redis_url")} if name == "redis" else {}
    return start_hub(f"on-{name}", STORAGE=name, **more), name


@pytest.fixture
def client(hub: Hub) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=hub.url, timeout=30) as client:
        yield client


def counted(client: httpx.Client) -> list[Any]:
    found: list[Any] = client.get("/dashboard/range/1970-01-01/9999-12-31").json()
    return found


def test_requests_are_answered_and_summed_up_by_each_storage(stored: tuple[Hub, str]) -> None:
    hub, storage = stored
    uuid, before = str(uuid4()), datetime.now(UTC)
    with httpx.Client(base_url=hub.url, timeout=30) as client:
        answer = client.post("/initial", params={"uuid": uuid, "symbol": "e"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert answer.text in ("True", "False")
        for _ in range(2):
            answer = client.post("/followup", params={"uuid": uuid.upper()})
            assert (answer.status_code, answer.text) == (200, "hooray")
        client.post("/followup", params={"uuid": str(uuid4())})  # of nothing
        said = client.get("/dashboard/symbol/e")
        assert said.headers["content-type"] == "application/json"
        if storage == "null":
            assert said.text == '{"count":0,"symbol":"e","earliest":null,"latest":null,"followups":0}'
            assert counted(client) == []
            return
        summary = said.json()
        assert list(summary) == ["count", "symbol", "earliest", "latest", "followups"]
        assert (summary["count"], summary["symbol"], summary["followups"]) == (1, "e", 2)
        at = datetime.strptime(summary["earliest"], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
        assert before <= at <= datetime.now(UTC)
        assert summary["latest"] == summary["earliest"]
        assert counted(client) == [summary]
        # What a dashboard shows is a bound: from then on, and before then.
        after = (at + timedelta(microseconds=1)).isoformat()
        assert client.get(f"/dashboard/range/{summary['earliest']}/{after}").json() == [summary]
        assert client.get(f"/dashboard/range/{at - timedelta(hours=1)}/{summary['earliest']}").json() == []
        nothing = {"count": 0, "symbol": "z", "earliest": None, "latest": None, "followups": 0}
        assert client.get("/dashboard/symbol/z").json() == nothing


def test_letters_of_a_range_come_in_order(client: httpx.Client) -> None:
    begun = datetime.now(UTC).isoformat()
    for symbol in "zebra":
        client.post("/initial", params={"uuid": str(uuid4()), "symbol": symbol})
    found = client.get(f"/dashboard/range/{begun}/9999-12-31").json()
    assert [each["symbol"] for each in found] == sorted("zebra")


def test_parameters_may_stand_in_query_form_or_json(client: httpx.Client) -> None:
    before = client.get("/dashboard/symbol/m").json()["count"]
    uuid = str(uuid4())
    given = {"uuid": uuid, "symbol": "m"}
    answers = [
        client.post("/initial", params=given),
        client.post("/initial", data=given),
        client.post("/initial", files={name: (None, value) for name, value in given.items()}),
        client.post("/initial", json=given),
        client.post("/initial", params={"uuid": uuid}, json={"symbol": "m"}),
    ]
    assert [(each.status_code, each.text in ("True", "False")) for each in answers] == [(200, True)] * 5
    followed = [client.post("/followup", **{how: {"uuid": uuid}}) for how in ("params", "data", "json")]  # type: ignore[arg-type]
    assert [each.text for each in followed] == ["hooray"] * 3
    summary = client.get("/dashboard/symbol/m").json()
    assert (summary["count"], summary["followups"]) == (before + 5, 3)


GOOD = "7d444840-9dc0-4a2b-8d8f-1c5e5e3d5f2a"


@pytest.mark.parametrize(
    ("path", "how", "given", "reason"),
    [
        ("/initial", "params", {"symbol": "e"}, "uuid is missing"),
        ("/initial", "json", {"symbol": "e", "uuid": None}, "uuid is missing"),
        ("/initial", "params", {"symbol": "e", "uuid": "7"}, "uuid must be like"),
        ("/initial", "params", {"symbol": "e", "uuid": ""}, "uuid must be like"),
        ("/initial", "params", {"symbol": "e", "uuid": GOOD + "\n"}, "uuid must be like"),
        ("/initial", "params", {"symbol": "e", "uuid": f"{{{GOOD}}}"}, "uuid must be like"),
        ("/initial", "json", {"symbol": "e", "uuid": 7}, "uuid must be like"),
        ("/initial", "params", {"symbol": "e", "uuid": str(uuid1())}, "of version 4"),
        ("/initial", "params", {"uuid": GOOD}, "symbol is missing"),
        ("/initial", "params", {"uuid": GOOD, "symbol": ""}, "symbol must be a letter"),
        ("/initial", "params", {"uuid": GOOD, "symbol": "E"}, "symbol must be a letter"),
        ("/initial", "params", {"uuid": GOOD, "symbol": "ee"}, "symbol must be a letter"),
        ("/initial", "params", {"uuid": GOOD, "symbol": "é"}, "symbol must be a letter"),
        ("/initial", "params", {"uuid": GOOD, "symbol": "e\n"}, "symbol must be a letter"),
        ("/initial", "json", {"uuid": GOOD, "symbol": ["e"]}, "symbol must be a letter"),
        ("/initial", "params", [("uuid", GOOD), ("symbol", "e"), ("symbol", "a")], "symbol is given 2 times"),
        ("/initial", "json", [GOOD, "e"], "neither a form nor a JSON object"),
        ("/initial", "content", b"{", "neither a form nor a JSON object"),
        ("/initial", "content", b"\xff", "neither a form nor a JSON object"),
        ("/initial", "files", {"uuid": (None, GOOD), "symbol": (None, b"\xff")}, "no form, though it says so"),
        ("/followup", "params", {}, "uuid is missing"),
        ("/followup", "params", {"uuid": GOOD.replace("-", "")}, "uuid must be like"),
        ("/followup", "data", {"uuid": "e"}, "uuid must be like"),
    ],
)
def test_bad_request_is_refused_with_the_reason_and_nothing_is_stored(
    client: httpx.Client, path: str, how: str, given: object, reason: str
) -> None:
    before = client.get("/api/v1/events", params={"limit": 1}).json()
    answer = client.post(path, **{how: given})  # type: ignore[arg-type]  # each fits its way
    assert answer.status_code == 422, answer.text
    assert reason in answer.json()["detail"]
    assert client.get("/api/v1/events", params={"limit": 1}).json() == before


@pytest.mark.parametrize("boundary", ["; boundary=end", ""])
def test_broken_multipart_form_is_refused_as_a_form(client: httpx.Client, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data{boundary}"}
    answer = client.post("/initial", content=b"--end\r\nno header\r\n", headers=headers)
    assert answer.status_code == 422, answer.text
    assert "no form, though it says so" in answer.json()["detail"]
    assert "JSON" not in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("symbol", "ask for /dashboard/symbol/SYMBOL"),
        ("symbol/E", "symbol must be a letter"),
        ("symbol/ab", "symbol must be a letter"),
        ("range", "ask for /dashboard"),
        ("range/2026-11-25", "/dashboard/range/LOWER/UPPER"),
        ("range/yesterday/2026-11-25", "lower must be a date"),
        ("range/2026-11-25/2026-02-30", "upper must be a date"),
        ("range/2026-11-25+02:00/2026-11-26", "lower must be a date"),
        ("range/2026-11-25-02:00/2026-11-26", "lower must be a date"),
        ("range/2026-11-24/2026-11-25x14:00", "upper must be a date"),
        ("range/2026-11-24/2026-11-25T", "upper must be a date"),
        ("range/2026-W48-3/2026-11-26", "lower must be a date"),
        ("range/2026-W48/2026-11-26", "lower must be a date"),
        ("range/0001-01-01T00:00+01:00/2026-11-25", "lower must be a date"),
        ("range/2026-11-26/2026-11-25", "ends before it begins"),
    ],
)
def test_bad_dashboard_is_refused_with_the_reason(client: httpx.Client, path: str, reason: str) -> None:
    answer = client.get(f"/dashboard/{path}")
    assert answer.status_code == 422, answer.text
    assert reason in answer.json()["detail"]


def test_dates_are_midnights_in_utc_and_offsets_count(client: httpx.Client) -> None:
    client.post("/initial", params={"uuid": str(uuid4()), "symbol": "d"})
    at = datetime.fromisoformat(client.get("/dashboard/symbol/d").json()["latest"])
    day = at.date()
    upper = at + timedelta(microseconds=1)

    def seen(lower: object, upper: object) -> bool:
        return any(each["symbol"] == "d" for each in client.get(f"/dashboard/range/{lower}/{upper}").json())

    assert seen(day, day + timedelta(days=1))
    assert seen(f"{day}T00:00:00Z", f"{upper.isoformat()}+00:00")
    assert seen(f"{day} 00:00", upper.isoformat().lower())
    assert seen(day, f"{(upper + timedelta(hours=2)).isoformat()}+02:00")
    assert not seen(day, f"{upper.isoformat()}+02:00")
    assert not seen(day, day)
    assert not seen(day - timedelta(days=2), day)


async def test_devices_call_the_same_functions(hub: Hub, broker: str) -> None:
    uuid = str(uuid4())
    async with Fleet(broker) as fleet:

        async def count() -> dict[str, int]:
            async with httpx.AsyncClient(base_url=hub.url) as client:
                return dict((await client.get("/dashboard/symbol/q")).json())

        before = await count()
        assert await fleet.call(hub.folder.name, "initial", uuid=uuid, symbol="q", type=bool) in (True, False)
        assert await fleet.call(hub.folder.name, "followup", uuid=uuid, type=str) == "hooray"
        after = await count()
        assert (after["count"], after["followups"]) == (before["count"] + 1, before["followups"] + 1)
        for wrong in (
            {"uuid": uuid, "symbol": "Q"},
            {"uuid": uuid, "symbol": "q\n"},
            {"uuid": str(uuid1()), "symbol": "q"},
            {"uuid": uuid + "\n", "symbol": "q"},
            {"symbol": "q"},
        ):
            with pytest.raises(CommandRejected, match="invalid-arguments"):
                await fleet.call(hub.folder.name, "initial", **wrong)
        for text in ("q", uuid.replace("-", ""), uuid + "\n", f"{{{uuid}}}"):
            with pytest.raises(CommandRejected, match="invalid-arguments"):
                await fleet.call(hub.folder.name, "followup", uuid=text)
        assert await count() == after


def test_raw_events_stay_with_the_hub_orphans_too(client: httpx.Client, hub: Hub) -> None:
    uuid, orphan = str(uuid4()), str(uuid4())
    client.post("/initial", params={"uuid": uuid, "symbol": "o"})
    client.post("/followup", params={"uuid": uuid})
    client.post("/followup", params={"uuid": orphan})

    def raw(**asked: str) -> list[tuple[str, str | None]]:
        found = client.get("/api/v1/events", params=asked).json()["items"]
        return [(each["name"], each.get("key")) for each in found]

    assert raw(subject=uuid) == [("followup", None), ("initial", "o")]
    assert raw(subject=orphan) == [("followup", None)]
    database = f"sqlite:///{hub.folder}/state/outrider/hub.sqlite"
    code, lines = run(hub.folder, script("outrider"), "hub", "export", "--kind", "event", "--db", database)
    assert code == 0
    assert orphan in lines


def test_same_seed_gives_the_same_answers_again_and_a_restart_forgets_nothing(
    start_hub: StartHub, tmp_path: Path
) -> None:
    answers: list[list[str]] = []
    count = 0
    for _ in range(2):
        hub = start_hub("seeded", tmp_path / "seeded", SEED="42")
        with httpx.Client(base_url=hub.url, timeout=30) as client:
            asked = [client.post("/initial", params={"uuid": str(uuid4()), "symbol": each}) for each in "aye" * 8]
            answers.append([each.text for each in asked])
            count = client.get("/dashboard/symbol/y").json()["count"]
        assert hub.interrupt() == 0
    assert answers[0] == answers[1]
    assert set(answers[0]) == {"True", "False"}
    assert count == 16


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"STORAGE": "punch cards"}, "STORAGE is hub, redis, sqlite or null, not 'punch cards'"),
        ({"STORAGE": "redis", "REDIS": "redis://127.0.0.1:1"}, "127.0.0.1:1"),
        ({"SEED": "beet"}, "beet"),
    ],
)
def test_storage_that_cannot_be_keeps_the_hub_from_starting(
    broker: str, tmp_path: Path, environment: dict[str, str], reason: str
) -> None:
    words = ("hub", "--http", "127.0.0.1:0", "--as", "wrong", "--broker", broker, "--plugin", "vowels.plugin")
    code, said = run(tmp_path, script("outrider"), *words, **environment)
    assert code != 0
    assert reason in said
    assert "Traceback" not in said


def make_run(*variables: str) -> tuple[str, ...]:
    """`make run` in the environment of these tests, which is taken as it is."""
    environment = Path(script("python")).parents[1]
    ready = f"--assume-old={environment}/.ready"
    return ("make", "--no-print-directory", ready, "run", f"VENV={environment}", "HTTP=127.0.0.1:0", *variables)


async def followed_up(broker: str, *names: str) -> list[str]:
    async with Fleet(broker) as fleet:
        return [await fleet.call(name, "followup", uuid=GOOD, type=str) for name in names]


def test_make_run_starts_all_of_it_beside_another_hub_and_ctrl_c_ends_it(hub: Hub, broker: str, tmp_path: Path) -> None:
    make = Process(tmp_path, *make_run(f"BROKER={broker}", "STORAGE=sqlite"))
    try:
        url = make.wait_for(r"The hub is at (\S+)")
        (tmp_path / "text.txt").write_text("eee")
        words = ("-m", "vowels.client", str(tmp_path / "text.txt"), "--broker", broker)
        code, said = run(tmp_path, script("python"), *words)
        assert code == 0, said
        # Whom the client asks by itself is this hub, not the other.
        assert httpx.get(f"{url}/dashboard/symbol/e").json()["count"] == 3
        assert asyncio.run(followed_up(broker, "vowels", hub.folder.name)) == ["hooray"] * 2
        assert (tmp_path / "state" / "outrider-vowels" / "outrider" / "vowels.sqlite").exists()
        make.interrupt()
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)
    finally:
        make.end()
    assert make.programs() == []


def test_make_run_without_a_broker_starts_one_or_takes_what_is_there(tmp_path: Path) -> None:
    """In a network of its own, where that is allowed, nobody else's broker is there, and nobody else finds this one."""
    # Root there may set the network up, but not become somebody else, as Mosquitto would.
    up = 'ip link set lo up && exec unshare --user --map-user=1000 --map-group=1000 "$@"'
    alone = ("unshare", "--user", "--map-root-user", "--net", "sh", "-c", up, "sh")
    may = shutil.which("unshare") is not None and subprocess.run([*alone, "true"], check=False).returncode == 0
    make = Process(tmp_path, *(alone if may else ()), *make_run("STORAGE=null"))
    try:
        how = make.wait_for(r"localhost:1883, (which it has started|found there)")
        assert how == "which it has started" or not may
        assert "make" in make.programs()
    finally:
        make.interrupt()
        make.end()
    assert make.programs() == []
