"""The example `words`: a second worker beside one, a book beside one process, and how many jobs are taken a second.

    python -m benchmarks.words [--rounds 5] [--pages 40]

Broker, hub, both workers and the pages' server are processes on this machine; the figures are medians over the rounds.
"""

import argparse
import asyncio
import contextlib
import json
import random
import re
import string
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from time import perf_counter

import httpx
from selectolax.lexbor import LexborHTMLParser

from outrider.controller import Fleet
from outrider.controller.broker import start_broker

from .children import ROOT, START_LIMIT, child, figure, module, script

WORKERS = ("bench-words-1", "bench-words-2")
BOOK = 3_000_000
DISTINCT = 30_000


def book(size: int, distinct: int) -> str:
    """A page of so many characters with so many different words, in paragraphs; the same one each time."""
    chance = random.Random(1)
    words = ["".join(chance.choices(string.ascii_lowercase, k=chance.randint(2, 10))) for _ in range(distinct)]
    weights = [1 / rank for rank in range(1, distinct + 1)]  # Zipf's law
    text = [*words, *chance.choices(words, weights, k=size // 7 - distinct)]
    chance.shuffle(text)
    paragraphs = (" ".join(text[begin : begin + 80]) for begin in range(0, len(text), 80))
    return "<html><body>" + "".join(f"<p>{paragraph}</p>\n" for paragraph in paragraphs) + "</body></html>"


def alone(page: str) -> float:
    """Seconds that the same takes in one process: parse, find words, count."""
    began = perf_counter()
    tree = LexborHTMLParser(page)
    tree.strip_tags(["script", "style"])
    assert tree.body is not None
    Counter(re.findall(r"\w[\w']*\w|\w", tree.body.text(separator="\n").lower()))
    return perf_counter() - began


@contextlib.contextmanager
def site(page: str) -> Generator[str]:
    """A server that answers everything with this page, and its URL."""
    body = page.encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@contextlib.asynccontextmanager
async def queue(broker: str) -> AsyncGenerator[httpx.AsyncClient]:
    """A hub with the plugin and two workers, and a client of it."""
    with tempfile.TemporaryDirectory(prefix="bench-words-") as folder:
        env = ("env", f"XDG_STATE_HOME={folder}", f"PYTHONPATH={ROOT / 'examples/words'}", "ALLOW_PRIVATE=1")
        serve = script("outrider", "hub", "--plugin", "words.plugin", "--http", "127.0.0.1:0", "--broker", broker)
        async with contextlib.AsyncExitStack() as stack:
            output = await stack.enter_async_context(child(*env, *serve))
            async with asyncio.timeout(START_LIMIT):
                url = (await output.readuntil(b"\n")).split()[-1].decode()
            for worker in WORKERS:
                run = script("outrider-device", "run", "words.worker:worker", "--id", worker, "--broker", broker)
                await stack.enter_async_context(child(*env, *run))
            yield await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))


async def done(client: httpx.AsyncClient, urls: Sequence[str], look: float) -> float:
    """Seconds from the first submission to the last result.

    :param look: seconds between two looks, which cost hub and client a millisecond each.
    """
    began = perf_counter()
    answers = await asyncio.gather(*(client.post("/word-count", json={"url": url}) for url in urls))
    for answer in answers:
        id = answer.json()["data"]["job_id"]
        while (said := await client.get("/word-count", params={"job_id": id})).text.find('"IN_PROGRESS"') > 0:  # noqa: ASYNC110 - HTTP tells nothing
            await asyncio.sleep(look)
        assert '"COMPLETE"' in said.text[:300], said.text[:300]
    return perf_counter() - began


async def measure(rounds: int, pages: int) -> dict[str, float]:
    """All figures."""
    long, short = book(BOOK, DISTINCT), book(BOOK, 1_000)
    times: dict[str, list[float]] = {"alone": [], "book": [], "one": [], "two": [], "submissions": []}
    async with start_broker(0) as process, queue(process.address) as client, Fleet(process.address) as fleet:
        async with asyncio.timeout(START_LIMIT):
            while len([each for each in fleet.devices() if each.status == "ready" and each.pools]) < len(WORKERS):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        with site(long) as url:
            await done(client, [url] * 8, 0.1)
            for _ in range(rounds):
                times["alone"].append(alone(long))
                times["book"].append(await done(client, [url], 0.005))
        with site(short) as url:
            for number in range(rounds):
                for side in ("one", "two") if number % 2 else ("two", "one"):
                    await fleet.call(WORKERS[1], "stop" if side == "one" else "start")
                    times[side].append(await done(client, [url] * pages, 0.1))
        for worker in WORKERS:
            await fleet.call(worker, "stop")
        body = json.dumps({"url": "http://a.example/"})
        for _ in range(rounds):
            port = client.base_url.port
            times["submissions"].append(await figure(*module("poster", port, 3000, 64, "/word-count", body)))
    return {name: median(figures) for name, figures in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pages", type=int, default=40)
    options = parser.parse_args()
    found = asyncio.run(measure(options.rounds, options.pages))
    print(f"a book of {BOOK:,} characters, {DISTINCT:,} different words, from POST to COMPLETE")
    print(f"  queue {found['book'] * 1000:.0f} ms, one process {found['alone'] * 1000:.0f} ms", end="")
    print(f", ratio {found['book'] / found['alone']:.2f} (goal: at most 1.5)")
    print(f"{options.pages} pages of {BOOK:,} characters")
    print(f"  two workers {found['two']:.2f} s, one {found['one']:.2f} s", end="")
    print(f", ratio {found['one'] / found['two']:.2f} (goal: at least 1.6)")
    print(f"submissions over 64 connections: {found['submissions']:.0f}/s")


if __name__ == "__main__":
    main()
