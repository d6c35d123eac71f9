"""Commands: send, wait, look at, cancel; rollouts; the audit log."""

import asyncio
import contextlib
import hashlib
from http import HTTPStatus
from itertools import islice
from typing import Annotated

from litestar import Controller, Response, delete, get, post
from litestar.datastructures import State
from litestar.params import Body, HeaderParameter, Parameter, QueryParameter
from msgspec import json

from outrider.controller.hub.owners import RUN
from outrider.controller.hub.parts import Parts
from outrider.controller.hub.records import CommandQuery, CommandRecord, Page, ProgressRecord
from outrider.controller.hub.submissions import Order, Submission, new_id
from outrider.controller.hub.tokens import LOCAL, Client, Scope
from outrider.controller.plan import Plan, Share
from outrider.schema import Status

from . import parameters
from .authorization import ClientRequest, needs
from .bodies import WAIT_LIMIT, CommandBody, CommandStatus, Items, PlanBody
from .examples import COMMAND, COMMAND_RECORD, PROGRESS_RECORD, ROLLOUT, STATUS
from .openapi import PATH, answers, example
from .outcomes import Found, find, overview, status_of
from .problems import Refused, invalid, not_found, require_strict

Outcomes = Annotated[
    Status | None, QueryParameter(name="status", required=False, description="Only outcomes with this status.")
]

OutcomeCursor = Annotated[str | None, Parameter(max_length=64, description="`next` of the page before.")]

OutcomeLimit = Annotated[int, Parameter(ge=0, le=10_000, description="How many outcomes at most.")]

WaitSeconds = Annotated[
    float, Parameter(ge=0, le=WAIT_LIMIT, description="Seconds to wait for it to end before answering.")
]

Key = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        required=False,
        description="The same key and body again is the same command, which is not sent twice.",
    ),
]


class Commands(Controller):
    """What clients have sent."""

    path = "/commands"
    tags = ("commands",)

    @post(
        summary="Send a command",
        guards=[needs(Scope.SEND)],
        status_code=202,
        responses=answers(
            STATUS,
            404,
            409,
            413,
            415,
            type=CommandStatus,
            status=202,
            also=200,
            description="Sent; 200 where it has ended within `wait`. `Location` says where to ask again.",
        ),
    )
    async def send(
        self,
        request: ClientRequest,
        state: State,
        data: Annotated[CommandBody, Body(examples=[example(COMMAND), example(ROLLOUT)])],
        key: Key = None,
    ) -> Response[CommandStatus]:
        """Send a command to every device of a target.

        It is written down before it is answered: also after a crash of the hub each device has one outcome.
        """
        hub: Parts = state.hub
        require_strict(await request.body(), CommandBody)
        if data.command == "jobs" and not request.user.may_audit(RUN):
            words = f"devices tell of everybody's jobs: ask for yours with GET {PATH}/jobs"
            if request.user is not LOCAL:
                words += ", or with the scope audit"
            raise Refused(HTTPStatus.FORBIDDEN, "forbidden", words, field="command")
        order = _order(data, request.user)
        id, before = (None, None) if key is None else await of_key(hub, request.user, key, _digest(data), new_id())
        if before is None:
            submission = await hub.submissions.submit(order, id)
            await hub.submissions.until_ended(submission, data.wait)
            before = Found.live(hub, submission)
        body = status_of(before)
        return Response(
            body, status_code=200 if body.ended else 202, headers={"Location": f"{PATH}/commands/{body.id}"}
        )

    @get(
        summary="The audit log",
        tags=["history"],
        guards=[needs(Scope.READ)],
        responses=answers(Page([COMMAND_RECORD]), type=Page[CommandRecord]),
    )
    async def list_commands(
        self,
        request: ClientRequest,
        state: State,
        id: parameters.Text = None,
        requester: parameters.Text = None,
        behalf: parameters.Text = None,
        device: parameters.Text = None,
        command: parameters.Text = None,
        since: parameters.Since = None,
        until: parameters.Until = None,
        cursor: parameters.Cursor = None,
        limit: parameters.Limit = 100,
    ) -> Page[CommandRecord]:
        """Commands as the hub heard them on the broker, newest first: one's own; with the scope `audit` everybody's."""
        hub: Parts = state.hub
        if not request.user.may(Scope.AUDIT):
            requester, behalf = hub.fleet.requester, request.user.name
        query = CommandQuery(
            id=id,
            requester=requester,
            behalf=behalf,
            device=device,
            command=command,
            since=since,
            until=until,
            but=None if request.user.may_audit(RUN) else RUN,
            cursor=cursor,
            limit=limit,
        )
        return await asyncio.to_thread(hub.store.commands, query)

    @get(
        "/{id:str}",
        summary="Show a command",
        guards=[needs(Scope.READ)],
        responses=answers(STATUS, 404, type=CommandStatus),
    )
    async def show(
        self,
        request: ClientRequest,
        state: State,
        id: parameters.CommandId,
        wait: WaitSeconds = 0.0,
        status: Outcomes = None,
        cursor: OutcomeCursor = None,
        limit: OutcomeLimit = 1000,
    ) -> CommandStatus:
        """A command's outcomes, how far it is, and how far its rollout is."""
        hub: Parts = state.hub
        if wait and (submission := hub.submissions.find(id)) is not None and _theirs(request.user, submission):
            await hub.submissions.until_ended(submission, wait)
        found = await find(hub, request.user, id)
        return status_of(found, status=status, cursor=cursor, limit=limit)

    @get(
        "/{id:str}/progress",
        summary="What a command's jobs said",
        tags=["history"],
        guards=[needs(Scope.READ)],
        responses=answers(Page([PROGRESS_RECORD]), 404, type=Page[ProgressRecord]),
    )
    async def list_progress(
        self,
        request: ClientRequest,
        state: State,
        id: parameters.CommandId,
        device: parameters.Text = None,
        after: parameters.Cursor = None,
        limit: parameters.Limit = 1000,
    ) -> Page[ProgressRecord]:
        """What devices said while they worked on it, oldest first; `next` is the `after` of what follows."""
        hub: Parts = state.hub
        found = await find(hub, request.user, id)
        return await asyncio.to_thread(
            hub.store.progress, id, requester=found.requester, device=device, after=after or 0, limit=limit
        )

    @delete(
        "/{id:str}",
        summary="Cancel a command",
        guards=[needs(Scope.SEND)],
        status_code=202,
        responses=answers(STATUS, 404, type=CommandStatus, status=202, description="Devices are told to end it."),
    )
    async def cancel(self, request: ClientRequest, state: State, id: parameters.CommandId) -> CommandStatus:
        """Tell the devices to end it, and address no others: a rollout is aborted. What has ended stays as it is."""
        hub: Parts = state.hub
        found = await find(hub, request.user, id)
        own = found.behalf == request.user.name or request.user.may(Scope.ADMIN)
        if found.requester != hub.fleet.requester or not own:
            raise not_found(f"the command {id} is not yours to cancel")
        submission = hub.submissions.cancel(id)
        return status_of(found if submission is None else Found.live(hub, submission))


