"""What a workspace holds, also where a script hides it: in files without a name, sparse files, deep folders."""

import os
import stat
from collections.abc import Generator, Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Final

from .folders import DEEPEST
from .limits import Held
from .tree import EXHAUSTED, VANISHING, Member, members

LEAST_LEFT: Final = 0.25
"""Of a quota: what a disk must have left while a script runs. None is begun where it has less than a whole one."""
SLICE: Final = 200
"""Files that are looked at in one go."""
BEYOND: Final = Held(1 << 62, 1 << 62)
"""What a workspace is taken to hold that hides its content from the watch."""


def holds(workspace: Path) -> Held:
    """What the folder holds now."""
    held = Held()
    for part in walk(workspace):
        held = _sum(held, part)
    return held


def holds_named(folders: Sequence[Path]) -> Generator[Held]:
    """What the folders hold, in parts."""
    for folder in folders:
        yield from walk(folder)


def holds_open(folders: Sequence[Path], root: int, processes: int) -> Generator[Held]:
    """What the folders hold, and with it what that many processes under a root keep in files without a name.

    It comes in parts, between which others may have their turn.
    """
    yield from holds_named(folders)
    yield from _nameless(members(root, processes), {folder.stat().st_dev for folder in folders})


def short_of_disk(workspace: Path, quota: int) -> bool:
    """Whether the disk has so little left that a script must not take more of it, whoever has the rest."""
    disk = os.statvfs(workspace)
    return disk.f_bavail * disk.f_frsize < quota * LEAST_LEFT


def walk(workspace: Path) -> Iterator[Held]:
    """What the folder holds, in parts. It never leaves the folder, whatever is moved and linked meanwhile."""
    try:
        descriptor = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        yield BEYOND
        return
    try:
        yield from _walk(descriptor, 0, set())
    finally:
        os.close(descriptor)


def _walk(folder: int, depth: int, linked: set[int]) -> Iterator[Held]:
    if depth > DEEPEST:
        yield BEYOND
        return
    size = files = 0
    inside: list[str] = []
    with os.scandir(folder) as entries:  # which is a second descriptor, and closed before anything in it is opened
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except PermissionError:  # it took away the right to look
                yield BEYOND
                return
            except OSError as error:  # gone meanwhile
                if error.errno in EXHAUSTED:
                    raise
                continue
            if stat.S_ISDIR(found.st_mode):
                inside.append(entry.name)
            files += 1
            if found.st_ino not in linked:
                size += size_of(found)
            if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                linked.add(found.st_ino)
            if files >= SLICE:
                yield Held(size, files)
                size = files = 0
    yield Held(size, files)
    for name in inside:
        try:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        except PermissionError:
            yield BEYOND
            return
        except OSError as error:  # gone meanwhile, or another thing by now
            if error.errno in EXHAUSTED:
                raise
            continue
        try:
            yield from _walk(inner, depth + 1, linked)
        finally:
            os.close(inner)


def _nameless(processes: Iterable[Member], devices: Set[int]) -> Iterator[Held]:
    """What stands in files that were removed while somebody had them open or mapped."""
    seen: set[int] = set()
    for member in processes:
        size = 0
        for path in _listed(Path("/proc", str(member.pid), "fd")):
            with VANISHING:
                found = path.stat()
                if found.st_nlink == 0 and found.st_dev in devices and found.st_ino not in seen:
                    seen.add(found.st_ino)
                    size += size_of(found)
        for inode, length in _mapped(member.pid, devices):
            if inode not in seen:
                seen.add(inode)
                size += length
        yield Held(size, 0)


def _listed(folder: Path) -> list[Path]:
    with VANISHING:
        return list(folder.iterdir())
    return []


def _mapped(pid: int, devices: Set[int]) -> Iterator[tuple[int, int]]:
    """The mapped files without a name: inode and end of what is mapped."""
    content = b""
    with VANISHING:
        content = Path(f"/proc/{pid}/maps").read_bytes()
    if b"(deleted)" not in content:
        return
    names = {b"%02x:%02x" % (os.major(device), os.minor(device)) for device in devices}
    for line in content.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].endswith(b"(deleted)") and fields[3] in names:
            begin, _, end = fields[0].partition(b"-")
            yield int(fields[4]), int(fields[2], 16) + int(end, 16) - int(begin, 16)


def size_of(found: os.stat_result) -> int:
    """Bytes that something counts: a sparse file as if it were full, a small one with its whole blocks."""
    return max(found.st_size, found.st_blocks * 512)


def _sum(one: Held, other: Held) -> Held:
    return Held(one.size + other.size, one.files + other.files)
