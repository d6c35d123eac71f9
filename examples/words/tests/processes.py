"""Real processes for tests: a broker, hubs and workers, each of which can be killed and started again."""

import asyncio
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import httpx

T = TypeVar("T")
_CONTEXT = ssl.create_default_context()
LIMIT = 20.0
"""Seconds to wait for what must come."""


async def until(condition: Callable[[], Awaitable[T]], limit: float = LIMIT) -> T:
    """The first value that counts as true: for what no event tells of."""
    deadline = time.monotonic() + limit
    while not (value := await condition()):
        assert time.monotonic() < deadline, f"not so within {limit:g} s"
        await asyncio.sleep(0.02)
    return value


class Running:
    """A process whose output is kept in a file."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    async def says(self, pattern: str) -> re.Match[str]:
        async def look() -> re.Match[str] | None:
            found = re.search(pattern, self.output)
            assert found or self.process.poll() is None, self.output
            return found

        found = await until(look)
        assert found
        return found

    async def ended(self, limit: float = LIMIT) -> int:
        async def look() -> bool:
            return self.process.poll() is not None

        await until(look, limit)
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)


class Stage:
    """Starts programs of this environment, all with one broker and state folders under `folder`."""

    def __init__(self, folder: Path, broker: str = "", prefix: str = "") -> None:
        self.folder = folder
        self.broker = broker
        self.prefix = prefix
        self.options: tuple[str, ...] = ()
        self.private = True
        self._all: list[Running] = []
        self._files: list[IO[bytes]] = []

    def start(self, program: str, *arguments: str, env: Mapping[str, str] | None = None) -> Running:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OUTRIDER_")}
        here = {
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "OUTRIDER_PREFIX": self.prefix,
            "ALLOW_PRIVATE": "1" if self.private else "",
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "120",
            **({"OUTRIDER_BROKER": self.broker} if self.broker else {}),
        }
        path = self.folder / f"{len(self._all)}.log"
        output = path.open("wb")
        self._files.append(output)
        where = str(Path(sys.executable).with_name(program)) if program != "python" else sys.executable
        process = subprocess.Popen(
            [where, *arguments],
            env={**kept, **here, **(env or {})},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        running = Running(process, path)
        self._all.append(running)
        return running

    async def start_broker(self, port: int = 0) -> Running:
        broker = self.start("outrider", "broker", "--port", str(port))
        found = await broker.says(r"mqtt://127\.0\.0\.1:(\d+)")
        self.broker = found[0]
        return broker

    def worker(self, name: str) -> Running:
        return self.start("outrider-device", "run", "words.worker:worker", "--id", name)

    async def hub(self, name: str = "hub", *options: str) -> "Hub":
        command = ("hub", "--plugin", "words.plugin", "--http", "127.0.0.1:0", "--as", name)
        # Each hub has a state folder of its own, as on machines of their own.
        state = {"XDG_STATE_HOME": str(self.folder / f"state-{name}")}
        process = self.start("outrider", *command, *options, env=state)
        found = await process.says(r"The hub is at (http://\S+)")
        return Hub(process, found[1])

    def close(self) -> None:
        for running in self._all:
            if running.process.poll() is None:
                running.process.terminate()
        for running in self._all:
            try:
                running.process.wait(5)
            except subprocess.TimeoutExpired:
                running.kill()
        for file in self._files:
            file.close()


class Standing(NamedTuple):
    """A hub and a worker, `words-1`, that nobody kills."""

    stage: Stage
    hub: "Hub"


class Client:
    """Questions to a hub, or to several of them behind one address; each has a connection of its own."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - as httpx has them
        async with httpx.AsyncClient(base_url=self.url, timeout=LIMIT, verify=_CONTEXT) as client:
            return await client.request(method, path, **options)

    async def submit(self, url: str) -> str:
        answer = await self.ask("POST", "/word-count", json={"url": url})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["data"]["job_id"])

    async def job(self, id: str) -> dict[str, Any]:
        answer = await self.ask("GET", "/word-count", params={"job_id": id})
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["data"])

    async def end(self, id: str, limit: float = LIMIT) -> dict[str, Any]:
        """The job once it has ended."""

        async def look() -> dict[str, Any] | None:
            job = await self.job(id)
            return job if job["status"] != "IN_PROGRESS" else None

        found = await until(look, limit)
        assert found
        return found

    async def until_ready(self, *workers: str) -> None:
        """Return when the hub sees these workers ready."""

        async def look() -> bool:
            answer = await self.ask("GET", "/api/v1/devices")
            found = {each["device"]: each["status"] for each in answer.json()["items"]}
            return all(found.get(worker) == "ready" for worker in workers)

        await until(look)


class Hub(Client):
    """A hub, and questions to it."""

    def __init__(self, process: Running, url: str) -> None:
        super().__init__(url)
        self.process = process
