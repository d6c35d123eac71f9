"""Events as devices told them, and their sums."""

import asyncio
from typing import Annotated, Literal

from litestar import Controller, get
from litestar.datastructures import State
from litestar.params import Parameter

from outrider.controller.hub.parts import Parts
from outrider.controller.hub.records import Bucket, EventQuery, EventRecord, Page, Summary
from outrider.controller.hub.tokens import Scope

from . import parameters
from .authorization import needs
from .bodies import Items
from .examples import BUCKET, EVENT_RECORD, SUMMARY
from .openapi import answers
from .problems import invalid

MOST_BARS = 10_000
"""Buckets of one key in an answer."""

Name = Annotated[str, Parameter(min_length=1, max_length=64, description="The events' name.")]

Key = Annotated[str | None, Parameter(max_length=256, description="The events' key; without it, of each key.")]

Time = Annotated[float, Parameter(ge=-1e11, le=1e11, description="In Unix seconds, by the devices' clocks.")]

Step = Annotated[Literal["1", "10", "60", "600", "3600", "86400"], Parameter(description="Seconds of one bar.")]


class Events(Controller):
    """What devices told of their own accord."""

    path = "/events"
    tags = ("history",)
    guards = (needs(Scope.READ),)

    @get(summary="List events", responses=answers(Page([EVENT_RECORD]), type=Page[EventRecord]))
    async def list_events(
        self,
        state: State,
        device: parameters.Text = None,
        name: parameters.Text = None,
        key: parameters.Text = None,
        subject: parameters.Text = None,
        since: parameters.Since = None,
        until: parameters.Until = None,
        after: Annotated[
            int | None, Parameter(ge=0, le=2**53, description="Those stored after this `seq`, oldest first.")
        ] = None,
        cursor: parameters.Cursor = None,
        limit: parameters.Limit = 100,
    ) -> Page[EventRecord]:
        """Events, the last stored first; `since` and `until` are of the events' own time."""
        hub: Parts = state.hub
        query = EventQuery(
            device=device,
            name=name,
            key=key,
            subject=subject,
            since=since,
            until=until,
            after=after,
            cursor=cursor,
            limit=limit,
        )
        return await asyncio.to_thread(hub.store.events, query)

    @get("/names", summary="List the names of events", responses=answers(Items(["initial"]), type=Items[str]))
    async def list_names(self, state: State) -> Items[str]:
        """The names that events came with, in order."""
        hub: Parts = state.hub
        return Items(await asyncio.to_thread(hub.store.names))

    @get("/summary", summary="Sum events up", responses=answers(Items([SUMMARY]), type=Items[Summary]))
    async def summarise(
        self,
        state: State,
        name: Name,
        key: Key = None,
        since: parameters.Since = None,
        until: parameters.Until = None,
    ) -> Items[Summary]:
        """How many, the first and the last, and what followed on them, exact to the event.

        Of one key, or of each that was seen in the range.
        """
        hub: Parts = state.hub
        found = await asyncio.to_thread(hub.store.summary, name, key=key, since=since, until=until)
        return Items(found)

    @get("/series", summary="Count events over time", responses=answers(Items([BUCKET]), type=Items[Bucket]))
    async def count(
        self, state: State, name: Name, since: Time, until: Time, step: Step, key: Key = None
    ) -> Items[Bucket]:
        """The bars of a chart, in order of keys and times; those without events are left out."""
        hub: Parts = state.hub
        seconds = float(step)
        if until < since:
            raise invalid("until is before since", "until")
        if (until - since) / seconds > MOST_BARS:
            raise invalid(f"that are more than {MOST_BARS:,} bars: choose a greater step, or a shorter time", "step")
        found = await asyncio.to_thread(hub.store.series, name, key=key, since=since, until=until, step=seconds)
        return Items(found)
