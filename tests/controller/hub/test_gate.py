"""The server and its gate before a small application: floods, and clients that are slow."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from litestar.types import Receive, Scope, Send

from outrider.controller.hub import server as serving
from outrider.controller.hub.api import gate
from outrider.controller.hub.api.gate import Gate
from outrider.controller.hub.server import Server, bind

PART = b"x" * 65_536

ENOUGH = 50_000_000
"""Bytes that no buffer between two sockets takes."""


class Application:
    """Answers with the body; under `/held` when it is told to, under `/much` without an end."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.held = asyncio.Semaphore(0)
        self.ended = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message: Any = await receive()
        start: Any = {"type": "http.response.start", "status": 200, "headers": []}
        if scope["path"] == "/held":
            self.held.release()
            await self.go.wait()
        await send(start)
        if scope["path"] == "/much":
            try:
                for _ in range(ENOUGH // len(PART)):
                    await send({"type": "http.response.body", "body": PART, "more_body": True})
            finally:
                self.ended.set()
        await send({"type": "http.response.body", "body": message["body"], "more_body": False})


@contextlib.asynccontextmanager
async def serve(app: Application, most: int = 100) -> AsyncGenerator[Server]:
    async with (
        asyncio.timeout(30),
        Server(Gate(app, loopback=True, most=most), "127.0.0.1", bind("127.0.0.1", 0)) as it,
    ):
        yield it


async def connected(server: Server, request: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    return reader, writer


def asking(path: str, headers: str = "", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode()


async def has(server: Server, connections: int) -> None:
    """Return when it has so many; nobody tells of it."""
    for _ in range(1000):
        if server.connections == connections:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"there are {server.connections} connections, not {connections}")


async def test_flood_of_connections_is_told_to_come_again_and_those_that_stand_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "MOST_CONNECTIONS", 20)
    async with serve(Application()) as server:
        standing = [await connected(server) for _ in range(20)]
        await has(server, 20)
        for _ in range(30):
            reader, writer = await connected(server)
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b'"code":"busy"' in answer
            writer.close()
        for reader, writer in standing:
            writer.write(asking("/", "Connection: close\r\n"))
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()
        await has(server, 0)
        async with httpx.AsyncClient(base_url=server.url) as client:
            assert (await client.get("/")).status_code == 200


async def test_one_request_too_many_is_told_to_come_again() -> None:
    app = Application()
    async with serve(app, most=2) as server, httpx.AsyncClient(base_url=server.url) as client:
        held = [asyncio.create_task(client.get("/held")) for _ in range(2)]
        for _ in held:
            await app.held.acquire()
        answer = await client.get("/")
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "busy", "2")
        app.go.set()
        assert [each.status_code for each in await asyncio.gather(*held)] == [200, 200]
        assert (await client.get("/")).status_code == 200


async def test_bodies_that_are_still_coming_count_as_requests() -> None:
    app = Application()
    async with serve(app, most=2) as server, httpx.AsyncClient(base_url=server.url) as client:
        headers = "Content-Type: application/json\r\nContent-Length: 2\r\n"
        slow = [await connected(server, asking("/", headers, "POST") + b"[") for _ in range(2)]
        await has(server, 2)
        answer = await client.get("/")
        assert (answer.status_code, answer.json()["code"]) == (503, "busy")
        for reader, writer in slow:
            writer.write(b"]")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            writer.close()
        assert (await client.get("/")).status_code == 200


async def test_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BODY_WITHIN", 0.2)
    async with serve(Application()) as server:
        headers = "Content-Type: application/json\r\nContent-Length: 100\r\n"
        reader, writer = await connected(server, asking("/", headers, "POST") + b"[1")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"timeout"' in answer
        writer.close()


async def test_body_without_a_length_is_bounded() -> None:
    async with serve(Application()) as server:
        headers = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        reader, writer = await connected(server, asking("/", headers, "POST"))
        for _ in range(5):
            writer.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        writer.close()


async def test_client_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "READ_WITHIN", 0.2)
    app = Application()
    async with serve(app) as server:
        reader, writer = await connected(server, asking("/much"))
        await app.ended.wait()
        await has(server, 0)
        taken = 0
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(1_000_000):
                taken += len(part)
        assert taken < ENOUGH
        writer.close()
