"""What one types: `outrider send`, `python -m words`, and what `make run` starts."""

import ast
import json
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest
import words

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


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_run_starts_hub_and_workers_and_ends_all_of_them(stage: Stage, site: Site, how: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        http = f"127.0.0.1:{free.getsockname()[1]}"
    broker = stage.broker
    stage.broker = ""
    running = stage.start("python", "-m", "words", "run", "--http", http, "--broker", broker, "--workers", "2")
    await running.says("The hub is at")
    stage.broker = broker
    await _ready(stage, 2)
    children = _children(running.process.pid)
    assert len(children) == 3
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


def test_imports_are_of_the_public_api() -> None:
    public = {"outrider.schema", "outrider.device", "outrider.controller", "outrider.controller.hub"}
    for file in Path(*words.__path__).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("outrider"):
                assert node.module in public, file
                assert not any(name.name.startswith("_") for name in node.names), file
            assert not (isinstance(node, ast.Import) and node.names[0].name.startswith("outrider")), file


async def _ready(stage: Stage, workers: int = 1) -> None:
    """Return when so many workers are ready."""
    async with Fleet(stage.broker, prefix=stage.prefix) as fleet:

        async def look() -> bool:
            return sum(state.status == "ready" for state in fleet.devices()) >= workers

        await until(look)


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
