"""`outrider script` on the devices of a target: output as it comes, exit codes, files, what is refused before."""

import signal
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import typer
from msgspec import json

from outrider.controller.cli.fetching import file_name
from outrider.controller.scripts import read
from outrider.schema import MAX_SIZE
from tests.processes import Processes

from .conftest import OUTRIDER, Yard


def saved(folder: Path) -> dict[str, str]:
    """The files of a folder but for the index, by name."""
    return {
        str(file.relative_to(folder)): file.read_text()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "index.ndjson"
    }


def index(folder: Path) -> list[dict[str, Any]]:
    return [json.decode(line) for line in (folder / "index.ndjson").read_text().splitlines()]


async def test_on_one_device_the_output_is_as_if_it_ran_here(yard: Yard) -> None:
    script = yard.write(
        "tabs.py", "import sys\nprint('a\\tb')\nprint('aside', file=sys.stderr)\nprint('end', end='')\n"
    )
    ended = await yard(script, "runner-1")
    assert (ended.code, ended.output, ended.errors) == (0, "a\tb\nend", "aside\n")


async def test_on_one_device_the_exit_code_is_that_of_the_script(yard: Yard) -> None:
    ended = await yard(yard.write("seven.py", "raise SystemExit(7)\n"), "--on", "runner-1")
    assert (ended.code, ended.output, ended.errors) == (7, "", "")


async def test_a_traceback_names_the_script_and_goes_to_standard_error(yard: Yard) -> None:
    ended = await yard(yard.write("broken.py", "1 / 0\n"), "any:scripts")
    assert (ended.code, ended.output) == (1, "")
    assert 'broken.py", line 1' in ended.errors
    assert ended.errors.endswith("ZeroDivisionError: division by zero\n")


async def test_arguments_and_input_reach_the_script(yard: Yard) -> None:
    script = yard.write("echo.py", "import sys\nprint(sys.argv[1:], sys.stdin.read())\n")
    yard.write("input.txt", "read me")
    ended = await yard(
        script, "--on", "runner-1", "--arg", "one", "--arg", "-2", "--arg", "x=1", "--stdin", "input.txt"
    )
    assert (ended.code, ended.output) == (0, "['one', '-2', 'x=1'] read me\n")


async def test_the_script_may_come_from_standard_input(yard: Yard) -> None:
    ended = await yard("-", "--on", "runner-1", stdin=b"print('from a pipe')\n")
    assert (ended.code, ended.output) == (0, "from a pipe\n")


@pytest.mark.parametrize("where", [("--on", "runner-1"), ("runner-1",)], ids=["an option", "the last word"])
async def test_further_files_go_along(yard: Yard, where: tuple[str, ...]) -> None:
    yard.write("helping.py", "WORD = 'helped'\n")
    script = yard.write("main.py", "import helping\nprint(helping.WORD, __file__.rpartition('/')[2])\n")
    ended = await yard(script, "helping.py", *where)
    assert (ended.code, ended.output) == (0, "helped main.py\n")


async def test_files_that_are_no_python_go_along(yard: Yard) -> None:
    script = yard.write(
        "count.py", "import pathlib\nprint(pathlib.Path(__file__).with_name('words.csv').read_text())\n"
    )
    ended = await yard(script, yard.write("words.csv", "a,b"), "--on", "runner-1")
    assert (ended.code, ended.output) == (0, "a,b\n")


def test_files_below_the_script_keep_their_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "folder")
    assert list(read(["../hello.py", "./hello.py"], BytesIO()).files) == ["hello.py", "folder/hello.py"]
    assert list(read(["hello.py", "../other.py"], BytesIO()).files) == ["hello.py", "other.py"]
    assert list(read(["-", "hello.py"], BytesIO(b"1")).files) == ["script.py", "hello.py"]


async def test_requirements_are_passed_on(yard: Yard) -> None:
    script = yard.write("nothing.py", "")
    ended = await yard(script, "runner-1", "--with", "httpx", "--with", "rich>=13", "--infer-requirements")
    assert (ended.code, ended.output) == (0, "requirements ['httpx', 'rich>=13'] True\n")


