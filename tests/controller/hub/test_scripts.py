"""Scripts over HTTP: they run on the pool, and a status tells what became of them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.brokers import ONE, BrokerUnderTest
from tests.controller.hub.running import RunningHub
from tests.controller.hub.scripting import asking, outcome, run, start_runner, status, until
from tests.processes import Processes

pytestmark = pytest.mark.parametrize("broker", [ONE], indirect=True, scope="session")


@pytest_asyncio.fixture
async def hub(broker: BrokerUnderTest, prefix: str, tmp_path: Path, spawn: Processes) -> AsyncIterator[RunningHub]:
    running = RunningHub(broker, prefix, tmp_path, spawn)
    await running.start()
    yield running


@pytest_asyncio.fixture
async def client(hub: RunningHub) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a hub with a device that runs scripts."""
    await start_runner(hub)
    async with hub.client() as client:
        yield client


async def test_script_that_ends_well_is_completed(client: httpx.AsyncClient) -> None:
    code = ["import sys", "print('hello', *sys.argv[1:])", "print(input(), file=sys.stderr)"]
    said = await outcome(client, code, script_name="hello.py", args=["a b", "c"], stdin="typed\n")
    assert said.keys() == {
        *("id", "status", "exit_code", "stdout", "stderr", "reason", "killed_by", "device"),
        *("duration", "peak_memory", "submitted", "started", "finished"),
    }
    assert (said["status"], said["exit_code"], said["reason"], said["killed_by"]) == ("COMPLETED", 0, None, None)
    assert (said["stdout"], said["stderr"], said["device"]) == ("hello a b c\n", "typed\n", "runner-1")
    assert said["submitted"] <= said["started"] <= said["finished"]
    assert said["duration"] > 0


async def test_script_without_a_status_to_wait_for_is_running(client: httpx.AsyncClient) -> None:
    id = await run(client, "import time; print('begun', flush=True); time.sleep(60)")
    said = await until(client, id, lambda said: said["stdout"])
    assert (said["status"], said["exit_code"], said["stdout"], said["reason"]) == ("RUNNING", None, "begun\n", None)
    answer = await client.delete(f"/status/{id}", params=asking("ada"))
    assert answer.status_code == 202
    said = await status(client, id)
    assert (said["status"], said["exit_code"], said["stdout"]) == ("CANCELLED", None, "begun\n")
    assert (await client.delete(f"/status/{id}", params=asking("ada"))).json()["status"] == "CANCELLED"


async def test_script_that_fails_is_crashed_with_its_exit_code(client: httpx.AsyncClient) -> None:
    said = await outcome(client, "import sys; print('before'); sys.exit(3)")
    assert (said["status"], said["exit_code"], said["stdout"]) == ("CRASHED", 3, "before\n")
    assert said["reason"] == "it ended with exit code 3"


async def test_script_that_is_no_python_is_crashed_with_the_syntax_error(client: httpx.AsyncClient) -> None:
    said = await outcome(client, "this is no python")
    assert (said["status"], said["exit_code"]) == ("CRASHED", 1)
    assert "SyntaxError" in said["stderr"]


async def test_script_over_a_limit_says_which(client: httpx.AsyncClient) -> None:
    said = await outcome(client, "raise MemoryError")
    assert (said["status"], said["exit_code"], said["killed_by"]) == ("CRASHED", 1, "memory")
    assert said["reason"] == "it used more memory than it may"


async def test_script_that_takes_too_long_is_timed_out_with_what_it_wrote(client: httpx.AsyncClient) -> None:
    code = "import sys, time; print('one'); print('two', file=sys.stderr); time.sleep(60)"
    said = await outcome(client, code, timeout=1)
    assert (said["status"], said["exit_code"], said["stdout"], said["stderr"]) == (
        "TIMED_OUT",
        None,
        "one\n",
        "two\n",
    )
    assert said["reason"]


async def test_script_that_the_device_cannot_run_is_crashed_with_the_reason(client: httpx.AsyncClient) -> None:
    said = await outcome(client, "1", requirements=["no-such-package"])
    assert (said["status"], said["exit_code"]) == ("CRASHED", None)
    assert said["reason"] == "failed: RuntimeError: there is no package no-such-package"
    said = await outcome(client, "1", limits={"memory": 1 << 40})
    assert said["status"] == "COMPLETED"


async def test_output_beyond_what_a_status_shows_is_cut_off(client: httpx.AsyncClient) -> None:
    id = await run(client, "import time; print('x' * 1_500_000, flush=True); time.sleep(60)")
    said = await until(client, id, lambda said: len(said["stdout"]) > 1_048_576)
    assert said["stdout"].endswith("x\n[more is not shown]\n")
    await client.delete(f"/status/{id}", params=asking("ada"))


async def test_files_are_kept_and_the_main_one_is_run(client: httpx.AsyncClient) -> None:
    files = [
        ("files[]", ("main.py", b"import greeting; print(greeting.WORDS)")),
        ("files[]", ("greeting.py", "WORDS = 'grüß'".encode())),
    ]
    answer = await client.post("/run-file", data={"client": "ada"}, files=files)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/status/{answer.json()['id']}"
    assert (await status(client, answer.json()["id"]))["stdout"] == "grüß\n"
    said = await outcome(client, "import greeting; print(len(greeting.WORDS))")
    assert said["stdout"] == "4\n"


