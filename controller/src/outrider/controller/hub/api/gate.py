"""What stands before the API: it lets no request in that is too large, too slow, one too many, or from another site.

It is plain ASGI around the application, so that nothing is parsed before the limits hold.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final, cast
from urllib.parse import urlsplit

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPRequestEvent, Receive, Scope, Send
from msgspec import json

from outrider.schema import InvalidMessage
from outrider.schema.codec import MAX_SIZE, Encoding, check_nesting

from .openapi import PATH, RUN_FILE, RUN_JSON
from .problems import MEDIA_TYPE, Refused, busy

BODY_LIMIT: Final = MAX_SIZE
"""Bytes that a request's body may have: a command cannot have more either."""

BODY_WITHIN: Final = 20.0
"""Seconds in which a body must have come."""

FORGOTTEN: Final = 256 * 1024 * 1024
"""Bytes of a body that is too large which are taken all the same, so that the client comes to read why."""

FORGET_WITHIN: Final = 10.0
"""Seconds in which they must have come."""

MOST_REQUESTS: Final = 1000
"""Requests at a time, beyond which clients are told to come again."""

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""The names of a hub on loopback; under another one a page may ask whose name was made to mean this machine."""

JSON: Final = b"application/json"

MULTIPART: Final = b"multipart/form-data"

FORMS: Final = frozenset({b"application/x-www-form-urlencoded", MULTIPART})

_WRITING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Gate:
    """An ASGI application around another one.

    :param loopback: let in only who asks for this machine by a name of its own.
    :param origins: sites whose pages may use the API beside the hub's own.
    :param most: requests at a time.
    """

    def __init__(self, app: ASGIApp, *, loopback: bool, origins: Sequence[str] = (), most: int = MOST_REQUESTS) -> None:
        self._app = app
        self._loopback = loopback
        self._origins = frozenset(origins)
        self._most = most
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if self._requests >= self._most:
            await _refuse(receive, send, busy(f"{self._requests} requests are being answered: try again later"))
            return
        self._requests += 1
        try:
            await self._answer(scope, receive, send, headers)
        finally:
            self._requests -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: Mapping[bytes, bytes]) -> None:
        try:
            self._check(scope, headers)
            body = await _body(receive, headers)
        except Refused as refused:
            await _refuse(receive, send, refused)
            return
        await self._app(scope, _Replay(body, receive), send)

    def _check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if self._loopback and _name(host) not in LOOPBACK_HOSTS:
            words = f"this hub is for its own machine, and is not called {host!r}: ask for localhost"
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "wrong-host", words)
        if scope["type"] == ScopeType.HTTP and scope["method"] in _WRITING:
            self._check_site(scope, host, headers)

    def _check_site(self, scope: Scope, host: str, headers: Mapping[bytes, bytes]) -> None:
        """Refuse what a page of another site makes a browser send."""
        origin = headers.get(b"origin", b"").decode("latin-1")
        same = urlsplit(origin).netloc == host if origin.startswith(("http://", "https://")) else not origin
        if not same and origin not in self._origins:
            words = f"a page of {origin} may not use this hub: outrider hub --allow-origin says which may"
            raise Refused(HTTPStatus.FORBIDDEN, "wrong-origin", words)
        needed = _media_type(scope["path"])
        kind = _content_type(headers)
        if needed and (kind not in (needed, b"") or (not kind and _has_body(headers))):
            said = "JSON" if needed == JSON else "a form with files"
            words = f"the body must be {said}: Content-Type: {needed.decode()}"
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported", words)


class _Replay:
    """Gives the application the body that has been read, and then what else the client does."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> HTTPReceiveMessage:
        if self._body is not None:
            body, self._body = self._body, None
            return HTTPRequestEvent(type="http.request", body=body, more_body=False)
        return cast("HTTPReceiveMessage", await self._receive())


async def _body(receive: Receive, headers: Mapping[bytes, bytes]) -> bytes:
    """The whole body.

    :raises Refused: it is too large, too slow, nested too deep, or no text where it is JSON.
    """
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > BODY_LIMIT:
        raise _too_large()
    if not _has_body(headers):
        return b""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN):
            more = True
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    break
                body += message["body"]
                if len(body) > BODY_LIMIT:
                    raise _too_large()
                more = message["more_body"]
    except TimeoutError:
        words = f"the body did not come within {BODY_WITHIN:g} s"
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, "timeout", words, headers={"Connection": "close"}) from None
    kind = _content_type(headers)
    try:
        if kind == JSON:
            bytes(body).decode()
        if kind not in FORMS:  # a plugin may read JSON whatever it is called
            check_nesting(bytes(body), Encoding.JSON)
    except InvalidMessage as error:
        words = str(error).replace("message", "body")
        raise Refused(HTTPStatus.BAD_REQUEST, "invalid-request", words) from None
    except UnicodeDecodeError as error:
        words = f"the body is not JSON: it is not UTF-8 at byte {error.start}"
        raise Refused(HTTPStatus.BAD_REQUEST, "invalid-request", words) from None
    return bytes(body)


async def _refuse(receive: Receive, send: Send, refused: Refused) -> None:
    body = json.encode(refused.problem)
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), **refused.headers}
    await send(
        {
            "type": "http.response.start",
            "status": refused.problem.status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": True})
    if refused.problem.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        await _forget(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _forget(receive: Receive) -> None:
    """Take the rest of a body and keep none of it: to many a client a connection that ends meanwhile has no answer."""
    taken = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FORGET_WITHIN):
            while taken < FORGOTTEN:
                message = await receive()
                if message["type"] != "http.request" or not message["more_body"]:
                    break
                taken += len(message["body"])


def _too_large() -> Refused:
    words = f"the body has more than {BODY_LIMIT:,} bytes: send less at once"
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", words, headers={"Connection": "close"})


def _has_body(headers: Mapping[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def _content_type(headers: Mapping[bytes, bytes]) -> bytes:
    return headers.get(b"content-type", b"").split(b";")[0].strip().lower()


def _media_type(path: str) -> bytes | None:
    """What a body must be there; plugins may take whatever they like."""
    path = path.rstrip("/")  # as the router has it
    if path == RUN_FILE:
        return MULTIPART
    return JSON if path == RUN_JSON or f"{path}/".startswith(f"{PATH}/") else None


def _name(host: str) -> str:
    """The host without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host
