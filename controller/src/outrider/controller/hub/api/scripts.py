"""Scripts of clients: run on the pool `scripts`, and asked for later by who sent them and nobody else."""

import hashlib
from http import HTTPStatus
from typing import Annotated, Final

from litestar import Controller, Response, delete, get, post
from litestar.datastructures import State
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import Body, Parameter
from msgspec import json

from outrider.controller import scripts
from outrider.controller.hub.owners import LONGEST_CLIENT, behalf_of, is_of, new_run
from outrider.controller.hub.parts import Parts
from outrider.controller.hub.submissions import Order
from outrider.controller.hub.tokens import Client, Scope
from outrider.device.scripts.contract import POOL
from outrider.schema import NoMember

from .authorization import ClientRequest, needs
from .bodies import RunAccepted, RunBody, RunStatus
from .commands import Key, WaitSeconds, of_key
from .examples import RUN, RUN_ACCEPTED, RUN_FORM, RUN_LINES, RUN_STATUS
from .openapi import PATH, RUN_FILE, RUN_JSON, answers, example
from .outcomes import Found, find
from .problems import RETRY_AFTER, Refused, invalid, not_found, require_strict
from .runs import run_status
from .uploads import Upload, of_body, of_form

STARTS_WITHIN: Final = 300.0
"""Seconds in which a device may begin with a script, as where it comes back after its connection broke."""

ClientName = Annotated[
    str | None,
    Parameter(
        min_length=1,
        max_length=LONGEST_CLIENT,
        description="The `client` that sent it; needed where the hub has no tokens, and not looked at where it has.",
    ),
]

ScriptId = Annotated[str, Parameter(description="What `/run-file` or `/run-json` has answered.")]


class FormOperation(Operation):
    """A form with files, in the document: Litestar makes one of a type, which has no field called `files[]`."""

    def __post_init__(self) -> None:
        """Describe it."""
        form = OpenAPIMediaType(
            Schema(
                type=OpenAPIType.OBJECT,
                properties={
                    "file": Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY, description="The script."),
                    "files[]": _texts("Several, of which `script_name` says, or else `main.py` is, the main one."),
                    "client": Schema(
                        type=OpenAPIType.STRING,
                        min_length=1,
                        max_length=LONGEST_CLIENT,
                        description="Who sends it: needed where the hub has no tokens, and not looked at where it has.",
                    ),
                    "script_name": _text("The main file, or the name under which a single one is kept."),
                    "args": _texts("What `sys.argv` has after the script's name; may be repeated."),
                    "stdin": _text("What it reads."),
                    "requirements": _texts("Packages that it needs; may be repeated."),
                    "infer_requirements": Schema(
                        type=OpenAPIType.BOOLEAN, description="Install what it imports and the device has not."
                    ),
                    "limits": Schema(type=OpenAPIType.OBJECT, description="As in `/run-json`, as JSON."),
                    "timeout": Schema(type=OpenAPIType.NUMBER, description="Seconds that it may take."),
                    "target": _text("The pool, or the one device, that runs it."),
                },
                additional_properties=False,
            ),
            examples={"a form": example(RUN_FORM)},
        )
        self.request_body = RequestBody({"multipart/form-data": form}, required=True)


def _text(description: str) -> Schema:
    return Schema(type=OpenAPIType.STRING, description=description)


def _texts(description: str) -> Schema:
    return Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.STRING), description=description)


_ACCEPTED: Final = answers(
    RUN_ACCEPTED,
    404,
    409,
    413,
    415,
    type=RunAccepted,
    status=202,
    description="It will be run. `Location` says where to ask what became of it.",
)


class Scripts(Controller):
    """Python that clients send, and what became of it."""

    path = "/"
    tags = ("scripts",)
    guards = (needs(Scope.SCRIPTS),)

    @post(RUN_JSON, summary="Run a script", status_code=202, responses=_ACCEPTED)
    async def run_json(
        self,
        request: ClientRequest,
        state: State,
        data: Annotated[RunBody, Body(examples=[example(RUN), example(RUN_LINES)])],
        key: Key = None,
    ) -> Response[RunAccepted]:
        """Run a script on one device of the pool `scripts`.

        It is written down before it is answered: also after a crash of the hub it runs once at most and has an end.
        """
        require_strict(await request.body(), RunBody)
        return await _run(request, state.hub, of_body(data), key)

    @post(
        RUN_FILE,
        summary="Run files",
        status_code=202,
        responses=_ACCEPTED,
        operation_class=FormOperation,
    )
    async def run_file(self, request: ClientRequest, state: State, key: Key = None) -> Response[RunAccepted]:
        """Run a script that comes as a file, or one of several files that import each other."""
        return await _run(request, state.hub, await of_form(request), key)

    @get("/status/{id:str}", summary="What became of a script", responses=answers(RUN_STATUS, 404, type=RunStatus))
    async def show(
        self,
        request: ClientRequest,
        state: State,
        id: ScriptId,
        client: ClientName = None,
        wait: WaitSeconds = 0.0,
    ) -> RunStatus:
        """How a script is, and what it wrote: for who sent it, and for nobody else."""
        hub: Parts = state.hub
        found = await _find(request, hub, id, client, wait)
        return await run_status(hub, found)

    @delete(
        "/status/{id:str}",
        summary="Cancel a script",
        status_code=202,
        responses=answers(RUN_STATUS, 404, type=RunStatus, status=202, description="Its device is told to end it."),
    )
    async def cancel(self, request: ClientRequest, state: State, id: ScriptId, client: ClientName = None) -> RunStatus:
        """End a script, with all that it began. What has ended stays as it is."""
        hub: Parts = state.hub
        found = await _find(request, hub, id, client)
        submission = hub.submissions.cancel(id)
        return await run_status(hub, found if submission is None else Found.live(hub, submission))


