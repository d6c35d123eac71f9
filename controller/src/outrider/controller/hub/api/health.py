"""The hub itself: whether it lives, whether it can work, how it does, and who the client is to it."""

from typing import Final

from litestar import Response, get
from litestar.datastructures import State

from outrider.controller.hub.parts import Parts

from .authorization import EXCLUDED, ClientRequest
from .bodies import Health, Me, Readiness
from .examples import HEALTH, ME, READY
from .openapi import answers

_EVERYBODY: Final = {EXCLUDED: True}


@get(
    "/health",
    tags=["hub"],
    summary="Is it alive?",
    opt=_EVERYBODY,
    security=[{}],
    responses=answers(HEALTH, type=Health),
)
async def health() -> Health:
    """Answer as long as the process does."""
    return Health("ok")


@get(
    "/ready",
    tags=["hub"],
    summary="Can it work?",
    opt=_EVERYBODY,
    security=[{}],
    responses=answers(READY, type=Readiness, also=503),
)
async def ready(state: State) -> Response[Readiness]:
    """Whether broker and database are there; 503 where one is not."""
    hub: Parts = state.hub
    parts = (hub.fleet.connection.connected, hub.recorder.connected, hub.writer.error is None)
    return Response(Readiness(all(parts), *parts), status_code=200 if all(parts) else 503)


@get("/metrics", opt=_EVERYBODY, include_in_schema=False)
async def metrics(request: ClientRequest, state: State) -> Response[bytes]:
    """What Prometheus asks for: how much, how fast, and how many wait."""
    hub: Parts = state.hub
    text, media_type = hub.metrics.text(request.headers.get("accept", ""))
    return Response(text, media_type=media_type)


@get("/api/v1/me", tags=["hub"], summary="Who am I?", responses=answers(ME, type=Me))
async def me(request: ClientRequest, state: State) -> Me:
    """The client's name, and what it may do."""
    hub: Parts = state.hub
    return Me(request.user.name, sorted(request.user.scopes), hub.fleet.requester)
