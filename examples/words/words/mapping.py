"""Maps pages, or parts of a text, over the pool: as many at once as its workers take."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from outrider.controller import Fleet
from outrider.schema import OutriderError

from .counting import Counts
from .worker import PARALLEL

POOL: Final = "any:words"


class Counted(NamedTuple):
    """What came of one of them: its counts, or why there are none."""

    item: str
    counts: Counts | None
    error: str = ""


async def mapped(
    fleet: Fleet, command: str, argument: str, items: Sequence[str], told: Callable[[Counted], None]
) -> list[Counted]:
    """Call a command with each of the items, and return what came of them, in their order.

    :param argument: what the command's parameter is called.
    :param told: called with each as it comes.
    :raises NoMember: there is no worker.
    """
    members = [state.device for state in fleet.devices(POOL)]
    await fleet.abouts(members)  # to know that they may run again
    room = asyncio.Semaphore(PARALLEL * len(members))

    async def one(item: str) -> Counted:
        async with room:
            counted = await _called(fleet, command, {argument: item}, item)
        told(counted)
        return counted

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(item)) for item in items]
    return [task.result() for task in running]


async def _called(fleet: Fleet, command: str, arguments: dict[str, str], item: str) -> Counted:
    try:
        # For as long as a worker that is there works on it, which its own timeout bounds.
        dispatch = fleet.dispatch(POOL, command, arguments, wait=math.inf)
        (outcome,) = [each async for each in dispatch.each(Counts)]
        return Counted(item, outcome.value)
    except OutriderError as error:
        return Counted(item, None, str(error))
