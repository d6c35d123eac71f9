"""Errors as RFC 9457 has them: which exception becomes which problem, and how it is written."""

import contextlib
import logging
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, Final

from litestar import Request, Response
from litestar.datastructures import State
from litestar.exceptions import ClientException, HTTPException, ValidationException
from msgspec import Meta, Struct, ValidationError, convert, json

from outrider.controller.durable import OutboxUnusable
from outrider.controller.hub.store import IdempotencyConflict, InvalidQuery, StoreUnavailable
from outrider.controller.targets import TargetSyntax
from outrider.schema import (
    BrokerUnreachable,
    CommandRejected,
    InvalidArguments,
    InvalidName,
    LocalError,
    MessageTooLarge,
    NoMember,
    OutriderError,
    PublishRefused,
    QueueFull,
    RemoteError,
    UnknownTarget,
)

logger = logging.getLogger("outrider.controller.hub")

MEDIA_TYPE: Final = "application/problem+json"

RETRY_AFTER: Final = 2
"""Seconds after which a client may try again where the hub could not do it now."""


class Problem(Struct, frozen=True, omit_defaults=True):
    """Why a request was not done."""

    title: Annotated[str, Meta(description="What went wrong, in general.")]
    status: Annotated[int, Meta(description="The HTTP status.")]
    detail: Annotated[str, Meta(description="What went wrong here, and what to do.")]
    code: Annotated[str, Meta(description="For programs: stays the same, whatever the words are.")]
    field: Annotated[str | None, Meta(description="Which field or parameter is wrong, as `plan.batch`.")] = None
    type: Annotated[str, Meta(description="Always `about:blank`: `code` tells the kind.")] = "about:blank"


class Refused(OutriderError):
    """Ends a request with a problem."""

    def __init__(
        self,
        status: HTTPStatus | int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(HTTPStatus(status).phrase, int(status), detail, code, field)
        self.headers = headers or {}


def not_found(detail: str, code: str = "not-found") -> Refused:
    """What somebody asked for is not there, or not theirs: the answer is the same."""
    return Refused(HTTPStatus.NOT_FOUND, code, detail)


def busy(detail: str) -> Refused:
    """The hub has too much to do."""
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, headers={"Retry-After": str(RETRY_AFTER)})


def invalid(detail: str, field: str | None = None) -> Refused:
    """A field or a parameter cannot be."""
    return Refused(HTTPStatus.BAD_REQUEST, "invalid-request", detail, field=field)


def require_strict(body: bytes, kind: type) -> None:
    """Refuse a body that Litestar took with a text for a number, or a number for a boolean.

    :raises Refused: naming the field.
    """
    try:
        json.decode(body, type=kind)
    except ValidationError as error:
        _, _, path = str(error).partition(" - at `$.")
        raise invalid(str(error), path.rstrip("`") or None) from None


def of_error(error: OutriderError) -> Refused:
    """The problem for one of our own errors."""
    detail = str(error)
    match error:
        case Refused():
            return error
        case TargetSyntax():
            return Refused(HTTPStatus.BAD_REQUEST, "target-syntax", detail, field="target")
        case NoMember():
            return Refused(HTTPStatus.NOT_FOUND, "no-member", detail, field="target")
        case UnknownTarget():
            return Refused(HTTPStatus.NOT_FOUND, "unknown-target", detail, field="target")
        case InvalidArguments():
            field = f"args.{error.argument}" if error.argument else "args"
            return Refused(HTTPStatus.BAD_REQUEST, "invalid-arguments", detail, field=field)
        case MessageTooLarge():
            return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)
        case IdempotencyConflict():
            return Refused(HTTPStatus.CONFLICT, "idempotency-conflict", detail)
        case InvalidName() | InvalidQuery():
            return invalid(detail)
        case StoreUnavailable() | OutboxUnusable():
            return _later("store-unavailable", detail)
        case BrokerUnreachable() | PublishRefused():
            return _later("broker-unreachable", detail)
        case QueueFull():
            return busy(detail)
        case CommandRejected():
            status = HTTPStatus.BAD_REQUEST if error.code == "invalid-arguments" else HTTPStatus.CONFLICT
            argument = error.details.get("argument")
            return Refused(status, error.code, detail, field=f"args.{argument}" if argument else None)
        case RemoteError():
            return Refused(HTTPStatus.BAD_GATEWAY, error.code or "failed", detail)
        case LocalError():
            return invalid(detail)
        case _:
            return Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", detail)


