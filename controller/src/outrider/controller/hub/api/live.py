"""Server-sent events: what happens now."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Annotated, Final

from litestar import Controller, get
from litestar.datastructures import State
from litestar.openapi import ResponseSpec
from litestar.params import Parameter
from litestar.response import Stream
from msgspec import json

from outrider.controller.hub.live import Follower, Gap
from outrider.controller.hub.parts import Parts
from outrider.controller.hub.records import (
    CommandRecord,
    EventRecord,
    ProgressRecord,
    Record,
    ResultRecord,
    StateRecord,
)
from outrider.controller.hub.store import StoreUnavailable
from outrider.controller.hub.tokens import Client, Scope
from outrider.controller.selection import Scope as Devices
from outrider.controller.targets import Target, parse

from . import parameters
from .authorization import ClientRequest, may_still, needs
from .examples import STATE_RECORD
from .openapi import answers, example
from .problems import busy, invalid

MOST_FOLLOWERS: Final = 500
"""Streams at a time."""

ALIVE: Final = 15.0
"""Seconds after which a comment is sent where nothing else is: proxies end what is silent."""

ASK_AGAIN: Final = 5.0
"""Seconds after which it is looked at whether the client's token is still good."""

TOGETHER: Final = 500
"""Records that go out with one write at most."""

ROOM: Final = 5000
"""Records that wait for a client that is slow; beyond that it loses some and is told."""

TYPES: Final = ("state", "command", "progress", "result", "event")

_STREAM: Final = b"event: hello\ndata: {}\n\nevent: state\ndata: " + json.encode(STATE_RECORD) + b"\n\n"


class LiveStream(Controller):
    """Changes as they happen."""

    path = "/live"
    tags = ("live",)
    guards = (needs(Scope.READ),)

    @get(
        summary="Follow what happens",
        media_type="text/event-stream",
        responses={
            **answers("", 404, type=str),
            200: ResponseSpec(
                str,
                description="Server-sent events: `hello` first, `lost` with a count where the client was too slow, "
                "else the type of the record in `data`.",
                media_type="text/event-stream",
                generate_examples=False,
                examples=[example(_STREAM.decode())],
            ),
        },
    )
    async def follow(
        self,
        request: ClientRequest,
        state: State,
        target: parameters.Target = None,
        types: Annotated[
            str | None,
            Parameter(
                max_length=100, pattern=r"^[a-z]+(,[a-z]+)*$", description=f"Of {', '.join(TYPES)}; by default all."
            ),
        ] = None,
    ) -> Stream:
        """States, events, and of one's own commands (with `audit` everybody's) commands, progress and results.

        What was subscribed to before a question was asked misses nothing: read `hello` first, then ask for devices.
        """
        hub: Parts = state.hub
        wanted = _wanted(hub, request.user, None if target is None else parse(target), _types(types))
        if hub.live.followers >= MOST_FOLLOWERS:
            raise busy(f"{MOST_FOLLOWERS} clients are following already: try again later")
        return Stream(
            _lines(hub, wanted, partial(may_still, request, Scope.READ)),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )


def _types(text: str | None) -> frozenset[str]:
    if text is None:
        return frozenset(TYPES)
    types = frozenset(text.split(","))
    for unknown in sorted(types - set(TYPES)):
        raise invalid(f"there is no type {unknown}: {', '.join(TYPES)}", "types")
    return types


async def _lines(
    hub: Parts, wanted: Callable[[Record], bool], may: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[bytes]:
    with hub.live.follow(wanted, limit=ROOM) as follower:
        yield b"event: hello\ndata: {}\n\n"
        coming: asyncio.Task[Record | Gap] | None = None
        said = asked = monotonic()
        try:
            while True:
                coming = coming or asyncio.ensure_future(_next(follower))
                done, _ = await asyncio.wait((coming,), timeout=ASK_AGAIN)
                now = monotonic()
                if now >= asked + ASK_AGAIN:
                    asked = now
                    if not await _may(may):
                        return
                if not done:
                    if now >= said + ALIVE:
                        said = now
                        yield b": \n\n"
                    continue
                said = now
                try:
                    first = coming.result()
                except StopAsyncIteration:
                    return
                coming = None
                yield b"".join(map(_line, [first, *follower.take(TOGETHER)]))
        finally:
            if coming is not None:
                coming.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration):
                    await coming


async def _may(may: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await may()
    except StoreUnavailable:  # nobody can have removed the token meanwhile
        return True


async def _next(follower: Follower) -> Record | Gap:
    return await anext(follower)


def _line(record: Record | Gap) -> bytes:
    if isinstance(record, Gap):
        return b'event: lost\ndata: {"count":%d}\n\n' % record.missed
    return b"event: %b\ndata: %b\n\n" % (str(record.__struct_config__.tag).encode(), json.encode(record))


def _wanted(hub: Parts, client: Client, target: Target | None, types: frozenset[str]) -> Callable[[Record], bool]:
    requester = hub.fleet.requester

    def matches(device: str) -> bool:
        if target is None:
            return True
        state = hub.fleet.roster.states.get(device)
        if state is None:
            return False
        return device in target.devices(Devices({device: state}, frozenset({device})))

    def theirs(record: CommandRecord | ProgressRecord | ResultRecord) -> bool:
        if client.may_audit(record.id):
            return True
        if record.requester != requester:
            return False
        behalf = record.behalf if isinstance(record, CommandRecord) else hub.submissions.owner(record.id)
        return behalf == client.name

    def wanted(record: Record) -> bool:
        if str(record.__struct_config__.tag) not in types:
            return False
        match record:
            case StateRecord() | EventRecord():
                return matches(record.device)
            case CommandRecord():
                return theirs(record) and (record.device is None or matches(record.device))
            case _:
                return theirs(record) and matches(record.device)

    return wanted
