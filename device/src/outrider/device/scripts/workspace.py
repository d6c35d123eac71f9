"""A folder for each owner of scripts: what is sent is written there, what scripts left is listed, read and removed.

Whoever owns a workspace is (requester, behalf). What a script left there may be anything that a file system has, so
nothing is opened before it is known to be a file, and no link is followed.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from msgspec import json

from . import quota
from .contract import MIB, FileChunk, WorkspaceFile
from .folders import Found, TooDeep, entered, open_by_force, walk
from .names import check_upload, parts_of
from .places import make
from .refusals import NoSuchFile, ScriptRefused, WorkspacesInUse
from .removal import remove

_REMOVED: Final = "removed-"
"""What the folder of a workspace is called first while it is being removed."""

_SENT: Final = "sent-"
"""What the folder of what was sent with one run is called first."""


PATIENCE: Final = 3.0
"""Seconds to wait for a process that has the workspaces and is just ending."""

_POLL: Final = 0.05


class Owner(NamedTuple):
    """Who owns scripts, their files and results: as the owner of a job."""

    requester: str
    behalf: str

    @property
    def folder(self) -> str:
        """The name of its folder: no two owners have the same, whatever they are called."""
        return hashlib.sha256(json.encode((self.requester, self.behalf))).hexdigest()[:40]


class Workspaces:
    """The workspaces of one device.

    :param folder: where they are; made where there is none.
    :param user: the user that scripts run as, where that is another one than the device's.
    :param quota: bytes that each may hold.
    :param files: files and folders that each may hold.
    :param patterns: what the names of files that are sent must look like.
    :raises WorkspacesInUse: another process has them.
    """

    def __init__(self, folder: Path, *, user: int | None, quota: int, files: int, patterns: tuple[str, ...]) -> None:
        self.quota = quota
        self.files = files
        self._folder = folder
        self._user = user
        self._patterns = patterns
        self._running: Counter[Owner] = Counter()
        self._lock = threading.Lock()
        """Held while it is looked at, or changed, who runs scripts; never for long."""
        self._writing: WeakValueDictionary[Owner, threading.Lock] = WeakValueDictionary()
        """Held while files are written, one for each owner: two runs of one together keep its quota."""
        make(folder)
        folder.chmod(0o700 if user is None else 0o711)  # that user may enter its own folder below, and list none
        self._held = _held(folder)
        """The folder, open and locked, so that what another process still uses is not taken for left."""
        for left in (*folder.glob(f"{_REMOVED}*"), *folder.glob(f"{_SENT}*")):
            remove(left)

    def close(self) -> None:
        """Let another process have them."""
        os.close(self._held)

    @contextlib.contextmanager
    def running(self, owner: Owner) -> Generator[Path]:
        """The owner's folder for as long as a script of its runs; it cannot be purged meanwhile."""
        with self._lock:
            self._running[owner] += 1
        try:
            with self._opened(owner):
                pass
            yield self._folder / owner.folder
        finally:
            with self._lock:
                self._running[owner] -= 1
                self._running += Counter()  # forget who has none

    def check(self, files: Mapping[str, str]) -> dict[tuple[str, ...], bytes]:
        """Files that are sent, by the names in their paths, as they will be written.

        :raises ScriptRefused: a name or a text that is not taken, or too much of it.
        """
        checked: dict[tuple[str, ...], bytes] = {}
        for name, text in files.items():
            try:
                checked[check_upload(name, self._patterns)] = text.encode()
            except UnicodeEncodeError as error:
                raise ScriptRefused(f"{name!r} is no text that can be encoded: {error.reason}") from None
        for parts in checked:
            if any(parts[:depth] in checked for depth in range(1, len(parts))):
                raise ScriptRefused(f"{'/'.join(parts)!r} would lie in a file: give the folder another name")
        return checked

    def write(self, owner: Owner, files: Mapping[tuple[str, ...], bytes]) -> None:
        """Write files, each at once: who reads one meanwhile has all of the old one or all of the new.

        :raises ScriptRefused: they do not fit the quota, or something of the owner's is in the way.
        """
        with self._lock:
            writing = self._writing.setdefault(owner, threading.Lock())
        with writing, self._opened(owner) as folder:
            self._check_room(owner, folder, files)
            for parts, content in files.items():
                try:
                    self._write(folder, parts, content)
                except OSError as error:
                    raise ScriptRefused(
                        f"{'/'.join(parts)!r} cannot be written ({error.strerror}): something of yours in the "
                        "workspace is in its way; purge it, or give the file another name"
                    ) from None

    def place_for_sent(self) -> Path:
        """Where the files of one run alone may stand, which other runs of its owner do not change."""
        return self._folder / f"{_SENT}{secrets.token_hex(16)}"

    def keep_sent(self, folder: Path, files: Mapping[tuple[str, ...], bytes]) -> None:
        """Make that folder, with these files."""
        folder.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(folder, self._user, self._user)
        root = open_by_force(str(folder))
        try:
            for parts, content in files.items():
                self._write(root, parts, content)
        finally:
            os.close(root)

    def forget_sent(self, folder: Path) -> None:
        """Remove it, if it was made."""
        with contextlib.suppress(FileNotFoundError):
            remove(folder)

    def list(self, owner: Owner) -> list[WorkspaceFile]:
        """The owner's files by name; what is no file is left out."""
        with self._existing(owner) as folder:
            if folder is None:
                return []
            return [
                WorkspaceFile(
                    "/".join(os.fsencode(part).decode(errors="backslashreplace") for part in found.parts),
                    found.stat.st_size,
                    found.stat.st_mtime,
                )
                for found in self._walked(folder)
                if stat.S_ISREG(found.stat.st_mode)
            ]

    def read(self, owner: Owner, name: str, offset: int, length: int) -> FileChunk:
        """A part of a file, at most so many bytes.

        :raises ScriptRefused: it is no file's name.
        :raises NoSuchFile: there is none that can be read.
        """
        *above, last = parts_of(name)
        with self._existing(owner) as root:
            if root is None:
                raise NoSuchFile(f"{name!r}: you have no files here yet")
            try:
                with entered(root, above) as folder, _opened_file(last, folder, name) as file:
                    size = os.fstat(file).st_size
                    return FileChunk(name, size, offset, os.pread(file, length, offset))
            except OSError as error:
                raise NoSuchFile(f"{name!r}: {error.strerror}; `list_files` tells what you have") from None

    def purge(self, owner: Owner) -> int:
        """Remove all that the owner has here, and return how many files that were.

        :raises ScriptRefused: scripts of the owner run.
        """
        with self._lock:
            if self._running[owner]:
                raise ScriptRefused(f"{self._running[owner]} of your scripts still run here: cancel them before")
            removed = self._folder / f"{_REMOVED}{secrets.token_hex(16)}"
            try:
                (self._folder / owner.folder).rename(removed)
            except FileNotFoundError:
                return 0
        return remove(removed)

    @contextlib.contextmanager
    def _opened(self, owner: Owner) -> Generator[int]:
        """The owner's folder, open; made where there is none."""
        path = self._folder / owner.folder
        while True:
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
                if self._user is not None:
                    os.chown(path, self._user, self._user)
            with self._existing(owner) as folder:
                if folder is not None:  # else it was purged just now
                    yield folder
                    return

    @contextlib.contextmanager
    def _existing(self, owner: Owner) -> Generator[int | None]:
        try:
            folder = open_by_force(str(self._folder / owner.folder))  # a script may have taken it from itself
        except FileNotFoundError:
            yield None
            return
        try:
            yield folder
        finally:
            os.close(folder)

    def _write(self, root: int, parts: tuple[str, ...], content: bytes) -> None:
        *above, last = parts
        with entered(root, above, make=True, make_for=self._user) as folder:
            unfinished = f".{secrets.token_hex(16)}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(unfinished, flags, 0o600, dir_fd=folder)
            try:
                with open(file, "wb", closefd=False) as stream:
                    stream.write(content)
                if self._user is not None:
                    os.fchown(file, self._user, self._user)
                os.rename(unfinished, last, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                os.unlink(unfinished, dir_fd=folder)
                raise
            finally:
                os.close(file)

    def _check_room(self, owner: Owner, folder: int, files: Mapping[tuple[str, ...], bytes]) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < self.quota:  # who asks for many others (`behalf`) has as many workspaces
            raise ScriptRefused(
                f"the disk of this device has {free / MIB:,.0f} MiB left, less than a workspace may hold "
                f"({self.quota / MIB:g} MiB): send the script to another device, or have this one's owner free some"
            )
        held = quota.holds(self._folder / owner.folder)
        if held.files >= quota.BEYOND.files:
            raise ScriptRefused("your workspace has folders that are closed or too deep within each other: purge it")
        size = held.size + sum(len(content) for content in files.values())
        count = held.files + len(files)
        for parts in files:
            if (old := _found(folder, parts)) is not None:  # it is replaced
                size -= quota.size_of(old)
                count -= 1
        if size > self.quota:
            raise ScriptRefused(
                f"your workspace would hold {size / MIB:.1f} MiB, and it may hold {self.quota / MIB:g}: purge it, or "
                "send less"
            )
        if count > self.files:
            raise ScriptRefused(
                f"your workspace would hold {count:,} files and folders, and it may hold {self.files:,}: purge it"
            )

    def _walked(self, folder: int) -> Iterator[Found]:
        try:
            yield from walk(folder)
        except TooDeep:
            raise ScriptRefused("your workspace has folders too deep within each other: purge it") from None


def _held(folder: Path) -> int:
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(_POLL)
                continue
            os.close(held)
            raise WorkspacesInUse(
                f"another process has the workspaces in {folder}: this device runs already. End that one first, or "
                "give this one another --id or --script-folder"
            ) from None
        return held


def _found(folder: int, parts: tuple[str, ...]) -> os.stat_result | None:
    *above, last = parts
    try:
        with entered(folder, above) as inner:
            return os.stat(last, dir_fd=inner, follow_symlinks=False)
    except OSError:
        return None


@contextlib.contextmanager
def _opened_file(last: str, folder: int, name: str) -> Generator[int]:
    """A file, open for reading. What is no file is not opened: a FIFO would block, a device might do something."""
    place = os.open(last, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        found = os.fstat(place)
        if not stat.S_ISREG(found.st_mode):
            raise NoSuchFile(f"{name!r} is no file: links, pipes and folders cannot be fetched")
        if found.st_nlink > 1:
            raise NoSuchFile(f"{name!r} is a hard link: copy it in the script, and fetch the copy")
        file = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(place)
    try:
        yield file
    finally:
        os.close(file)
