"""A hub in a process of its own, devices beside it, and clients that talk real HTTP to it."""

import asyncio
import contextlib
import json
import re
import signal
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from outrider.controller.hub.store import Store
from outrider.controller.hub.tokens import Scope, make_token
from tests.brokers import BrokerUnderTest
from tests.processes import Processes, Spawned, script

LIMIT = 20.0
"""Seconds to wait for what a hub does."""

_STANDING = httpx.Limits(keepalive_expiry=LIMIT)

LAMP = '''
import asyncio
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from outrider.device import Device, Job

lamp = Device("{id}", groups=["kitchen"], tags={{"room": "kitchen"}}, initial="ready")


@lamp.command(idempotent=True)
def dim(level: Annotated[int, Meta(ge=0, le=100)]) -> int:
    """Set the brightness."""
    return level


@lamp.command
async def hold(job: Job, path: str) -> str:
    """Return when the file is there."""
    job.report(0.5, "holding")
    with Path(path).with_suffix(".runs").open("a") as runs:
        runs.write("{id}\\n")
    while not Path(path).exists():
        await asyncio.sleep(0.01)
    return "held"


@lamp.command
async def tell(name: str, key: str) -> None:
    """Tell of something."""
    await lamp.emit(name, key=key, level=7)


@lamp.command
def fail() -> None:
    """Raise."""
    raise ValueError("no bulb")
'''


@dataclass
class RunningHub:
    """A hub's process, and where it listens."""

    broker: BrokerUnderTest
    prefix: str
    folder: Path
    processes: Processes
    name: str = "hub"
    process: Spawned | None = None
    url: str = ""
    options: tuple[str, ...] = ()
    http: str = "127.0.0.1:0"
    files: int | None = None
    """How many it may have open."""

    @property
    def environment(self) -> dict[str, str]:
        return {
            "OUTRIDER_BROKER": self.broker.address,
            "OUTRIDER_PREFIX": self.prefix,
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
        }

    async def start(self) -> None:
        command: tuple[str | Path, ...] = (script("outrider"), "hub", "--http", self.http, "--as", self.name)
        command = (*command, *self.options)
        if self.files is not None:
            command = ("sh", "-c", f'ulimit -n {self.files}; exec "$@"', "sh", *command)
        self.process = self.processes(*command, env=self.environment, cwd=self.folder)
        match = await self.process.wait_for(r"The hub is at (http://\S+)", 30)
        self.url = match[1]

    async def start_device(self, id: str, token: str | None = None) -> Spawned:
        module = re.sub(r"\W", "_", id)
        (self.folder / f"{module}.py").write_text(LAMP.format(id=id))
        command = (script("outrider-device"), "run", f"{module}:lamp")
        device = self.processes(*command, env=self.environment, cwd=self.folder)
        await self.until_status(id, "ready", token=token)
        return device

    async def until_status(self, id: str, *statuses: str, token: str | None = None) -> None:
        async with self.client(token) as client:
            await polled(client, f"/api/v1/devices/{id}", lambda answer: answer.json().get("status") in statuses)

    async def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait(20)

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    def token(self, name: str, *scopes: Scope) -> str:
        """Make a token while no hub runs."""
        with Store.open(f"sqlite:///{self.folder}/state/outrider/hub.sqlite") as store:
            return make_token(store, name, scopes)

    @contextlib.asynccontextmanager
    async def client(self, token: str | None = None) -> AsyncGenerator[httpx.AsyncClient]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30, limits=_STANDING) as client:
            yield client


async def polled(
    client: httpx.AsyncClient,
    path: str,
    holds: Callable[[httpx.Response], object],
    **parameters: str | float,
) -> httpx.Response:
    """The first answer of which it holds: what is recorded is so a moment after it was heard."""
    deadline = time.monotonic() + LIMIT
    while not holds(answer := await client.get(path, params=parameters)):
        assert time.monotonic() < deadline, answer.text
        await asyncio.sleep(0.03)
    return answer


async def found(
    client: httpx.AsyncClient, path: str, least: int = 1, **parameters: str | float
) -> list[dict[str, Any]]:
    """The items there, once there are so many."""
    answer = await polled(client, path, lambda answer: len(answer.json()["items"]) >= least, **parameters)
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def ended(client: httpx.AsyncClient, id: str) -> dict[str, object]:
    """The command when it has ended."""
    said = ""
    for _ in range(10):
        answer = await client.get(f"/api/v1/commands/{id}", params={"wait": 5})
        assert answer.status_code == 200, answer.text
        said = answer.text
        if answer.json()["ended"]:
            return dict(answer.json())
    raise AssertionError(f"it did not end: {said}")


async def sse(client: httpx.AsyncClient, events: Iterable[str], **params: str) -> "Stream":
    """Follow what happens; it is subscribed when this returns."""
    stream = Stream(client, frozenset(events), params)
    await stream.open()
    return stream


class Stream:
    """A stream of server-sent events."""

    def __init__(self, client: httpx.AsyncClient, events: frozenset[str], params: dict[str, str]) -> None:
        self._client = client
        self._events = events
        self._params = params
        self._stack = contextlib.AsyncExitStack()

    async def open(self) -> None:
        request = self._client.stream("GET", "/api/v1/live", params=self._params)
        response = await self._stack.enter_async_context(request)
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        self._lines = response.aiter_lines()
        assert (await self._event())[0] == "hello"

    async def next(self) -> tuple[str, dict[str, object]]:
        while (come := await self._event())[0] not in self._events:
            pass
        return come

    async def ends(self) -> bool:
        """Whether the stream comes to its end."""
        async for _ in self._lines:
            pass
        return True

    async def close(self) -> None:
        await self._stack.aclose()

    async def _event(self) -> tuple[str, dict[str, object]]:
        kind = ""
        async for line in self._lines:
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                return kind, dict(json.loads(line.removeprefix("data: ")))
        raise AssertionError("the stream has ended")
