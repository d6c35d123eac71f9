"""Every storage says of any history exactly what a plain computation over the raw requests says."""

import asyncio
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast
from uuid import UUID

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import Redis
from vowels.null import NullStorage
from vowels.redis import RedisStorage
from vowels.sqlite import SqliteStorage
from vowels.storage import EPOCH, Summary, shown

from .conftest import StartHub
from .exercise import Answers, Exercise, Requested, computed, exercise
from .probe import Said

Exercised = tuple[Answers, list[Requested]]
Lab = Callable[[Exercise], Exercised]
"""Exercises a storage that was empty, and says what it answered, and which raw requests it has."""


def in_sqlite(task: Exercise) -> Exercised:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vowels.sqlite"

        async def answered() -> Answers:
            async with SqliteStorage(file) as storage:
                return await exercise(storage, task)

        answers = asyncio.run(answered())
        connection = sqlite3.connect(file)
        rows = connection.execute("SELECT time, uuid, symbol FROM requests").fetchall()
        connection.close()
        return answers, [_raw(*row) for row in rows]


def in_redis(url: str, task: Exercise) -> Exercised:
    async def answered() -> Answers:
        async with RedisStorage(url) as storage:
            return await exercise(storage, task)

    with Redis.from_url(url, decode_responses=True) as server:  # pyright: ignore[reportUnknownMemberType]  # its **kwargs
        server.flushall()  # pyright: ignore[reportUnknownMemberType]  # the same
        answers = asyncio.run(answered())
        stream = cast("list[tuple[str, dict[str, str]]]", server.xrange("vowels:requests"))
    return answers, [_raw(int(each["time"]), each["uuid"], each.get("symbol")) for _, each in stream]


def in_hub(client: httpx.Client, task: Exercise) -> Exercised:
    answer = client.post("/probe", content=msgspec.json.encode(task), headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    said = msgspec.json.decode(answer.content, type=Said)
    return said.answers, said.raw


def _raw(microseconds: int, uuid: str, symbol: str | None) -> Requested:
    return Requested(EPOCH + timedelta(microseconds=microseconds), UUID(uuid), symbol)


@pytest.fixture(scope="session", params=["hub", "redis", "sqlite"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    match request.param:
        case "sqlite":
            yield in_sqlite
        case "redis":
            url: str = request.getfixturevalue("redis_url")
            yield lambda task: in_redis(url, task)
        case _:
            start_hub: StartHub = request.getfixturevalue("start_hub")
            hub = start_hub("probed", plugins=("tests.probe",))
            with httpx.Client(base_url=hub.url, timeout=30) as client:
                yield lambda task: in_hub(client, task)


UUIDS = [UUID(f"7d444840-9dc0-4a2b-8d8f-1c5e5e3d5f2{digit}") for digit in range(5)]
BEGUN = datetime(2024, 2, 28, 23, 59, 58, 999_998, tzinfo=UTC)


def _moment(microseconds: int, seconds: int) -> datetime:
    return BEGUN + timedelta(seconds=seconds, microseconds=microseconds)


def _beside(moment: datetime, microseconds: int) -> datetime:
    return moment + timedelta(microseconds=microseconds)


# Close to each other, around the edges of seconds, hours and days, or far apart.
coarse = st.sampled_from([0, 1, 10, 61, 3600, 86_401, 40 * 86_400])
moments = st.builds(_moment, st.integers(0, 5) | st.integers(0, 3_000_000), coarse)
requests = st.builds(Requested, moments, st.sampled_from(UUIDS), st.sampled_from([None, None, "a", "b", "z"]))
# Bounds that are a request's time, or next to it, are those that matter.
bounds = st.builds(_beside, moments, st.integers(-1, 1))
far = st.sampled_from([datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)])


@st.composite
def exercises(draw: st.DrawFn) -> Exercise:
    history = draw(st.lists(st.lists(requests, min_size=1, max_size=6), max_size=4))
    times = [each.at for batch in history for each in batch]
    bound = (st.sampled_from(times) if times else bounds) | bounds | far
    pairs = draw(st.lists(st.tuples(bound, bound).map(lambda pair: (min(pair), max(pair))), max_size=6))
    return Exercise(history, pairs, ["a", "b", "c", "z"])


def _at(microseconds: int, uuid: int, symbol: str | None = None) -> Requested:
    return Requested(BEGUN + timedelta(microseconds=microseconds), UUIDS[uuid], symbol)


EVER = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
REOPENED = [[_at(0, 0)], [_at(1, 0, "a")], [_at(2, 0)], [_at(3, 0, "a")], [_at(4, 0), _at(4, 0)], [_at(9, 1)]]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(exercises())
@example(Exercise(REOPENED, [EVER, (BEGUN, BEGUN + timedelta(microseconds=3))], ["a"]))
@example(Exercise([[_at(5, 0, "a"), _at(5, 0, "a"), _at(5, 0, "b")], [_at(0, 0)]], [EVER], ["a", "b"]))
def test_any_history_is_summed_up_as_the_raw_requests_say(lab: Lab, task: Exercise) -> None:
    answers, raw = lab(task)
    assert answers == computed(task)
    key = msgspec.structs.astuple
    history = [each for batch in task.history for each in batch]
    assert sorted(map(repr, map(key, raw))) == sorted(map(repr, map(key, history)))


def test_repeated_followup_counts_twice_and_repeated_initial_counts_its_followups_once(lab: Lab) -> None:
    answers, _ = lab(Exercise(REOPENED, [(BEGUN, BEGUN + timedelta(microseconds=3))], ["a"]))
    first, last = shown(BEGUN + timedelta(microseconds=1)), shown(BEGUN + timedelta(microseconds=3))
    assert answers.symbols == [Summary(2, "a", first, last, 4)]
    assert answers.ranges == [[Summary(1, "a", first, first, 4)]]


@given(exercises())
def test_null_storage_says_of_any_history_what_is_true_of_none(task: Exercise) -> None:
    nothing = msgspec.structs.replace(task, history=[])
    assert asyncio.run(exercise(NullStorage(), task)) == computed(nothing)


def test_time_of_any_year_is_shown_with_all_its_digits() -> None:
    assert shown(datetime(2026, 11, 25, tzinfo=UTC)) == "2026-11-25 00:00:00.000000"
    assert shown(datetime(7, 1, 2, 3, 4, 5, 6, tzinfo=UTC)) == "0007-01-02 03:04:05.000006"
