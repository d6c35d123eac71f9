"""From a script's limits to those of the kernel, and from what it uses to the limit that it broke."""

import math
import signal
from typing import Final, Literal, NamedTuple

from .contract import Limits

Broken = Literal["memory", "cpu", "processes", "workspace"]

INODE: Final = 2048
"""Bytes of memory that an empty file in a file system in memory is counted as: more than it needs."""


class Used(NamedTuple):
    """What all processes of a script use together: bytes, seconds, processes and threads."""

    memory: int = 0
    cpu: float = 0.0
    processes: int = 0


class Held(NamedTuple):
    """What a workspace holds: bytes, and files and folders. A sparse file counts as its size."""

    size: int = 0
    files: int = 0


def prlimit(limits: Limits, *, overhead: int) -> list[str]:
    """The options of prlimit for one process; `overhead` is the number of the sandbox's own processes."""
    # A second after SIGXCPU comes SIGKILL, for who ignores the first.
    seconds = math.ceil(limits.cpu)
    return [
        f"--as={limits.memory}",
        f"--cpu={seconds}:{seconds + 1}",
        f"--fsize={limits.file_size}",
        f"--nofile={limits.open_files}",
        f"--nproc={limits.processes + overhead}",
        "--core=0",
        "--memlock=0",
        "--msgqueue=0",
    ]


def broken(used: Used, limits: Limits) -> Broken | None:
    """The limit that the processes of a script have broken together."""
    if used.memory > limits.memory:
        return "memory"
    if used.cpu > limits.cpu:
        return "cpu"
    if used.processes > limits.processes:
        return "processes"
    return None


def overfull(held: Held, quota: int, files: int) -> Broken | None:
    """Whether a workspace holds more than it may."""
    return "workspace" if held.size > quota or held.files > files else None


def cause(exit_code: int) -> str | None:
    """What ended a script that the device has not killed: the limit behind a signal, or else the signal."""
    if exit_code <= 128:
        return None
    try:
        name = signal.Signals(exit_code - 128).name
    except ValueError:
        return None
    return "cpu" if name == "SIGXCPU" else name
