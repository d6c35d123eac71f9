"""Who asks, and whether they may: bearer tokens (RFC 6750) with scopes."""

from http import HTTPStatus
from typing import Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from outrider.controller.hub.tokens import LOCAL, Client, Scope, Tokens

from .problems import Refused

EXCLUDED: Final = "exclude_from_auth"
"""The key in a route's `opt` that lets everybody in."""

ClientRequest = Request[Client, object, object]
"""A request of somebody who is known."""


class Authentication(AbstractAuthenticationMiddleware):
    """Tells who asks. The application's state has `tokens` and, on loopback, `loopback`."""

    async def authenticate_request(
        self, connection: ASGIConnection[object, object, object, object]
    ) -> AuthenticationResult:  # type: ignore[override, type-var]
        """The client behind a request.

        :raises Refused: it has no token, or one that is not known.
        """
        tokens: Tokens = connection.app.state.tokens
        kind, _, token = connection.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and token:
            client = await tokens.client(token.strip())
            if client is None:
                raise _unauthenticated("this token is not known, or has expired", error="invalid_token")
            return AuthenticationResult(user=client, auth=None)
        if connection.app.state.loopback and not await tokens.exist():
            return AuthenticationResult(user=LOCAL, auth=None)
        raise _unauthenticated(
            "this hub asks for a token, as Authorization: Bearer …; `outrider hub token add` makes one"
        )


def needs(scope: Scope):  # noqa: ANN201  # Litestar's Guard is a union that says nothing here
    """A guard that lets in who has a scope."""

    def guard(connection: ASGIConnection[object, Client, object, object], _: BaseRouteHandler) -> None:  # type: ignore[type-var]
        if not connection.user.may(scope):
            words = f"the token {connection.user.name} has not the scope {scope}"
            raise Refused(HTTPStatus.FORBIDDEN, "forbidden", words)

    return guard


def _unauthenticated(words: str, *, error: str = "") -> Refused:
    challenge = 'Bearer realm="outrider"' + (f', error="{error}"' if error else "")
    return Refused(HTTPStatus.UNAUTHORIZED, "unauthenticated", words, headers={"WWW-Authenticate": challenge})
