"""Posts commands over HTTP as fast as they are taken, and prints how many a second.

    python -m benchmarks.poster PORT COUNT CONNECTIONS [PATH BODY]

Each connection sends the next request when the answer to the one before has come. Bare sockets: a client library would
take longer than the servers do.
"""

import asyncio
import sys
from time import perf_counter

PATH = "/api/v1/commands"
BODY = '{"target":"bench-1","command":"ping"}'


class Poster(asyncio.Protocol):
    """One connection; it posts as long as there is something left to post."""

    def __init__(self, request: bytes, left: list[int], ended: asyncio.Future[None]) -> None:
        self._request = request
        self._left = left
        self._ended = ended
        self._come = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._come += data
        head, found, body = self._come.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return
        if not head.startswith((b"HTTP/1.1 202", b"HTTP/1.1 200")):
            self._fail(self._come.decode(errors="replace"))
            return
        self._come = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection was lost: {exc}")

    def _next(self) -> None:
        if self._left[0] > 0:
            self._left[0] -= 1
            self._transport.write(self._request)
        elif not self._ended.done():
            self._ended.set_result(None)

    def _fail(self, words: str) -> None:
        if not self._ended.done():
            self._ended.set_exception(RuntimeError(words))


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])


async def post(port: int, count: int, connections: int, path: str = PATH, body: str = BODY) -> float:
    """Post so many commands; return how many a second were taken."""
    request = (
        f"POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    loop, left = asyncio.get_running_loop(), [count]
    ended = [loop.create_future() for _ in range(connections)]
    began = perf_counter()
    for each in ended:
        await loop.create_connection(lambda each=each: Poster(request, left, each), "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*ended)
    return count / (perf_counter() - began)


def main() -> None:
    port, count, connections = map(int, sys.argv[1:4])
    print(asyncio.run(post(port, count, connections, *sys.argv[4:])), flush=True)


if __name__ == "__main__":
    main()