def respond(refused: Refused) -> Response[bytes]:
    """A problem as a response."""
    return Response(
        json.encode(refused.problem),
        status_code=refused.problem.status,
        media_type=MEDIA_TYPE,
        headers=refused.headers,
    )


def on_outrider_error(request: Request[object, object, State], error: OutriderError) -> Response[bytes]:
    """Exception handler: one of our own errors."""
    return respond(of_error(error))


def on_http_exception(request: Request[object, object, State], error: HTTPException) -> Response[bytes]:
    """Exception handler: what Litestar found wrong with a request."""
    status, detail, field = error.status_code, error.detail, None
    if isinstance(error, ValidationException):
        detail, field = _what_is_invalid(error)
    elif isinstance(error, ClientException) and status == 400:
        detail = f"the body is not JSON: {detail}"
    code = _CODES.get(status, "internal" if status >= 500 else "invalid-request")
    return respond(Refused(status, code, detail or HTTPStatus(status).phrase, field=field, headers=error.headers))


def on_exception(request: Request[object, object, State], error: Exception) -> Response[bytes]:
    """Exception handler: a fault of ours. The log has it, the client does not."""
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    words = "the hub failed at this; its log says more"
    return respond(Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", words))


def _later(code: str, detail: str) -> Refused:
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, headers={"Retry-After": str(RETRY_AFTER)})


def _what_is_invalid(error: ValidationException) -> tuple[str, str | None]:
    """What Litestar says of each field, in one sentence, and the first of them."""
    said: list[str] = []
    first: str | None = None
    for key, message in _complaints(error.extra):
        if key == "data":  # what Litestar calls the body as a whole
            named = _FIELD.search(message)
            first = first or (named and named[1])
            said.append(f"the body: {message}" if " " in message else "a JSON body is needed")
        else:
            first = first or key
            said.append(f"{key}: {message}" if key else message)
    if not said and (missing := _MISSING.match(error.detail)) is not None:
        first = missing[1]
    return "; ".join(said) or error.detail, first


def _complaints(extra: object) -> Iterator[tuple[str | None, str]]:
    """What Litestar found wrong: which field or parameter, where it is one, and why."""
    with contextlib.suppress(ValidationError):
        for complaint in convert(extra, list[_Complaint]):
            yield complaint.key, complaint.message


_FIELD: Final = re.compile(r"(?:missing required|unknown) field `([^`]+)`")
_MISSING: Final = re.compile(r"Missing required \w+ parameter '([^']+)'")


class _Complaint(Struct):
    message: str = ""
    key: str | None = None


_CODES: Final = {
    400: "invalid-request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    408: "timeout",
    413: "too-large",
    415: "unsupported",
    429: "busy",
    503: "busy",
}

EXAMPLES: Final = {
    400: Problem("Bad Request", 400, "Expected `str`, got `int` - at `$.command`", "invalid-request", "command"),
    401: Problem("Unauthorized", 401, "this hub asks for a token: Authorization: Bearer …", "unauthenticated"),
    403: Problem("Forbidden", 403, "the token ci has not the scope send", "forbidden"),
    404: Problem("Not Found", 404, "no device lamp-7 has been seen", "unknown-target", "target"),
    409: Problem("Conflict", 409, "the key k-1 was used for another command", "idempotency-conflict"),
    413: Problem("Request Entity Too Large", 413, "the body has more than 262,144 bytes", "too-large"),
    415: Problem("Unsupported Media Type", 415, "the body must be application/json", "unsupported"),
    502: Problem("Bad Gateway", 502, "the function failed: no such word", "error"),
    503: Problem("Service Unavailable", 503, "the database is locked: try again later", "store-unavailable"),
}
"""One of each, for the OpenAPI document."""
