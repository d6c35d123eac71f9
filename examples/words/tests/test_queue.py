"""The queue on a real hub, broker and workers, over real HTTP, as they are killed and started again."""

import asyncio
import contextlib
import random
import re
import sqlite3
import string
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from outrider.controller import Fleet
from tests.processes import Hub, Stage, Standing, until
from tests.site import Site

PAGE = "<h1>One, two</h1><p>two THREE o'clock</p><script>unseen()</script>"
COUNTS = {"one": 1, "two": 2, "three": 1, "o'clock": 1}


async def test_job_is_scheduled_done_and_fetched(standing: Standing, site: Site) -> None:
    hub = standing.hub
    url = site.add("/page", PAGE)
    answer = await hub.ask("POST", "/word-count", json={"url": url})
    id = answer.json()["data"]["job_id"]
    assert (answer.status_code, answer.json()) == (
        202,
        {"success": True, "message": f"Scheduled Job: {id}", "data": {"job_id": id}},
    )
    await hub.end(id)
    expected = {
        "success": True,
        "message": f"Fetched Job: {id}",
        "data": {"job_id": id, "url": url, "status": "COMPLETE", "result": COUNTS},
    }
    for options in ({"params": {"job_id": id}}, {"json": {"job_id": id}}):
        answer = await hub.ask("GET", "/word-count", **options)
        assert (answer.status_code, answer.json()) == (200, expected)
    health = await hub.ask("GET", "/health")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})


async def test_job_fails_with_the_reason(standing: Standing, site: Site) -> None:
    hub = standing.hub
    url = site.add("/gone", "", 410)
    job = await hub.end(id := await hub.submit(url))
    assert job == {"job_id": id, "url": url, "status": "FAIL", "error": f"{url} answered 410 Gone"}


async def test_requests_that_cannot_be_are_400_in_the_envelope(standing: Standing) -> None:
    hub = standing.hub
    bad = [b"", b"no json", b"[]", b"{}", b'{"url": 7}', b'{"url": "x"}', b'{"url": "ftp://a/"}', b'{"url": "http://"}']
    bad += [b'{"url": "http://a/%s"}' % (b"x" * 3000), b'{"url": "http://a/", "uri": ""}', b'"\xff"']
    hosts = ("exa mple.com", "<x>", "a..b", ".", "%41%20b", "x" * 70)
    bad += [b'{"url": "http://%s/"}' % host.encode() for host in hosts]
    for body in bad:
        answer = await hub.ask("POST", "/word-count", content=body)
        assert (answer.status_code, answer.json()["success"]) == (400, False), body
        assert set(answer.json()) == {"success", "message"}, body
    deep = {"content": b'{"x":' + b"[" * 100_000, "headers": {"Content-Type": "application/x-www-form-urlencoded"}}
    for options in ({"params": {"job_id": "nope"}}, {"json": {"job_id": "0" * 32}}, {}, {"content": b"no json"}, deep):
        answer = await hub.ask("GET", "/word-count", **options)
        assert (answer.status_code, answer.json()["success"]) == (400, False), options
    answer = await hub.ask("DELETE", "/word-count")
    assert (answer.status_code, answer.json()) == (405, {"success": False, "message": "Method Not Allowed"})


async def test_what_is_unexpected_is_500_without_details(stage: Stage) -> None:
    hub = await stage.hub()
    with contextlib.closing(sqlite3.connect(stage.folder / "state-hub/outrider/hub.sqlite")) as database:
        database.execute("DROP TABLE words_jobs")
    expected = {"success": False, "message": "Something unexpected occurred"}
    answers = [
        await hub.ask("POST", "/word-count", json={"url": "http://a.example/"}),
        await hub.ask("GET", "/word-count", params={"job_id": "0" * 32}),
    ]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(500, expected)] * 2
    assert "no such table" in hub.process.output


async def test_job_waits_until_a_worker_is_there(stage: Stage, site: Site) -> None:
    hub = await stage.hub()
    url = site.add("/page", PAGE)
    id = await hub.submit(url)
    assert await hub.job(id) == {"job_id": id, "url": url, "status": "IN_PROGRESS"}
    stage.worker("words-1")
    assert (await hub.end(id))["result"] == COUNTS


async def test_private_address_is_refused_by_number_by_name_and_after_a_redirect(stage: Stage, site: Site) -> None:
    stage.private = False
    hub = await stage.hub()
    stage.worker("words-1")
    site.add("/page", PAGE)
    for host in ("127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1"):
        job = await hub.end(await hub.submit(f"http://{host}:{site.port}/page"))
        assert job["status"] == "FAIL", host
        assert "which is no public address" in job["error"], host
    assert not site.hits


