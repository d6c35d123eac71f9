"""From a script's limits to those of the kernel, and from what it uses to the limit that it broke."""

import math
import resource
import signal
from typing import Final, Literal, NamedTuple

from .contract import Limits

Broken = Literal["memory", "cpu", "processes", "workspace"]

INODE: Final = 2048
"""Bytes of memory that an empty file in a file system in memory is counted as: more than it needs."""


OPTIONS: Final = {
    resource.RLIMIT_AS: "as",
    resource.RLIMIT_CPU: "cpu",
    resource.RLIMIT_FSIZE: "fsize",
    resource.RLIMIT_NOFILE: "nofile",
    resource.RLIMIT_NPROC: "nproc",
    resource.RLIMIT_CORE: "core",
    resource.RLIMIT_MEMLOCK: "memlock",
    resource.RLIMIT_MSGQUEUE: "msgqueue",
}


FILES: Final = 65536
"""Descriptors that this process lets itself have: each script takes some, and one more for each level of folders."""


class Used(NamedTuple):
    """What all processes of a script use together: bytes, seconds, processes and threads."""

    memory: int = 0
    cpu: float = 0.0
    processes: int = 0


class Held(NamedTuple):
    """What a workspace holds: bytes, and files and folders. A sparse file counts as its size."""

    size: int = 0
    files: int = 0


def allow_files() -> None:
    """Let this process have the descriptors that many scripts need, as far as the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES:
        most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def rlimits(limits: Limits, *, processes: int) -> list[tuple[int, int, int]]:
    """The kernel's limits for one process, each with its soft and its hard value; `processes` is for its user."""
    # A second after SIGXCPU comes SIGKILL, for who ignores the first.
    seconds = math.ceil(limits.cpu)
    return [
        (resource.RLIMIT_AS, limits.memory, limits.memory),
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (resource.RLIMIT_FSIZE, limits.file_size, limits.file_size),
        (resource.RLIMIT_NOFILE, limits.open_files, limits.open_files),
        (resource.RLIMIT_NPROC, processes, processes),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_MEMLOCK, 0, 0),
        (resource.RLIMIT_MSGQUEUE, 0, 0),
    ]


def prlimit(limits: Limits, *, processes: int) -> list[str]:
    """The same as the program prlimit takes it."""
    return [f"--{OPTIONS[number]}={soft}:{hard}" for number, soft, hard in rlimits(limits, processes=processes)]


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


def cause(exit_code: int, stopped: Broken | None = None) -> str | None:
    """What ended a script: the limit for which it was stopped, that behind a signal, or else the signal.

    One that ended by itself just before it was stopped has an exit code of its own.
    """
    if exit_code <= 128:
        return None
    if stopped is not None and exit_code == 128 + signal.SIGKILL:
        return stopped
    try:
        name = signal.Signals(exit_code - 128).name
    except ValueError:
        return None
    return "cpu" if name == "SIGXCPU" else name
