import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import events, http, ping, recorder, store
from benchmarks.children import ChildFailed, answering, figure
from benchmarks.report import Line, table, write
from outrider.controller.broker import find_mosquitto

from .processes import Processes

ROOT = Path(__file__).parent.parent
KEYS = {"name", "value", "unit", "peer", "ratio", "goal", "met"}


def shown(*lines: Line) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table(lines, "Title"))
    return captured.get()


def test_results_file_is_a_list_of_lines_with_ratio_and_goal(tmp_path: Path) -> None:
    write(tmp_path / "results.json", [Line("ping", "1/s", value=300.0, peer=200.0, goal=1.5)])
    assert json.loads((tmp_path / "results.json").read_text()) == [
        {"name": "ping", "value": 300.0, "unit": "1/s", "peer": 200.0, "ratio": 1.5, "goal": 1.5, "met": True}
    ]


def test_goal_above_the_ratio_is_missed_and_shown_so() -> None:
    line = Line("ping", "1/s", value=1000.0, peer=2000.0, goal=1.0)
    assert line.met is False
    assert "0.50" in shown(line)
    assert "no" in shown(line)


def test_line_without_a_goal_is_neither_met_nor_missed() -> None:
    assert Line("ping", "1/s", value=1.0, peer=2.0).met is None


def test_line_that_could_not_be_measured_says_why_and_has_not_met_its_goal() -> None:
    line = Line("ping", "1/s", goal=1.0, why="no broker [red] is installed")
    assert line.plain() == dict.fromkeys(KEYS) | {"name": "ping", "unit": "1/s", "goal": 1.0, "met": False}
    assert "no broker [red] is installed" in shown(line)


async def test_child_that_fails_is_named_with_its_last_words() -> None:
    with pytest.raises(ChildFailed, match=r"SystemExit|no such peer") as failed:
        await figure(sys.executable, "-c", "raise SystemExit('no such peer')")
    assert "exit code 1" in str(failed.value)


async def test_answerer_that_ends_before_it_is_ready_is_reported() -> None:
    with pytest.raises(ChildFailed, match="ended with exit code 3"):
        async with answering(sys.executable, "-c", "raise SystemExit(3)", sign="ready\n"):
            pass


@pytest.mark.slow
async def test_short_run_measures_every_line_and_exits_0(spawn: Processes, tmp_path: Path) -> None:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    results = tmp_path / "results.json"
    options = ("--rounds", "1", "--share", "0.05", "--results", results)
    bench = spawn.python("-m", "benchmarks", *options, cwd=ROOT)
    assert await bench.wait(50) == 0, str(bench)
    lines = json.loads(results.read_text())
    loads = (*ping.LOADS, *events.LOADS)
    names = {*(load.name for load in loads), recorder.NAME, http.NAME, *store.NAMES}
    assert {line["name"] for line in lines} == names
    assert all(line.keys() == KEYS and line["value"] > 0 and line["peer"] > 0 for line in lines), str(bench)
