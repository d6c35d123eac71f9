"""`outrider script --map`: one script for each line of a file, over the devices of a target."""

import asyncio
import signal
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec import json

from outrider.controller.cli.mapping import inputs
from outrider.controller.scripts import InvalidScript
from tests.peers import Connect, Peer
from tests.processes import until

from .conftest import Yard

SQUARE = "import sys\nnumber = int(sys.argv[-1])\nprint(number * number)\n"


def lines(yard: Yard, name: str, *texts: object) -> str:
    return yard.write(name, "".join(f"{text}\n" for text in texts))


async def test_results_come_in_the_order_of_the_inputs(yard: Yard) -> None:
    script = yard.write(
        "turn.py",
        "import sys, time\nnumber = int(sys.argv[1])\ntime.sleep(0.4 if number % 3 == 0 else 0)\nprint(number)\n"
        "print('aside', number, file=sys.stderr)\n",
    )
    ended = await yard(script, "--map", lines(yard, "twelve.txt", *range(12)), "any:scripts")
    assert ended.code == 0
    assert ended.output == "".join(f"{number}\n" for number in range(12))
    *asides, summary = ended.errors.splitlines()
    assert asides == [f"aside {number}" for number in range(12)]
    assert summary == "12 inputs: 12 done; 12 exited 0"


async def test_an_input_is_the_last_argument_and_empty_lines_are_none(yard: Yard) -> None:
    script = yard.write("args.py", "import sys\nprint(sys.argv[1:], end='')\n")
    ended = await yard(script, "--map", "-", "--on", "any:scripts", "--arg", "first", stdin="a b\r\n\n  \nä'x".encode())
    assert (ended.code, ended.output) == (0, "['first', 'a b']\n['first', '  ']\n['first', \"ä'x\"]\n")


async def test_ndjson_has_one_object_an_input_with_its_line(yard: Yard) -> None:
    script = yard.write("square.py", SQUARE)
    ended = await yard(script, "--map", "-", "@kitchen", "--ndjson", stdin=b"2\n\n3\nfour\n")
    assert (ended.code, ended.errors) == (1, "")
    assert [(each["index"], each["input"], each["attempts"], each["status"]) for each in ended.json] == [
        (1, "2", 1, "done"),
        (3, "3", 1, "done"),
        (4, "four", 1, "done"),
    ]
    assert [each["value"]["stdout"] for each in ended.json] == ["4\n", "9\n", ""]
    assert [each["value"]["exit_code"] for each in ended.json] == [0, 0, 1]


async def test_all_devices_work_and_none_gets_more_at_once_than_asked_for(yard: Yard) -> None:
    script = yard.write(
        "times.py",
        "import json, os, time\nbegan = time.time()\ntime.sleep(0.1)\n"
        "print(json.dumps([os.environ['DEVICE'], began, time.time()]))\n",
    )
    ended = await yard(script, "--map", lines(yard, "eight.txt", *range(8)), "any:scripts", "--parallel", "1")
    assert ended.code == 0
    ran = sorted(json.decode(line, type=tuple[str, float, float]) for line in ended.output.splitlines())
    assert {device for device, _, _ in ran} == {"runner-1", "runner-2"}
    for (device, _, end), (after, begin, _) in pairwise(ran):
        assert device != after or end <= begin


async def test_a_script_that_failed_is_not_tried_again(yard: Yard) -> None:
    script = yard.write("square.py", SQUARE)
    ended = await yard(script, "--map", lines(yard, "three.txt", 1, "two", 3), "any:scripts", "--retries", "5")
    assert (ended.code, ended.output) == (1, "1\n9\n")
    assert 'line 2, "two": runner-' in ended.errors
    assert "exited 1  (" in ended.errors
    assert ended.errors.endswith("3 inputs: 3 done; 2 exited 0, 1 exited 1\n")


async def test_a_script_that_failed_is_tried_again_where_that_is_asked_for(yard: Yard, tmp_path: Path) -> None:
    script = yard.write(
        "again.py",
        f"import os, pathlib, sys\nmark = pathlib.Path({str(tmp_path)!r}, sys.argv[1])\n"
        "if not mark.exists():\n    mark.write_text(os.environ['DEVICE'])\n    sys.exit(4)\n"
        "print(mark.read_text() != os.environ['DEVICE'])\n",
    )
    ended = await yard(script, "--map", lines(yard, "two.txt", "a", "b"), "any:scripts", "--retry-failed")
    assert (ended.code, ended.output) == (0, "True\nTrue\n")
    assert ended.errors == "2 inputs: 2 done; 2 exited 0; 2 made again\n"


