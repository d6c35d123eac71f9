"""Removing what a script has left in a folder, however deep, and whatever rights it took away.

Not shutil.rmtree, which before Python 3.13 fails on a thousand folders in each other, and on one that its owner may not
list.
"""

import contextlib
import os
import secrets
import stat
from pathlib import Path

from .folders import open_by_force


def remove(folder: Path) -> int:
    """Remove the folder with all that is in it, and return how many files that were; links are never followed."""
    files = empty(folder)
    folder.rmdir()
    return files


def empty(folder: Path) -> int:
    """Remove all that is in the folder, and return how many files that were."""
    top = open_by_force(str(folder))
    try:
        files = 0
        while names := _list(top):
            for name in names:
                if _unlinked(name, top):
                    files += 1
                else:
                    files += _lift(name, top)
        return files
    finally:
        os.close(top)


def _lift(name: str, top: int) -> int:
    """Remove a folder: its files go, and its folders move up to the top, so that no depth is too much."""
    files = 0
    inner = open_by_force(name, top)
    try:
        for found in _list(inner):
            if _unlinked(found, inner):
                files += 1
            else:
                os.close(open_by_force(found, inner))  # it can be moved then
                os.rename(found, secrets.token_hex(16), src_dir_fd=inner, dst_dir_fd=top)
    finally:
        os.close(inner)
    with contextlib.suppress(OSError):  # somebody wrote into it meanwhile: the next turn sees that
        os.rmdir(name, dir_fd=top)
    return files


def _list(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _unlinked(name: str, folder: int) -> bool:
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        return False
    os.unlink(name, dir_fd=folder)
    return True
