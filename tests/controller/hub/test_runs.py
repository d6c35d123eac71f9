"""What a status says of a script that never began, or whose device is gone; and how much is read for it."""

import asyncio
import time
from typing import Any, cast

import pytest

from outrider.controller.fleet import Fleet
from outrider.controller.hub import submissions as followed
from outrider.controller.hub.api.outcomes import Found
from outrider.controller.hub.api.runs import BEYOND, MOST_STREAMED, run_status
from outrider.controller.hub.parts import Parts
from outrider.controller.hub.records import Page, ProgressRecord
from outrider.controller.hub.submissions import Standing, Submission, Submissions
from outrider.schema import Code, Error, Result, Status

PIECE = "x" * 16_000


class Store:
    """Has a flood of one stream, and nothing of the other."""

    def __init__(self, pieces: int = 0) -> None:
        self.pieces = pieces
        self.read = 0

    def progress(self, id: str, *, stream: str, after: int, limit: int, **more: str) -> Page[ProgressRecord]:
        if stream != "stdout":
            return Page([], None)
        last = min(self.pieces, after + limit)
        self.read += last - after
        numbers = range(after, last)
        return Page([piece(number) for number in numbers], last if last < self.pieces else None)


class Hub:
    def __init__(self, store: Store) -> None:
        self.store = store


def piece(number: int) -> ProgressRecord:
    record: Any = type("Piece", (), {"number": number, "data": PIECE, "stream": "stdout"})()
    return cast("ProgressRecord", record)


def found(status: Status, error: Error | None = None, *, ago: float = 0.0) -> Found:
    result = Result(id="run-1", device="runner-1", command="run_script", status=status, error=error)
    expires = time.time() + 300 - ago
    return Found(
        "run-1", "run_script", "any:scripts", None, "hub", "ada", expires - 300, expires, [Standing(result)], None
    )


async def said(found: Found, store: Store | None = None) -> tuple[str, str | None]:
    status = await run_status(cast("Parts", Hub(store or Store())), found)
    return status.status, status.reason


async def test_script_that_expired_is_crashed_with_the_reason() -> None:
    words = "expired 20 s before it arrived"
    assert await said(found(Status.EXPIRED, Error("", words))) == ("CRASHED", f"expired: {words}")
    assert await said(found(Status.QUEUED, ago=10_000)) == (
        "CRASHED",
        "expired: it has expired, and nothing was heard of it",
    )


async def test_script_whose_device_was_lost_is_crashed_once_nobody_waits_for_it() -> None:
    assert await said(found(Status.RUNNING)) == ("RUNNING", None)
    words = "runner-1 went away while it ran it, and has said nothing since"
    assert await said(found(Status.RUNNING, ago=10_000)) == ("CRASHED", words)


async def test_script_that_found_no_room_in_time_is_crashed_with_what_the_device_said() -> None:
    words = "runner-1 runs 2 already"
    assert await said(found(Status.REJECTED, Error(Code.BUSY, words))) == ("CRASHED", f"rejected: {words}")


async def test_no_more_of_a_flood_is_read_than_is_shown() -> None:
    store = Store(100_000)
    status = await run_status(cast("Parts", Hub(store)), found(Status.RUNNING))
    assert (len(status.stdout), status.stderr) == (MOST_STREAMED + len(BEYOND), "")
    assert store.read <= 200


async def test_one_that_waits_too_many_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed, "MOST_WAITERS", 2)

    class Held:
        ended = asyncio.Event()

    submission = cast("Submission", Held())
    submissions = Submissions(cast("Fleet", None))
    waiting = [asyncio.create_task(submissions.until_ended(submission, 60)) for _ in range(2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await submissions.until_ended(submission, 60)
    assert not any(each.done() for each in waiting)
    Held.ended.set()
    await asyncio.gather(*waiting)
    assert submission.ended.is_set()
