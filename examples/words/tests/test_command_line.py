"""What one types: `outrider send`, `python -m words`, and what `make run` starts."""

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from outrider.controller import Fleet
from tests.processes import Stage, Standing, until
from tests.site import Site


async def test_outrider_send_counts_a_page(standing: Standing, site: Site) -> None:
    stage = standing.stage
    url = site.add("/page", "One two two")
    sent = stage.start("outrider", "send", "any:words", "count_words", f"url={url}", "--json")
    assert await sent.ended() == 0, sent.output
    (outcome,) = json.loads(sent.output)["outcomes"]
    assert outcome["value"] == {"counts": {"one": 1, "two": 2}, "total": 3, "distinct": 2}


async def test_list_of_pages_and_a_file_are_mapped_over_the_pool(stage: Stage, site: Site) -> None:
    stage.worker("words-1")
    stage.worker("words-2")
    await _ready(stage, 2)
    urls = [site.add(f"/{number}", f"<p>page page word{number}") for number in range(30)]
    (stage.folder / "urls.txt").write_text("\n".join(urls) + "\n\n")
    (stage.folder / "book.html").write_text("<p>" + "file " * 100_000 + "<script>no()</script>")
    counted = stage.start("python", "-m", "words", "count", "book.html", "--urls", "urls.txt", "--top", "2")
    assert await counted.ended() == 0, counted.output
    assert "100,090 words, 32 different, in 31 texts" in counted.output
    assert "38/38" in counted.output  # 30 pages, and 8 parts of the file
    first, second = counted.output.splitlines()[-3:-1]
    assert first.split()[:2] == ["file", "100,000"]
    assert second.split()[:2] == ["page", "60"]
    assert first.count("█") > 50 > 1 > second.count("█")


async def test_what_cannot_be_counted_is_told_and_the_rest_is_counted(standing: Standing, site: Site) -> None:
    stage = standing.stage
    good, bad = site.add("/good", "fine"), site.add("/bad", status=500)
    counted = stage.start("python", "-m", "words", "count", good, bad)
    assert await counted.ended() == 1
    assert "answered 500" in counted.output
    assert "1 of 2 were not counted" in counted.output
    assert "1 words, 1 different" in counted.output


async def test_without_a_worker_it_says_so(stage: Stage) -> None:
    counted = stage.start("python", "-m", "words", "count", "http://a.example/")
    assert await counted.ended() == 1
    assert "no device is in this pool" in counted.output


@pytest.mark.parametrize("arguments", [[], ["missing.txt"]])
async def test_wrong_usage_is_exit_code_2(stage: Stage, arguments: list[str]) -> None:
    assert await stage.start("python", "-m", "words", "count", *arguments).ended() == 2


async def test_page_that_cannot_be_fetched_is_a_line_of_the_workers_log(stage: Stage, site: Site) -> None:
    worker = stage.worker("words-1")
    await _ready(stage)
    url = site.add("/gone", "", 410)
    sent = stage.start("outrider", "send", "any:words", "count_words", f"url={url}")
    assert await sent.ended() != 0
    await worker.says(f"count_words .* failed: {re.escape(url)} answered 410 Gone\n")
    assert "Traceback" not in worker.output


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_run_starts_hub_and_workers_and_ends_all_of_them(stage: Stage, site: Site, how: signal.Signals) -> None:
    http = f"127.0.0.1:{_free_port()}"
    broker = stage.broker
    stage.broker = ""
    running = stage.start("python", "-m", "words", "run", "--http", http, "--broker", broker, "--workers", "2")
    await running.says("The hub is at")
    stage.broker = broker
    await _ready(stage, 2)
    children = _children(running.process.pid)
    assert len(children) == 3
    assert "--as words " in _command(children[0])  # else it would take the connection of another hub
    os.kill(children[-1], signal.SIGKILL)
    await _ready(stage, 1)

    async def again() -> bool:
        return len(_children(running.process.pid)) == 3 and children[-1] not in _children(running.process.pid)

    await until(again)
    children = _children(running.process.pid)
    async with httpx.AsyncClient(base_url=f"http://{http}") as client:
        assert (await client.post("/word-count", json={"url": site.add("/a", "a")})).status_code == 202
    running.process.send_signal(how)
    assert await running.ended() == 0
    assert not any(_is_there(child) for child in children)


async def test_run_without_a_broker_starts_one_first_and_ends_it(stage: Stage) -> None:
    stage.broker = ""
    port = _free_port()
    program = f"exit(asyncio.run(run(2, '127.0.0.1:0', None, port={port})))"
    running = stage.start("python", "-c", f"import asyncio; from words.running import run; {program}")
    await running.says("The hub is at")
    stage.broker = f"mqtt://127.0.0.1:{port}"
    await _ready(stage, 2)
    children = _children(running.process.pid)
    assert len(children) == 4
    running.interrupt()
    assert await running.ended() == 0
    assert not any(_is_there(child) for child in children)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
    assert "No connection to" not in running.output


def test_make_run_has_a_state_of_its_own_and_passes_what_one_says(tmp_path: Path) -> None:
    makefile = Path(__file__).parents[1]
    say = ["WORKERS=3", "XDG_STATE_HOME=/a b", "HTTP=127.0.0.1:1", "BROKER=mqtt://host?a=1&b=2", f"VENV={tmp_path}"]
    (tmp_path / ".ready").touch()
    told = subprocess.run(["make", "-n", "-C", makefile, "run", *say], capture_output=True, text=True, check=True)
    shown = " ".join(told.stdout.replace("\\\n", " ").split())
    assert "XDG_STATE_HOME='/a b/outrider-words' exec " in shown
    assert "--workers '3' --http '127.0.0.1:1' --broker 'mqtt://host?a=1&b=2'" in shown


async def _ready(stage: Stage, workers: int = 1) -> None:
    """Return when so many workers are ready."""
    async with Fleet(stage.broker, prefix=stage.prefix) as fleet:

        async def look() -> bool:
            return sum(state.status == "ready" for state in fleet.devices()) >= workers

        await until(look)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
