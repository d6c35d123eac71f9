"""The SQLite file that journals are kept in: found, opened, locked, brought up to date, set aside when it is broken."""

import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import Final, Literal

from outrider.schema import JournalError

logger = logging.getLogger("outrider.device")

Synchronous = Literal["normal", "full"]
"""What a commit survives: the end of the process (`normal`), or of the power too (`full`, an fsync for each commit)."""

APPLICATION: Final = 0x4F757472
"""SQLite's application_id of our files: `Outr`."""

STEPS: Final = (
    """
    CREATE TABLE devices (
        device TEXT PRIMARY KEY, status TEXT, session INTEGER NOT NULL, dropped_until REAL NOT NULL,
        forgotten_before REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE entries (
        row INTEGER PRIMARY KEY, device TEXT NOT NULL, requester TEXT NOT NULL, behalf TEXT NOT NULL, id TEXT NOT NULL,
        digest BLOB NOT NULL, encoding TEXT NOT NULL, expires REAL NOT NULL, stated INTEGER NOT NULL, command BLOB,
        stage INTEGER NOT NULL, result BLOB
    );
    """,
    """
    CREATE TABLE events (row INTEGER PRIMARY KEY, device TEXT NOT NULL, name TEXT NOT NULL, payload BLOB NOT NULL);
    """,
)
"""What makes a file of each schema version out of one of the version before; the first one out of an empty file."""

PATIENCE: Final = 3.0
"""Seconds to wait for another process to let go of the file: one that is just ending."""

_ELSEWHERE: Final = "give the device another place with --journal PATH"


def state_folder() -> Path:
    """Where outrider keeps what it must not forget: `$XDG_STATE_HOME/outrider`."""
    state = Path(os.environ.get("XDG_STATE_HOME") or "")
    if not state.is_absolute():  # then it counts as not set, XDG Base Directory Specification
        state = Path.home() / ".local" / "state"
    return state / "outrider"


def default_path(device: str, prefix: str = "") -> Path:
    """Where a device's journal is, unless its author says otherwise: under `$XDG_STATE_HOME/outrider/devices`."""
    return Path(state_folder(), "devices", *prefix.split("/"), f"{device}.sqlite")


class JournalFile:
    """An open journal file, held by this process alone.

    :param path: made where there is none. A file that is broken, or no journal, is set aside beside it and reported.
    :param synchronous: what a commit survives.
    :raises JournalError: another process has it, it cannot be written, or a newer outrider made it.
    """

    def __init__(self, path: Path, *, synchronous: Synchronous = "normal") -> None:
        self.path = path
        self.lost_at = 0.0
        """When a broken file was set aside, Unix seconds; 0 where none was."""
        self._synchronous = synchronous
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection = self._opened()
        except OSError as error:
            raise JournalError(
                f"the journal {path} cannot be made: {error.strerror or error}. Give the device a folder that it can "
                "write to (--journal PATH, or XDG_STATE_HOME), or --journal memory to do without"
            ) from error

    @property
    def connection(self) -> sqlite3.Connection:
        """The open database. It is in autocommit: whoever writes begins and ends the transaction."""
        return self._connection

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def failed(self, error: sqlite3.Error) -> JournalError:
        """What a failed write means, in words."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary one
        if self.path.is_dir():
            why, advice = "it is a folder", "Name a file in it"
        elif code == sqlite3.SQLITE_FULL:
            why, advice = str(error), f"Free space there, or {_ELSEWHERE}"
        elif code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM) or self._is_read_only():
            why, advice = f"it is not writable ({error})", f"Make it so, or {_ELSEWHERE}"
        else:
            why, advice = str(error), f"Look after the disk, or {_ELSEWHERE}"
        return JournalError(f"the journal {self.path} cannot be written: {why}. {advice}")

    def _is_read_only(self) -> bool:
        """Whether what the file lies on is mounted so; SQLite calls that an I/O error."""
        try:
            return bool(os.statvfs(self.path.parent).f_flag & os.ST_RDONLY)
        except (OSError, AttributeError):  # not on Windows
            return False

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            if not _broken(error):
                raise self._refused(error) from error
            self._set_aside(str(error))
        except _NoJournal as error:
            self._set_aside(str(error))
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            raise self._refused(error) from error

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        try:
            # Before the first read: with the lock held for good, write-ahead logging needs no shared memory.
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            self._bring_up_to_date(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _bring_up_to_date(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN EXCLUSIVE")
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION and (tables or application or version):
            raise _NoJournal("it is a database of something else")
        if version > len(STEPS):
            raise JournalError(
                f"the journal {self.path} was made by a newer outrider (schema {version}, this is {len(STEPS)}): "
                "install that one again, as an older one would forget which commands ran"
            )
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise _NoJournal(str(found))
        for step in STEPS[version:]:
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.execute(f"PRAGMA user_version={len(STEPS)}")
        connection.execute("COMMIT")

    def _set_aside(self, why: str) -> None:
        self.lost_at = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self.lost_at))
        aside = self.path.with_name(f"{self.path.name}.broken-{stamp}")
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        logger.error(
            "the journal %s cannot be read (%s). It was moved to %s and a new one begun: commands issued before now "
            "are refused as expired, since they may have run",
            self.path,
            why,
            aside.name,
        )

    def _refused(self, error: sqlite3.Error) -> JournalError:
        if "locked" in str(error):
            return JournalError(
                f"another process has the journal {self.path}: this device runs already. End that one first; or give "
                "this one another --id, or where it is for another broker a journal of its own with --journal PATH"
            )
        return self.failed(error)


class _NoJournal(Exception):
    """The file is no journal, or not a whole one."""


def _broken(error: sqlite3.DatabaseError) -> bool:
    """Whether the file itself is at fault, and not the disk or who else has it."""
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
