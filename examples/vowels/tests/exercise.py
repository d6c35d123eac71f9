"""A history of requests, what a storage says of it, and what a plain computation over the raw requests says."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct
from vowels.storage import Storage, Summary, shown


class Requested(Struct, frozen=True, order=True):
    """A raw request: one with a symbol is an initial one."""

    at: datetime
    uuid: UUID
    symbol: str | None = None


class Exercise(Struct):
    """What to do with an empty storage. The requests of a batch come together."""

    history: list[list[Requested]]
    ranges: list[tuple[datetime, datetime]]
    symbols: list[str]


class Answers(Struct):
    symbols: list[Summary]
    ranges: list[list[Summary]]


async def exercise(storage: Storage, task: Exercise) -> Answers:
    for batch in task.history:
        await asyncio.gather(*(_log(storage, each) for each in batch))
    symbols = [await storage.symbol(symbol) for symbol in task.symbols]
    return Answers(symbols, [await storage.range(*bounds) for bounds in task.ranges])


async def _log(storage: Storage, request: Requested) -> None:
    if request.symbol is None:
        await storage.log_followup(request.uuid, request.at)
    else:
        await storage.log_initial(request.uuid, request.symbol, request.at)


def computed(task: Exercise) -> Answers:
    """The same, as the definition says it."""
    history = [request for batch in task.history for request in batch]
    symbols = [_summary(symbol, history, history) for symbol in task.symbols]
    ranges: list[list[Summary]] = []
    for lower, upper in task.ranges:
        within = [each for each in history if lower <= each.at < upper]
        seen = sorted({each.symbol for each in within if each.symbol is not None})
        ranges.append([_summary(symbol, within, history) for symbol in seen])
    return Answers(symbols, ranges)


def _summary(symbol: str, within: Sequence[Requested], history: Sequence[Requested]) -> Summary:
    initials = [each for each in within if each.symbol == symbol]
    if not initials:
        return Summary(0, symbol)
    times, uuids = [each.at for each in initials], {each.uuid for each in initials}
    followups = sum(each.symbol is None and each.uuid in uuids for each in history)
    return Summary(len(initials), symbol, shown(min(times)), shown(max(times)), followups)
