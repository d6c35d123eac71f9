"""The durable outbox: commands written down before they are sent, and what became of them on each device.

A SQLite file that several processes share. It outlives the process that sent, so that another one can find out what
became of the command, and go on repeating it where no answer has come.
"""

import asyncio
import contextlib
import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import msgspec
from msgspec import json
from platformdirs import user_state_path

from outrider.schema import LocalError, Result, Status

logger = logging.getLogger("outrider.controller")

KEPT: Final = 7 * 86400.0
"""Seconds for which a command stays after its last outcome is known."""

KEPT_OPEN: Final = 30 * 86400.0
"""Seconds for which a command stays after it expired, where some outcome never became known."""

MOST: Final = 1_000_000
"""Devices of all commands together. Beyond that the oldest commands that have ended go earlier."""

OVER: Final = 0.01
"""Share of that by which each process may go over it, since counting takes a millisecond for some 7,000 commands."""

LOCKED: Final = 5.0
"""Seconds to wait for another process to end its writing."""

GATHERED: Final = 0.05
"""Seconds for which outcomes are gathered, to be written together. Those that a kill takes are asked for again."""

_LOOPBACK: Final = re.compile(r"^(127\.0\.0\.1|\[::1\])(?=:)")
PRUNED_EACH: Final = 1.0
"""Seconds between two looks for commands that are too old to be kept."""

_APPLICATION: Final = 0x6F757472
_VERSION: Final = 1

_TRANSACTION: Final = ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")

_TABLES: Final = """
CREATE TABLE commands (
    id TEXT PRIMARY KEY, broker TEXT NOT NULL, prefix TEXT NOT NULL, requester TEXT NOT NULL, behalf TEXT NOT NULL,
    command TEXT NOT NULL, target TEXT NOT NULL, issued REAL NOT NULL, size INTEGER NOT NULL, ended REAL
) WITHOUT ROWID;
CREATE INDEX commands_by_end ON commands (ended, issued);
CREATE TABLE sendings (
    id TEXT NOT NULL REFERENCES commands ON DELETE CASCADE, number INTEGER NOT NULL,
    payload BLOB NOT NULL, expires REAL NOT NULL, PRIMARY KEY (id, number)
) WITHOUT ROWID;
CREATE TABLE devices (
    id TEXT NOT NULL REFERENCES commands ON DELETE CASCADE, device TEXT NOT NULL,
    sending INTEGER, accepted INTEGER NOT NULL DEFAULT 0, outcome BLOB, PRIMARY KEY (id, device)
) WITHOUT ROWID;
"""


class OutboxUnusable(LocalError):
    """The durable outbox cannot be read or written. What could not be written down was not sent."""


class Place(NamedTuple):
    """Whom a command was sent as, and through which broker: who can go on with it."""

    broker: str
    prefix: str
    requester: str

    def same_broker(self, other: "Place") -> bool:
        """Whether both lead to one broker: a host and port in common, where this machine has several names."""
        return bool(_hosts(self.broker) & _hosts(other.broker))

    def same(self, other: "Place") -> bool:
        """Whether what was sent in one can be gone on with in the other."""
        return (self.prefix, self.requester) == (other.prefix, other.requester) and self.same_broker(other)


class Sending(NamedTuple):
    """One payload, to some of a command's devices. `expires` is in Unix seconds."""

    payload: bytes
    expires: float


class Standing(NamedTuple):
    """One device of a command. `sending` is None as long as nothing was sent to it."""

    sending: Sending | None
    accepted: bool
    outcome: Result | None


class Durable(NamedTuple):
    """A command as it was written down, with each device of its target."""

    id: str
    place: Place
    behalf: str
    command: str
    target: str
    issued: float
    devices: dict[str, Standing]

    @property
    def open(self) -> tuple[str, ...]:
        """The devices without an outcome."""
        return tuple(device for device, standing in self.devices.items() if standing.outcome is None)

    @property
    def expires(self) -> float:
        """Unix seconds after which no device may start it any more."""
        return max((each.sending.expires for each in self.devices.values() if each.sending), default=self.issued)


class Brief(NamedTuple):
    """A command that has not ended: how many of its devices have an outcome, and until when it is good."""

    id: str
    place: Place
    command: str
    target: str
    issued: float
    ended: int
    devices: int
    expires: float


def default_path() -> Path:
    """Where the command line's outbox stands: `outrider/outbox.sqlite` under the user's state folder."""
    return user_state_path("outrider") / "outbox.sqlite"


