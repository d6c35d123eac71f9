"""What of a script's output is shown and kept: nothing twice, nothing lost in silence, whatever a device says."""

import io
import secrets
from pathlib import Path

import pytest
from rich.console import Console

from outrider.controller.cli.options import size
from outrider.controller.cli.saving import Folder, FolderInUse, NotSaved
from outrider.controller.cli.script_output import LONGEST_LINE, NOTICE, Lines, Told, Verbatim, plain
from outrider.controller.scripts import Program, doubts, killed, size_words
from outrider.device.scripts.contract import Limits, Stream
from outrider.schema import Progress
from tests.peers import Connect, Peer

from .conftest import Yard


def printed(text: Verbatim | None) -> str:
    console = Console(file=io.StringIO(), width=20)
    if text is not None:
        console.print(text, soft_wrap=True)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def out(seq: int, data: str, stream: Stream = "stdout") -> Progress:
    return Progress(id="1", device="a", seq=seq, stream=stream, data=data)


def test_what_was_told_meanwhile_is_not_shown_again() -> None:
    told = Told(1000)
    assert told.rest("stdout", "all of it") == "all of it"
    assert told.take(out(0, "all ")) == (0, "all ")
    assert told.take(out(1, "aside", "stderr")) == (0, "aside")
    assert told.rest("stdout", "all of it") == "of it"
    assert told.take(out(2, "of it")) == (0, "of it")
    assert told.rest("stdout", "all of it") == ""
    assert told.rest("stdout", "all") == ""
    assert told.rest("stderr", "aside") == ""


def test_repeats_add_nothing_and_gaps_are_counted() -> None:
    told = Told(1000)
    assert told.take(Progress(id="1", device="a", seq=0, accepted=True)) == (0, "")
    assert told.take(out(1, "a")) == (0, "a")
    assert told.take(out(1, "a")) == (0, "")
    assert told.take(out(0, "a")) == (0, "")
    assert told.take(out(4, "d")) == (2, "d")
    assert told.gaps == 2
    assert told.rest("stdout", "abcd") == ""


def test_a_cut_result_adds_nothing_where_more_was_told() -> None:
    told = Told(1000)
    told.take(out(0, "0123456789"))
    assert told.rest("stdout", "01234\n[truncated: the first 5 of 10 bytes]\n") == ""


def test_a_device_that_sends_without_end_is_cut_off() -> None:
    told = Told(10)
    taken = [told.take(out(seq, "x" * 100))[1] for seq in range(100)]
    assert "".join(taken) == "x" * (10 + NOTICE)
    assert told.excessive
    assert told.take(out(100, "y", "stderr")) == (0, "y")


def test_lines_of_several_devices_are_whole_and_say_whose_they_are() -> None:
    lines = Lines("lamp-1", 8, "cyan")
    assert printed(lines.add("stdout", "a\tlong")) == ""
    assert printed(lines.add("stderr", "err\n")) == "lamp-1   | err\n"
    assert printed(lines.add("stdout", "er line than the terminal\r\n\n\x1b[2J\nx")) == (
        "lamp-1   | a\tlonger line than the terminal\nlamp-1   | \nlamp-1   | \\u001b[2J\n"
    )
    assert printed(lines.end("stdout")) == "lamp-1   | x\n"
    assert printed(lines.end("stdout")) == ""


def test_a_line_without_an_end_does_not_grow_without_one() -> None:
    lines = Lines("a", 1, "cyan")
    assert printed(lines.add("stdout", "x" * (LONGEST_LINE + 1))) == f"a | {'x' * (LONGEST_LINE + 1)}\n"
    assert printed(lines.end("stdout")) == ""


def test_output_of_the_only_device_is_as_it_is_but_for_control_characters() -> None:
    assert printed(plain("a\tb\r\n\x1b[31m\x00ü\u202e")) == "a\tb\n\\u001b[31m\\u0000ü\\u202e"