async def test_book_is_counted_as_by_collections_counter(standing: Standing, site: Site) -> None:
    hub = standing.hub
    text = book(3_000_000, 30_000)
    job = await hub.end(await hub.submit(site.add("/book", f"<body><p>{text}</p></body>")))
    assert job["result"] == Counter(re.findall(r"\w[\w']*\w|\w", text.lower()))
    assert len(job["result"]) > 29_000


async def test_job_whose_counts_are_too_large_to_be_told_fails(standing: Standing, site: Site) -> None:
    hub = standing.hub
    job = await hub.end(await hub.submit(site.add("/many", " ".join(f"word{number}" for number in range(100_000)))))
    assert job["status"] == "FAIL"
    assert "limit" in job["error"]


async def test_worker_answers_while_it_counts(standing: Standing, site: Site) -> None:
    stage, hub = standing
    id = await hub.submit(site.add("/book", "<p>" + book(9_000_000, 1000), held=True))
    await until(lambda: _hit(site, "/book"))
    async with Fleet(stage.broker, prefix=stage.prefix) as fleet:
        await fleet.call("words-1", "ping")
        site.pages["/book"].open.set()
        slowest = 0.0
        while (await hub.job(id))["status"] == "IN_PROGRESS":
            began = time.monotonic()
            await fleet.call("words-1", "ping")
            slowest = max(slowest, time.monotonic() - began)
    assert slowest < 0.5


async def test_killed_workers_job_is_done_by_another(stage: Stage, site: Site) -> None:
    hub = await stage.hub()
    first = stage.worker("words-1")
    await hub.until_ready("words-1")
    id = await hub.submit(site.add("/page", PAGE, held=True))
    await until(lambda: _hit(site, "/page"))
    stage.worker("words-2")
    await hub.until_ready("words-2")
    first.kill()
    site.pages["/page"].open.set()
    assert (await hub.end(id))["result"] == COUNTS


async def test_killed_workers_job_is_done_when_it_is_back(stage: Stage, site: Site) -> None:
    hub = await stage.hub()
    worker = stage.worker("words-1")
    await hub.until_ready("words-1")
    id = await hub.submit(site.add("/page", PAGE, held=True))
    await until(lambda: _hit(site, "/page"))
    worker.kill()
    site.pages["/page"].open.set()
    assert (await hub.job(id))["status"] == "IN_PROGRESS"
    stage.worker("words-1")
    assert (await hub.end(id))["result"] == COUNTS


async def test_answer_that_is_no_count_fails_the_job_and_the_queue_goes_on(stage: Stage, site: Site) -> None:
    (stage.folder / "other.py").write_text(
        "from outrider.device import Device\n"
        "other = Device('other', pools=['words'], initial='ready')\n"
        "@other.command\n"
        "def count_words(url: str) -> int:\n"
        "    return 7\n"
    )
    hub = await stage.hub()
    other = stage.start("outrider-device", "run", "other:other")
    assert "no count" in (await hub.end(await hub.submit("http://a.example/")))["error"]
    other.kill()
    stage.worker("words-1")
    assert (await hub.end(await hub.submit(site.add("/page", PAGE))))["result"] == COUNTS


async def test_job_that_five_workers_did_not_survive_fails(stage: Stage, site: Site) -> None:
    hub = await stage.hub()
    id = await hub.submit(site.add("/page", PAGE, held=True))
    with contextlib.closing(sqlite3.connect(stage.folder / "state-hub/outrider/hub.sqlite")) as database, database:
        database.execute("UPDATE words_jobs SET attempts = 4")
    worker = stage.worker("words-1")
    await until(lambda: _taken(hub))  # else nobody knows that the worker had begun
    worker.kill()
    assert (await hub.end(id))["error"] == "5 workers ended in the middle of it"


async def test_jobs_survive_the_end_of_the_hub(stage: Stage, site: Site) -> None:
    hub = await stage.hub()
    stage.worker("words-1")
    await hub.until_ready("words-1")
    ended = await hub.submit(site.add("/ended", PAGE))
    await hub.end(ended)
    running = await hub.submit(site.add("/running", PAGE, held=True))
    await until(lambda: _hit(site, "/running"))
    waiting = [await hub.submit(site.add(f"/{number}", PAGE)) for number in range(20)]
    hub.process.kill()
    site.pages["/running"].open.set()
    hub = await stage.hub()
    for id in (ended, running, *waiting):
        assert (await hub.end(id))["result"] == COUNTS


