"""The journal of a device that remembers across restarts, crashes and, if so chosen, power cuts."""

import sqlite3
from typing import Final, TypeVar

from msgspec import json, msgpack

from outrider.schema import Command, Encoding, JournalError, Result, encode

from .journal import CLOCK_TOLERANCE, Entry, KeptEvent, Key, Stage
from .journal_file import JournalFile
from .memory_journal import LINGER, MAX_BYTES, MAX_ENTRIES, MemoryJournal

T = TypeVar("T")

_COLUMNS: Final = "row, requester, behalf, id, digest, encoding, expires, stated, command, stage, result"


class SqliteJournal(MemoryJournal):
    """One device's journal in a file, read once and kept in memory besides, so that nothing is looked up on the disk.

    :param file: its own, or one that several devices of this process share.
    :param device: whose journal it is: its id, with the prefix before it where the file is shared among prefixes.
    :param max_entries: commands it keeps, `max_bytes`: bytes of their values; beyond either it is `full`.
    :param tolerance: seconds that clocks may differ.
    :param linger: seconds for which it remembers more than it must, where there is room.
    :raises JournalError: the file cannot be read.
    """

    def __init__(
        self,
        file: JournalFile,
        device: str,
        *,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
        tolerance: float = CLOCK_TOLERANCE,
        linger: float = LINGER,
    ) -> None:
        super().__init__(max_entries=max_entries, max_bytes=max_bytes, tolerance=tolerance, linger=linger)
        self._file = file
        self._path = str(file.path)
        self._device = device
        self._new: dict[Entry, None] = {}
        self._changed: dict[Entry, None] = {}
        self._dropped: list[tuple[int]] = []
        self._new_events: dict[KeptEvent, None] = {}
        self._dropped_events: list[tuple[int]] = []
        self._about_device: tuple[object, ...] = ()
        self._closed = False
        try:
            self._load()
        except sqlite3.Error as error:
            raise file.failed(error) from error

    def accept(self, entry: Entry) -> None:
        """See `Journal`."""
        super().accept(entry)
        self._new[entry] = None

    def started(self, entry: Entry) -> None:
        """See `Journal`."""
        super().started(entry)
        self._note(entry)

    def finished(self, entry: Entry, result: Result) -> None:
        """See `Journal`."""
        super().finished(entry, result)
        self._note(entry)

    def delivered(self, entry: Entry) -> None:
        """See `Journal`."""
        super().delivered(entry)
        self._note(entry)

    def keep_event(self, event: KeptEvent) -> None:
        """See `Journal`."""
        super().keep_event(event)
        self._new_events[event] = None

    def forget_event(self, event: KeptEvent) -> None:
        """See `Journal`."""
        super().forget_event(event)
        self._new_events.pop(event, None)
        if event.row:
            self._dropped_events.append((event.row,))

    def commit(self) -> None:
        """See `Journal`. One transaction for all that came together."""
        about = self._device, self._status, self._session, self.dropped_until, self.forgotten_before
        noted = self._new, self._changed, self._dropped, self._new_events, self._dropped_events
        if self._closed or not (any(noted) or about != self._about_device):
            return
        connection = self._file.connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                if about != self._about_device:
                    connection.execute("INSERT OR REPLACE INTO devices VALUES (?, ?, ?, ?, ?)", about)
                self._write(connection)
                self._write_events(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            for entry in self._new:
                entry.row = 0
            for event in self._new_events:
                event.row = 0
            raise self._file.failed(error) from error
        self._about_device = about
        for each in noted:
            each.clear()

    def close(self) -> None:
        """See `Journal`."""
        try:
            self.commit()
        except JournalError:
            pass
        finally:
            self._closed = True

    def _note(self, entry: Entry) -> None:
        if entry not in self._new:
            self._changed[entry] = None

    def _drop(self, entry: Entry) -> None:
        super()._drop(entry)
        self._new.pop(entry, None)
        self._changed.pop(entry, None)
        if entry.row:
            self._dropped.append((entry.row,))

    def _write(self, connection: sqlite3.Connection) -> None:
        if self._dropped:
            connection.executemany("DELETE FROM entries WHERE row = ?", self._dropped)
        if self._changed:
            connection.executemany(
                "UPDATE entries SET stage = ?, command = ?, result = ? WHERE row = ?",
                [(int(entry.stage), _command(entry), _result(entry), entry.row) for entry in self._changed],
            )
        for entry in self._new:
            cursor = connection.execute(
                "INSERT INTO entries (device, requester, behalf, id, digest, encoding, expires, stated, command, "
                "stage, result) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self._device,
                    *entry.key,
                    entry.digest,
                    entry.encoding,
                    entry.expires,
                    entry.stated,
                    _command(entry),
                    int(entry.stage),
                    _result(entry),
                ),
            )
            entry.row = cursor.lastrowid or 0

    def _write_events(self, connection: sqlite3.Connection) -> None:
        if self._dropped_events:
            connection.executemany("DELETE FROM events WHERE row = ?", self._dropped_events)
        for event in self._new_events:
            cursor = connection.execute(
                "INSERT INTO events (device, name, payload) VALUES (?, ?, ?)", (self._device, event.name, event.payload)
            )
            event.row = cursor.lastrowid or 0

    def _load(self) -> None:
        connection = self._file.connection
        found = connection.execute(
            "SELECT status, session, dropped_until, forgotten_before FROM devices WHERE device = ?", (self._device,)
        ).fetchone()
        if found is not None:
            self._status, self._session, self.dropped_until, self.forgotten_before = found
            self._about_device = (self._device, *found)
        self.forgotten_before = max(self.forgotten_before, self._file.lost_at)
        query = f"SELECT {_COLUMNS} FROM entries WHERE device = ? ORDER BY row"
        for row, requester, behalf, id, digest, encoding, expires, stated, command, stage, result in connection.execute(
            query, (self._device,)
        ):
            key = Key(requester, behalf, id)
            entry = Entry(key, digest, Encoding(encoding), expires=expires, stated=bool(stated))
            entry.row = row
            MemoryJournal.accept(self, entry)
            if result is not None:
                MemoryJournal.finished(self, entry, _decoded(result, entry.encoding, Result))
            elif command is not None:
                entry.command = _decoded(command, entry.encoding, Command)
            entry.stage = Stage(stage)
        query = "SELECT name, payload, row FROM events WHERE device = ? ORDER BY row"
        for name, payload, row in connection.execute(query, (self._device,)):
            MemoryJournal.keep_event(self, KeptEvent(name, payload, row))


def _command(entry: Entry) -> bytes | None:
    return None if entry.command is None else encode(entry.command, entry.encoding)


def _result(entry: Entry) -> bytes | None:
    return None if entry.result is None else encode(entry.result, entry.encoding)


def _decoded(data: bytes, encoding: Encoding, type: type[T]) -> T:
    if encoding is Encoding.JSON:
        return json.decode(data, type=type)
    return msgpack.decode(data, type=type)
