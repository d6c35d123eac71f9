"""Temporary folders of scripts, and the removal of those that a killed device has left behind.

Each is locked for as long as its device is there, so that others see that it is in use.
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .folders import open_by_force
from .removal import remove

PREFIX: Final = "outrider-script-"


@contextmanager
def temporary_folder(user: int | None) -> Generator[Path]:
    """A folder of that user, or of this process's own; it goes at the end."""
    folder, descriptor = _locked()
    try:
        if user is not None:
            os.fchown(descriptor, user, user)
        yield folder
    finally:
        try:
            remove(folder)
        finally:
            os.close(descriptor)


def sweep(user: int | None) -> None:
    """Remove what earlier devices left: folders of that user's scripts or of this one's that nobody has locked."""
    owners = {os.geteuid(), user}
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # it is in use, or somebody else has removed it
            if folder.lstat().st_uid in owners:
                descriptor = open_by_force(str(folder))
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove(folder)
                finally:
                    os.close(descriptor)


def _locked() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # another device has swept it before it was locked
            continue
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.exists():
                return folder, descriptor
        os.close(descriptor)