async def test_on_several_devices_each_line_says_whose_it_is(yard: Yard) -> None:
    script = yard.write(
        "lines.py",
        "import os, sys\nfor i in range(3): print('line', i, end=' '); print('of', os.environ['DEVICE'])\n"
        "print('aside', file=sys.stderr)\nprint('open', end='')\n",
    )
    ended = await yard(script, "--on", "@kitchen")
    lines = ended.output.splitlines()
    for device in ("runner-1", "runner-2"):
        own = [line for line in lines if line.startswith(device)]
        assert own == [*(f"{device} | line {i} of {device}" for i in range(3)), f"{device} | open"]
        assert f"{device} | aside\n" in ended.errors
        assert f"{device}  exited 0  (" in ended.errors
    assert ended.code == 0
    assert ended.errors.endswith("2 targets: 2 done; 2 exited 0\n")


async def test_on_several_devices_one_failure_makes_the_exit_code_1(yard: Yard) -> None:
    script = yard.write("one.py", "import os\nraise SystemExit(3 if os.environ['DEVICE'] == 'runner-2' else 0)\n")
    ended = await yard(script, "--on", "@kitchen")
    assert (ended.code, ended.output) == (1, "")
    assert "runner-2  exited 3  (" in ended.errors
    assert ended.errors.endswith("2 targets: 2 done; 1 exited 0, 1 exited 3\n")


async def test_a_script_that_was_killed_says_by_what_in_words(yard: Yard) -> None:
    script = yard.write("hungry.py", "import os, signal\nos.kill(os.getpid(), signal.SIGUSR1)\n")
    ended = await yard(script, "--on", "runner-1", "--memory", "64M")
    assert ended.code == 138
    assert "runner-1  killed: over its memory of 64 MiB  (" in ended.errors
    several = await yard(script, "--on", "@kitchen")
    assert several.code == 1
    assert "runner-2  killed: over its memory of 256 MiB  (" in several.errors
    assert several.errors.endswith("2 targets: 2 done; 2 killed (memory)\n")


async def test_a_script_over_its_timeout_is_a_failure(yard: Yard) -> None:
    script = yard.write("long.py", "import time\nprint('began')\ntime.sleep(60)\n")
    ended = await yard(script, "--on", "runner-1", "--timeout", "500ms")
    assert (ended.code, ended.output) == (1, "began\n")
    assert "runner-1  timed_out" in ended.errors


async def test_output_is_there_while_the_script_runs(yard: Yard) -> None:
    script = yard.write("wait.py", "import time\nprint('half', end='')\ntime.sleep(60)\n")
    process = yard.start(script, "--on", "runner-1")
    await process.wait_for("half")
    assert process.running
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130
    assert "run_script may still run on runner-1" in process.errors
    id = process.errors.rpartition("outrider cancel ")[2].strip()
    async with yard.fleet() as fleet:
        await fleet.call("runner-1", "cancel", id)


async def test_what_a_script_prints_cannot_act_on_the_terminal(yard: Yard) -> None:
    script = yard.write("loud.py", "print('\\x1b[2J\\u202e', end='\\r\\n')\n")
    ended = await yard(script, "--on", "runner-1")
    assert ended.output == "\\u001b[2J\\u202e\n"
    several = await yard(script, "--on", "@kitchen")
    assert "runner-1 | \\u001b[2J\\u202e\n" in several.output


async def test_much_output_is_shown_once_and_whole_beyond_what_a_result_holds(yard: Yard) -> None:
    script = yard.write("much.py", "for i in range(40_000): print(i)\n")
    ended = await yard(script, "--on", "runner-1")
    assert ended.output == "".join(f"{i}\n" for i in range(40_000))


async def test_ndjson_has_a_line_for_each_device_and_nothing_else(yard: Yard) -> None:
    script = yard.write("hello.py", "print('hello')\n")
    ended = await yard(script, "--on", "@kitchen", "--ndjson")
    assert (ended.code, ended.errors) == (0, "")
    assert sorted(each["device"] for each in ended.json) == ["runner-1", "runner-2"]
    assert {each["value"]["stdout"] for each in ended.json} == {"hello\n"}


async def test_json_is_one_document(yard: Yard) -> None:
    ended = await yard(yard.write("hello.py", "print('hello')\n"), "--on", "runner-1", "--json")
    (document,) = ended.json
    assert document["outcomes"][0]["value"]["exit_code"] == 0


async def test_quiet_prints_nothing_and_the_exit_code_tells(yard: Yard) -> None:
    ended = await yard(yard.write("five.py", "print('x')\nraise SystemExit(5)\n"), "--on", "runner-1", "--quiet")
    assert (ended.code, ended.output, ended.errors) == (5, "", "")


