"""Two hubs on one PostgreSQL behind one address: a client need not know which of them it asks."""

from collections.abc import Iterator

import pytest

from tests.postgresql import Server
from tests.processes import Hub, Stage, until
from tests.site import Site


@pytest.fixture
def database(postgresql: Server) -> Iterator[str]:
    url = postgresql.create()
    yield url
    postgresql.drop(url)


async def test_two_hubs_serve_the_same_jobs(database: str, stage: Stage, site: Site) -> None:
    hubs = [await stage.hub(name, "--db", database) for name in ("hub-1", "hub-2")]
    stage.worker("words-1")
    ids = [await hubs[number % 2].submit(site.add(f"/{number}", f"w{number}")) for number in range(20)]
    for number, id in enumerate(ids):
        assert (await hubs[(number + 1) % 2].end(id))["result"] == {f"w{number}": 1}
    assert set(site.hits.values()) == {1}


async def test_jobs_of_a_killed_hub_are_done_by_the_other(database: str, stage: Stage, site: Site) -> None:
    first, second = [await stage.hub(name, "--db", database) for name in ("hub-1", "hub-2")]
    stage.worker("words-1")
    await first.until_ready("words-1")
    id = await first.submit(site.add("/held", "one two", held=True))
    await until(lambda: _hit(site, "/held"))
    first.process.kill()
    waiting = await second.submit(site.add("/waiting", "three"))
    assert (await second.end(waiting))["result"] == {"three": 1}
    site.pages["/held"].open.set()
    assert (await second.end(id, 40))["result"] == {"one": 1, "two": 1}  # when the first one's lease has ended
    ended = await stage.hub("hub-1", "--db", database)
    assert await _job(ended, id) == await _job(second, id)


async def _hit(site: Site, path: str) -> int:
    return site.hits[path]


async def _job(hub: Hub, id: str) -> dict[str, object]:
    return await hub.job(id)
