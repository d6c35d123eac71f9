"""The service as a plugin of the hub: what it answers over HTTP, and what devices call.

The environment says how: STORAGE is hub, redis, sqlite or null; SEED makes the answers repeatable; REDIS is a URL.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from litestar import MediaType, Request, get, post
from litestar.datastructures import State
from msgspec import Meta

from outrider.controller.hub import Context, Plugin

from .hub import HubStorage
from .model import Model
from .null import NullStorage
from .page import PAGE
from .parameters import CANONICAL, Unfit, moment_of, parameters, symbol_of, uuid4_of, uuid_of
from .redis import RedisStorage
from .sqlite import SqliteStorage
from .storage import Storage, Summary

# The longest that fits is said besides, for `$` lets a line's end by.
UUID4 = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$"
Uuid = Annotated[str, Meta(pattern=CANONICAL, max_length=36, description="A UUID.")]
Uuid4 = Annotated[str, Meta(pattern=UUID4, max_length=36, description="A UUID of version 4.")]
Symbol = Annotated[str, Meta(pattern="^[a-z]$", max_length=1, description="A letter from a to z.")]


class Service:
    """What requests of both kinds come to."""

    storage: Storage
    model: Model

    async def initial(self, uuid: UUID, symbol: str) -> bool:
        await self.storage.log_initial(uuid, symbol, datetime.now(UTC))
        return self.model.guess(symbol)

    async def followup(self, uuid: UUID) -> str:
        await self.storage.log_followup(uuid, datetime.now(UTC))
        return "hooray"


service = Service()


@asynccontextmanager
async def opened(hub: Context) -> AsyncGenerator[None]:
    seed = os.environ.get("SEED")
    service.model = Model(int(seed) if seed else None)
    async with AsyncExitStack() as stack:
        match os.environ.get("STORAGE") or "hub":
            case "hub":
                service.storage = HubStorage(hub)
            case "redis":
                url = os.environ.get("REDIS") or "redis://localhost:6379"
                service.storage = await stack.enter_async_context(RedisStorage(url))
            case "sqlite":
                service.storage = await stack.enter_async_context(SqliteStorage(hub.folder / "vowels.sqlite"))
            case "null":
                service.storage = NullStorage()
            case other:
                raise ValueError(f"STORAGE is hub, redis, sqlite or null, not {other!r}")
        yield


@post("/initial", media_type=MediaType.TEXT, status_code=200)
async def initial(request: Request[object, object, State]) -> str:
    """Say whether a letter is a vowel: `True` or `False`. It takes a `uuid` of version 4 and a `symbol` from a to z."""
    given = await parameters(request)
    return str(await service.initial(uuid4_of(given), symbol_of(given.get("symbol"))))


@post("/followup", media_type=MediaType.TEXT, status_code=200)
async def followup(request: Request[object, object, State]) -> str:
    """Follow up the request with this `uuid`."""
    return await service.followup(uuid_of(await parameters(request)))


@get("/dashboard/symbol/{symbol:str}")
async def dashboard_symbol(symbol: str) -> Summary:
    """All that came for a symbol."""
    return await service.storage.symbol(symbol_of(symbol))


@get("/dashboard/range/{lower:str}/{upper:str}")
async def dashboard_range(lower: str, upper: str) -> list[Summary]:
    """What came from `lower` on and before `upper`: dates or datetimes of ISO 8601, UTC where they name no offset."""
    since, until = moment_of("lower", lower), moment_of("upper", upper)
    if since > until:
        raise Unfit(f"the range ends before it begins: {lower} is after {upper}")
    return await service.storage.range(since, until)


@get(["/dashboard/symbol", "/dashboard/range", "/dashboard/range/{lower:str}"], include_in_schema=False)
async def dashboard_of_nothing() -> None:
    """Say what is missing."""
    raise Unfit("something is missing: ask for /dashboard/symbol/SYMBOL or /dashboard/range/LOWER/UPPER")


ROUTES = [initial, followup, dashboard_symbol, dashboard_range, dashboard_of_nothing, *PAGE]

plugin = Plugin("vowels", lifespan=opened, routes=ROUTES)


@plugin.function(name="initial")
async def ask(uuid: Uuid4, symbol: Symbol) -> bool:
    """Say whether a letter is a vowel."""
    return await service.initial(UUID(uuid), symbol)


@plugin.function(name="followup")
async def follow_up(uuid: Uuid) -> str:
    """Follow up the request with this uuid."""
    return await service.followup(UUID(uuid))
