"""The peer of the hub's POST: a Litestar handler that decodes the same body and commits rows to SQLite in groups.

    python -m benchmarks.peers.bare_handler

Prints the port when it listens. It sends nothing to anybody: no handler that keeps what it accepts does less.
"""

import asyncio
import contextlib
import signal
import sqlite3
import tempfile
from collections.abc import Generator
from pathlib import Path

import uvicorn
from litestar import Litestar, Response, post
from msgspec import Struct, json

ROWS = "CREATE TABLE commands (id INTEGER PRIMARY KEY, target TEXT, command TEXT, args BLOB)"


class Submission(Struct, frozen=True):
    target: str
    command: str
    args: dict[str, object] | list[object] | None = None


class Accepted(Struct, frozen=True):
    id: int


class Group:
    """Rows that come in one turn of the event loop are committed together."""

    def __init__(self, path: Path) -> None:
        self._sql = sqlite3.connect(path, isolation_level=None)
        self._sql.execute("PRAGMA journal_mode = WAL")
        self._sql.execute("PRAGMA synchronous = FULL")
        self._sql.execute(ROWS)
        self._waiting: list[tuple[Submission, asyncio.Future[int]]] = []

    async def add(self, submission: Submission) -> int:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._commit)
        self._waiting.append((submission, future))
        return await future

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._sql.execute("BEGIN IMMEDIATE")
        ids: list[int | None] = []
        for submission, _ in waiting:
            row = (submission.target, submission.command, json.encode(submission.args))
            ids.append(
                self._sql.execute("INSERT INTO commands (target, command, args) VALUES (?, ?, ?)", row).lastrowid
            )
        self._sql.execute("COMMIT")
        for id, (_, future) in zip(ids, waiting, strict=True):
            future.set_result(id or 0)


def application(group: Group) -> Litestar:
    @post("/api/v1/commands", status_code=202)
    async def submit(data: Submission) -> Response[Accepted]:
        id = await group.add(data)
        return Response(Accepted(id), headers={"Location": f"/api/v1/commands/{id}"})

    return Litestar([submit], openapi_config=None, logging_config=None)


class Embedded(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def serve(folder: Path) -> None:
    app = application(Group(folder / "peer.sqlite"))
    config = uvicorn.Config(
        app, port=0, http="httptools", ws="none", lifespan="off", loop="none", log_config=None, access_log=False
    )
    server = Embedded(config)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: setattr(server, "should_exit", True))
    listener = config.bind_socket()
    print(listener.getsockname()[1], flush=True)
    await server.serve([listener])


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-http-") as folder:
        asyncio.run(serve(Path(folder)))


if __name__ == "__main__":
    main()
