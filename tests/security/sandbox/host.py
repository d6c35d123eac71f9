"""A device reduced to its sandbox, as a process of its own: orders come in by lines of JSON, results go out so.

It is started as root and as an ordinary user, and killed in the middle.
"""

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, field

from outrider.device.scripts.contract import MIB, Limits
from outrider.device.scripts.sandbox import Ended, Run, Sandbox, execute, find_sandbox

PYTHON = "/usr/bin/python3"
KEPT = 65536


class Order(Struct):
    """What to run. `cancel_on`: cancel it when it has written that."""

    workspace: str
    source: str
    arguments: list[str] = field(default_factory=list[str])
    limits: Limits = Limits()
    quota: int = 100 * MIB
    files: int = 10_000
    network: bool = False
    stdin: str = ""
    packages: list[str] = field(default_factory=list[str])
    cancel_on: str | None = None


class Outcome(Struct):
    """How it ended, where it was not cancelled, and the beginning and the length of what it wrote."""

    ended: Ended | None
    stdout: str
    stderr: str
    written: int


async def follow(sandbox: Sandbox, order: Order) -> Outcome:
    kept = {"stdout": bytearray(), "stderr": bytearray()}
    written = 0

    def output(stream: Literal["stdout", "stderr"], data: bytes) -> None:
        nonlocal written
        written += len(data)
        kept[stream].extend(data[: KEPT - len(kept[stream])])
        if order.cancel_on is not None and order.cancel_on.encode() in kept[stream]:
            task.cancel()

    run = Run(
        [PYTHON, "-c", order.source, *order.arguments],
        Path(order.workspace),
        order.limits,
        order.quota,
        order.files,
        packages=[Path(folder) for folder in order.packages],
        network=order.network,
        stdin=order.stdin.encode(),
    )
    task = asyncio.ensure_future(execute(sandbox, run, output))
    ended = None
    with contextlib.suppress(asyncio.CancelledError):
        ended = await task
    stdout, stderr = (kept[name].decode(errors="replace") for name in ("stdout", "stderr"))
    return Outcome(ended, stdout, stderr, written)


def main() -> None:
    sandbox = find_sandbox(sys.argv[1])
    print(flush=True)
    for line in sys.stdin:
        outcome = asyncio.run(follow(sandbox, msgspec.json.decode(line, type=Order)))
        print(msgspec.json.encode(outcome).decode(), flush=True)


if __name__ == "__main__":
    main()
