"""Scripts over HTTP, run by a device that locks them in, started as people start one."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.brokers import ONE, BrokerUnderTest
from tests.controller.hub.running import RunningHub
from tests.controller.hub.scripting import asking, outcome, run, start_locked, status, until
from tests.device.scripts.wheels import make_wheel
from tests.processes import Processes, marked
from tests.processes import until as processes_until

pytestmark = pytest.mark.parametrize("broker", [ONE], indirect=True, scope="session")


@pytest_asyncio.fixture
async def hub(broker: BrokerUnderTest, prefix: str, tmp_path: Path, spawn: Processes) -> AsyncIterator[RunningHub]:
    running = RunningHub(broker, prefix, tmp_path, spawn)
    await running.start()
    yield running


@pytest_asyncio.fixture
async def client(hub: RunningHub) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a hub with a device that allows scripts."""
    await start_locked(hub)
    async with hub.client() as client:
        yield client


async def test_script_runs_locked_in_and_tells_how_it_ended(hub: RunningHub, client: httpx.AsyncClient) -> None:
    code = """
import sys
print(sys.argv[1:], input())
print('careful', file=sys.stderr)
try: open(sys.argv[1], 'x')
except OSError: print('denied')
"""
    attack = str(hub.folder / "attack")
    said = await outcome(client, code, args=[attack], stdin="typed")
    assert (said["status"], said["exit_code"]) == ("COMPLETED", 0), said
    assert (said["stdout"], said["stderr"]) == (f"['{attack}'] typed\ndenied\n", "careful\n")
    assert said["peak_memory"] > 0


async def test_script_over_its_memory_or_its_time_says_so(client: httpx.AsyncClient) -> None:
    code = "print('begun', flush=True)\nwhile True: pass"
    said = await outcome(client, code, timeout=1)
    assert (said["status"], said["exit_code"], said["stdout"]) == ("TIMED_OUT", None, "begun\n")
    said = await outcome(client, code, limits={"cpu": 1})
    assert (said["status"], said["killed_by"], said["stdout"]) == ("CRASHED", "cpu", "begun\n")
    assert said["reason"] == "it used more processor time than it may"
    said = await outcome(client, "x = bytearray(2**33)")
    assert said["status"] == "CRASHED"
    assert "MemoryError" in said["stderr"] or said["killed_by"] == "memory"
    said = await outcome(client, "1", limits={"memory": 1 << 50})
    assert (said["status"], said["exit_code"]) == ("CRASHED", None)
    assert "more than this device grants" in said["reason"]


async def test_much_output_keeps_its_notice(client: httpx.AsyncClient) -> None:
    said = await outcome(client, "print('x' * 20_000_000)")
    assert said["status"] == "COMPLETED"
    assert "[truncated: the first " in said["stdout"][-100:]
    assert len(said["stdout"]) > 100_000


async def test_cancelled_script_is_gone_with_all_that_it_began(client: httpx.AsyncClient) -> None:
    mark = f"mark-{secrets.token_hex(8)}"
    code = (
        "import subprocess, sys\nprint('begun', flush=True)\n"
        f"subprocess.run([sys.executable, '-c', 'while True: pass', '{mark}'])"
    )
    id = await run(client, code)
    await processes_until(lambda: marked(mark))
    await until(client, id, lambda said: said["stdout"])
    await client.delete(f"/status/{id}", params=asking("ada"))
    assert (await status(client, id))["status"] == "CANCELLED"
    await processes_until(lambda: not marked(mark))


async def test_clients_do_not_see_each_others_files(client: httpx.AsyncClient) -> None:
    code = "import os; print(sorted(os.listdir())); open('mine', 'w').write('secret')"
    first = await run(client, code, "a b", script_name="a.py")
    second = await run(client, code, "a-b", script_name="a.py")
    assert (await status(client, first, "a b"))["stdout"] == "['a.py']\n"
    assert (await status(client, second, "a-b"))["stdout"] == "['a.py']\n"
    again = await run(client, code, "a b", script_name="a.py")
    assert (await status(client, again, "a b"))["stdout"] == "['a.py', 'mine']\n"


async def test_scripts_of_one_client_under_one_name_each_run_themselves(client: httpx.AsyncClient) -> None:
    ids = await asyncio.gather(*(run(client, f"print({number})", script_name="a.py") for number in range(20)))
    every = await asyncio.gather(*(status(client, id) for id in ids))
    assert [each["stdout"] for each in every] == [f"{number}\n" for number in range(20)]


async def test_harmless_script_with_a_package_it_did_not_declare_works(hub: RunningHub, tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "alpha")
    await start_locked(hub, "--script-index", str(tmp_path / "wheels"))
    code = ["import alpha, os", "print('one', alpha.VERSION)", "os.chdir('/')", "print(os.getcwd())", "print('two')"]
    async with hub.client() as client:
        said = await outcome(client, code)
        assert (said["status"], said["exit_code"], said["stdout"]) == ("COMPLETED", 0, "one 1.0\n/\ntwo\n"), said


async def test_file_of_another_kind_goes_along_where_the_device_takes_it(hub: RunningHub) -> None:
    await start_locked(hub, "--script-files", "*.py", "--script-files", "*.csv")
    async with hub.client() as client:
        for other, expected in (("words.csv", "COMPLETED"), ("words.txt", "CRASHED")):
            code = f"print(open({other!r}).read())".encode()
            files = [("files[]", ("main.py", code)), ("files[]", (other, b"a,b"))]
            answer = await client.post("/run-file", data={"client": "ada"}, files=files)
            assert answer.status_code == 202, answer.text
            said = await status(client, answer.json()["id"])
            assert said["status"] == expected, said
            assert said["stdout"] == ("a,b\n" if expected == "COMPLETED" else "")


@pytest.mark.slow
async def test_script_that_imports_what_it_did_not_declare_runs(hub: RunningHub) -> None:
    await start_locked(hub)
    code = [
        "import cowsay, os",
        "print('one')",
        "os.chdir('/')",
        "print(os.getcwd())",
        "print('two', cowsay.__name__)",
    ]
    async with hub.client() as client:
        said = await outcome(client, code)
        assert (said["status"], said["exit_code"]) == ("COMPLETED", 0), said
        assert said["stdout"] == "one\n/\ntwo cowsay\n"
        said = await outcome(client, "import no_such_package_of_outrider_tests_7f3a")
        assert said["status"] == "CRASHED"
        assert "no-such-package-of-outrider-tests-7f3a" in (said["reason"] + said["stderr"]).replace("_", "-")
        said = await outcome(client, code, infer_requirements=False)
        assert (said["status"], said["exit_code"]) == ("CRASHED", 1)
        assert "ModuleNotFoundError" in said["stderr"]
