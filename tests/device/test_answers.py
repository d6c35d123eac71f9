from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from msgspec import Raw

from outrider.device import Address, Connection, Entry, Key, MemoryJournal, Stage
from outrider.device.answers import MOST_WAITING, OUTBOX, PROGRESS_WAITING, Answers
from outrider.device.executor import Answer
from outrider.schema import Encoding, Progress, Result, Status, Topics
from tests.device.mosquitto import free_port


def result(id: str, value: bytes = b"1") -> Answer:
    message = Result(id=id, device="lamp-1", command="work", status=Status.DONE, value=Raw(value), finished=1.0)
    return Answer("me", message, Encoding.JSON, None)


def progress(seq: int) -> Answer:
    return Answer("me", Progress(id="a1", device="lamp-1", seq=seq, fraction=0.5), Encoding.JSON, None)


class Bench:
    """Answers over a connection that finds no broker: all that is given waits."""

    def __init__(self) -> None:
        address = Address.parse(f"mqtt://127.0.0.1:{free_port()}")
        self.connection = Connection(address, client_id="lamp-1", receive=lambda batch: None, max_queued=OUTBOX)
        self.journal = MemoryJournal()
        self.dropped: Counter[str] = Counter()
        self.answers = Answers(self.connection, Topics(), "lamp-1", self.journal, self.dropped)


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    async with made.connection:
        yield made


async def test_results_wait_without_a_broker_and_none_is_dropped(bench: Bench) -> None:
    for n in range(20_000):
        bench.answers.give(result(f"a{n}"))
    assert bench.connection.pending == 20_000
    assert not bench.dropped
    assert not bench.answers.overrun


async def test_so_many_answers_that_no_more_could_be_kept_are_an_overrun(bench: Bench) -> None:
    for n in range(MOST_WAITING):
        bench.answers.give(result(f"a{n}"))
    assert bench.answers.overrun
    bench.answers.give(result("of-a-job-that-still-ran"))
    assert bench.connection.pending == MOST_WAITING + 1
    assert not bench.dropped


async def test_progress_is_left_out_without_a_broker(bench: Bench) -> None:
    for seq in range(PROGRESS_WAITING):
        bench.answers.give(progress(seq))
    assert bench.connection.pending == 0
    assert bench.dropped == {"progress": PROGRESS_WAITING}


async def test_last_progress_that_was_left_out_comes_before_the_result(bench: Bench) -> None:
    bench.answers.give(progress(1))
    bench.answers.give(progress(2))
    bench.answers.give(result("a2"))
    assert bench.connection.pending == 1
    bench.answers.give(result("a1"))
    assert bench.connection.pending == 3
    bench.answers.give(result("a1"))
    assert bench.connection.pending == 4


async def test_result_is_given_also_where_the_last_progress_cannot_be(bench: Bench) -> None:
    broken = Progress(id="a1", device="lamp-1", seq=1, text="\udcff")
    bench.answers.give(Answer("me", broken, Encoding.JSON, None))
    bench.answers.give(result("a1"))
    assert bench.connection.pending == 1


async def test_answer_that_no_encoding_carries_becomes_a_failure(bench: Bench) -> None:
    entry = Entry(Key("me", "", "a1"), b"", Encoding.JSON, expires=1e9, stated=True)
    bench.journal.accept(entry)
    broken = Result(id="a1", device="lamp-1", command="\udcff", status=Status.DONE, finished=1.0)
    bench.journal.finished(entry, broken)
    bench.answers.give(Answer("me", broken, Encoding.JSON, entry))
    assert bench.dropped == {"answer": 1}
    bench.answers.repeat()
    bench.answers.give(result("a2"))
    assert bench.connection.pending == 1


@pytest.mark.parametrize("repeats", [1, 3])
async def test_result_under_way_is_not_published_again(bench: Bench, repeats: int) -> None:
    entry = Entry(Key("me", "", "a1"), b"", Encoding.JSON, expires=1e9, stated=True)
    bench.journal.accept(entry)
    answer = result("a1")
    assert isinstance(answer.message, Result)
    bench.journal.finished(entry, answer.message)
    for _ in range(repeats):
        bench.answers.give(answer._replace(entry=entry))
        bench.answers.repeat()
    assert bench.connection.pending == 1
    assert entry.stage is Stage.FINISHED


async def test_results_that_the_broker_has_not_are_given_again_once(bench: Bench) -> None:
    given = result("a1")
    assert isinstance(given.message, Result)
    entry = Entry(Key("me", "", "a1"), b"", Encoding.JSON, expires=1e10, stated=True)
    bench.journal.accept(entry)
    bench.answers.repeat()
    assert bench.connection.pending == 0
    bench.journal.finished(entry, given.message)
    bench.answers.repeat()
    bench.answers.repeat()
    assert bench.connection.pending == 1
