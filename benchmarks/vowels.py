"""examples/vowels: what each of its storages takes in, and how fast dashboards are over a million events.

    python -m benchmarks.vowels [--events 1000000] [--rounds 5] [--intake 2000]

One hub for each storage, all on one broker, asked over HTTP in turns. `null` stores nothing, `sqlite` scans. Redis is
started here, and appends each request to its file, which it syncs once a second. Goal: dashboards of `hub` and `redis`
a hundred times as fast as those of `sqlite`.
"""

import argparse
import asyncio
import contextlib
import os
import random
import socket
import sqlite3
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter
from urllib.parse import urlsplit
from uuid import UUID

from redis.asyncio import Redis

from outrider.controller.broker import start_broker
from outrider.controller.hub.records import EventRecord
from outrider.controller.hub.store import Store

from .children import ROOT, answering, child, script

sys.path.insert(0, str(ROOT / "examples" / "vowels"))

from vowels.redis import FOLLOWUP, INITIAL
from vowels.sqlite import TABLE

STORAGES = ("null", "hub", "redis", "sqlite")
CONNECTIONS = 64
BATCH = 5000
FOLLOWED = 0.3
"""How many of the initial requests have a follow-up."""
BEGUN = datetime(2026, 10, 1, tzinfo=UTC)
LASTED = timedelta(days=30)
GOAL = 100
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"

QUESTIONS = {
    "a symbol": "/dashboard/symbol/e",
    "all time": "/dashboard/range/1970-01-01/9999-12-31",
    "from a microsecond to another, 9 days": "/dashboard/range/2026-10-10T03:04:05.678901/2026-10-19T12:13:14.151617",
}

Made = tuple[int, str, str | None]
"""Microseconds, uuid, symbol."""


def requests(count: int) -> Iterator[Made]:
    """Requests in order of time, an initial one and maybe its follow-up."""
    chance = random.Random(1)
    first, step = int(BEGUN.timestamp() * 1_000_000), LASTED / timedelta(microseconds=1) / count
    number = 0
    while number < count:
        uuid = str(UUID(int=chance.getrandbits(128), version=4))
        yield first + int(number * step), uuid, chance.choice(LETTERS)
        number += 1
        if chance.random() < FOLLOWED and number < count:
            yield first + int(number * step), uuid, None
            number += 1


def batches(count: int) -> Iterator[list[Made]]:
    made = requests(count)
    while batch := list(islice(made, BATCH)):
        yield batch


def fill_hub(file: Path, count: int) -> None:
    with Store.open(f"sqlite:///{file}") as store:
        number = 0
        for batch in batches(count):
            records = [
                EventRecord(
                    id=f"bench-{number + index}",
                    device="bench",
                    name="followup" if symbol is None else "initial",
                    key=symbol,
                    subject=uuid,
                    time=time / 1_000_000,
                    data=None,
                    received=time / 1_000_000,
                )
                for index, (time, uuid, symbol) in enumerate(batch)
            ]
            number += store.write(records)
        assert number == count


def fill_sqlite(file: Path, count: int) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute(TABLE)
        connection.executemany("INSERT INTO requests VALUES (?, ?, ?)", requests(count))
        connection.commit()


async def fill_redis(url: str, count: int) -> None:
    async with Redis.from_url(url) as server:  # pyright: ignore[reportUnknownMemberType]  # its **kwargs
        initial, followup = server.register_script(INITIAL), server.register_script(FOLLOWUP)
        for batch in batches(count):
            pipe = server.pipeline(transaction=False)
            for time, uuid, symbol in batch:
                if symbol is None:
                    await followup(["vowels:"], [time, uuid], client=pipe)
                else:
                    await initial(["vowels:"], [time, uuid, symbol], client=pipe)
            await pipe.execute()


