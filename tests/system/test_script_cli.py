"""`outrider script` with devices that lock scripts in: from the command line into the sandbox and back."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.processes import Processes, Spawned, script
from tests.scripting import ALLOWED
from tests.system.conftest import Launch, Meet, at_ready
from tests.system.outsider import RunningDevice

Script = Callable[..., Awaitable[Spawned]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sent"
    folder.mkdir()
    return folder


@pytest.fixture
async def devices(launch: Launch, meet: Meet, script_folder: Path) -> list[RunningDevice]:
    """Two that allow scripts, in the group kitchen."""
    allowed = ("--ready", *ALLOWED, "--group", "kitchen", "--script-folder")
    started = [launch(*allowed, str(script_folder / id), id=id) for id in ("lamp-1", "lamp-2")]
    await asyncio.gather(*(at_ready(meet(device)) for device in started))
    return started


@pytest.fixture
def run(devices: list[RunningDevice], spawn: Processes, folder: Path) -> Script:
    """Write a script and run it with these words, to its end."""
    device = devices[0]
    env = {"OUTRIDER_BROKER": device.broker.address, "OUTRIDER_PREFIX": device.prefix, "OUTRIDER_NAME": "tester"}

    async def ended(source: str, *words: str) -> Spawned:
        (folder / "script.py").write_text(source)
        process = spawn(script("outrider"), "script", "script.py", *words, env=env, cwd=folder)
        await process.wait(50)
        return process

    return ended


async def test_script_runs_in_the_sandbox_and_its_exit_code_comes_back(run: Script, folder: Path) -> None:
    source = "import sys\ntry: open(sys.argv[1], 'x')\nexcept OSError: print('denied', sys.stdin.read())\nsys.exit(9)\n"
    words = ("--on", "lamp-1", "--arg", str(folder / "attack"), "--stdin", "script.py")
    process = await run(source, *words)
    assert process.process.returncode == 9
    assert process.output == f"denied {source}\n"
    assert process.errors == ""


async def test_script_over_its_memory_is_killed_and_that_is_said(run: Script) -> None:
    process = await run("x = bytearray(200 * 1024 * 1024)\nprint(len(x))\n", "lamp-1", "--memory", "64M")
    assert process.process.returncode not in (0, None)
    assert process.output == ""
    assert "over its memory of 64 MiB" in process.errors or "MemoryError" in process.errors


async def test_much_output_comes_up_to_the_limit_and_says_so(run: Script) -> None:
    process = await run("for i in range(100_000): print(i)\n", "lamp-1", "--output-limit", "64K")
    assert process.process.returncode == 0
    whole = "".join(f"{i}\n" for i in range(100_000))
    assert process.output.startswith(whole[: 64 * 1024])
    assert "[output beyond 65,536 bytes is not sent]" in process.output
    assert len(process.output) < 2 * 64 * 1024


async def test_inputs_are_spread_over_the_pool_and_files_are_fetched(run: Script, folder: Path) -> None:
    (folder / "inputs.txt").write_text("".join(f"{number}\n" for number in range(10)))
    process = await run("import sys\nprint(int(sys.argv[1]) ** 2)\n", "--map", "inputs.txt", "any:scripts")
    assert (process.process.returncode, process.output.split()) == (0, [str(number**2) for number in range(10)])
    process = await run(
        "open('made.bin', 'wb').write(bytes(300_000))\n",
        *("--on", "@kitchen", "--save-output", "kept", "--fetch", "made.bin"),
    )
    assert process.process.returncode == 0
    for device in ("lamp-1", "lamp-2"):
        assert (folder / "kept" / device / "made.bin").read_bytes() == bytes(300_000)
