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

from .contract import MIB
from .installer import Installer, size_of_tree
from .places import make
from .refusals import PackagesUnavailable

POLL: Final = 0.05
"""Seconds between two tries to get a lock that another process has."""

AT_ONCE: Final = 4
"""Sets that are installed at the same time."""

_SIZE: Final = "size"
_LOCK: Final = ".lock"
_UNFINISHED: Final = ".new-"
_REMOVED: Final = ".removed-"


class _Making:
    """A set that is being installed, and how many wait for it."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
        self.waiting = 0


class Environments:
    """Sets of installed packages in one folder.

    :param folder: where they are; made where there is none.
    :param most: bytes that they may have in all, with those that are being installed; those used last stay.
    """

    def __init__(self, folder: Path, installer: Installer, *, most: int) -> None:
        self._folder = folder
        self._installer = installer
        self._most = most
        self._making: dict[str, _Making] = {}
        self._fitting = asyncio.Lock()
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
        """Install a set, once for all who wait for it; it goes on for as long as one of them does."""
        making = self._making.get(key)
        if making is None:
            tell("installing packages")  # which, is their requester's own affair: a job's progress is seen by others
            making = self._making[key] = _Making(asyncio.create_task(self._made(key, requirements), name="packages"))
        making.waiting += 1
        try:
            await asyncio.shield(making.task)
        finally:
            making.waiting -= 1
            if self._making.get(key) is making and (making.task.done() or not making.waiting):
                del self._making[key]
            if not making.waiting and not making.task.done():
                making.task.cancel()
                await asyncio.wait((making.task,))

    async def _made(self, key: str, requirements: Sequence[str]) -> None:
        """Install a set, unless another process has done so meanwhile."""
        while True:
            with self._locked(key, fcntl.LOCK_EX) as got:
                if got:
                    if not (self._folder / key / "packages").exists():
                        async with self._installing:
                            await self._install(key, requirements)
                    return
            await asyncio.sleep(POLL)

    async def _install(self, key: str, requirements: Sequence[str]) -> None:
        new = self._folder / f"{_UNFINISHED}{key}-{secrets.token_hex(8)}"
        try:
            make(new)
            await self._installer.install(requirements, new / "packages", self._fit)
            size = await asyncio.to_thread(size_of_tree, new)
            (new / _SIZE).write_text(str(size))
            await self._fit()
            new.rename(self._folder / key)
        finally:
            await asyncio.to_thread(shutil.rmtree, new, ignore_errors=True)

    async def _fit(self) -> None:
        """See that all there is, and what is just being installed, has no more than it may; sets in use stay.

        :raises PackagesUnavailable: there is no room.
        """
        async with self._fitting:
            over = await asyncio.to_thread(self._make_room)
        if over > 0:
            raise PackagesUnavailable(
                f"there is no room for them: packages of scripts may have {self._most / MIB:,.0f} MiB here, and those "
                "that other scripts use need it. Send the script again when those have ended, or to another device"
            )

    def _make_room(self) -> int:
        """Remove the sets that were used longest ago while there is too much; return by how much it still is."""
        sets: list[tuple[float, Path, int]] = []
        over = -self._most
        for each in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process makes room as well
                if each.name.startswith(_UNFINISHED):
                    over += size_of_tree(each)
                elif _is_set(each):
                    sets.append((each.stat().st_mtime, each, _size(each)))
        over += sum(size for _, _, size in sets)
        for _, each, size in sorted(sets):
            if over <= 0:
                break
            with self._locked(each.name, fcntl.LOCK_EX) as got:
                if got:
                    gone = each.with_name(f"{_REMOVED}{secrets.token_hex(8)}")
                    with contextlib.suppress(FileNotFoundError):
                        each.rename(gone)
                    shutil.rmtree(gone, ignore_errors=True)
                    over -= size
        return over

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
