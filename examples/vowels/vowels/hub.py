"""The hub as the storage: its events, and the counts that it keeps beside them."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from string import ascii_lowercase
from typing import Final
from uuid import UUID

from outrider.controller.hub import Context
from outrider.controller.hub import Summary as Counted

from .storage import Summary, shown

LETTERS: Final = frozenset(ascii_lowercase)
"""Devices may tell of other things under the same name."""


class HubStorage:
    """An initial request is an event with the symbol as its key and the uuid as its subject; a follow-up has no key."""

    def __init__(self, hub: Context) -> None:
        self._hub = hub

    async def log_initial(self, uuid: UUID, symbol: str, at: datetime) -> None:
        await self._hub.emit("initial", key=symbol, subject=str(uuid), time=at.timestamp())

    async def log_followup(self, uuid: UUID, at: datetime) -> None:
        await self._hub.emit("followup", subject=str(uuid), time=at.timestamp())

    async def symbol(self, symbol: str) -> Summary:
        (found,) = await asyncio.to_thread(self._hub.store.summary, "initial", key=symbol)
        return _summary(symbol, found)

    async def range(self, lower: datetime, upper: datetime) -> list[Summary]:
        asked = partial(self._hub.store.summary, "initial", since=lower.timestamp(), until=upper.timestamp())
        return [_summary(each.key, each) for each in await asyncio.to_thread(asked) if each.key in LETTERS]


def _summary(symbol: str, found: Counted) -> Summary:
    return Summary(
        found.count, symbol, _shown(found.earliest), _shown(found.latest), found.followups.get("followup", 0)
    )


def _shown(seconds: float | None) -> str | None:
    return None if seconds is None else shown(datetime.fromtimestamp(seconds, UTC))
