"""The commands that come with every device, and `calculate`, which comes by choice."""

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, json, msgpack, to_builtins
from msgspec.structs import replace

from outrider.schema import About, CommandAbout, CommandSpec, Encoding
from outrider.schema.messages import DEFAULT_EXPIRY

from .executor import Executor
from .job import Job, RunningJob
from .journal import Usage
from .lifecycle import Lifecycle
from .threads import run_in_daemon_thread

RESERVED = ("start", "stop", "terminate", "cancel", "jobs", "result", "about", "stats")
"""Names of the control commands, which no device can define anew."""

READING = ("jobs", "result", "about", "stats")
"""Those of them that change nothing, so they are idempotent. A late duplicate of the others could undo a later one."""

REMEMBERED = {"cancel": DEFAULT_EXPIRY}
"""For how many seconds a journal keeps what is good for much longer and does no harm when it comes again.

A cancel is good for seven days, as its command may be; a device that kept each for so long would be full of them.
"""

CALCULATE_REPORTS = 20
"""How many times `calculate` reports its progress at most."""

REPORT_INTERVAL = 0.2
"""Seconds between two reports of `calculate` at least."""


class Stats(Struct, frozen=True):
    """What `stats` returns: counts since the device's process began, and what it does now.

    `uptime` is in seconds, `clock` the device's Unix time. `clock_ahead` is by how many seconds it is ahead of the
    clocks of who asks, below 0 where it is behind, null while too few have asked to tell. `protocol` is the MQTT
    version (5, or 4 for 3.1.1). `jobs` run now, `ended` counts final answers by status (and repeats), `dropped` what
    was not answered, by reason. `journal_error` is why the journal cannot be written, null while it can.
    `events_waiting` are kept until the broker acknowledges them, `events_sent` it has acknowledged.
    """

    uptime: float
    clock: float
    clock_ahead: float | None
    session: int
    protocol: int | None
    jobs: int
    ended: dict[str, int]
    dropped: dict[str, int]
    journal: Usage
    journal_error: str | None
    events_waiting: int
    events_sent: int


class Controls:
    """The control commands of one device: they work in any state, at once, whatever else runs."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        executor: Executor,
        about: Callable[[], About],
        stats: Callable[[], Stats],
    ) -> None:
        self._lifecycle = lifecycle
        self._executor = executor
        self._about = about
        self._stats = stats

    def start(self) -> str:
        """Make the device ready for data commands; return its status."""
        return self._lifecycle.apply("start")

    def stop(self) -> str:
        """Make the device unready: running jobs finish, those that had not started end; return its status."""
        status = self._lifecycle.apply("stop")
        self._executor.cancel_waiting()
        return status

    def terminate(self) -> str:
        """Cancel all jobs, end the device for good and its process with exit code 0."""
        return self._lifecycle.apply("terminate")

    def cancel(self, job: Job, id: str) -> bool:
        """Cancel your own job with this id; return whether there was one."""
        return self._executor.cancel(job, id)

    def jobs(self, job: Job) -> list[RunningJob]:
        """Return the jobs accepted and not finished, oldest first."""
        return self._executor.running_for(job)

    def result(self, job: Job, id: str) -> dict[str, object] | None:
        """Return the final answer to your own earlier command with this id, null if there is none."""
        found = self._executor.result_of(job, id)
        if found is None:
            return None
        result, encoding = found
        plain: dict[str, object] = to_builtins(replace(result, value=UNSET))
        if not isinstance(result.value, UnsetType):
            decode = json.decode if encoding is Encoding.JSON else msgpack.decode
            plain["value"] = decode(result.value)
        return plain

    def about(self) -> About:
        """Return the device's commands with help and JSON Schema, and its versions."""
        return self._about()

    def stats(self) -> Stats:
        """Return counts since the device's process began, and what it does now."""
        return self._stats()


def ping() -> int:
    """Return the device's clock: the current Unix time in whole seconds."""
    return int(time.time())


def common_commands() -> dict[str, CommandAbout]:
    """What the about of every device says of the commands that it has anyway: the control commands and `ping`."""
    controls = Controls.__new__(Controls)  # its signatures are all that is needed
    return {
        "ping": CommandSpec(ping).about(idempotent=True),
        **{
            name: CommandSpec(getattr(controls, name), injectable=(Job,)).about(idempotent=name in READING)
            for name in RESERVED
        },
    }


async def calculate(job: Job, x: Annotated[float, Meta(ge=0)], msg: str) -> str:
    """Take x seconds, print msg on the device and return it; everything else goes on meanwhile."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    step = max(x / CALCULATE_REPORTS, REPORT_INTERVAL)
    while (left := began + x - loop.time()) > 0:
        await asyncio.sleep(min(step, left))
        gone = min(loop.time() - began, x)
        job.report(gone / x, f"{gone:.1f} of {x:g} s")
    # In a thread: who reads the output may have stopped reading.
    await run_in_daemon_thread(partial(_print, msg), f"print {job.id}")
    return msg


def _print(text: str) -> None:
    """Print for whoever looks at the device, with control characters written out; nothing where nobody can."""
    shown = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    # A stream of its own: the interpreter cannot end cleanly while a thread holds the lock of sys.stdout's buffer.
    # Which may be closed at its other end, or have been from the beginning: then sys.stdout is None.
    with (
        suppress(OSError, AttributeError),
        open(sys.stdout.fileno(), "w", encoding=sys.stdout.encoding, errors="replace", closefd=False) as output,
    ):
        print(shown, file=output)