class Asker:
    """A connection that asks one thing after the other; a client library would take longer than the servers do."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> "Asker":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, method: str, path: str) -> bytes:
        self._writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        body = await self._reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
        assert head.startswith(b"HTTP/1.1 200"), head + body
        return body

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


async def intake(port: int, count: int) -> float:
    """Requests a second, of 64 connections at a time, about three initial ones to a follow-up."""
    chance = random.Random(os.urandom(8))
    left = iter(range(count))

    async def some() -> None:
        asker = await Asker.open(port)
        uuid = ""
        for number in left:
            if uuid and number % 4 == 0:
                await asker.ask("POST", f"/followup?uuid={uuid}")
            else:
                uuid = str(UUID(int=chance.getrandbits(128), version=4))
                await asker.ask("POST", f"/initial?uuid={uuid}&symbol={chance.choice(LETTERS)}")
        await asker.close()

    began = perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(some())
    return count / (perf_counter() - began)


async def dashboard(port: int, path: str, times: int) -> tuple[float, bytes]:
    """Milliseconds, the median, and what was said."""
    asker = await Asker.open(port)
    taken: list[float] = []
    said = b""
    for _ in range(times):
        began = perf_counter()
        said = await asker.ask("GET", path)
        taken.append((perf_counter() - began) * 1000)
    await asker.close()
    return median(taken), said


@contextlib.asynccontextmanager
async def redis_server(folder: Path) -> AsyncGenerator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "yes")
    async with answering("redis-server", *words, sign="Ready to accept connections"):
        yield f"redis://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def hub(storage: str, folder: Path, broker: str, redis: str) -> AsyncGenerator[int]:
    """Its port."""
    given = {"XDG_STATE_HOME": folder / storage, "STORAGE": storage, "REDIS": redis, "PYTHONPATH": sys.path[0]}
    command = ("env", *(f"{name}={value}" for name, value in given.items()), *script("outrider", "hub"))
    options = ("--broker", broker, "--http", "127.0.0.1:0", "--as", f"bench-{storage}", "--plugin", "vowels.plugin")
    async with child(*command, *options) as output:
        async with asyncio.timeout(60):
            line = await output.readuntil(b"\n")
        yield urlsplit(line.split()[-1].decode()).port or 0


async def measure(events: int, rounds: int, count: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-vowels-")))
        redis = await stack.enter_async_context(redis_server(folder))
        for storage in ("hub", "sqlite"):
            (folder / storage / "outrider").mkdir(parents=True)
        for what, filling in (
            ("hub", asyncio.to_thread(fill_hub, folder / "hub" / "outrider" / "hub.sqlite", events)),
            ("sqlite", asyncio.to_thread(fill_sqlite, folder / "sqlite" / "outrider" / "vowels.sqlite", events)),
            ("redis", fill_redis(redis, events)),
        ):
            began = perf_counter()
            await filling
            print(f"{events:,} events into {what}: {perf_counter() - began:.0f} s", flush=True)
        broker = await stack.enter_async_context(start_broker())
        ports = {each: await stack.enter_async_context(hub(each, folder, broker.address, redis)) for each in STORAGES}
        for name, path in QUESTIONS.items():
            said = {each: await dashboard(ports[each], path, 3 if each == "sqlite" else 40) for each in STORAGES}
            assert said["hub"][1] == said["redis"][1] == said["sqlite"][1], f"they differ: {path}"
            slow = said["sqlite"][0]
            for each, (took, _) in said.items():
                print(f"dashboard, {name}: {each:7}{took:10.2f} ms {slow / took:8.0f} x (goal {GOAL})", flush=True)
        taken: dict[str, list[float]] = {each: [] for each in STORAGES}
        for number in range(rounds):
            for each in STORAGES if number % 2 else reversed(STORAGES):
                taken[each].append(await intake(ports[each], count))
        best = median(taken["null"])
        for each, figures in taken.items():
            print(
                f"intake: {each:7}{median(figures):8.0f} requests/s {median(figures) / best:6.2f} of null", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vowels", description="Measure examples/vowels.")
    parser.add_argument("--events", type=int, default=1_000_000, help="that dashboards are asked over (1000000)")
    parser.add_argument("--rounds", type=int, default=5, help="of intake; the figures are medians (5)")
    parser.add_argument("--intake", type=int, default=2000, help="requests in a round (2000)")
    options = parser.parse_args()
    asyncio.run(measure(options.events, options.rounds, options.intake))


if __name__ == "__main__":
    main()