class Rollouts(Controller):
    """Rollouts that go on, or ended lately."""

    path = "/rollouts"
    tags = ("commands",)

    @get(
        summary="List rollouts",
        guards=[needs(Scope.READ)],
        responses=answers(Items([STATUS]), type=Items[CommandStatus]),
    )
    async def list_rollouts(
        self, request: ClientRequest, state: State, limit: parameters.Limit = 100
    ) -> Items[CommandStatus]:
        """Rollouts that go on, or ended lately, newest first, without their outcomes."""
        hub: Parts = state.hub
        theirs = (each for each in hub.submissions.at_hand() if each.plan and _theirs(request.user, each))
        return Items([overview(hub, each) for each in islice(theirs, limit)])


async def of_key(hub: Parts, client: Client, key: str, digest: str, new: str) -> tuple[str, Found | None]:
    """The id of the command under this key, and the command itself where it was sent and is not at hand any more.

    That one must not be submitted again: its target may mean other devices by now.

    :param digest: of what is asked for.
    :param new: the id that it gets where the key is new.
    :raises IdempotencyConflict: the key was used for something else.
    """
    known = await asyncio.to_thread(hub.store.remember, client.name, key, digest, new)
    if known is None or hub.submissions.find(known) is not None:
        return known or new, None
    with contextlib.suppress(Refused):  # the key was kept, and the hub killed before it sent the command
        return known, await find(hub, client, known)
    return known, None


def _theirs(client: Client, submission: Submission) -> bool:
    return submission.behalf == client.name or client.may_audit(submission.id)


def _digest(body: CommandBody) -> str:
    return hashlib.sha256(json.encode(body, order="deterministic")).hexdigest()


def _order(body: CommandBody, client: Client) -> Order:
    return Order(
        behalf=client.name,
        target=body.target,
        command=body.command,
        args=body.args,
        wait=body.wait,
        timeout=body.timeout,
        expires=body.expires,
        if_offline=body.if_offline,
        limit=_share(body.limit, "limit"),
        seed=body.seed,
        plan=None if body.plan is None else _plan(body.plan),
    )


def _plan(body: PlanBody) -> Plan:
    try:
        batches = Plan.parse_batches(body.batch)
    except ValueError as error:
        raise invalid(str(error), "plan.batch") from None
    return Plan(
        batches,
        pause=body.pause,
        abort_after=_share(body.abort_on_failure, "plan.abort_on_failure"),
        minimum=body.minimum,
        cancel=body.cancel_on_abort,
        settle=body.settle,
        working=body.working,
    )


def _share(text: str | None, field: str) -> Share | None:
    try:
        return None if text is None else Share.parse(text)
    except ValueError as error:
        raise invalid(str(error), field) from None