def test_a_folder_takes_nothing_that_is_there_already(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "a" / "b")
    folder.add("one", "stdout", "1")
    folder.add("one", "stdout", "2")
    folder.replace("one", "stderr", "\ud800 3")
    assert (folder.path / "one.out").read_text() == "12"
    assert (folder.path / "one.err").read_text() == "? 3"
    with pytest.raises(FolderInUse, match="is not empty"):
        Folder(folder.path)
    (folder.path / "two.out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotSaved, match=r"two\.out cannot be written: File exists"):
        folder.add("two", "stdout", "x")
    (folder.path / "one.out").unlink()
    (folder.path / "one.out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotSaved, match=r"one\.out cannot be written"):
        folder.add("one", "stdout", "x")
    assert not (tmp_path / "elsewhere").exists()


def test_limits_are_told_in_words() -> None:
    limits = Limits(memory=size("1.5G"), cpu=2.5)
    assert killed("memory", limits) == "over its memory of 1.5 GiB"
    assert killed("cpu", limits) == "over its 2.5 s of processor time"
    assert killed("processes", limits) == "over its 64 processes"
    assert killed("workspace", limits) == "over the quota of its workspace"
    assert killed("SIGSEGV", limits) == "SIGSEGV"
    assert [size_words(each) for each in (0, 1, 1023, 1024, 256 * 1024**2)] == [
        "0 bytes",
        "1 byte",
        "1023 bytes",
        "1 KiB",
        "256 MiB",
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("print(", "a.py, line 1: '(' was never closed"),
        ("x = '\\d'", ""),
        ("# coding: nonsense\n", "a.py, line 1: |a.py: unknown encoding: nonsense|a.py: encoding problem"),
        ("x = \0", "a.py"),
        ("\ufeffx = 1", ""),
        (f"x = {'(' * 5000}{')' * 5000}", "a.py"),
    ],
    ids=["a syntax error", "a warning", "an unknown encoding", "a NUL", "a byte order mark", "nested too deep"],
)
def test_doubts_are_told_and_never_raised(source: str, said: str) -> None:
    found = doubts(Program({"a.py": source}))
    assert bool(found) is bool(said)
    assert not found or any(found[0].startswith(each) for each in said.split("|"))


async def announced(yard: Yard, connect: Connect) -> tuple[Peer, str]:
    """A hand-written device in a group of its own with no about; its id."""
    device = f"odd-{secrets.token_hex(3)}"
    peer = await connect(Peer(yard.broker.address))
    await peer.subscribe(f"{yard.prefix}/devices/{device}/cmd/#")
    state: dict[str, object] = {
        "device": device,
        "status": "ready",
        "session": 1,
        "since": 0,
        "groups": [],
        "pools": [],
    }
    await peer.publish(f"{yard.prefix}/devices/{device}/state", state, retain=True)
    return peer, device


async def test_output_that_did_not_come_is_told(yard: Yard, connect: Connect, tmp_path: Path) -> None:
    peer, device = await announced(yard, connect)
    script = yard.write("hello.py", "print('hello')\n")
    process = yard.start(script, device, "--save-output", str(tmp_path / "kept"))
    command = (await peer.wait_for_count(1, 20))[0].json()
    topics = f"{yard.prefix}/devices/{device}"
    for seq, data in ((1, "b\n"), (4, "e\n")):
        progress = {"id": command["id"], "device": device, "seq": seq, "stream": "stdout", "data": data}
        await peer.publish(f"{topics}/progress/tester", progress)
    value = {"exit_code": 0, "stdout": "a\nb\nc\nd\ne\n", "stderr": "", "duration": 1.0, "peak_memory": 0}
    result = {"id": command["id"], "device": device, "command": "run_script", "status": "done", "value": value}
    await peer.publish(f"{topics}/result/tester", result)
    assert await process.wait(20) == 0
    assert process.output == "b\ne\n"
    assert f"{device}  … 1 message of its output or progress did not come" in process.errors
    assert f"{device}  … 2 messages of its output or progress did not come" in process.errors
    assert (tmp_path / "kept" / f"{device}.out").read_text() == "a\nb\nc\nd\ne\n"
    await peer.publish(f"{topics}/state", b"", retain=True)


ODD = {
    "another value": ("quite well", 1, "its answer is not that of a script"),
    "no value": (None, 1, "its answer is not that of a script"),
    "an exit code that no process can have": ({"exit_code": 256}, 1, ""),
    "a negative exit code": ({"exit_code": -1}, 1, ""),
    "the greatest exit code": ({"exit_code": 255}, 255, ""),
    "a cause with control characters": ({"killed_by": "\x1b[2J"}, 0, "killed: \\u001b[2J"),
}


@pytest.mark.parametrize("case", ODD)
async def test_an_odd_answer_does_no_harm(yard: Yard, connect: Connect, case: str) -> None:
    said, code, words = ODD[case]
    peer, device = await announced(yard, connect)
    process = yard.start(yard.write("hello.py", "print('hello')\n"), device)
    command = (await peer.wait_for_count(1, 20))[0].json()
    value: object = said
    if isinstance(said, dict):
        value = {"exit_code": 0, "stdout": "", "stderr": "", "duration": 1.0, "peak_memory": 0, **said}
    result = {"id": command["id"], "device": device, "command": "run_script", "status": "done", "value": value}
    await peer.publish(f"{yard.prefix}/devices/{device}/result/tester", result)
    assert await process.wait(20) == code
    assert words in process.errors
    assert "\x1b" not in process.output + process.errors
    await peer.publish(f"{yard.prefix}/devices/{device}/state", b"", retain=True)
