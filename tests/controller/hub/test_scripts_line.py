"""Scripts that no device has room for: each waits for its turn, runs once, and has an end, also after a restart."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from outrider.controller.hub.line import PAUSE, had_no_room
from outrider.controller.hub.owners import attempt, behalf_of, is_of, new_run, number_of, run_of
from outrider.schema import Code, Error, Result, Status
from tests.brokers import ONE, BrokerUnderTest
from tests.controller.hub.running import RunningHub
from tests.controller.hub.scripting import asking, run, start_runner, status, until
from tests.processes import Processes

pytestmark = pytest.mark.parametrize("broker", [ONE], indirect=True, scope="session")

MOST = 2
"""Scripts that the device runs at once."""


@pytest_asyncio.fixture
async def hub(broker: BrokerUnderTest, prefix: str, tmp_path: Path, spawn: Processes) -> RunningHub:
    running = RunningHub(broker, prefix, tmp_path, spawn)
    await running.start()
    await start_runner(running, parallel=MOST)
    return running


@pytest_asyncio.fixture
async def client(hub: RunningHub) -> AsyncIterator[httpx.AsyncClient]:
    async with hub.client() as client:
        yield client


def holding(folder: Path) -> str:
    """Code that writes down that it runs, and ends when it is let."""
    return (
        f"import pathlib, sys, time\nfolder = pathlib.Path({str(folder)!r})\n"
        "with (folder / 'ran').open('a') as ran: ran.write(sys.argv[1] + chr(10))\n"
        "print('begun', flush=True)\n"
        "while not (folder / 'end').exists(): time.sleep(0.01)\n"
    )


async def fill(client: httpx.AsyncClient, code: str, count: int) -> list[str]:
    """Send as many; those that find room have begun."""
    ids = [await run(client, code, script_name=f"n{at}.py", args=[str(at)]) for at in range(count)]
    for id in ids[:MOST]:
        await until(client, id, lambda said: said["stdout"])
    return ids


def ran(folder: Path) -> list[str]:
    return sorted((folder / "ran").read_text().split())


async def test_scripts_beyond_the_room_of_the_pool_wait_and_run(client: httpx.AsyncClient, tmp_path: Path) -> None:
    ids = await fill(client, holding(tmp_path), 8)
    said = await until(client, ids[-1], lambda said: "waits for room" in (said["reason"] or ""))
    assert (said["id"], said["status"], said["exit_code"]) == (ids[-1], "RUNNING", None)
    assert "at most 2 already" in said["reason"]
    (tmp_path / "end").touch()
    every = [await status(client, id) for id in ids]
    assert [(each["id"], each["status"], each["stdout"]) for each in every] == [
        (id, "COMPLETED", "begun\n") for id in ids
    ]
    assert ran(tmp_path) == [str(at) for at in range(8)]


async def test_script_that_waits_outlives_the_hub(hub: RunningHub, client: httpx.AsyncClient, tmp_path: Path) -> None:
    ids = await fill(client, holding(tmp_path), 5)
    waiting = await until(client, ids[-1], lambda said: "waits for room" in (said["reason"] or ""))
    await hub.kill()
    await hub.start()
    async with hub.client() as again:
        await until(again, ids[-1], lambda said: "waits for room" in (said["reason"] or ""))
        (tmp_path / "end").touch()
        every = [await status(again, id) for id in ids]
        assert [each["status"] for each in every] == ["COMPLETED"] * 5
        first = pytest.approx(waiting["submitted"], abs=PAUSE * 0.8)  # which is before it was sent again
        assert every[-1]["submitted"] == first
        assert ran(tmp_path) == [str(at) for at in range(5)]
        assert await hub.stop() == 0
        (hub.folder / "state" / "outrider" / "hub-outbox.sqlite").unlink()
        await hub.start()
    async with hub.client() as later:  # from the store alone
        said = await status(later, ids[-1])
        assert (said["status"], said["submitted"]) == ("COMPLETED", first)


async def test_script_that_waits_can_be_cancelled_for_good(
    hub: RunningHub, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    ids = await fill(client, holding(tmp_path), 3)
    await until(client, ids[-1], lambda said: "waits for room" in (said["reason"] or ""))
    said = (await client.delete(f"/status/{ids[-1]}", params=asking("ada"))).json()
    assert (said["status"], said["reason"]) == ("CANCELLED", "cancelled while it waited for room; it did not run")
    await hub.kill()
    await hub.start()
    (tmp_path / "end").touch()
    async with hub.client() as again:
        assert (await status(again, ids[-1]))["status"] == "CANCELLED"
        assert (await status(again, ids[0]))["status"] == "COMPLETED"
    assert ran(tmp_path) == ["0", "1"]


@pytest.mark.usefixtures("broker")
def test_attempts_have_ids_of_their_own_that_no_client_can_ask_for() -> None:
    id = new_run(behalf_of("ada"))
    again = attempt(id, 3)
    assert (attempt(id, 1), run_of(again), number_of(again), number_of(id)) == (id, id, 3, 1)
    assert is_of(id, behalf_of("ada"))
    assert not is_of(again, behalf_of("ada"))


@pytest.mark.usefixtures("broker")
@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], False),
        ([Code.BUSY], True),
        ([Code.UNKNOWN_COMMAND, Code.NOT_READY], True),
        ([Code.UNKNOWN_COMMAND], False),
        ([Code.BUSY, Code.INVALID_ARGUMENTS], False),
    ],
)
def test_only_what_all_refused_and_one_may_take_later_waits(codes: list[str], expected: bool) -> None:
    refused = [Result(id="1", device="a", command="c", status=Status.REJECTED, error=Error(code, "")) for code in codes]
    assert had_no_room(refused) is expected
    running = Result(id="1", device="b", command="c", status=Status.RUNNING)
    assert not had_no_room([*refused, running])
