"""A player's commands over HTTP: `POST /ping`, and each other one so, with its arguments as a JSON object or list."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

import uvicorn
from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, Raw

from outrider.schema import CommandSpec, Encoding, InvalidArguments

from .game import Refused
from .player import Player


def application(player: Player) -> Litestar:
    """What a player serves."""

    @get("/ping", media_type=MediaType.TEXT)
    async def get_ping() -> str:
        return "pong"

    posts = [_post(function) for function in player.commands]
    return Litestar(
        [get_ping, *posts],
        exception_handlers={HTTPException: _in_words},
        openapi_config=None,
        logging_config=None,  # the program's own
    )


def _post(function: Callable[..., Awaitable[object]]) -> HTTPRouteHandler:
    """The route of one command, whose arguments are checked as a device checks those that come over MQTT."""
    spec = CommandSpec(function)

    async def command(request: Request[None, None, State]) -> Response[object]:
        body = await request.body()
        is_json = request.headers.get("content-type", "").partition(";")[0] == "application/json"
        if not is_json and (body or spec.name != "ping"):
            # A page of another site can make a browser send anything but this without asking.
            raise HTTPException("send JSON, with Content-Type: application/json", status_code=415)
        try:
            answer = await function(**spec.arguments(Raw(body) if body else UNSET, Encoding.JSON))
        except InvalidArguments as error:
            raise HTTPException(str(error), status_code=400) from error
        except Refused as error:
            raise HTTPException(str(error), status_code=409) from error
        return Response(answer, media_type=MediaType.TEXT if isinstance(answer, str) else MediaType.JSON)

    return post(f"/{spec.name}", status_code=200)(command)


def parsed(address: str) -> tuple[str, int]:
    """The host and the port of `HOST:PORT`.

    :raises ValueError: it is no address.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is no address to listen on: write 127.0.0.1:8000")
    return host, int(port)


def listening(address: str) -> socket.socket:
    """A socket that is bound to `HOST:PORT`.

    :raises ValueError: it is no address.
    :raises OSError: it is not this machine's, or taken.
    """
    host, port = parsed(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        what = f"cannot listen on {address}: {error.strerror or error}"
        raise OSError(f"{what}; name another address with --http (make: HTTP=), or free this one") from error


@contextlib.asynccontextmanager
async def served(player: Player, bound: socket.socket) -> AsyncGenerator[None]:
    """Answer over HTTP as long as the context is open."""
    config = uvicorn.Config(
        application(player), lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve([bound]), name="HTTP server")
        try:
            yield
        finally:
            server.should_exit = True


class _Server(uvicorn.Server):
    """A server that leaves signals to the player."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _in_words(_: Request[None, None, State], error: HTTPException) -> Response[str]:
    return Response(error.detail, status_code=error.status_code, media_type=MediaType.TEXT)
