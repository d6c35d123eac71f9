"""Two hubs on one PostgreSQL behind one address: a client need not know which of them it asks."""

from asyncio import gather
from collections.abc import Iterator

import pytest
from words.jobs import LEASE

from tests.postgresql import Server
from tests.processes import Client, Stage, until
from tests.relay import relay
from tests.site import Site


@pytest.fixture
def database(postgresql: Server) -> Iterator[str]:
    url = postgresql.create()
    yield url
    postgresql.drop(url)


async def test_two_hubs_behind_one_address_do_each_job_once(database: str, stage: Stage, site: Site) -> None:
    hubs = [await stage.hub(name, "--db", database) for name in ("hub-1", "hub-2")]
    stage.worker("words-1")
    async with relay(*(hub.url for hub in hubs)) as address:
        client = Client(address.url)
        ids = await gather(*(client.submit(site.add(f"/{number}", f"w{number}")) for number in range(60)))
        jobs = await gather(*map(client.end, ids))
    assert [job["result"] for job in jobs] == [{f"w{number}": 1} for number in range(60)]
    for hub in hubs:
        assert await gather(*map(hub.job, ids)) == jobs
    assert len(set(ids)) == 60
    assert list(site.hits.values()) == [1] * 60
    asked = list(address.carried.values())
    assert len(asked) == 2
    assert max(asked) - min(asked) <= 1, "in turn"


async def test_jobs_of_a_killed_hub_are_done_by_the_other(
    postgresql: Server, database: str, stage: Stage, site: Site
) -> None:
    hubs = {name: await stage.hub(name, "--db", database) for name in ("hub-1", "hub-2")}
    stage.worker("words-1")
    await gather(*(hub.until_ready("words-1") for hub in hubs.values()))
    async with relay(*(hub.url for hub in hubs.values())) as address:
        client = Client(address.url)
        # So few that also twice they leave the worker room.
        held = [site.add(f"/held{number}", "one two", held=True) for number in range(3)]
        running = [await client.submit(url) for url in held]
        await until(lambda: _hits(site, 3))
        with postgresql.connect(database.rpartition("/")[2]) as connection:
            ((killed,),) = connection.execute("SELECT max(hub) FROM words_jobs").fetchall()
            hubs[killed].process.kill()
            # As if it had been killed some seconds earlier: what is left of its lease is soon over.
            connection.execute("UPDATE words_jobs SET lease = lease - %s WHERE hub = %s", (LEASE - 3, killed))
        before = sum(address.carried.values())
        waiting = await gather(*(client.submit(site.add(f"/{number}", f"w{number}")) for number in range(40)))
        jobs = await gather(*map(client.end, waiting))
        assert [job["result"] for job in jobs] == [{f"w{number}": 1} for number in range(40)]
        assert [site.hits[f"/{number}"] for number in range(40)] == [1] * 40
        for page in site.pages.values():
            page.open.set()
        for id in running:  # when the lease of the killed one has ended
            assert (await client.end(id, 40))["result"] == {"one": 1, "two": 1}
        assert sum(address.carried.values()) - before >= 2 * 40 + 3
    with postgresql.connect(database.rpartition("/")[2]) as connection:
        rows = connection.execute("SELECT id FROM words_jobs WHERE status = 'COMPLETE'").fetchall()
    assert sorted(id for (id,) in rows) == sorted((*running, *waiting)), "each once"
    back = await stage.hub(killed, "--db", database)
    (other,) = (hub for name, hub in hubs.items() if name != killed)
    for id in running:
        assert await back.job(id) == await other.job(id)


async def _hits(site: Site, wanted: int) -> bool:
    return site.hits.total() == wanted
