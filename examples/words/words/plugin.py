"""The queue's side of the hub: what it answers over HTTP, and what runs as long as the hub does.

outrider hub --plugin words.plugin

WORDS_KEEP_DAYS in its environment says for how many days after its end a job is kept; else it is 30.
"""

import logging
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated, Any, Final

import msgspec
from litestar import HttpMethod, MediaType, Request, Response, Router, get, post, route
from litestar.exceptions import HTTPException, MethodNotAllowedException
from litestar.params import Parameter
from msgspec import Raw, Struct

from outrider.controller.hub import Plugin

from .fetching import check_url
from .jobs import COMPLETE, FAIL, Job
from .queue import Queue

logger = logging.getLogger("words")

WEB: Final = {"": "index.html", "page.js": "page.js", "page.css": "page.css"}
_TYPES: Final = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
_SAFE: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

AnyRequest = Request[Any, Any, Any]


class Envelope(Struct, omit_defaults=True):
    """What every answer looks like."""

    success: bool
    message: str
    data: object = msgspec.UNSET


queue = Queue()


class Wrong(Exception):
    """A request that cannot be; the words say why."""


class Submission(Struct, forbid_unknown_fields=True):
    """The body of `POST /word-count`."""

    url: str


class Question(Struct):
    """The body that `GET /word-count` may have."""

    job_id: str


class JobData(Struct, omit_defaults=True):
    """A job, as one is told of it."""

    job_id: str
    url: str
    status: str
    result: Raw | msgspec.UnsetType = msgspec.UNSET
    error: str | msgspec.UnsetType = msgspec.UNSET


@post("/word-count", status_code=202)
async def submit(request: AnyRequest) -> Response[Envelope]:
    """Schedule a job: `{"url": …}`."""
    try:
        url = msgspec.json.decode(await request.body(), type=Submission).url
        check_url(url)
    except ValueError as error:  # msgspec's errors are, too
        raise Wrong(str(error)) from error
    id = await queue.add(url)
    return _answer(HTTPStatus.ACCEPTED, f"Scheduled Job: {id}", {"job_id": id})


@get("/word-count")
async def fetched(
    request: AnyRequest, job_id: Annotated[str | None, Parameter(query="job_id", required=False)] = None
) -> Response[Envelope]:
    """A job, by `?job_id=…` or a body `{"job_id": …}`."""
    if job_id is None:
        try:
            job_id = msgspec.json.decode(await request.body(), type=Question).job_id
        except (ValueError, RecursionError) as error:
            raise Wrong(f'say which job, as ?job_id=… or {{"job_id": …}}: {error}') from error
    job = await queue.get(job_id) if _may_be(job_id) else None
    if job is None:
        raise Wrong(f"there is no job {job_id}")
    return _answer(HTTPStatus.OK, f"Fetched Job: {job.id}", _data(job))


@route("/word-count", http_method=[HttpMethod.PUT, HttpMethod.PATCH, HttpMethod.DELETE])
async def refused() -> None:
    """What a job does not know, in the same form as all else."""
    raise MethodNotAllowedException


@get(["/words", "/words/{name:str}"], opt={"exclude_from_auth": True})
async def page(name: str = "") -> Response[bytes]:
    """The page: a form, and the bars."""
    if name not in WEB:
        raise HTTPException("there is no such file", status_code=HTTPStatus.NOT_FOUND)
    file = WEB[name]
    body = files("words").joinpath("web", file).read_bytes()
    return Response(body, media_type=_TYPES[file.rpartition(".")[2]], headers=_SAFE)


def on_wrong(_: AnyRequest, error: Wrong) -> Response[Envelope]:
    """400, and why."""
    return _answer(HTTPStatus.BAD_REQUEST, str(error))


def on_http(_: AnyRequest, error: HTTPException) -> Response[Envelope]:
    """What the framework refuses."""
    return _answer(error.status_code, error.detail)


def on_unexpected(_: AnyRequest, error: Exception) -> Response[Envelope]:
    """500; the details are for the log alone."""
    logger.error("a request failed", exc_info=error)
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, "Something unexpected occurred")


def _answer(status: int, message: str, data: object = msgspec.UNSET) -> Response[Envelope]:
    return Response(Envelope(status < 400, message, data), status_code=status, media_type=MediaType.JSON)


def _data(job: Job) -> JobData:
    data = JobData(job.id, job.url, job.status)
    if job.status == COMPLETE and job.result is not None:
        data.result = Raw(job.result.encode())
    if job.status == FAIL and job.error is not None:
        data.error = job.error
    return data


def _may_be(id: str) -> bool:
    """Whether it could be a job's: PostgreSQL refuses some texts."""
    return len(id) == 32 and id.isalnum() and id.isascii()


plugin = Plugin(
    "words",
    lifespan=queue.opened,
    routes=[
        Router(
            "/",
            route_handlers=[submit, fetched, refused, page],
            exception_handlers={Wrong: on_wrong, HTTPException: on_http, Exception: on_unexpected},
        )
    ],
)
