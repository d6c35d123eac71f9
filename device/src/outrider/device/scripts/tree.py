"""What the processes of a script use together, as /proc shows it."""

import errno
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from .contract import Limits
from .limits import INODE, Used

TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
CHUNK: Final = 4096

IN_MEMORY: Final = ("tmp", "dev/shm")
"""The file systems in memory that a script can write to, as seen from its root."""


EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE)


class Vanishing:
    """Suppresses what is raised where something is gone meanwhile, or closed; not that descriptors have run out.

    Else what a script uses would count as nothing as soon as this device has too many files open.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        return isinstance(error, OSError) and error.errno not in EXHAUSTED


VANISHING: Final = Vanishing()


class Member(NamedTuple):
    """A process: what it used itself, and what those of its children used that it waited for."""

    pid: int
    threads: int
    resident: int
    own: float
    waited: float


def children(pid: int) -> list[int]:
    """The children of all threads of a process; none if it is no more."""
    found: list[int] = []
    with VANISHING:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with VANISHING:
                found += map(int, _read(f"{thread}/children").split())
    return found


def _children(pid: int, threads: int) -> list[int]:
    if threads > 1:
        return children(pid)
    with VANISHING:
        return [int(word) for word in _read(f"/proc/{pid}/task/{pid}/children").split()]
    return []


def _read(path: str) -> bytes:
    # A watch reads thousands of these a second, so without a buffer and its calls.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = b""
        while part := os.read(descriptor, CHUNK):
            content += part
        return content
    finally:
        os.close(descriptor)


def members(root: int, most: int) -> Iterator[Member]:
    """All that descend from the root, without it; of a fork bomb no more than that many."""
    waiting = children(root)
    seen = 0
    while waiting and (seen := seen + 1) <= most:
        pid = waiting.pop()
        member = None
        with VANISHING:
            # The name in front may hold spaces and parentheses; fields are counted from the state on (proc(5)).
            fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
            member = Member(
                pid,
                threads=int(fields[17]),
                resident=int(fields[21]) * PAGE,
                own=(int(fields[11]) + int(fields[12])) * TICK,
                waited=(int(fields[13]) + int(fields[14])) * TICK,
            )
        if member is not None:
            waiting += _children(pid, member.threads)
            yield member


def state(pid: int) -> str | None:
    """What it does, as proc(5) has it: `S` sleeps, `R` runs, `Z` has ended. None if it is no more."""
    with VANISHING:
        return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[0].decode()
    return None


class Watch:
    """What the processes under a root have used so far."""

    def __init__(self, root: int, limits: Limits) -> None:
        self._root = root
        self._limits = limits
        self._own: dict[int, float] = {}
        self.peak = 0

    def look(self) -> Generator[None, None, Used]:
        """What they use now, found in parts, between which others may have their turn.

        A process that comes and goes between two looks is seen only if somebody waits for it.
        """
        waited = _waited(self._root)  # first, so that nobody counts twice who ends meanwhile
        found: list[Member] = []
        for member in members(self._root, self._limits.processes + 1):
            found.append(member)
            yield
        # Who ignores SIGCHLD makes the time of its children vanish: so what was seen once stays counted.
        self._own |= {member.pid: member.own for member in found}
        cpu = max(sum(self._own.values()), waited + sum(member.own + member.waited for member in found))
        memory = sum(member.resident for member in found)
        if memory > self._limits.memory:  # pages that they share were counted again and again
            # The share of each grows when another ends in between: then the second sum is right.
            sums = [0, 0]
            for number in range(2):
                for member in found:
                    sums[number] += _share(member)
                    yield
            memory = min(sums)
        memory += _written_to_memory(self._root)
        self.peak = max(self.peak, memory)
        return Used(memory, cpu, sum(member.threads for member in found))


def _waited(root: int) -> float:
    """The seconds of those whom the root has waited for."""
    with VANISHING:
        fields = _read(f"/proc/{root}/stat").rpartition(b")")[2].split()
        return (int(fields[13]) + int(fields[14])) * TICK
    return 0.0


def _share(member: Member) -> int:
    """Its memory with the pages it shares divided among those who share them; all of it where that cannot be seen."""
    try:
        for line in Path(f"/proc/{member.pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except PermissionError:
        pass
    return member.resident


def _written_to_memory(root: int) -> int:
    """What stands in the file systems in memory, if the root has such of its own."""
    held = 0
    for name in IN_MEMORY:
        with VANISHING:
            # Of the root, since nothing that a script does changes what its paths mean.
            path = Path(f"/proc/{root}/root", name)
            if path.stat().st_dev != Path("/", name).stat().st_dev:
                state = os.statvfs(path)
                held += (state.f_blocks - state.f_bfree) * state.f_frsize + (state.f_files - state.f_ffree) * INODE
    return held
