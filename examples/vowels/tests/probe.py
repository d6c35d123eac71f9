"""A plugin that lets a test exercise the hub's storage inside of a real hub: its store is emptied before."""

import asyncio
import time
from datetime import UTC, datetime
from uuid import UUID

from litestar import post
from msgspec import Struct
from vowels.hub import HubStorage

from outrider.controller.hub import Context, EventQuery, Plugin
from tests.exercise import Answers, Exercise, Requested, exercise


class Said(Struct):
    answers: Answers
    raw: list[Requested]


@post("/probe", status_code=200)
async def probed(hub: Context, data: Exercise) -> Said:
    after = time.time() + 1
    await asyncio.to_thread(hub.store.prune, older_than=after, counts_older_than=after)
    answers = await exercise(HubStorage(hub), data)
    raw = [
        Requested(datetime.fromtimestamp(each.time, UTC), UUID(each.subject), each.key)
        for name in ("initial", "followup")
        for each in (await asyncio.to_thread(hub.store.events, EventQuery(name=name, limit=1000))).items
    ]
    return Said(answers, raw)


plugin = Plugin("probe", routes=[probed])
