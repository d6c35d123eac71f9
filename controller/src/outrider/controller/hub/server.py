"""The HTTP server: uvicorn in the event loop that is there, with bounds on connections and on slow clients."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Generator
from ipaddress import ip_address
from types import TracebackType
from typing import Final, Self, cast

import uvicorn
from litestar.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from outrider.schema import LocalError

MOST_CONNECTIONS: Final = 2000
"""Connections at a time, as far as this process may have open files; one more is told to come again and closed."""

SPARE: Final = 256
"""Files that are left to all else: the databases, the broker, and connections that are about to be refused."""

TOGETHER: Final = 48
"""Connections that asyncio takes in one turn of the loop; some four turns go by before the first is looked at."""

QUEUED: Final = 1024
"""Connections that the system holds until they are taken; more would have to ask again after a second."""

HEADERS_WITHIN: Final = 10.0
"""Seconds in which a client that has connected, or begun a request, must have sent the request's headers."""

HEADERS_LIMIT: Final = 64 * 1024
"""Bytes that a request's line and headers may have."""

READ_WITHIN: Final = 30.0
"""Seconds in which a client must take a part of an answer that waits for it."""

IDLE: Final = 60
"""Seconds for which a connection may stand without a request."""

END_WITHIN: Final = 5
"""Seconds that requests have to end when the hub does."""

_FULL: Final = (
    b'{"title":"Service Unavailable","status":503,"detail":"too many connections: try again later","code":"busy"}'
)
_LONG: Final = (
    b'{"title":"Request Header Fields Too Large","status":431,'
    b'"detail":"the request line and its headers have more than 65,536 bytes","code":"too-large"}'
)
_SLOW: Final = (
    b'{"title":"Request Timeout","status":408,"detail":"the headers did not come within 10 s","code":"timeout"}'
)


class CannotListen(LocalError):
    """The address to listen on is not this machine's, or taken."""


class Server:
    """Serves an ASGI application as long as the context is open.

    :param host: the address as it was asked for.
    :param bound: a socket that is bound to it, which is closed at the end.
    """

    def __init__(self, app: ASGIApp, host: str, bound: socket.socket) -> None:
        self.host = host
        self._socket = bound
        self.port: int = bound.getsockname()[1]
        _allow_files()
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here asks where a client is
            backlog=TOGETHER,
            timeout_keep_alive=IDLE,
            timeout_graceful_shutdown=END_WITHIN,
        )
        self._server = _Embedded(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._server.server_state.connections)

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        self._task = asyncio.create_task(self._server.serve([self._socket]), name="HTTP server")
        while not self._server.started:  # it has no event for this
            if self._task.done():
                await self._task
            await asyncio.sleep(0.005)
        self._socket.listen(QUEUED)  # asyncio has one number for both
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class _Embedded(uvicorn.Server):
    """A server that leaves signals to the program it is a part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class _Protocol(HttpToolsProtocol):
    """A connection whose headers must come soon and be short, and whose answers must be taken."""

    _timer: asyncio.TimerHandle | None = None
    _begun = 0
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > _most_connections():
            self._say_and_close(503, _FULL)
        else:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_came()
        self._taken()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        # Closed is not enough: that would wait for the client to take what is left.
        self._reading = self.loop.call_later(READ_WITHIN, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        self._taken()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._timer is None and self._idle():
            self._expect_headers()
        if self._timer is not None:
            self._begun += len(data)
        super().data_received(data)
        if self._timer is not None and self._begun > HEADERS_LIMIT:
            self._say_and_close(431, _LONG)

    def on_headers_complete(self) -> None:
        self._headers_came()
        super().on_headers_complete()

    def _taken(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _idle(self) -> bool:
        """Whether no request is being answered."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # none before the first request
        return cycle is None or cycle.response_complete

    def _expect_headers(self) -> None:
        self._begun = 0
        self._timer = self.loop.call_later(HEADERS_WITHIN, self._say_and_close, 408, _SLOW)

    def _headers_came(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _say_and_close(self, status: int, body: bytes) -> None:
        self._headers_came()
        if self.transport.is_closing():
            return
        head = f"HTTP/1.1 {status} \r\ncontent-type: application/problem+json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()


def _allow_files() -> None:
    """Let this process have the files that all connections need, as far as the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = MOST_CONNECTIONS + SPARE
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _most_connections() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else max(1, min(MOST_CONNECTIONS, soft - SPARE))


def is_loopback(bound: socket.socket) -> bool:
    """Whether nobody outside this machine reaches the address that a socket is bound to."""
    return ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def bind(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address.

    :param port: 0 finds a free one.
    :raises CannotListen: the address is not this machine's, or taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise CannotListen(f"no address for {host!r}: {error}; name another one with --http HOST:PORT") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        words = f"cannot listen on {host}:{port} ({error.strerror}): name another address with --http HOST:PORT"
        raise CannotListen(words) from None
    return listener