async def test_a_busy_device_gets_its_call_later(own_yard: Yard, connect: Connect, tmp_path: Path) -> None:
    await own_yard.runner("runner-1", RUNNER_PARALLEL="1")
    end = tmp_path / "end"
    hold = f"import pathlib, time\nwhile not pathlib.Path({str(end)!r}).exists(): time.sleep(0.01)\n"
    peer = await connect(Peer(own_yard.broker.address))
    await peer.subscribe(f"{own_yard.prefix}/devices/runner-1/result/tester")
    async with own_yard.fleet() as fleet:
        holding = fleet.dispatch("runner-1", "run_script", {"source": hold})
        async for _ in holding:
            break  # it has begun
        process = own_yard.start(
            own_yard.write("square.py", SQUARE),
            "--map",
            lines(own_yard, "two.txt", 1, 2),
            "any:scripts",
            "--retries",
            "0",
        )
        assert (await peer.wait_for_count(1, 20))[0].json()["error"]["code"] == "busy"
        end.touch()
        assert await process.wait(20) == 0
    assert process.output == "1\n4\n"
    assert "2 inputs: 2 done; 2 exited 0; 1 made again" in process.errors


async def test_a_device_that_restarted_in_the_middle_may_have_run_it_so_it_is_not_run_again(own_yard: Yard) -> None:
    device = await own_yard.runner("runner-1")
    script = own_yard.write("hang.py", "import pathlib, time\npathlib.Path('began').touch()\ntime.sleep(30)\n")
    process = own_yard.start(script, "--map", lines(own_yard, "one.txt", 1), "any:scripts")
    await began(own_yard, "runner-1")
    device.kill()
    await own_yard.until("runner-1", "lost")
    await own_yard.runner("runner-1")
    assert await process.wait(30) == 1
    assert 'line 1, "1": runner-1  interrupted' in process.errors


async def test_with_retries_given_it_runs_on_another_device(own_yard: Yard) -> None:
    device = await own_yard.runner("runner-1")
    script = own_yard.write(
        "hang.py",
        "import os, pathlib, time\npathlib.Path('began').touch()\n"
        "time.sleep(30 if os.environ['DEVICE'] == 'runner-1' else 0)\nprint('ran')\n",
    )
    one = lines(own_yard, "one.txt", 1)
    process = own_yard.start(script, "--map", one, "any:scripts", "--retries", "1", "--ndjson")
    await began(own_yard, "runner-1")
    await own_yard.runner("runner-2")
    device.kill()
    await own_yard.until("runner-1", "lost")
    await own_yard.runner("runner-1")
    assert await process.wait(30) == 0
    result = json.decode(process.output)
    assert (result["device"], result["attempts"], result["value"]["stdout"]) == ("runner-2", 2, "ran\n")


async def began(yard: Yard, device: str) -> None:
    """Wait until a script has left its mark."""
    mark = yard.folder / "runners" / device / "began"
    await until(mark.exists, 15)


async def until_idle(yard: Yard, device: str) -> None:
    """Wait until no job runs on the device."""
    async with yard.fleet() as fleet, asyncio.timeout(10):
        while True:
            if await fleet.call(device, "jobs") == []:
                return
            await asyncio.sleep(0.02)


async def test_without_a_device_that_takes_them_every_input_still_has_an_outcome(own_yard: Yard) -> None:
    await own_yard.device(
        "runner-1",
        "runner:runner",
        "--journal",
        "memory",
        folder=Path(__file__).parent,
        RUNNER="runner-1",
        RUNNER_FOLDER=str(own_yard.folder),
    )
    async with own_yard.fleet() as fleet:
        await fleet.call("runner-1", "stop")
    ended = await own_yard(
        own_yard.write("square.py", SQUARE),
        "--map",
        lines(own_yard, "three.txt", 1, 2, 3),
        "any:scripts",
        "--wait",
        "500ms",
    )
    assert (ended.code, ended.output) == (1, "")
    assert ended.errors.splitlines() == [
        "3 inputs: 3 never sent",
        "no device took the rest within the wait: lines 1 to 3",
    ]


async def test_ctrl_c_cancels_those_that_run_and_says_what_is_left(own_yard: Yard) -> None:
    await own_yard.runner("runner-1")
    script = own_yard.write(
        "hang.py",
        "import pathlib, sys, time\nprint(sys.argv[1])\n"
        # The last of the three begins when the first has ended.
        "if sys.argv[1] == '2':\n    pathlib.Path('began').touch()\nif sys.argv[1] != '0':\n    time.sleep(60)\n",
    )
    process = own_yard.start(script, "--map", lines(own_yard, "six.txt", *range(6)), "any:scripts", "--parallel", "2")
    await began(own_yard, "runner-1")
    process.send_signal(signal.SIGINT)
    assert await process.wait(20) == 130
    assert process.output == "0\n"
    assert 'line 2, "1": runner-1  cancelled' in process.errors
    assert "cancelled, 3 never sent; 1 exited 0" in process.errors
    assert process.errors.endswith("interrupted; 3 of 6 inputs ended; never sent: lines 4 to 6\n")
    await until_idle(own_yard, "runner-1")