async def _run(request: ClientRequest, hub: Parts, upload: Upload, key: str | None) -> Response[RunAccepted]:
    body = upload.body
    owner = _owner(request, body.client)
    if owner is None:
        words = "client is missing: this hub has no tokens, so say who you are, by any name that others do not have"
        raise invalid(words, "client")
    order = Order(owner, body.target, scripts.RUN, _arguments(upload), timeout=body.timeout, expires=STARTS_WITHIN)
    asked = json.encode(order.args)
    if len(asked) > scripts.ROOM:
        raise _too_large(len(asked))
    id, before = new_run(owner), None
    if key is not None:
        digest = hashlib.sha256(json.encode([order.args, order.target, order.timeout], order="deterministic"))
        id, before = await of_key(hub, Client(owner, frozenset()), key, digest.hexdigest(), id)
    if before is None and hub.submissions.find(id) is None:
        try:
            _check_target(hub, order.target)
            await hub.submissions.submit(order, id)
        except NoMember:
            if order.target != f"any:{POOL}":
                raise
            raise _nobody(hub) from None
    return Response(RunAccepted(id), status_code=202, headers={"Location": f"/status/{id}"})


async def _find(request: ClientRequest, hub: Parts, id: str, client: str | None, wait: float = 0.0) -> Found:
    """A script of this client's.

    :raises Refused: there is none, or it is somebody else's: the answer is the same.
    """
    owner = _owner(request, client)
    if owner is None or not is_of(id, owner):
        raise _unknown()
    submission = hub.submissions.find(id)
    if submission is not None and submission.behalf == owner:
        await hub.submissions.until_ended(submission, wait)
    try:
        return await find(hub, Client(owner, frozenset()), id)
    except Refused:
        raise _unknown() from None


def _owner(request: ClientRequest, client: str | None) -> str | None:
    """On whose behalf a script runs; None where nobody says so."""
    if request.auth is not None:
        return request.user.name
    return None if client is None else behalf_of(client)


def _arguments(upload: Upload) -> dict[str, object]:
    """What `run_script` is told."""
    body = upload.body
    args: dict[str, object] = {"main": upload.main, "infer_requirements": body.infer_requirements}
    if len(upload.files) == 1:
        args["source"] = upload.files[upload.main]
    else:
        args["files"] = dict(upload.files)
    for name in ("args", "stdin", "requirements"):
        if said := getattr(body, name):
            args[name] = said
    if body.limits is not None:
        args["limits"] = body.limits
    return args


def _check_target(hub: Parts, target: str) -> None:
    """Refuse what means several devices: there is one exit code to tell of.

    :raises Refused: it does.
    """
    found = hub.fleet.resolve(target)
    if found.pool is None and len(found.devices) != 1:
        words = (
            f"{target} means {len(found.devices)} devices, and a status tells of one: name a device or a pool, or send "
            f"run_script to all of them with POST {PATH}/commands"
        )
        raise invalid(words, "target")


def _nobody(hub: Parts) -> Refused:
    words = f"the pool {POOL} has no ready device: start one with outrider-device run --allow-scripts --ready"
    states = hub.fleet.roster.states
    unready = sorted(device for device, state in states.items() if POOL in state.pools and state.status == "unready")
    if unready:
        words += f", or make one ready that is not, as with outrider send {unready[0]} start"
    later = {"Retry-After": str(RETRY_AFTER)}
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "no-member", words, headers=later)


def _too_large(size: int) -> Refused:
    words = f"files and arguments have at most {scripts.ROOM:,} bytes as JSON, and these have {size:,}: send less"
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", words)


def _unknown() -> Refused:
    return not_found("no script with this id is known, or it is not yours")
