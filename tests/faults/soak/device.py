"""The device of the soak: each execution of a command leaves a line in a file that nothing else writes to.

Run by `outrider-device run tests.faults.soak.device:device --id …`, as people run theirs.
"""

import asyncio
import os
import secrets
import time
from pathlib import Path
from typing import Final, NamedTuple

from outrider.device import Device, Job

LOG: Final = "SOAK_EXECUTIONS"
"""The environment variable that names the file."""


class Execution(NamedTuple):
    """One line: which device ran which command. `mark` is new for each execution, and the value that it returns."""

    device: str
    id: str
    requester: str
    token: str
    mark: str


device = Device("soak")
"""Its id, groups and pools are given on the command line."""


@device.command
async def work(job: Job, token: str, seconds: float) -> str:
    """Execute, take that long, and return the execution's mark. It must not be done twice."""
    mark = _write(job, token)
    await asyncio.sleep(seconds)
    return mark


@device.command
def block(job: Job, token: str, seconds: float) -> str:
    """Do the same in a thread."""
    mark = _write(job, token)
    time.sleep(seconds)
    return mark


@device.command(idempotent=True)
async def again(job: Job, token: str, seconds: float) -> str:
    """Do the same; it may be done twice."""
    return await work(job, token, seconds)


def read(path: Path) -> list[Execution]:
    """All executions, in their order."""
    return [Execution(*line.split(" ")) for line in path.read_text().splitlines()]


def _write(job: Job, token: str) -> str:
    mark = secrets.token_hex(8)
    line = " ".join(Execution(device.id, job.id, job.requester, token, mark)) + "\n"
    file = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())  # one write: lines of several processes stay whole
    finally:
        os.close(file)
    return mark
