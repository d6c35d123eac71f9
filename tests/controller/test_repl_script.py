"""The REPL with a script from a pipe, against real devices."""

import re
import signal
from collections.abc import Callable

import pytest

from outrider.controller.cli.words import OWN_WORDS
from tests.controller.conftest import Setting, until_ready
from tests.processes import Processes, Spawned, script
from tests.terminals import open_terminal


async def test_script_runs_its_lines_in_order_and_prints_only_what_comes_back(
    run_script: Callable[..., Spawned],
) -> None:
    repl = run_script(
        "# two ways to write the same\n"
        "use lamp-1   # the lamp in the kitchen\n"
        "\n"
        'calculate 0.3 "one # two"\n'
        'calculate(0, "three")\r\n'
        "send gear-1 turn direction=left speed=2\n"
        'send gear-1 use("x", {"a": 1})\n'
        'send gear-1 use x {"a": 1}'
    )
    assert await repl.wait() == 0, repl
    assert [re.sub(r"  \([^)]*s\)$", "", line) for line in repl.output.splitlines()] == [
        "lamp-1  done  one # two",
        "lamp-1  done  three",
        "gear-1  done  left 2 False",
        "gear-1  done  used x {'a': 1}",
        "gear-1  done  used x {'a': 1}",
    ]
    assert repl.errors == ""


async def test_script_goes_on_after_what_was_not_done_and_exits_with_1(run_script: Callable[..., Spawned]) -> None:
    repl = run_script("send gear-1 fail\nsend lamp-1 ping\n")
    assert await repl.wait() == 1, repl
    assert re.search(r"^gear-1  failed  error: ValueError: no grease", repl.output)
    assert re.search(r"^lamp-1  done  \d+", repl.output, re.MULTILINE)


async def test_script_addresses_groups_and_all(run_script: Callable[..., Spawned]) -> None:
    repl = run_script("use @kitchen\nping\nuse all\nping\n")
    assert await repl.wait() == 0, repl
    answers = [line.split()[0] for line in repl.output.splitlines()]
    assert sorted(answers[:2]) == ["lamp-1", "lamp-2"]
    assert sorted(answers[2:]) == ["gear-1", "lamp-1", "lamp-2"]


@pytest.mark.parametrize("line", ["send lamp-1 calculate 1", b"\xff"], ids=["argument", "encoding"])
async def test_script_stops_at_a_line_it_cannot_understand_and_names_it(
    run_script: Callable[..., Spawned], line: str | bytes
) -> None:
    wrong = line if isinstance(line, bytes) else line.encode()
    repl = run_script(b"# first\n" + wrong + b"\nsend lamp-1 ping\n")
    assert await repl.wait() == 2, repl
    assert "line 2: " in repl.errors
    assert ("argument 'msg' is missing" if isinstance(line, str) else "not UTF-8") in repl.errors
    assert repl.output == ""


async def test_script_runs_each_line_as_it_comes_through_the_pipe(run_script: Callable[..., Spawned]) -> None:
    repl = run_script(None)
    repl.write("send lamp-1 calculate(0, first)\n")
    await repl.wait_for("done  first")
    repl.write("send lamp-1 calculate(0, second)\nexit\nsend lamp-1 ping\n")
    assert await repl.wait() == 0, repl
    assert len(repl.output.splitlines()) == 2


async def test_interrupted_script_exits_with_130(run_script: Callable[..., Spawned]) -> None:
    repl = run_script(None)
    repl.write("send lamp-1 calculate(0, ready)\n")
    await repl.wait_for("ready")
    repl.send_signal(signal.SIGINT)
    assert await repl.wait() == 130, repl
    assert repl.errors == ""


async def test_script_waits_no_longer_than_told(run_script: Callable[..., Spawned]) -> None:
    repl = run_script("send lamp-1 calculate 30 late\n", "--wait", "0.5")
    assert await repl.wait() == 1, repl
    assert repl.output.startswith("lamp-1  running  ")


@pytest.mark.parametrize("wait", ["nan", "inf", "0", "1e10", "soon"])
async def test_a_wait_that_is_no_duration_is_a_usage_error(run_script: Callable[..., Spawned], wait: str) -> None:
    repl = run_script("send lamp-1 ping\n", "--wait", wait)
    assert await repl.wait() == 2, repl
    assert repl.output == ""
    assert wait in repl.errors


async def test_help_devices_and_about_answer_in_a_script(run_script: Callable[..., Spawned]) -> None:
    repl = run_script("help\ndevices\nabout gear-1 turn\nuse lamp-1\nhelp\nhelp calculate\nhelp use\nabout\n")
    assert await repl.wait() == 0, repl
    assert all(word.usage in repl.output for word in OWN_WORDS.values())
    assert re.search(r"^lamp-1 +ready .*kitchen", repl.output, re.MULTILINE)
    assert re.search(r"^turn direction", repl.output, re.MULTILINE)
    assert re.search(r"Take x seconds", repl.output)


@pytest.mark.parametrize("piped", [True, False], ids=["script", "terminal"])
async def test_without_broker_it_exits_with_3_and_says_where_and_what_to_do(spawn: Processes, piped: bool) -> None:
    options = (script("outrider"), "repl", "--broker", "mqtt://127.0.0.1:1")
    if piped:
        repl = spawn(*options)
        assert await repl.wait() == 3, repl
        said = repl.errors
    else:
        async with open_terminal(*options, env={}) as terminal:
            assert await terminal.wait() == 3
            said = terminal.text
    assert len(re.findall(r"127\.0\.0\.1:1\b", said)) <= 2
    assert "No connection to the broker at 127.0.0.1:1" in said
    assert "Check that it runs" in said.replace("\n", "")


async def test_all_words_answer_in_a_script_and_watch_prints_once(run_script: Callable[..., Spawned]) -> None:
    repl = run_script(
        "use room=shop and fw<2.1\nturn left\ndevices @kitchen - lamp-2\njobs @yard\nresults\nwatch @yard\nquit\n"
    )
    assert await repl.wait(20) == 0, repl
    assert re.search(r"^gear-1  done  left 1 False", repl.output, re.MULTILINE)
    assert re.search(r"^lamp-1 +ready", repl.output, re.MULTILINE)
    assert not re.search(r"^lamp-2 +ready", repl.output, re.MULTILINE)
    assert re.search(r"gear-1 +turn +done", repl.output)
    assert re.search(r"^1 device: 1 ready", repl.output, re.MULTILINE)
    assert "no job runs; 1 device asked" in repl.errors


async def test_script_stops_at_an_id_that_nobody_knows(run_script: Callable[..., Spawned]) -> None:
    repl = run_script("cancel nobody\nsend lamp-1 ping\n")
    assert await repl.wait(20) == 2, repl
    assert "line 1: no device runs nobody" in repl.errors
    assert repl.output == ""


async def test_script_terminates_without_asking_and_quit_leaves_devices_alone(
    run_script: Callable[..., Spawned], setting: Setting, spawn: Processes, unique: str
) -> None:
    devices = {
        id: spawn(script("outrider-device"), "run", "--id", id, "--ready", *setting.at)
        for id in (f"stays-{unique}", f"ends-{unique}")
    }
    await until_ready(setting, list(devices))
    stays, ends = devices
    repl = run_script(f"use {stays}\nping\nquit\n")
    assert await repl.wait() == 0, repl
    repl = run_script(f"send {ends} terminate\nsend {stays} ping\n")
    assert await repl.wait() == 0, repl
    assert await devices[ends].wait() == 0
    assert devices[stays].running