async def test_sigterm_cancels_those_that_run_and_says_what_is_left(own_yard: Yard) -> None:
    await own_yard.runner("runner-1")
    script = own_yard.write("hang.py", "import pathlib, time\npathlib.Path('began').touch()\ntime.sleep(60)\n")
    process = own_yard.start(script, "--map", lines(own_yard, "three.txt", *"abc"), "any:scripts", "--parallel", "1")
    await began(own_yard, "runner-1")
    process.terminate()
    assert await process.wait(20) == 143
    assert process.errors == (
        "interrupted; 0 of 3 inputs ended; cancelled, and not heard of since: line 1; never sent: lines 2 to 3\n"
    )
    await until_idle(own_yard, "runner-1")


async def test_output_is_saved_by_the_number_of_the_line(yard: Yard, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    ended = await yard(
        yard.write("square.py", SQUARE),
        "--map",
        "-",
        "any:scripts",
        "--save-output",
        str(folder),
        "-q",
        stdin=b"2\n\n../../3\n",
    )
    assert (ended.code, ended.output, ended.errors) == (1, "", "")
    assert (folder / "000001.out").read_text() == "4\n"
    assert "invalid literal" in (folder / "000003.err").read_text()
    entries = sorted(
        (json.decode(line) for line in (folder / "index.ndjson").read_text().splitlines()),
        key=lambda each: each["index"],
    )
    assert [(each["index"], each["input"], each["exit_code"], each["stdout"]) for each in entries] == [
        (1, "2", 0, "000001.out"),
        (3, "../../3", 1, "000003.out"),
    ]
    assert sorted(tmp_path.iterdir()) == [folder]


async def test_a_terminal_shows_how_many_have_ended(yard: Yard) -> None:
    script = yard.path("slow.py", "import time\ntime.sleep(1)\nprint('done')\n")
    inputs_file = yard.path("two.txt", "1\n2\n")
    async with yard.terminal(script, "--map", inputs_file, "any:scripts", "--parallel", "1") as terminal:
        await terminal.wait_for("0 of 2 answered")
        await terminal.wait_for("2 under way on 2 devices")
        assert await terminal.wait(20) == 0
        assert terminal.text.splitlines() == ["done", "done", "2 inputs: 2 done; 2 exited 0"]
        assert terminal.as_found


async def test_a_terminal_keeps_an_open_line_when_ctrl_c_asks(yard: Yard) -> None:
    script = yard.path("half.py", "import time\nprint('half', end='')\ntime.sleep(60)\n")
    async with yard.terminal(script, "runner-1") as terminal:
        await terminal.wait_for("^half")
        terminal.type("\x03")
        await terminal.wait_for("Cancel it on the devices")
        terminal.type("c")
        assert await terminal.wait(20) == 1
        assert terminal.text.startswith("half")
        assert "runner-1  cancelled" in terminal.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no inputs"),
        (b"\n\r\n", "has no inputs"),
        (b"a\n\xff\n", "line 2 is not UTF-8"),
        (b"a\nb\0c\n", "line 2 has a NUL in it"),
        (None, "No such file"),
    ],
    ids=["empty", "only empty lines", "not UTF-8", "NUL", "not there"],
)
def test_inputs_that_are_none_are_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "inputs.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidScript, match=said), file.parent.joinpath("nothing").open("w+b") as nothing:
        inputs(str(file), nothing)


async def test_an_input_that_is_too_large_once_encoded_is_refused_before_any_is_sent(yard: Yard) -> None:
    """The longest line is not the largest: each of the other's characters becomes six."""
    script = yard.write("mark.py", "import pathlib, sys\npathlib.Path('sent').touch()\n")
    ended = await yard(script, "--map", "-", "runner-1", stdin=b"one\n" + b"x" * 60_000 + b"\n" + b"\x01" * 50_000)
    assert (ended.code, ended.output) == (2, "")
    assert "bytes in a message" in ended.errors
    assert not (yard.folder / "runners" / "runner-1" / "sent").exists()


async def test_index_says_of_which_input_the_output_is_incomplete(yard: Yard, tmp_path: Path) -> None:
    script = yard.write("much.py", "import sys\nprint('x' * int(sys.argv[1]))\n")
    folder = tmp_path / "kept"
    ended = await yard(script, "--map", "-", "any:scripts", "--save-output", str(folder), "-q", stdin=b"10\n200000\n")
    assert ended.code == 0
    entries = [json.decode(line) for line in (folder / "index.ndjson").read_text().splitlines()]
    assert {each["index"]: each.get("incomplete", False) for each in entries} == {1: False, 2: True}