@pytest.mark.parametrize(
    ("parts", "fields", "printed"),
    [
        ([("file", ("one.py", b"print(__file__[-6:])"))], {}, "one.py\n"),
        ([("file", ("what.txt", b"print(__file__[-6:])"))], {"script_name": "two.py"}, "two.py\n"),
        (
            [("files", ("a.py", b"print('a')")), ("files", ("b.py", b"import a, sys; print(sys.argv[1:])"))],
            {"script_name": "b.py", "args": ["x", "y z"], "timeout": "20", "infer_requirements": "false"},
            "a\n['x', 'y z']\n",
        ),
        ([("file", ("in.py", b"print(input())"))], {"stdin": "typed", "limits": '{"cpu": 5}'}, "typed\n"),
    ],
)
async def test_forms_say_all_that_json_does(
    client: httpx.AsyncClient, parts: list[tuple[str, tuple[str, bytes]]], fields: dict[str, object], printed: str
) -> None:
    answer = await client.post("/run-file", data={"client": "ada", **fields}, files=parts)
    assert answer.status_code == 202, answer.text
    said = await status(client, answer.json()["id"])
    assert (said["status"], said["stdout"]) == ("COMPLETED", printed), said


async def test_scripts_are_taken_while_others_run(client: httpx.AsyncClient) -> None:
    code = "import sys, time; time.sleep(1); print(sys.argv[1])"
    names = [f"n{number}.py" for number in range(20)]
    ids = await asyncio.gather(*(run(client, code, script_name=name, args=[name]) for name in names))
    assert len(set(ids)) == 20
    every = await asyncio.gather(*(status(client, id) for id in ids))
    assert [each["stdout"] for each in every] == [f"{name}\n" for name in names]


async def test_script_sent_again_with_its_key_runs_once(hub: RunningHub, client: httpx.AsyncClient) -> None:
    body = {"client": "ada", "code": "print('once')"}
    headers = {"Idempotency-Key": "k-1"}
    answers = await asyncio.gather(*(client.post("/run-json", json=body, headers=headers) for _ in range(8)))
    answers.append(await client.post("/run-json", json=body, headers=headers))
    assert {each.status_code for each in answers} == {202}
    assert len({each.json()["id"] for each in answers}) == 1
    assert (await status(client, answers[0].json()["id"]))["stdout"] == "once\n"
    assert (await client.post("/run-json", json={**body, "code": "2"}, headers=headers)).status_code == 409
    other = await client.post("/run-json", json={**body, "client": "bob"}, headers=headers)
    assert other.json()["id"] != answers[0].json()["id"]


async def test_empty_pool_is_said_and_what_comes_later_runs(hub: RunningHub) -> None:
    async with hub.client() as client:
        headers = {"Idempotency-Key": "k-1"}
        body = {"client": "ada", "code": "print('at last')"}
        answer = await client.post("/run-json", json=body, headers=headers)
        assert answer.status_code == 503
        words = "the pool scripts has no ready device: start one with outrider-device run --allow-scripts --ready"
        assert (answer.json()["detail"], answer.json()["code"]) == (words, "no-member")
        assert answer.headers["retry-after"] == "2"
        await start_runner(hub)
        answer = await client.post("/run-json", json=body, headers=headers)
        assert (await status(client, answer.json()["id"]))["stdout"] == "at last\n"


async def test_script_goes_on_while_the_hub_is_killed(hub: RunningHub, client: httpx.AsyncClient) -> None:
    code = "import sys, time; time.sleep(2); print(sys.argv[1])"
    ids = [await run(client, code, script_name=f"n{number}.py", args=[str(number)]) for number in range(5)]
    await hub.kill()
    await hub.start()
    async with hub.client() as again:
        every = await asyncio.gather(*(status(again, id) for id in ids))
    assert [(each["status"], each["stdout"]) for each in every] == [("COMPLETED", f"{number}\n") for number in range(5)]


async def test_status_of_long_ago_is_found_in_the_store(hub: RunningHub, client: httpx.AsyncClient) -> None:
    id = await run(client, "print('kept')")
    assert (await status(client, id))["status"] == "COMPLETED"
    assert await hub.stop() == 0
    (hub.folder / "state" / "outrider" / "hub-outbox.sqlite").unlink()
    await hub.start()
    async with hub.client() as again:
        assert (await status(again, id))["stdout"] == "kept\n"
        assert (await again.get(f"/status/{id}", params=asking("bob"))).status_code == 404


async def test_device_that_dies_is_told_of_when_it_is_back(hub: RunningHub) -> None:
    device = await start_runner(hub)
    async with hub.client() as client:
        id = await run(client, "import time; print('begun', flush=True); time.sleep(60)")
        await until(client, id, lambda said: said["stdout"])
        device.kill()
        await device.wait()
        await start_runner(hub)
        said = await status(client, id)
        assert (said["status"], said["exit_code"], said["stdout"]) == ("CRASHED", None, "begun\n")
        assert said["reason"].startswith("interrupted: ")


async def test_script_may_be_sent_to_one_device_and_not_to_several(hub: RunningHub, client: httpx.AsyncClient) -> None:
    await start_runner(hub, "runner-2")
    said = await outcome(client, "print(1)", target="runner-2")
    assert (said["device"], said["stdout"]) == ("runner-2", "1\n")
    answer = await client.post("/run-json", json={"client": "ada", "code": "1", "target": "runner-*"})
    assert (answer.status_code, answer.json()["field"]) == (400, "target")
    answer = await client.post("/run-json", json={"client": "ada", "code": "1", "target": "any:nobody"})
    assert (answer.status_code, answer.json()["code"]) == (404, "no-member")
    await hub.start_device("lamp-1")
    said = await outcome(client, "1", target="lamp-1")
    assert said["status"] == "CRASHED"
    assert said["reason"].startswith("rejected: ")
