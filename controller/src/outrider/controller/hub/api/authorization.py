"""Who asks, and whether they may: bearer tokens (RFC 6750) with scopes."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from outrider.controller.hub.tokens import LOCAL, Client, Scope, Tokens

from .problems import Refused

EXCLUDED: Final = "exclude_from_auth"
"""The key in a route's `opt` that lets everybody in."""

ClientRequest = Request[Client, str | None, State]
"""A request of somebody who is known, by the token that came with it."""


Connection = ASGIConnection[Any, Any, Any, State]


class Authentication(AbstractAuthenticationMiddleware):
    """Tells who asks. The application's state has `tokens` and, on loopback, `loopback`."""

    async def authenticate_request(self, connection: Connection) -> AuthenticationResult:
        """The client behind a request.

        :raises Refused: it has no token, or one that is not known.
        """
        tokens: Tokens = connection.app.state.tokens
        kind, _, token = connection.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and token:
            client = await tokens.client(token.strip())
            if client is None:
                raise _unauthenticated("this token is not known, or has expired", error="invalid_token")
            return AuthenticationResult(user=client, auth=token.strip())
        if connection.app.state.loopback and not await tokens.exist():
            return AuthenticationResult(user=LOCAL, auth=None)
        raise _unauthenticated(
            "this hub asks for a token, as Authorization: Bearer …; outrider hub token add NAME --scope send makes one"
        )


async def may_still(request: ClientRequest, scope: Scope) -> bool:
    """Whether who asked some time ago would be let in now as the same client, with this scope.

    :raises StoreUnavailable: the database cannot be asked.
    """
    tokens: Tokens = request.app.state.tokens
    if request.auth is None:
        return not await tokens.exist()
    client = await tokens.client(request.auth)
    return client is not None and client == request.user and client.may(scope)


def needs(scope: Scope) -> Callable[[Connection, BaseRouteHandler], Awaitable[None]]:
    """A guard that lets in who has a scope; a coroutine, since Litestar runs functions in threads."""

    async def guard(connection: Connection, _: BaseRouteHandler) -> None:
        _require(connection, scope)

    return guard


async def needs_by_method(connection: Connection, handler: BaseRouteHandler) -> None:
    """A guard that lets in who may read to what reads, and who may send to all else."""
    if not handler.opt.get(EXCLUDED):
        _require(connection, Scope.READ if connection.scope["method"] in ("GET", "HEAD") else Scope.SEND)  # type: ignore[typeddict-item]


def _require(connection: Connection, scope: Scope) -> None:
    client: Client = connection.user
    if not client.may(scope):
        raise Refused(HTTPStatus.FORBIDDEN, "forbidden", f"the token {client.name} has not the scope {scope}")


def _unauthenticated(words: str, *, error: str = "") -> Refused:
    challenge = 'Bearer realm="outrider"' + (f', error="{error}"' if error else "")
    return Refused(HTTPStatus.UNAUTHORIZED, "unauthenticated", words, headers={"WWW-Authenticate": challenge})
