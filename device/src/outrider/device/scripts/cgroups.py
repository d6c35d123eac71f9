"""Control groups (cgroup v2) for scripts, where a part of their tree is delegated to the device.

They count also what the watch cannot see: the kernel's own memory for sockets and pipes.
"""

import contextlib
import functools
import os
from collections.abc import Collection, Generator, Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from .contract import MIB, Limits

CONTROLLERS: Final = frozenset(("memory", "pids"))
OWN: Final = "device"
"""The group that the device's process moves to: none with groups for others in it may have processes itself."""
MARKS: Final = ("user.delegate", "trusted.delegate")
"""What systemd writes to the folder of a unit with `Delegate=`."""
MEMORY: Final = 48 * MIB
PROCESSES: Final = 8
"""What the sandbox's own processes get beyond the script's limits, which the watch sees to."""


class Group:
    """The group of one script."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, processes: Iterable[int]) -> None:
        """Move them into it, and with them all that they will start; not those that have ended."""
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                (self._folder / "cgroup.procs").write_text(str(pid))

    @property
    def out_of_memory(self) -> bool:
        """Whether the kernel has killed it for its memory."""
        return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in self._events())

    def _events(self) -> list[str]:
        return (self._folder / "memory.events").read_text().splitlines()


class Groups:
    """The groups in a folder that is the device's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._left: list[Path] = []

    @contextlib.contextmanager
    def group(self, limits: Limits) -> Generator[Group]:
        """A new one with these limits; at the end everything in it is killed."""
        self._clear()
        self._count += 1
        folder = self._folder / f"script-{os.getpid()}-{self._count}"
        folder.mkdir()
        self._left.append(folder)
        try:
            (folder / "memory.max").write_text(str(limits.memory + MEMORY))
            (folder / "memory.oom.group").write_text("1")
            (folder / "pids.max").write_text(str(limits.processes + PROCESSES))
            with contextlib.suppress(FileNotFoundError, PermissionError):  # a kernel that does not account for swap
                (folder / "memory.swap.max").write_text("0")
            yield Group(folder)
        finally:
            with contextlib.suppress(FileNotFoundError, PermissionError):  # before Linux 5.14
                (folder / "cgroup.kill").write_text("1")
            self._clear()

    def _clear(self) -> None:
        """Remove those that nobody is in any more; the others next time."""
        for folder in list(self._left):
            try:
                folder.rmdir()
            except OSError:
                continue
            self._left.remove(folder)


@functools.cache
def delegated() -> Groups | None:
    """The groups of this process, if there is no doubt that it may make such; it is moved for that."""
    try:
        folder = folder_of(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
        if folder is None or not is_ours(folder.stat().st_uid, os.geteuid(), _marks(folder)):
            return None
        return take(folder, os.getpid())
    except OSError:
        return None


def folder_of(membership: str, mounts: str) -> Path | None:
    """The folder of a process, by its /proc/PID/cgroup and mountinfo; None if it is not to be seen."""
    group = next((line.removeprefix("0::") for line in membership.splitlines() if line.startswith("0::/")), None)
    if group is None or ".." in PurePosixPath(group).parts:
        return None
    for line in mounts.splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2" and PurePosixPath(group).is_relative_to(fields[3]):
            return Path(fields[4]) / PurePosixPath(group).relative_to(fields[3])
    return None


def is_ours(owner: int, user: int, marks: Collection[bytes]) -> bool:
    """Whether it is delegated: by systemd's word, or as it was given to an ordinary user."""
    return b"1" in marks or owner == user != 0


def take(folder: Path, pid: int) -> Groups | None:
    """Make room for groups in the folder of that process, which must be alone in it; else everything stays as it is."""
    if not set((folder / "cgroup.controllers").read_text().split()) >= CONTROLLERS:
        return None
    if (folder / "cgroup.procs").read_text().split() != [str(pid)]:
        return None
    own = folder / OWN
    own.mkdir(exist_ok=True)
    try:
        (own / "cgroup.procs").write_text(str(pid))
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(CONTROLLERS)))
    except OSError:
        (folder / "cgroup.procs").write_text(str(pid))
        own.rmdir()
        raise
    return Groups(folder)


def _marks(folder: Path) -> set[bytes]:
    found: set[bytes] = set()
    for name in MARKS:
        with contextlib.suppress(OSError):
            found.add(os.getxattr(folder, name))
    return found
