"""Installed packages for scripts: the same set once, for as many scripts as ask, until the room is needed.

A set lies in a folder whose name is a digest of all that decides its content. It is made beside it and renamed, so
what has the name is whole. A lock file for each is held by who uses it (shared) and by who makes or removes it, so
that several devices may have one folder in common.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from pathlib import Path
from typing import Final

from msgspec import json

from .installer import Installer, size_of_tree
from .places import make

POLL: Final = 0.05
"""Seconds between two tries to get a lock that another process has."""

AT_ONCE: Final = 4
"""Sets that are installed at the same time."""

_SIZE: Final = "size"
_LOCK: Final = ".lock"
_UNFINISHED: Final = ".new-"
_REMOVED: Final = ".removed-"


class Environments:
    """Sets of installed packages in one folder.

    :param folder: where they are; made where there is none.
    :param most: bytes that they may have in all; those used last stay.
    """

    def __init__(self, folder: Path, installer: Installer, *, most: int) -> None:
        self._folder = folder
        self._installer = installer
        self._most = most
        self._locks: dict[str, asyncio.Lock] = {}
        self._installing = asyncio.Semaphore(AT_ONCE)
        make(folder)
        self._sweep()

    @contextlib.asynccontextmanager
    async def holding(self, requirements: Sequence[str], tell: Callable[[str], None]) -> AsyncGenerator[Path]:
        """A folder with these requirements installed, which stays as long as the context.

        :param requirements: checked, in one way of writing.
        :param tell: takes words for people while it installs.
        :raises PackagesUnavailable: one cannot be had.
        """
        content = json.encode((sorted(requirements), self._installer.source))
        key = hashlib.sha256(content).hexdigest()[:40]
        place = self._folder / key / "packages"
        while True:
            if not place.exists():
                await self._make(key, requirements, tell)
            with self._locked(key, fcntl.LOCK_SH) as got:
                if not got or not place.exists():  # being removed, or removed just now
                    await asyncio.sleep(POLL)
                    continue
                os.utime(place.parent)
                yield place
                return

    def _sweep(self) -> None:
        """Remove what a process left that was ended in the middle."""
        for left in self._folder.glob(f"{_UNFINISHED}*"):
            with self._locked(left.name.removeprefix(_UNFINISHED).partition("-")[0], fcntl.LOCK_EX) as got:
                if got:
                    shutil.rmtree(left, ignore_errors=True)
        for left in self._folder.glob(f"{_REMOVED}*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in self._folder.glob(f"*{_LOCK}"):
            with self._locked(left.name.removesuffix(_LOCK), fcntl.LOCK_EX):
                pass  # where there is no set it is removed

    async def _make(self, key: str, requirements: Sequence[str], tell: Callable[[str], None]) -> None:
        """Install a set, unless somebody has done so meanwhile."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                if (self._folder / key / "packages").exists():
                    return
                tell(f"installing {', '.join(requirements)}")
                while True:
                    with self._locked(key, fcntl.LOCK_EX) as got:
                        if got:
                            if not (self._folder / key / "packages").exists():
                                async with self._installing:
                                    await self._install(key, requirements)
                            return
                    await asyncio.sleep(POLL)
        finally:
            if not lock.locked():
                self._locks.pop(key, None)

    async def _install(self, key: str, requirements: Sequence[str]) -> None:
        new = self._folder / f"{_UNFINISHED}{key}-{secrets.token_hex(8)}"
        try:
            make(new)
            await self._installer.install(requirements, new / "packages")
            size = await asyncio.to_thread(size_of_tree, new)
            (new / _SIZE).write_text(str(size))
            await asyncio.to_thread(self._make_room, size)
            new.rename(self._folder / key)
        finally:
            await asyncio.to_thread(shutil.rmtree, new, ignore_errors=True)

    def _make_room(self, size: int) -> None:
        """Remove the sets that were used longest ago until there is room for one more; those in use stay."""
        sets = [(each.stat().st_mtime, each, _size(each)) for each in self._folder.iterdir() if _is_set(each)]
        total = size + sum(size for _, _, size in sets)
        for _, each, size in sorted(sets):
            if total <= self._most:
                return
            with self._locked(each.name, fcntl.LOCK_EX) as got:
                if got:
                    gone = each.with_name(f"{_REMOVED}{secrets.token_hex(8)}")
                    each.rename(gone)
                    shutil.rmtree(gone, ignore_errors=True)
                    total -= size

    @contextlib.contextmanager
    def _locked(self, key: str, how: int) -> Generator[bool]:
        """Whether the lock of a set could be taken without waiting; it is held as long as the context."""
        path = self._folder / f"{key}{_LOCK}"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _lock(file, path, how):
                yield False
                return
            try:
                yield True
            finally:
                if how == fcntl.LOCK_EX and not (self._folder / key).exists():
                    path.unlink()  # else whoever asks for packages that are nowhere would fill the disk with locks
        finally:
            os.close(file)


def _lock(file: int, path: Path, how: int) -> bool:
    """Lock an open file, if nobody has it; one that was removed meanwhile is no lock any more."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
        return path.stat().st_ino == os.fstat(file).st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _is_set(folder: Path) -> bool:
    return not folder.name.startswith(".") and folder.is_dir()


def _size(folder: Path) -> int:
    try:
        return int((folder / _SIZE).read_text())
    except (OSError, ValueError):
        return 0
