"""Folders that a stranger's script has written: entered and looked through without following its links.

Each step opens one name below an open folder (`openat`), so that nothing the script does meanwhile leads elsewhere.
"""

import contextlib
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

DEEPEST: Final = 48
"""Folders within each other that are looked through: each costs a descriptor, and more are no use to anybody."""

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TooDeep(OSError):
    """Folders within folders, more than are looked through."""


class Found(NamedTuple):
    """What stands in a tree: its path, and what `stat` says of it itself."""

    parts: tuple[str, ...]
    stat: os.stat_result


@contextlib.contextmanager
def entered(folder: int, parts: Sequence[str], *, make_for: int | None = None, make: bool = False) -> Generator[int]:
    """A folder below an open one, open.

    :param make: make those that are missing, and give them to the user `make_for`.
    :raises OSError: one is missing, no folder (a link is none), or not to be read.
    """
    descriptor = os.dup(folder)
    try:
        for part in parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=descriptor)
                    if make_for is not None:
                        os.chown(part, make_for, make_for, dir_fd=descriptor, follow_symlinks=False)
            below = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def walk(folder: int) -> Iterator[Found]:
    """All that stands below an open folder, each entry once; links are not followed.

    What cannot be read, or has gone meanwhile, is passed over.

    :raises TooDeep: the tree has more levels than `DEEPEST`.
    """
    return _walk(folder, ())


def _walk(folder: int, above: tuple[str, ...]) -> Iterator[Found]:
    if len(above) >= DEEPEST:
        raise TooDeep("the folders lie too deep within each other")
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield Found((*above, name), found)
        if stat.S_ISDIR(found.st_mode):
            try:
                below = os.open(name, _FOLDER, dir_fd=folder)
            except OSError:
                continue
            try:
                yield from _walk(below, (*above, name))
            finally:
                os.close(below)


def open_by_force(name: str, folder: int | None = None) -> int:
    """Open one's own folder, also where its mode forbids that; a link is never followed."""
    place = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        # Linux changes no mode through an O_PATH descriptor itself, open(2); its name in /proc stands for it.
        Path(f"/proc/self/fd/{place}").chmod(0o700)
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(place)
