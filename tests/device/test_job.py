import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.device import Job


class Told:
    def __init__(self) -> None:
        self.reports: list[tuple[float | None, str | None]] = []
        self.output: list[tuple[str, str]] = []
        self.job = Job(
            "a1",
            "work",
            "me",
            "",
            lambda fraction, text: self.reports.append((fraction, text)),
            lambda stream, data: self.output.append((stream, data)),
        )


@given(st.floats(allow_nan=False))
def test_fraction_is_brought_between_0_and_1(fraction: float) -> None:
    told = Told()
    told.job.report(fraction)
    assert told.reports == [(min(max(fraction, 0.0), 1.0), None)]


def test_fraction_that_is_no_number_says_nothing() -> None:
    told = Told()
    told.job.report(float("nan"), "half way")
    assert told.reports == [(None, "half way")]


def test_print_writes_as_print_does() -> None:
    told = Told()
    told.job.print("a", 1, sep="-", end="!\n", stream="stderr")
    assert told.output == [("stderr", "a-1!\n")]


async def test_track_gives_every_item_and_the_first_report_at_once() -> None:
    told = Told()
    assert [item async for item in told.job.track(range(5))] == [0, 1, 2, 3, 4]
    assert list(told.job.track("abc")) == ["a", "b", "c"]
    assert told.reports[0] == (0.0, None)


async def test_track_of_items_without_length_counts_them() -> None:
    told = Told()
    assert list(told.job.track(iter("ab"))) == ["a", "b"]
    assert told.reports == [(None, "0 done")]


def test_track_stops_at_the_next_step_once_cancelled() -> None:
    told = Told()
    seen: list[int] = []
    items = iter(told.job.track(range(10)))
    while len(seen) < 4:
        seen.append(next(items))
    told.job.cancel()
    with pytest.raises(asyncio.CancelledError):
        next(items)
    assert seen == [0, 1, 2, 3]
    assert told.job.cancelled


def test_check_raises_only_once_cancelled() -> None:
    told = Told()
    told.job.check()
    told.job.cancel()
    with pytest.raises(asyncio.CancelledError):
        told.job.check()
