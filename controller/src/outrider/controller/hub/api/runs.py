"""What became of a script, in the words of `GET /status/<id>`."""

import asyncio
from contextlib import suppress
from typing import Final, NamedTuple

from msgspec.structs import replace

from outrider.controller.hub.parts import Parts
from outrider.controller.hub.records import ProgressRecord, Record, ResultQuery, ResultRecord
from outrider.controller.hub.submissions import Standing
from outrider.controller.scripts import answer
from outrider.schema import Result, Status

from .bodies import RunStatus
from .outcomes import Found, status_of

MOST_STREAMED: Final = 1_048_576
"""Characters of each stream that are shown of what has not ended by itself."""

BEYOND: Final = "\n[more is not shown]\n"

RECORDED_WITHIN: Final = 2.0
"""Seconds in which what a device said before its answer must have been recorded."""

_PAGE: Final = 100
"""Records that are read at a time: each may have 16 KiB."""

_LIMITS: Final = {
    "memory": "it used more memory than it may",
    "cpu": "it used more processor time than it may",
    "processes": "it began more processes than it may",
    "workspace": "its workspace holds more than it may",
}


class Output(NamedTuple):
    """What a script has written."""

    stdout: str = ""
    stderr: str = ""


async def run_status(hub: Parts, found: Found) -> RunStatus:
    """What became of a script, with what it has written so far where it has not ended by itself."""
    standing = next(iter(found.standings), None)
    if standing is None:
        return RunStatus(id=found.id, status="RUNNING", submitted=found.issued, reason="it is on its way")
    result = standing.result
    status = RunStatus(
        id=found.id,
        status="RUNNING",
        device=result.device or None,
        submitted=found.issued,
        started=result.started,
        finished=result.finished,
        duration=_between(result),
    )
    if result.status is Status.DONE:
        return _ended(status, result)
    if result.status in (Status.TIMED_OUT, Status.CANCELLED):
        await _until_recorded(hub, found)
    output = await asyncio.to_thread(_streamed, hub, found, result.device)
    said = _why(result)
    status = replace(status, stdout=output.stdout, stderr=output.stderr, reason=said)
    match result.status:
        case Status.TIMED_OUT:
            return replace(status, status="TIMED_OUT")
        case Status.CANCELLED:
            return replace(status, status="CANCELLED")
        case _ if result.status.final or result.status is Status.OFFLINE:
            return replace(status, status="CRASHED")
        case _ if found.expired:  # nobody starts it any more, and nobody waits for an answer
            return replace(status, status="CRASHED", reason=_silence(found, standing))
        case _:
            return status


def _ended(status: RunStatus, result: Result) -> RunStatus:
    """A script that ended by itself, or was ended by a limit."""
    ended = answer(result)
    if ended is None:
        return replace(status, status="CRASHED", reason=f"what {result.device} answered is no script's result")
    reason = None
    if ended.killed_by is not None:
        reason = _LIMITS.get(ended.killed_by, f"it was ended by {ended.killed_by}")
    elif ended.exit_code:
        reason = f"it ended with exit code {ended.exit_code}"
    return replace(
        status,
        status="COMPLETED" if reason is None else "CRASHED",
        exit_code=ended.exit_code,
        stdout=ended.stdout,
        stderr=ended.stderr,
        duration=ended.duration,
        peak_memory=ended.peak_memory,
        killed_by=ended.killed_by,
        reason=reason,
    )


def _why(result: Result) -> str | None:
    """In words, what a device or the hub says of it."""
    error = result.error
    words = "" if error is None else error.message or error.code
    match result.status:
        case Status.RUNNING:
            return None
        case Status.QUEUED:
            return words or "sent, not taken yet"
        case Status.TIMED_OUT | Status.CANCELLED:
            return words or str(result.status).replace("_", " ")
        case _:
            return f"{result.status}: {words}" if words else str(result.status)


def _silence(found: Found, standing: Standing) -> str:
    body = status_of(found)
    error = body.outcomes[0].error
    if error is not None and standing.result.status is Status.QUEUED:
        return f"expired: {error.message}"
    return f"{standing.result.device} went away while it ran it, and has said nothing since"


def _between(result: Result) -> float | None:
    if result.started is None or result.finished is None:
        return None
    return max(0.0, result.finished - result.started)


async def _until_recorded(hub: Parts, found: Found) -> None:
    """Wait until what was said before the answer is in the store: another connection records it."""
    if hub.submissions.find(found.id) is None:
        return

    def is_answer(record: Record) -> bool:
        return isinstance(record, ResultRecord) and record.id == found.recorded

    query = ResultQuery(id=found.recorded, requester=found.requester, limit=1)
    with hub.live.follow(is_answer) as follower:
        if (await asyncio.to_thread(hub.store.results, query)).items:
            return
        with suppress(TimeoutError, StopAsyncIteration):
            async with asyncio.timeout(RECORDED_WITHIN):
                await anext(follower)


def _streamed(hub: Parts, found: Found, device: str) -> Output:
    """What has been recorded of its output, in order."""
    return Output(*(_joined(_chunks(hub, found, device, stream)) for stream in Output._fields))


def _chunks(hub: Parts, found: Found, device: str, stream: str) -> list[ProgressRecord]:
    """As much of one stream as is shown, and no more is read."""
    chunks: list[ProgressRecord] = []
    size, after = 0, 0
    while True:
        page = hub.store.progress(
            found.recorded, requester=found.requester, device=device, stream=stream, after=after, limit=_PAGE
        )
        chunks += (each for each in page.items if each.data)
        size += sum(len(each.data or "") for each in page.items)
        if page.next is None or size > MOST_STREAMED:
            return chunks
        after = page.next


def _joined(chunks: list[ProgressRecord]) -> str:
    text = "".join(each.data or "" for each in sorted(chunks, key=lambda each: each.number))
    return text if len(text) <= MOST_STREAMED else text[:MOST_STREAMED] + BEYOND
