"""`outrider results`, `jobs` and `cancel` as people and scripts meet them: processes of their own."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, json
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from outrider.controller.cli.findings import jobs_table, results_table
from outrider.controller.cli.main import app
from outrider.controller.cli.output import printable
from outrider.controller.results import DeviceJob, Standing
from outrider.device import RunningJob
from outrider.schema import Error, Result, Status
from tests.brokers import BrokerUnderTest
from tests.controller.test_cli import Ended
from tests.controller.test_results import Bench, claim, until
from tests.peers import Connect, Peer
from tests.processes import Processes, script
from tests.terminals import open_terminal
from tests.test_docs import ROOT, examples

Cli = Callable[..., Awaitable[Ended]]

LOUD = "\x1b[2J[bold]loud\nlamp-2  done"


@pytest.fixture
def bench(broker: BrokerUnderTest, prefix: str) -> Bench:
    return Bench(broker, prefix)


@pytest.fixture
def cli(bench: Bench, spawn: Processes, tmp_path: Path) -> Cli:
    env = {
        "OUTRIDER_BROKER": bench.broker.address,
        "OUTRIDER_PREFIX": bench.prefix,
        "OUTRIDER_NAME": "tester",
        "XDG_CONFIG_HOME": str(tmp_path),
    }

    async def run(*words: str) -> Ended:
        process = spawn(script("outrider"), *words, env=env)
        code = await process.wait(30)
        assert "Traceback" not in process.errors
        assert "\x1b" not in process.output + process.errors
        return Ended(code, process.output, process.errors)

    return run


async def test_what_was_sent_without_waiting_is_found_by_another_process(bench: Bench, cli: Cli) -> None:
    async with bench.serving("lamp-1", "lamp-2"):
        id = (await cli("send", "all", "echo", "two words", "--no-wait")).output.strip()
        ended = await cli("results", id, "--wait", "20s")
        assert (ended.code, ended.errors) == (0, "")
        *lines, summary = ended.output.splitlines()
        assert [line.partition("  (")[0] for line in lines] == ["lamp-1  done  two words", "lamp-2  done  two words"]
        assert summary == "2 targets: 2 done"
        table = (await cli("results")).output.splitlines()
        assert table[0].split() == ["ID", "DEVICE", "COMMAND", "STATUS", "WHEN", "VALUE"]
        assert sorted(line.split()[:4] for line in table[1:]) == [
            [id, "lamp-1", "echo", "done"],
            [id, "lamp-2", "echo", "done"],
        ]
        (narrowed,) = (await cli("results", id, "--target", "lamp-2", "--ndjson")).json
        assert (narrowed["device"], narrowed["value"], narrowed["id"]) == ("lamp-2", "two words", id)


async def test_a_running_job_is_listed_and_cancelled_by_other_processes(bench: Bench, cli: Cli) -> None:
    async with bench.serving("lamp-1", "lamp-2", "lamp-3") as fleet:
        id = await bench.begin(fleet, "lamp-1", "burn")
        header, row = (await cli("jobs")).output.splitlines()
        assert header.split() == ["ID", "DEVICE", "COMMAND", "REQUESTER", "SINCE", "PROGRESS"]
        assert row.split()[:4] == [id, "lamp-1", "burn", "tester"]
        assert row.rstrip().endswith("25%  a quarter")

        running = await cli("results", id)
        assert (running.code, running.output) == (1, "lamp-1  running  25%  a quarter\n")
        assert f"outrider cancel {id}" in running.errors

        refused = await cli("cancel", id, "--as", "bob")
        assert (refused.code, refused.output) == (2, "")
        assert f"{id} runs on lamp-1 for tester, not for bob; add --as tester" in refused.errors

        cancelled = await cli("cancel", id)
        assert (cancelled.code, cancelled.output.split()[:2]) == (0, ["lamp-1", "cancelled"])
        assert cancelled.errors == "cancelled on lamp-1; 2 devices did not run it\n"

        again = await cli("cancel", id, "lamp-1")
        assert (again.code, again.output.split()[:2]) == (0, ["lamp-1", "cancelled"])
        assert again.errors == "it had ended before: nothing was cancelled\n"
        ended = await cli("results", id)
        assert (ended.code, ended.output) == (1, again.output)

        none = await cli("jobs", "lamp-1")
        assert (none.code, none.output, none.errors) == (0, "", "no job runs; 1 device asked\n")


@pytest.mark.parametrize(("words", "status"), [("results", "done"), ("cancel", "cancelled")])
async def test_outcomes_are_printed_while_a_device_does_not_answer(
    bench: Bench, spawn: Processes, connect: Connect, words: str, status: str
) -> None:
    peer = await connect(Peer(bench.broker.address))
    await claim(peer, bench.prefix, "silent-1", "ready")
    env = {"OUTRIDER_BROKER": bench.broker.address, "OUTRIDER_PREFIX": bench.prefix, "OUTRIDER_NAME": "tester"}
    async with bench.serving("lamp-1") as fleet:
        id = await (
            bench.send(fleet, "lamp-1", "echo", 1) if status == "done" else bench.begin(fleet, "lamp-1", "burn")
        )
        process = spawn(script("outrider"), words, id, env=env)
        await process.wait_for(rf"^lamp-1  {status}", 9)
        assert process.running
        assert await process.wait(40) == 1
        assert process.output.count("lamp-1") == 1
        assert "silent-1: no answer to " in process.errors


async def test_a_terminal_says_who_has_not_answered(bench: Bench, connect: Connect) -> None:
    peer = await connect(Peer(bench.broker.address))
    await claim(peer, bench.prefix, "silent-1", "ready")
    env = {"OUTRIDER_BROKER": bench.broker.address, "OUTRIDER_PREFIX": bench.prefix, "OUTRIDER_NAME": "tester"}
    async with open_terminal(script("outrider"), "jobs", env=env) as terminal:
        await terminal.wait_for("^asking for jobs: no answer from silent-1 yet *$", 9)
        assert await terminal.wait(20) == 1


async def test_json_has_all_that_is_known(bench: Bench, cli: Cli, connect: Connect) -> None:
    peer = await connect(Peer(bench.broker.address))
    await claim(peer, bench.prefix, "gone-1", "lost")
    async with bench.serving("lamp-1", "lamp-2") as fleet:
        await until(fleet, lambda: len(fleet.roster.states) == 3)
        id = await bench.begin(fleet, "lamp-1", "burn")
        (job,) = (await cli("jobs", "--ndjson")).json
        assert (job["device"], job["id"], job["fraction"], job["text"]) == ("lamp-1", id, 0.25, "a quarter")
        (jobs,) = (await cli("jobs", "--json")).json
        assert jobs == {"jobs": [job], "away": ["gone-1"], "untold": {}}
        (running,) = (await cli("results", id, "--json")).json
        assert (running["command"], running["counts"], running["away"]) == ("burn", {"running": 1}, ["gone-1"])
        assert running["outcomes"][0]["fraction"] == 0.25
        cancelled = await cli("cancel", id, "--json")
        (document,) = cancelled.json
        assert (document["cancelled"], document["idle"], document["counts"]) == (
            ["lamp-1"],
            ["lamp-2"],
            {"cancelled": 1},
        )
        assert "1 device is away and told when it is back: gone-1" in cancelled.errors
        (standing,) = (await cli("results", "--json")).json
        assert [each["status"] for each in standing["results"]] == ["cancelled"]
        (everyone,) = (await cli("results", "--everyone", "--ndjson")).json
        assert (everyone["requester"], everyone["id"]) == ("tester", id)


async def test_devices_that_are_away_are_said_to_be(bench: Bench, cli: Cli, connect: Connect) -> None:
    peer = await connect(Peer(bench.broker.address))
    await claim(peer, bench.prefix, "gone-1", "lost")
    await claim(peer, bench.prefix, "gone-2", "lost")
    async with bench.serving("lamp-1") as fleet:
        await until(fleet, lambda: len(fleet.roster.states) == 3)
        id = await bench.send(fleet, "lamp-1", "echo", 1)
        found = await cli("results", id, "--target", "all")
        assert found.code == 0
        assert found.errors == "2 devices are away and were not asked: gone-1, gone-2\n"
        jobs = await cli("jobs", "gone-1")
        assert (jobs.code, jobs.errors) == (0, "no device is there\n1 device is away and was not asked: gone-1\n")
        cancelled = await cli("cancel", id, "gone-1")
        assert (cancelled.code, cancelled.output) == (1, "")
        unknown = await cli("results", "c9")
        assert unknown.code == 2
        assert "gone-1, gone-2 may know of it when back; else it is mistyped" in unknown.errors


async def test_what_devices_say_cannot_act_on_the_terminal(bench: Bench, cli: Cli, connect: Connect) -> None:
    peer = await connect(Peer(bench.broker.address))
    result = {"id": "c1", "device": "odd-1", "command": LOUD, "status": "done", "value": LOUD, "finished": 5}
    await peer.publish(f"{bench.prefix}/devices/odd-1/result/tester", result, retain=True)
    shown = await cli("results")
    assert "\\u001b[2J[bold]loud lamp-2  done" in shown.output
    assert len(shown.output.splitlines()) == 2
    assert (await cli("results", "c1")).output.splitlines()[-1] == "    lamp-2  done"


async def test_what_cannot_be_is_a_usage_error(bench: Bench, cli: Cli) -> None:
    cases = {
        ("cancel", "a/b"): "no command's id",
        ("results", "c9"): "nothing is known of c9 that tester sent",
        ("cancel", "c9"): "no device runs c9: it has ended, or belongs to another requester than tester (--as)",
        ("results", "lamp-1"): "lamp-1 is a device, no command; its last result: outrider results --target lamp-1",
        ("results", "--target", "lmap-1"): "did you mean lamp-1",
        ("jobs", "lmap-1"): "did you mean lamp-1",
        ("cancel", "c9", "lmap-1"): "did you mean lamp-1",
    }
    few = asyncio.Semaphore(4)

    async def ended(words: tuple[str, ...]) -> Ended:
        async with few:
            return await cli(*words)

    async with bench.serving("lamp-1"):
        for (words, said), end in zip(cases.items(), await asyncio.gather(*map(ended, cases)), strict=True):
            assert (end.code, end.output) == (2, ""), words
            assert said in end.errors, words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["results", "--wait", "5s"], "--wait waits for one command"),
        (["results", "c9", "--everyone"], "--everyone goes without an ID"),
        (["results", "c9", "--wait", "soon"], "is not a duration"),
        (["jobs", "--json", "--ndjson"], "exclude each other"),
        (["cancel"], "Missing argument 'ID'"),
    ],
)
def test_options_that_make_no_sense_are_a_usage_error(words: list[str], said: str) -> None:
    ended = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert said in ended.stderr


async def test_an_empty_fleet_has_nothing_and_says_so(cli: Cli) -> None:
    assert (
        await cli("results")
    ).errors == "no result stands on the broker for tester; another requester's: add --as NAME\n"
    assert (await cli("jobs")).errors == "no device is there\n"


@pytest.mark.parametrize("words", [["results"], ["jobs"], ["cancel", "c1"]])
async def test_no_broker_exits_with_3(cli: Cli, words: list[str]) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        ended = await cli(*words, "--broker", f"mqtt://127.0.0.1:{port}")
    assert (ended.code, ended.output) == (3, "")
    assert ended.errors.startswith("error: ")
    assert ended.errors.endswith(f"To try things out, start one: outrider broker --port {port}\n")


def rendered(table: Table, width: int) -> list[str]:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [80, 200])
def test_a_value_takes_what_room_there_is_and_one_line(width: int) -> None:
    result = Result(
        id="5f0c2a9e41d7b386",
        device="lamp-1",
        command="echo",
        status=Status.DONE,
        value=Raw(json.encode(["long\nvalue"] * 500)),
        finished=100.0,
    )
    failed = Result(
        id="c2",
        device="lamp-2",
        command="x" * 100,
        status=Status.FAILED,
        error=Error("error", "no\ngas"),
        finished=40.0,
    )
    lines = rendered(results_table([Standing("ann", result), Standing("", failed)], everyone=True, now=160.0), width)
    assert len(lines) == 3
    assert all(len(line) <= width for line in lines)
    assert "1 min ago" in lines[1]
    if width == 200:
        assert lines[1].rstrip().endswith("…")
        assert "error: no gas" in lines[2]


@given(st.text())
def test_any_value_takes_one_line_without_control_characters(value: str) -> None:
    text = Raw(json.encode(value.encode(errors="replace").decode()))
    result = Result(id="c1", device="lamp-1", command="echo", status=Status.DONE, value=text, finished=100.0)
    _, line = rendered(results_table([Standing("ann", result)], everyone=False, now=160.0), 120)
    assert printable(line) == line


def test_a_job_that_waits_for_a_thread_says_so() -> None:
    job = RunningJob(
        id="c1", command="heat", requester="hub", behalf="ann", received=40, started=None, fraction=None, text=None
    )
    (_, row) = rendered(jobs_table([DeviceJob("oven-1", job)], now=time.time()), 120)
    assert "hub for ann" in row
    assert "waits for a thread" in row


async def test_python_example_of_the_page_runs(bench: Bench, spawn: Processes, tmp_path: Path) -> None:
    lamp, example, _ = examples(ROOT / "docs" / "jobs.md")
    (tmp_path / "lamp.py").write_text(lamp)
    (tmp_path / "example.py").write_text(
        example.replace('"mqtt://localhost"', f'"{bench.broker.address}", prefix="{bench.prefix}"')
    )
    device = spawn(
        script("outrider-device"),
        *("run", "lamp:lamp", "--broker", bench.broker.address, "--prefix", bench.prefix),
        cwd=tmp_path,
    )
    await device.wait_for("is connected", errors=True)
    process = spawn.python(tmp_path / "example.py", env={"OUTRIDER_NAME": "ann"})
    assert await process.wait(20) == 0, process
    lines = process.output.splitlines()
    assert lines[:3] == ["lamp-1 calibrate ann", "('lamp-1',) cancelled", "cancelled ()"]
    assert lines[3:] == ["lamp-1 calibrate cancelled"]


def test_a_narrow_terminal_shows_whole_ids(capsys: pytest.CaptureFixture[str]) -> None:
    job = RunningJob("0123456789abcdef", "calibrate", "ann-workstation", "", 5, 5, 0.5, "round 5")
    Console(width=40).print(jobs_table([DeviceJob("lamp-1", job)], now=10))
    assert job.id in capsys.readouterr().out