async def test_output_is_saved_by_device_with_an_index(yard: Yard, tmp_path: Path) -> None:
    script = yard.write("say.py", "import sys\nprint('\\x1b[1mout')\nprint('err', file=sys.stderr)\n")
    folder = tmp_path / "kept" / "here"
    ended = await yard(script, "--on", "@kitchen", "--save-output", str(folder))
    assert ended.code == 0
    assert saved(folder) == {
        f"runner-{number}.{ending}": text
        for number in (1, 2)
        for ending, text in (("out", "\x1b[1mout\n"), ("err", "err\n"))
    }
    entries = {each["device"]: each for each in index(folder)}
    assert entries["runner-1"]["stdout"] == "runner-1.out"
    assert (entries["runner-2"]["status"], entries["runner-2"]["exit_code"]) == ("done", 0)


async def test_saved_output_has_all_that_was_sent_beyond_what_a_result_holds(yard: Yard, tmp_path: Path) -> None:
    script = yard.write("much.py", "for i in range(40_000): print(i)\n")
    await yard(script, "--on", "runner-1", "--save-output", str(tmp_path / "kept"), "--quiet")
    assert saved(tmp_path / "kept")["runner-1.out"] == "".join(f"{i}\n" for i in range(40_000))


async def test_output_of_an_earlier_run_is_not_written_over(yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("old")
    ended = await yard(yard.write("hello.py", "print('hello')\n"), "runner-1", "--save-output", str(tmp_path))
    assert (ended.code, ended.output) == (2, "")
    assert "is not empty, and nothing in it is written over" in ended.errors


async def test_files_that_the_script_wrote_are_fetched(yard: Yard, tmp_path: Path) -> None:
    script = yard.write("write.py", "open('data.bin', 'wb').write(bytes(range(256)) * 20)\n")
    ended = await yard(
        script, "--on", "@kitchen", "--save-output", str(tmp_path / "kept"), "--fetch", "data.bin", "--fetch", "none"
    )
    for device in ("runner-1", "runner-2"):
        assert (tmp_path / "kept" / device / "data.bin").read_bytes() == bytes(range(256)) * 20
        assert f"{device}  none was not fetched: " in ended.errors
    assert ended.code == 1


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..", "", "a//b", "x\x00", "x\n", "a" * 256, "a\\b"])
def test_a_name_that_leads_out_of_the_folder_is_not_fetched(name: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no name of a file in a workspace"):
        file_name(name)


USAGE_ERRORS = {
    "no target": (["hello.py"], "no target: write outrider script hello.py --on TARGET"),
    "only files": (["hello.py", "other.py"], "'other.py' is a file, and no target is given"),
    "two targets": (["hello.py", "runner-1", "--on", "runner-2"], "'runner-1' is no file that goes along, and"),
    "a target in the middle": (["hello.py", "runner-1", "runner-2"], "a target stands last"),
    "malformed target": (["hello.py", "run/1"], "not well formed"),
    "no such file": (["nowhere.py", "runner-1"], "nowhere.py cannot be read: No such file"),
    "a folder": (["folder", "runner-1"], "folder cannot be read: Is a directory"),
    "no such further file": (["hello.py", "nowhere.py", "runner-1"], "nowhere.py cannot be read"),
    "not UTF-8": (["latin.py", "runner-1"], "latin.py is not UTF-8: byte 9 is 0xe9"),
    "too large": (["large.py", "runner-1"], "large.py has more than"),
    "too large together": (["half.py", "half2.py", "runner-1"], "half.py and 1 more file with arguments and input"),
    "two of one name": (["folder/hello.py", "hello.py", "runner-1"], "hello.py: there is another hello.py already"),
    "a name that no device takes": (["hello.py", "folder/.env.py", "runner-1"], "'folder/.env.py' is hidden"),
    "a script of another name": (
        ["hello", "other.py", "runner-1"],
        "hello: a script with other files is called NAME.py",
    ),
    "a size that is none": (["hello.py", "runner-1", "--memory", "lots"], "'lots' is no size"),
    "too little memory": (["hello.py", "runner-1", "--memory", "1M"], "--memory: 16M is the least"),
    "standard input twice": (["-", "runner-1", "--stdin", "-"], "standard input can only be one of"),
    "retries without a map": (["hello.py", "runner-1", "--retries", "3"], "need --map"),
    "a name that leads out of the folder": (
        ["hello.py", "runner-1", "--save-output", "kept", "--fetch", "../x"],
        "'../x' is no name of a file in a workspace",
    ),
    "a folder that is a file": (["hello.py", "runner-1", "--save-output", "other.py"], "other.py cannot be used"),
    "a misspelt option": (["hello.py", "runner-1", "--memroy", "1G"], "--memroy"),
    "json and a map": (["hello.py", "runner-1", "--map", "x", "--json"], "--map excludes --json"),
    "fetch without a folder": (["hello.py", "runner-1", "--fetch", "x"], "--fetch needs --save-output"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With files to send, good ones and bad ones."""
    (tmp_path / "folder").mkdir()
    for name in ("hello.py", "folder/hello.py"):
        (tmp_path / name).write_text("print('hello')\n")
    for name, size in (
        ("other.py", 1),
        ("large.py", MAX_SIZE),
        ("half.py", MAX_SIZE // 2),
        ("half2.py", MAX_SIZE // 2),
    ):
        (tmp_path / name).write_text("#" * size)
    (tmp_path / "latin.py").write_bytes(b"print('ca\xe9')\n")
    return tmp_path


@pytest.mark.parametrize("case", USAGE_ERRORS)
async def test_what_cannot_be_sent_is_refused_before_a_broker_is_asked(
    spawn: Processes, folder: Path, case: str
) -> None:
    words, said = USAGE_ERRORS[case]
    process = spawn(OUTRIDER, "script", *words, env={"OUTRIDER_BROKER": "unix:///nowhere/at/all"}, cwd=folder)
    assert await process.wait() == 2
    assert process.output == ""
    assert said in " ".join(process.errors.replace("│", " ").split())


USAGE_ERRORS_OF_TARGETS = {
    "unknown device": ("runner-9", "runner-9"),
    "a pool without members": ("any:nobody", "no device is in this pool"),
    "a device without scripts": ("lamp-1", "lamp-1 does not run scripts: start it with"),
}


@pytest.mark.parametrize("case", USAGE_ERRORS_OF_TARGETS)
async def test_a_target_that_cannot_run_it_is_a_usage_error(yard: Yard, case: str) -> None:
    target, said = USAGE_ERRORS_OF_TARGETS[case]
    ended = await yard(yard.write("hello.py", "print('hello')\n"), target)
    assert (ended.code, ended.output) == (2, "")
    assert said in ended.errors


async def test_a_script_that_python_here_cannot_read_is_sent_with_a_warning(yard: Yard) -> None:
    ended = await yard(yard.write("wrong.py", "x = 1\nif:\n"), "--on", "runner-1")
    assert ended.code == 1
    assert ended.errors.startswith("warning: wrong.py, line 2: invalid syntax (so says Python 3.")
    assert "SyntaxError" in ended.errors


async def test_a_device_without_scripts_among_others_gets_a_hint(yard: Yard) -> None:
    ended = await yard(yard.write("hello.py", "print('hello')\n"), "--on", "runner-1,lamp-1")
    assert (ended.code, ended.output) == (1, "runner-1 | hello\n")
    assert "lamp-1  rejected  unknown-command" in ended.errors
    assert "no scripts on lamp-1: start it with outrider-device run --allow-scripts" in ended.errors


async def test_an_empty_pool_of_scripts_says_how_to_fill_it(own_yard: Yard) -> None:
    ended = await own_yard(own_yard.write("hello.py", ""), "any:scripts")
    assert ended.code == 2
    assert "no device is in this pool" in ended.errors
    assert "Start one: outrider-device run --allow-scripts" in ended.errors


async def test_a_broker_that_is_not_there_is_exit_code_3(yard: Yard) -> None:
    script = yard.write("hello.py", "")
    ended = await yard(script, "runner-1", OUTRIDER_BROKER="unix:///nowhere/at/all")
    assert ended.code == 3


async def test_a_device_that_is_lost_in_the_middle_has_an_outcome(own_yard: Yard) -> None:
    device = await own_yard.runner("runner-1")
    script = own_yard.write("hang.py", "import time\nprint('began')\ntime.sleep(10)\n")
    process = own_yard.start(script, "runner-1")
    await process.wait_for("began")
    device.kill()
    assert await process.wait(20) == 1
    assert "runner-1  running  it was running when the device was lost" in process.errors


async def test_durable_outcomes_are_there_afterwards(yard: Yard, tmp_path: Path) -> None:
    script = yard.write("hello.py", "print('hello')\n")
    ended = await yard(script, "runner-1", "--durable", XDG_STATE_HOME=str(tmp_path / "outbox"))
    assert (ended.code, ended.output) == (0, "hello\n")
    (kept,) = (tmp_path / "outbox" / "outrider").glob("*.sqlite")
    assert kept.stat().st_size