async def test_jobs_survive_a_restart_of_the_broker(tmp_path: Path, site: Site) -> None:
    stage = Stage(tmp_path)
    try:
        broker = await stage.start_broker()
        hub = await stage.hub()
        stage.worker("words-1")
        await hub.until_ready("words-1")
        running = await hub.submit(site.add("/running", PAGE, held=True))
        await until(lambda: _hit(site, "/running"))
        broker.kill()
        waiting = await hub.submit(site.add("/waiting", PAGE))
        site.pages["/running"].open.set()
        assert (await hub.job(running))["status"] == "IN_PROGRESS"
        await stage.start_broker(int(stage.broker.rpartition(":")[2]))
        for id in (running, waiting):
            assert (await hub.end(id, 40))["result"] == COUNTS
    finally:
        stage.close()


async def test_many_submissions_are_all_done_by_both_workers(stage: Stage, site: Site) -> None:
    hub = await stage.hub()
    stage.worker("words-1")
    stage.worker("words-2")
    await hub.until_ready("words-1", "words-2")
    urls = [site.add(f"/{number}", f"<p>word{number}") for number in range(60)]
    ids = await asyncio.gather(*map(hub.submit, urls))
    jobs = await asyncio.gather(*map(hub.end, ids))
    assert [job["result"] for job in jobs] == [{f"word{number}": 1} for number in range(60)]
    assert {worker for worker in ("words-1", "words-2") if await _did(hub, worker)} == {"words-1", "words-2"}


async def test_queue_asks_for_the_hubs_token(stage: Stage) -> None:
    state = {"XDG_STATE_HOME": str(stage.folder / "state-hub")}
    making = stage.start("outrider", "hub", "token", "add", "ci", "--scope", "send", env=state)
    assert await making.ended() == 0
    token = making.output.split()[0]
    hub = await stage.hub()
    answer = await hub.ask("POST", "/word-count", json={"url": "http://a.example"})
    assert _problem(answer) == (401, "unauthenticated")
    headers = {"Authorization": f"Bearer {token}"}
    answer = await hub.ask("POST", "/word-count", json={"url": "http://a.example"}, headers=headers)
    assert answer.status_code == 202


async def test_what_the_hub_refuses_before_the_queue_is_a_problem_of_the_hubs(standing: Standing) -> None:
    body = b'{"url": "http://a.example/", "x": "%s"}' % (b"x" * 300_000)
    assert _problem(await standing.hub.ask("POST", "/word-count", content=body)) == (413, "too-large")
    answer = await standing.hub.ask("POST", "/word-count", content=b"[" * 100_000)
    assert _problem(answer) == (400, "invalid-request")
    answer = await standing.hub.ask("POST", "/word-count", json={}, headers={"Origin": "http://other.example"})
    assert _problem(answer) == (403, "wrong-origin")


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", "image/png"])
async def test_json_is_taken_whatever_it_is_called(standing: Standing, site: Site, kind: str) -> None:
    body = b'{"url": "%s"}' % site.add("/page", PAGE).encode()
    answer = await standing.hub.ask("POST", "/word-count", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 202


def book(size: int, different: int) -> str:
    """A text of so many characters, in which each of so many words occurs at least once."""
    chance = random.Random(1)
    words = ["".join(chance.choices(string.ascii_letters, k=chance.randint(3, 9))) for _ in range(different)]
    return " ".join((*words, *chance.choices(words, k=(size - 7 * different) // 7)))


def _problem(answer: httpx.Response) -> tuple[int, str]:
    """The status and the code of a problem of the hub's."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert set(problem) >= {"title", "detail"}
    return answer.status_code, problem["code"]


async def _hit(site: Site, path: str) -> int:
    return site.hits[path]


async def _taken(hub: Hub) -> bool:
    """Whether a worker has told the hub that it is at work."""
    commands = [each["id"] for each in (await hub.ask("GET", "/api/v1/commands")).json()["items"]]
    return any([(await hub.ask("GET", f"/api/v1/commands/{id}/progress")).json()["items"] for id in commands])


async def _did(hub: Hub, worker: str) -> bool:
    answer = await hub.ask("GET", "/api/v1/results", params={"device": worker})
    return any(each["command"] == "count_words" for each in answer.json()["items"])


pytestmark = pytest.mark.timeout(60)
