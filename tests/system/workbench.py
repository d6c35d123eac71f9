"""A device whose commands misbehave on request: `outrider-device run tests.system.workbench:bench`."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from outrider.device import Device, Job, calculate

bench = Device("bench", groups=["kitchen"], initial="ready", max_threads=2, max_jobs=20)
"""What most tests share: few threads and jobs, so that both bounds are near."""

large = Device("large", initial="ready", max_size=4 * 1024 * 1024)
"""One whose own limit is above the broker's."""

not_a_device = "a plain string"

RAISES: dict[str, BaseException] = {
    "ValueError": ValueError("the lamp is broken"),
    "TimeoutError": TimeoutError("by its own clock"),
    "SystemExit": SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "StopIteration": StopIteration(),
    "GeneratorExit": GeneratorExit(),
    "CancelledError": asyncio.CancelledError(),
}


async def typed(
    count: Annotated[int, Meta(ge=0, le=100)],
    ratio: float = 0.5,
    names: list[str] | None = None,
    *,
    exact: bool = False,
) -> dict[str, object]:
    """Return the arguments."""
    return {"count": count, "ratio": ratio, "names": names, "exact": exact}


async def mark(path: str, word: str = "ran") -> str:
    """Append the word to a file: what runs twice leaves two."""
    with Path(path).open("a") as file:
        file.write(f"{word}\n")
    return word


async def mark_after(path: str, seconds: float) -> str:
    """Append a line to a file, then take some seconds."""
    await mark(path)
    await asyncio.sleep(seconds)
    return "ran"


@bench.command(idempotent=True)
async def mark_again(path: str, seconds: float) -> str:
    """As `mark_after`; it may be run again after a restart."""
    return await mark_after(path, seconds)


def hold(job: Job, seconds: float) -> str:
    """A plain function that takes some seconds and heeds cancel."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job.check()
        time.sleep(0.005)
    return "held"


def stubborn(until: str) -> str:
    """A plain function that ignores cancel: it returns once the file is there."""
    while not Path(until).exists():
        time.sleep(0.005)
    return "returned"


async def deaf(until: str) -> str:
    """An async function that ignores cancel: it returns once the file is there."""
    while not Path(until).exists():
        try:
            await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            continue
    return "returned"


async def block(until: str) -> str:
    """A mistake: an async function that waits as a plain one may, so the event loop stands still meanwhile."""
    while not Path(until).exists():
        time.sleep(0.005)  # noqa: ASYNC251
    return "returned"


async def fail(kind: str) -> None:
    """Raise in the event loop."""
    raise RAISES[kind]


def fail_in_thread(kind: str) -> None:
    """Raise in a thread."""
    raise RAISES[kind]


async def letters(size: int) -> str:
    """Return so many letters."""
    return "x" * size


async def unsendable(kind: str) -> object:
    """Return what no message can carry."""
    cycle: list[object] = []
    cycle.append(cycle)
    return {"object": object(), "cycle": cycle, "surrogate": "\ud800"}[kind]


async def steps(job: Job, count: int) -> int:
    """Report so many steps and print a line for each."""
    for step in range(count):
        job.report(step / count, f"step {step}")
        job.print("line", step)
    return count


bench.include(
    calculate, typed, mark, mark_after, hold, stubborn, deaf, block, fail, fail_in_thread, letters, unsendable, steps
)
large.include(letters)
