"""How long ended jobs are kept, and that a hub removes them."""

import contextlib
import time
from functools import partial

import pytest
from words.jobs import Jobs
from words.removal import DAY, MOST, keep

from tests.processes import Hub, Stage, until


@pytest.mark.parametrize(("given", "days"), [("", 30), ("7", 7), ("0.5", 0.5)])
def test_environment_says_how_long_jobs_are_kept(given: str, days: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDS_KEEP_DAYS", given)
    assert keep() == days * DAY


@pytest.mark.parametrize("given", ["0", "-1", "nan", "a week"])
def test_time_to_keep_jobs_that_makes_no_sense_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDS_KEEP_DAYS", given)
    with pytest.raises(ValueError, match="WORDS_KEEP_DAYS is a number of days above 0"):
        keep()


async def test_hub_answers_a_removed_job_as_an_unknown_one(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDS_KEEP_DAYS", "7")
    hub = await stage.hub()  # the database is its
    hub.process.interrupt()
    await hub.process.ended()
    database = f"sqlite:///{stage.folder}/state-hub/outrider/hub.sqlite"
    old = _ended(database, 8, MOST + 1)
    kept = _ended(database, 6, 10)
    hub = await stage.hub()
    for id in old:
        await until(partial(_unknown, hub, id))
    for id in kept:
        assert (await hub.job(id))["status"] == "FAIL"


async def test_hub_says_what_is_wrong_with_the_time_to_keep_jobs(stage: Stage) -> None:
    hub = stage.start("outrider", "hub", "--plugin", "words.plugin", env={"WORDS_KEEP_DAYS": "a week"})
    assert await hub.ended() != 0
    assert "WORDS_KEEP_DAYS is a number of days above 0, as 7 or 0.5, not 'a week'" in hub.output


def _ended(database: str, days: float, number: int) -> list[str]:
    """So many jobs that ended so many days ago."""
    then = time.time() - days * DAY
    with contextlib.closing(Jobs(database, "then", clock=lambda: then)) as jobs:
        ids = jobs.add(["http://a.example"] * number)
        for id in ids:
            jobs.fail(id, "no")
    return ids


async def _unknown(hub: Hub, id: str) -> bool:
    answer = await hub.ask("GET", "/word-count", params={"job_id": id})
    return answer.status_code == 400 and answer.json() == {"success": False, "message": f"there is no job {id}"}
