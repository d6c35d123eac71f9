"""Results as they were recorded, and the jobs that run now."""

import asyncio
from typing import Annotated

from litestar import Controller, get
from litestar.datastructures import State
from litestar.params import Parameter
from msgspec.structs import replace

from outrider.controller.hub.owners import RUN
from outrider.controller.hub.parts import Parts
from outrider.controller.hub.records import Page, ResultQuery, ResultRecord
from outrider.controller.hub.tokens import Scope
from outrider.controller.results import Jobs, jobs
from outrider.schema import Status

from . import parameters
from .authorization import ClientRequest, needs
from .examples import JOBS, RESULT_RECORD
from .openapi import answers


class Results(Controller):
    """What came of commands."""

    path = "/"
    guards = (needs(Scope.READ),)

    @get(
        "/results",
        summary="List results",
        tags=["history"],
        responses=answers(Page([RESULT_RECORD]), type=Page[ResultRecord]),
    )
    async def list_results(
        self,
        request: ClientRequest,
        state: State,
        id: parameters.Text = None,
        requester: parameters.Text = None,
        behalf: parameters.Text = None,
        device: parameters.Text = None,
        status: Annotated[Status | None, Parameter(description="Only those with this status.")] = None,
        since: parameters.Since = None,
        until: parameters.Until = None,
        cursor: parameters.Cursor = None,
        limit: parameters.Limit = 100,
    ) -> Page[ResultRecord]:
        """Final answers of devices, newest first: to one's own commands; with the scope `audit` to everybody's."""
        hub: Parts = state.hub
        if not request.user.may(Scope.AUDIT):
            requester, behalf = hub.fleet.requester, request.user.name
        query = ResultQuery(
            id=id,
            requester=requester,
            behalf=behalf,
            device=device,
            status=status,
            but=None if request.user.may_audit(RUN) else RUN,
            since=since,
            until=until,
            cursor=cursor,
            limit=limit,
        )
        return await asyncio.to_thread(hub.store.results, query)

    @get("/jobs", summary="List jobs", tags=["commands"], responses=answers(JOBS, 404, type=Jobs))
    async def list_jobs(self, request: ClientRequest, state: State, target: parameters.Target = None) -> Jobs:
        """What devices are doing now, oldest first: one's own jobs; with the scope `audit` everybody's.

        The devices are asked; `away` were not, and `untold` did not answer.
        """
        hub: Parts = state.hub
        found = await jobs(hub.fleet, target)
        own = (hub.fleet.requester, request.user.name)
        return replace(
            found,
            running=tuple(
                each
                for each in found.running
                if (each.job.requester, each.job.behalf) == own or request.user.may_audit(each.job.id)
            ),
        )
