"""Devices: who is there and how, what they can do, what a target means."""

import asyncio
from collections import Counter
from typing import Annotated

from litestar import Controller, get
from litestar.datastructures import State as AppState
from litestar.params import Parameter

from outrider.controller.hub.parts import Parts
from outrider.controller.hub.records import Page, StateRecord
from outrider.controller.hub.tokens import Scope
from outrider.schema import About, State, UnknownTarget

from . import parameters
from .authorization import needs
from .bodies import DevicePage, TargetPreview
from .examples import ABOUT, DEVICE, PREVIEW, STATE_RECORD
from .openapi import answers
from .problems import not_found

MOST_DEVICES = 10_000
"""Devices on a page at most: a web page wants all of them."""


class Devices(Controller):
    """The devices that the broker tells of."""

    path = "/"
    tags = ("devices",)
    guards = (needs(Scope.READ),)

    @get("/devices", summary="List devices", responses=answers(DevicePage([DEVICE]), 404, type=DevicePage[State]))
    async def list_devices(
        self,
        state: AppState,
        target: parameters.Target = None,
        cursor: Annotated[str | None, Parameter(max_length=64, description="`next` of the page before.")] = None,
        limit: Annotated[int, Parameter(ge=1, le=MOST_DEVICES, description="How many on a page at most.")] = 100,
    ) -> DevicePage[State]:
        """The states of the devices of a target, in order of their ids; without one of all that were ever seen."""
        hub: Parts = state.hub
        found = hub.fleet.devices(target)
        if cursor is not None:
            found = [each for each in found if each.device > cursor]
        page = found[:limit]
        return DevicePage(page, page[-1].device if len(found) > limit else None)

    @get("/devices/{device:str}", summary="Show a device", responses=answers(DEVICE, 404, type=State))
    async def show_device(self, state: AppState, device: parameters.DeviceId) -> State:
        """The newest state of a device."""
        hub: Parts = state.hub
        return _seen(hub, device)

    @get("/devices/{device:str}/about", summary="What a device can do", responses=answers(ABOUT, 404, type=About))
    async def show_about(self, state: AppState, device: parameters.DeviceId) -> About:
        """A device's commands with help and JSON Schema."""
        hub: Parts = state.hub
        _seen(hub, device)
        try:
            return await hub.fleet.about(device)
        except UnknownTarget as error:
            raise not_found(str(error), "unknown-about") from None

    @get(
        "/devices/{device:str}/states",
        summary="How a device was",
        tags=["history"],
        responses=answers(Page([STATE_RECORD]), 404, type=Page[StateRecord]),
    )
    async def list_states(
        self,
        state: AppState,
        device: parameters.DeviceId,
        cursor: parameters.Cursor = None,
        limit: parameters.Limit = 100,
    ) -> Page[StateRecord]:
        """The states that a device has had, newest first."""
        hub: Parts = state.hub
        return await asyncio.to_thread(hub.store.states, device, cursor=cursor, limit=limit)

    @get("/targets", summary="What a target means", responses=answers(PREVIEW, 404, type=TargetPreview))
    async def preview(
        self,
        state: AppState,
        target: Annotated[str, Parameter(min_length=1, max_length=4096, description="A target, as `@kitchen`.")],
    ) -> TargetPreview:
        """The devices that a target stands for now."""
        hub: Parts = state.hub
        found = hub.fleet.resolve(target)
        states = hub.fleet.roster.states
        statuses = Counter(str(states[device].status) for device in found.devices if device in states)
        return TargetPreview(target, len(found.devices), list(found.devices), dict(statuses), found.group, found.pool)


def _seen(hub: Parts, device: str) -> State:
    if (found := hub.fleet.roster.states.get(device)) is None:
        raise not_found(f"no device {device} has been seen", "unknown-device")
    return found
