"""The table of jobs, on SQLite and PostgreSQL: leases, and who may do what when."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from words.jobs import LEASE, Claim, Jobs

from tests.postgresql import Server


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/jobs.sqlite"
        return
    server: Server = request.getfixturevalue("postgresql")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def two(database: str, clock: Clock) -> Iterator[tuple[Jobs, Jobs]]:
    """Two hubs on one database."""
    jobs = (Jobs(database, "hub-1", clock=clock), Jobs(database, "hub-2", clock=clock))
    yield jobs
    for each in jobs:
        each.close()


def test_oldest_jobs_are_claimed_first_and_once(two: tuple[Jobs, Jobs], clock: Clock) -> None:
    first, second = two
    ids: list[str] = []
    for number in range(5):
        clock.now += 1
        ids += first.add([f"http://{number}"])
    assert [claim.id for claim in first.claim(2)] in (ids[:2], ids[1::-1])
    assert {claim.id for claim in second.claim(10)} == set(ids[2:])
    assert first.claim(10) == second.claim(10) == []


def test_job_of_a_dead_hub_is_claimed_by_another_when_its_lease_has_ended(two: tuple[Jobs, Jobs], clock: Clock) -> None:
    first, second = two
    (dead, alive) = first.add(["http://dead", "http://alive"])
    first.claim(2)
    clock.now += LEASE - 1
    first.renew([alive])
    assert second.claim(10) == []
    clock.now += 2
    assert [claim.id for claim in second.claim(10)] == [dead]
    first.renew([dead])  # late: it is another's
    first.put_back(dead, attempts=1)
    assert first.claim(10) == []


def test_first_result_stays(two: tuple[Jobs, Jobs]) -> None:
    first, second = two
    (id,) = first.add(["http://a"])
    first.claim(1)
    first.complete(id, '{"a":1}')
    second.complete(id, '{"b":1}')
    second.fail(id, "no")
    second.put_back(id, attempts=1)
    job = second.get(id)
    assert job == (id, "http://a", "COMPLETE", '{"a":1}', None)
    assert second.claim(10) == []


def test_hub_that_is_back_has_none_of_its_jobs_to_wait_for(two: tuple[Jobs, Jobs], database: str, clock: Clock) -> None:
    first, second = two
    (mine, others) = first.add(["http://a", "http://b"])
    claimed = first.claim(1) + second.claim(1)
    assert {each.id for each in claimed} == {mine, others}
    back = Jobs(database, "hub-1", clock=clock)
    assert [each.id for each in back.claim(10)] == [claimed[0].id]
    back.close()


def test_job_that_is_put_back_waits_with_its_attempts(two: tuple[Jobs, Jobs]) -> None:
    first, second = two
    (id,) = first.add(["http://a"])
    first.claim(1)
    first.put_back(id, attempts=3)
    assert second.claim(1) == [(id, "http://a", 3)]


def test_jobs_that_ended_long_ago_are_removed_and_no_others(two: tuple[Jobs, Jobs], clock: Clock) -> None:
    jobs = two[0]
    (done, failed, running, later) = jobs.add([f"http://{name}" for name in ("done", "failed", "running", "later")])
    jobs.claim(4)
    jobs.complete(done, "{}")
    jobs.fail(failed, "no")
    clock.now += 50
    jobs.complete(later, "{}")
    (waiting,) = jobs.add(["http://waiting"])
    clock.now += 50
    assert jobs.remove(100, 10) == 0, "not more than that ago"
    clock.now += 1
    assert jobs.remove(100, 10) == 2
    assert [jobs.get(id) for id in (done, failed)] == [None, None]
    assert all(jobs.get(id) for id in (running, later, waiting))
    clock.now += 1e9
    assert jobs.remove(100, 10) == 1
    assert {claim.id for claim in two[1].claim(10)} == {running, waiting}, "however old"


def test_old_jobs_are_removed_in_batches(two: tuple[Jobs, Jobs], clock: Clock) -> None:
    for id in two[0].add([f"http://{number}" for number in range(25)]):
        two[0].fail(id, "no")
    clock.now += 2
    assert [jobs.remove(1, 10) for jobs in (*two, *two)] == [10, 10, 5, 0]


def test_hubs_that_remove_at_once_remove_each_job_once(two: tuple[Jobs, Jobs], clock: Clock) -> None:
    for id in two[0].add([f"http://{number}" for number in range(100)]):
        two[0].fail(id, "no")
    clock.now += 2

    def removed(number: int) -> int:
        return two[number % 2].remove(1, 7)

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(removed, range(40))) == 100


def test_unknown_job_is_none(two: tuple[Jobs, Jobs]) -> None:
    assert two[0].get("0" * 32) is None


def test_hubs_that_claim_at_once_share_the_jobs(two: tuple[Jobs, Jobs]) -> None:
    ids = two[0].add([f"http://{number}" for number in range(100)])

    def claimed(number: int) -> list[Claim]:
        return two[number % 2].claim(5)

    with ThreadPoolExecutor(8) as threads:
        claims = list(threads.map(claimed, range(40)))
    assert sorted(claim.id for batch in claims for claim in batch) == sorted(ids)
