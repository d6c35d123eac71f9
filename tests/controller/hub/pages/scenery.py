"""The devices that browser tests look at: two lamps, an oven, two that run scripts, and one that means harm."""

import asyncio
import sys
import tempfile
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from outrider.device import Device, Job
from outrider.device.scripts.contract import Limits, ScriptResult

MARKUP = '<img src=x onerror="window.harmed=1"><script>window.harmed=1</script>'
"""What must stay text wherever it is shown."""


class Point(Struct):
    x: float
    y: float = 0.0


def lamp(id: str, room: str) -> Device:
    device = Device(id, groups=["lamps"], tags={"room": room, "fw": "2.1"}, initial="ready")

    @device.command(idempotent=True)
    def dim(
        level: Annotated[int, Meta(ge=0, le=100, description="Brightness in percent.")], smooth: bool = False
    ) -> int:
        """Set the brightness in percent and return it."""
        return -level if smooth else level

    @device.command
    async def calibrate(job: Job, folder: str, rounds: Annotated[int, Meta(ge=1, le=1000)] = 3) -> str:
        """Calibrate.

        It takes a round for each file `round-<n>` that it finds in the folder.
        """
        for number in range(rounds):
            job.report(number / rounds)  # each one: `track` leaves out what follows within 0.1 s
            job.print(f"round {number} begins")
            while not (Path(folder) / f"round-{number}").exists():  # noqa: ASYNC110  # no event tells of it
                await asyncio.sleep(0.01)
        return f"{rounds} rounds"

    @device.command
    def paint(
        mode: Literal["flat", "glossy"],
        points: list[Point],
        weights: dict[str, int],
        name: Annotated[str, Meta(max_length=8)] = "",
        origin: Point | None = None,
        ratio: float | None = None,
    ) -> str:
        """Take every kind of argument, and say what came."""
        return f"{mode} {points} {name!r} {weights} {origin} {ratio}"

    @device.command
    def falter() -> None:
        """Fail on the lamp with an even number."""
        if id.endswith("2"):
            raise ValueError("the bulb is loose")

    return device


lamp_1, lamp_2 = lamp("lamp-1", "kitchen"), lamp("lamp-2", "hall")
oven = Device("oven-1", tags={"room": "kitchen"}, initial="ready")


@oven.command
def heat(degrees: Annotated[float, Meta(gt=0, lt=300)]) -> float:
    """Heat up."""
    return degrees


hostile = Device("hostile", tags={"room": MARKUP, "constructor": "x"}, initial="ready", versions={"fw": MARKUP})


@hostile.command
async def deceive(
    job: Job, words: Annotated[str, Meta(title=MARKUP, description=MARKUP, pattern="^(a+)+$")] = MARKUP
) -> dict[str, object]:
    job.print(MARKUP)
    job.report(0.5, MARKUP)
    return {MARKUP: MARKUP, "dangerouslySetInnerHTML": {"__html": MARKUP}}


@hostile.command
def refuse() -> None:
    raise ValueError(MARKUP)


def runner(id: str) -> Device:
    """A device in the pool `scripts` that runs them without locking them in."""
    device = Device(id, groups=["runners"], pools=["scripts"], initial="ready")

    @device.command
    async def run_script(
        job: Job,
        source: str | None = None,
        files: dict[str, str] | None = None,
        args: list[str] = [],  # noqa: B006  # as devices that run scripts have it
        stdin: str = "",
        requirements: list[str] = [],  # noqa: B006
        infer_requirements: bool = False,
        main: str | None = None,
        limits: Limits = Limits(),  # noqa: B008
    ) -> ScriptResult:
        """Run a script."""
        name = main or "script.py"
        with tempfile.TemporaryDirectory() as folder:
            for each, text in (files or {name: source or ""}).items():
                (Path(folder) / each).write_text(text)
            return await _run([sys.executable, "-u", name, *args], folder, job, stdin)

    return device


async def _run(command: list[str], folder: str, job: Job, stdin: str) -> ScriptResult:
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert process.stdin
    assert process.stdout
    assert process.stderr

    async def read(stream: asyncio.StreamReader, name: Literal["stdout", "stderr"]) -> str:
        written = ""
        while chunk := await stream.read(4096):
            written += chunk.decode()
            job.print(chunk.decode(), end="", stream=name)
        return written

    try:
        process.stdin.write(stdin.encode())
        process.stdin.close()
        out, err = await asyncio.gather(read(process.stdout, "stdout"), read(process.stderr, "stderr"))
        return ScriptResult(await process.wait(), out, err, duration=0.5, peak_memory=9_000_000)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


runner_1, runner_2 = runner("runner-1"), runner("runner-2")