class DurableOutbox:
    """The file at `path`, made where there is none; a context manager. Outcomes are written from an event loop.

    :param clock: Unix seconds.
    :raises OutboxUnusable: it is damaged, of a newer version or another program, or cannot be opened.
    """

    def __init__(self, path: Path | str, *, clock: Callable[[], float] = time.time) -> None:
        self.path = Path(path)
        self._clock = clock
        self._waiting: list[tuple[str, str, Result | None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._unchecked: float = MOST
        self._together = False
        self._pruned = 0.0
        self._sql = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what has been gathered, and close the file. Outcomes that cannot be written are logged."""
        self._flush()
        if self._timer is not None:
            self._timer.cancel()
        if self._waiting:
            logger.error("%d outcomes are not written down in %s", len(self._waiting), self.path)
        self._sql.close()

    def begin(
        self,
        id: str,
        place: Place,
        devices: Iterable[str],
        *,
        command: str,
        target: str,
        behalf: str = "",
    ) -> "Record":
        """A record for a command that is about to be sent; it is written with the first sending."""
        return Record(self, id, place, tuple(devices), command, target, behalf)

    def resume(self, id: str) -> "Record":
        """The record of a command that was written down before."""
        return Record(self, id, None, (), "", "", "")

    def find(self, id: str) -> Durable | None:
        """The command with this id.

        :raises OutboxUnusable: the file cannot be read.
        """
        with self._reading():
            row = self._sql.execute(
                "SELECT broker, prefix, requester, behalf, command, target, issued FROM commands WHERE id = ?", (id,)
            ).fetchone()
            if row is None:
                return None
            sendings = {
                number: Sending(payload, expires)
                for number, payload, expires in self._sql.execute(
                    "SELECT number, payload, expires FROM sendings WHERE id = ?", (id,)
                )
            }
            devices = {
                device: Standing(sendings.get(sending), bool(accepted), _result(outcome))
                for device, sending, accepted, outcome in self._sql.execute(
                    "SELECT device, sending, accepted, outcome FROM devices WHERE id = ? ORDER BY device", (id,)
                )
            }
        broker, prefix, requester, behalf, command, target, issued = row
        return Durable(id, Place(broker, prefix, requester), behalf, command, target, issued, devices)

    def ids(self, beginning: str, *, alive: float | None = None) -> list[str]:
        """The ids that begin so.

        :param alive: only those of what has not ended, or could still be begun at that time (Unix seconds).
        :raises OutboxUnusable: the file cannot be read.
        """
        with self._reading():
            rows = self._sql.execute(
                "SELECT id FROM commands WHERE id >= ? AND id < ? AND (? IS NULL OR ended IS NULL OR EXISTS "
                "(SELECT 1 FROM sendings WHERE sendings.id = commands.id AND expires > ?))",
                (beginning, f"{beginning}\U0010ffff", alive, alive),
            ).fetchall()
        return [id for (id,) in rows]

    def amend(self, id: str, outcome: Result) -> None:
        """Write down at once that a command which a device has refused ended otherwise.

        :raises OutboxUnusable: it could not be written.
        """
        self._flush()
        with self._writing():
            self._sql.execute(
                "UPDATE devices SET outcome = ? WHERE id = ? AND device = ?",
                (json.encode(outcome), id, outcome.device),
            )

    def unfinished(self, place: Place | None = None) -> list[Brief]:
        """The commands that have not ended, oldest first.

        :param place: those only that can be gone on with there.
        :raises OutboxUnusable: the file cannot be read.
        """
        with self._reading():
            rows = self._sql.execute(
                "SELECT id, broker, prefix, requester, command, target, issued, "
                "(SELECT count(outcome) FROM devices WHERE devices.id = commands.id), "
                "(SELECT count(*) FROM devices WHERE devices.id = commands.id), "
                "(SELECT coalesce(max(expires), issued) FROM sendings WHERE sendings.id = commands.id) "
                "FROM commands WHERE ended IS NULL ORDER BY issued, id"
            ).fetchall()
        briefs = [Brief(id, Place(broker, prefix, requester), *rest) for id, broker, prefix, requester, *rest in rows]
        return [brief for brief in briefs if place is None or brief.place.same(place)]

    @contextmanager
    def together(self) -> Generator[None]:
        """Write everything that is written inside with one commit, which takes as long as that of one command.

        :raises OutboxUnusable: nothing of it was written.
        """
        with self._writing():
            self._together = True
            try:
                yield
            finally:
                self._together = False

    # What records write

    def add_sending(self, record: "Record", devices: Sequence[str], sending: Sending) -> None:
        """Write down a payload and whom it goes to, before it goes. For a record.

        :raises OutboxUnusable: it could not be written.
        """
        with self._writing():
            if record.place is not None:
                self._add_command(record, record.place, devices, sending)
                return
            self._sql.execute("UPDATE commands SET ended = NULL WHERE id = ?", (record.id,))
            number = self._sql.execute("SELECT count(*) FROM sendings WHERE id = ?", (record.id,)).fetchone()[0]
            self._sql.execute("INSERT INTO sendings VALUES (?, ?, ?, ?)", (record.id, number, *sending))
            self._sql.executemany(
                "INSERT INTO devices (id, device, sending) VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET sending = excluded.sending",
                [(record.id, device, number) for device in devices],
            )

    def _add_command(self, record: "Record", place: Place, devices: Sequence[str], sending: Sending) -> None:
        """A command with its first sending, inside a transaction."""
        self._prune(len(record.devices))
        facts = (*place, record.behalf, record.command, record.target)
        self._sql.execute(
            "INSERT INTO commands (id, broker, prefix, requester, behalf, command, target, issued, size) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (record.id, *facts, self._clock(), max(1, len(record.devices))),
        )
        self._sql.execute("INSERT INTO sendings VALUES (?, 0, ?, ?)", (record.id, *sending))
        told = {result.device: json.encode(result) for result in record.left_out}
        sent = frozenset(devices)
        self._sql.executemany(
            "INSERT INTO devices (id, device, sending, outcome) VALUES (?, ?, ?, ?)",
            [
                (record.id, device, 0 if device in sent else None, told.get(device))
                for device in dict.fromkeys((*record.devices, *devices))
            ],
        )

    def note(self, id: str, device: str, outcome: Result | None) -> None:
        """Gather an outcome, or that a device has accepted the command, to be written soon. For a record."""
        self._waiting.append((id, device, outcome))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHERED, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        waiting = self._waiting
        try:
            with self._writing():
                self._sql.executemany(
                    "UPDATE devices SET accepted = 1 WHERE id = ? AND device = ?",
                    [(id, device) for id, device, outcome in waiting if outcome is None],
                )
                self._sql.executemany(
                    "UPDATE devices SET outcome = ? WHERE id = ? AND device = ? AND outcome IS NULL",
                    [(json.encode(outcome), id, device) for id, device, outcome in waiting if outcome is not None],
                )
                self._sql.executemany(
                    "UPDATE commands SET ended = ? WHERE id = ? AND ended IS NULL AND NOT EXISTS "
                    "(SELECT 1 FROM devices WHERE devices.id = commands.id AND outcome IS NULL)",
                    [(self._clock(), id) for id in {id for id, _, _ in waiting}],
                )
            self._waiting = []
        except OutboxUnusable as error:
            logger.error("outcomes cannot be written down yet: %s", error)  # noqa: TRY400  # the words say it
            with contextlib.suppress(RuntimeError):  # no loop runs any more
                self._timer = asyncio.get_running_loop().call_later(1.0, self._flush)

    # The file

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))  # payloads are for their owner's eyes
        except OSError as error:
            raise OutboxUnusable(f"the durable outbox {self.path} cannot be opened: {error.strerror}") from error
        sql = sqlite3.connect(self.path, timeout=LOCKED, isolation_level=None)
        try:
            with _clear(self.path):
                self._prepare(sql)
        except BaseException:
            sql.close()
            raise
        return sql

    def _prepare(self, sql: sqlite3.Connection) -> None:
        application = sql.execute("PRAGMA application_id").fetchone()[0]
        tables = sql.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if application != _APPLICATION and tables:
            raise OutboxUnusable(f"{self.path} is a database of another program: name another file for the outbox")
        sql.execute("PRAGMA journal_mode = WAL")
        sql.execute("PRAGMA synchronous = FULL")
        sql.execute("PRAGMA foreign_keys = ON")
        version = sql.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise OutboxUnusable(
                f"the durable outbox {self.path} is of a newer outrider (format {version}): update this"
            )
        if version == 0:
            sql.execute("BEGIN IMMEDIATE")
            if sql.execute("PRAGMA user_version").fetchone()[0] == 0:  # else another process was faster
                for statement in _TABLES.split(";\n"):
                    sql.execute(statement)
                sql.execute(f"PRAGMA application_id = {_APPLICATION}")
                sql.execute(f"PRAGMA user_version = {_VERSION}")
            sql.execute("COMMIT")

    def _prune(self, coming: int) -> None:
        """Make room, inside a transaction; of what is too old now and then."""
        now = self._clock()
        if self._pruned <= now < self._pruned + PRUNED_EACH and self._unchecked + coming < MOST * OVER:
            self._unchecked += coming
            return
        self._pruned = now
        self._sql.execute("DELETE FROM commands WHERE ended < ?", (now - KEPT,))
        self._sql.execute(
            "DELETE FROM commands WHERE ended IS NULL AND issued < ? AND NOT EXISTS "
            "(SELECT 1 FROM sendings WHERE sendings.id = commands.id AND expires >= ?)",
            (now - KEPT_OPEN, now - KEPT_OPEN),
        )
        self._unchecked += coming
        if self._unchecked < MOST * OVER:
            return
        over = self._sql.execute("SELECT coalesce(sum(size), 0) FROM commands").fetchone()[0] + coming - MOST
        if over <= 0:
            self._unchecked = 0
            return
        for id, size in self._sql.execute(
            "SELECT id, size FROM commands WHERE ended IS NOT NULL ORDER BY ended"
        ).fetchall():
            self._sql.execute("DELETE FROM commands WHERE id = ?", (id,))
            over -= size
            if over <= 0:
                self._unchecked = 0
                return
        raise OutboxUnusable(
            f"the durable outbox {self.path} is full: {MOST} devices, of whose commands no outcome is known; see "
            "outrider results for these commands, or move the file away"
        )

    @contextmanager
    def _reading(self) -> Generator[None]:
        self._flush()
        with _clear(self.path):
            yield

    @contextmanager
    def _writing(self) -> Generator[None]:
        """A transaction; inside `together` a part of it, which can fail by itself."""
        begin, end, undo = ("SAVEPOINT one", "RELEASE one", "ROLLBACK TO one") if self._together else _TRANSACTION
        with _clear(self.path):
            self._sql.execute(begin)
            try:
                yield
                self._sql.execute(end)
            except BaseException:
                if self._sql.in_transaction:
                    self._sql.execute(undo)
                raise


class Record:
    """What is written down of one command. `place` is None where its command stands in the file already."""

    def __init__(
        self,
        outbox: DurableOutbox,
        id: str,
        place: Place | None,
        devices: tuple[str, ...],
        command: str,
        target: str,
        behalf: str,
    ) -> None:
        self.id = id
        self.place = place
        self.devices = devices
        self.command = command
        self.target = target
        self.behalf = behalf
        self.left_out: tuple[Result, ...] = ()
        self._outbox = outbox
        self._accepted: set[str] = set()
        self._ended: set[str] = set()

    def leave_out(self, outcomes: Iterable[Result]) -> None:
        """Note the outcomes of devices that nothing will be sent to, before the first sending."""
        self.left_out = tuple(outcomes)
        self._ended |= {result.device for result in self.left_out}

    def sending(self, devices: Sequence[str], payload: bytes, expires: float) -> None:
        """Write down what goes to whom now; when it returns it is on disk.

        :param expires: Unix seconds.
        :raises OutboxUnusable: it could not be written, and must not be sent.
        """
        self._outbox.add_sending(self, devices, Sending(payload, expires))
        self.place = None

    def accepted(self, device: str) -> None:
        """Note that a device has taken the command."""
        if device not in self._accepted and device not in self._ended:
            self._accepted.add(device)
            self._outbox.note(self.id, device, None)

    def outcome(self, result: Result) -> None:
        """Note what became of it on a device: its final answer, or that nothing was or will be sent to it."""
        if result.device not in self._ended and (result.status.final or result.status is Status.OFFLINE):
            self._ended.add(result.device)
            self._outbox.note(self.id, result.device, result)


@contextmanager
def _clear(path: Path) -> Generator[None]:
    """Errors of SQLite in words for people."""
    try:
        yield
    except sqlite3.Error as error:
        words = str(error)
        if "locked" in words or "busy" in words:
            advice = f"another process has held it for {LOCKED:g} s"
        elif "full" in words:
            advice = "make room on its disk"
        elif "readonly" in words or "open" in words or "I/O" in words:
            advice = "see whether its disk is there and can be written"
        else:
            advice = "it is damaged: move it away, and what was sent is forgotten"
        raise OutboxUnusable(f"the durable outbox {path} cannot be used ({words}): {advice}") from error


def _hosts(broker: str) -> set[str]:
    """The hosts and ports of a broker's URL."""
    return {_LOOPBACK.sub("localhost", host) for host in broker.split(",")}


def _result(raw: bytes | None) -> Result | None:
    if raw is None:
        return None
    try:
        return json.decode(raw, type=Result)
    except msgspec.MsgspecError as error:
        raise OutboxUnusable(f"an outcome in the durable outbox cannot be read: {error}") from error
