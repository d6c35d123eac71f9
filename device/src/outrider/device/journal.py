"""What a device has received, started, finished and delivered: the memory that keeps a command from running twice.

The key is (requester, behalf, id); the same key with another content is another command under a used id. Entries
leave only after `expires` plus the clock tolerance, later where there is room, and the greatest `expires` so dropped is
kept: an unknown id at or below it is `expired`, whatever the clock says.

What is noted takes effect at once, for whoever asks this journal, and is kept for good by the next `commit`.
"""

from collections.abc import Iterable
from enum import IntEnum
from hashlib import blake2b
from typing import NamedTuple, Protocol

from msgspec import Struct, UnsetType

from outrider.schema import Command, Encoding, Result

CLOCK_TOLERANCE = 30.0
"""Seconds that clocks of requesters and devices may differ."""


class Key(NamedTuple):
    """Who asked, and by which id. `requester` is empty where none was named."""

    requester: str
    behalf: str
    id: str


class Stage(IntEnum):
    """How far a command has come; it only grows."""

    ACCEPTED = 1
    STARTED = 2
    FINISHED = 3
    DELIVERED = 4


class Entry:
    """One command in the journal.

    :ivar command: the command itself, until it is `FINISHED`: what is needed to run it after a restart.
    :ivar result: the final answer, once it is `FINISHED`, written in `encoding`.
    """

    __slots__ = ("command", "digest", "encoding", "expires", "key", "result", "row", "stage", "stated")

    def __init__(
        self,
        key: Key,
        digest: bytes,
        encoding: Encoding,
        *,
        expires: float,
        stated: bool,
        command: Command | None = None,
    ) -> None:
        """`stated` tells that the requester itself gave `expires`."""
        self.key = key
        self.digest = digest
        self.encoding = encoding
        self.expires = expires
        self.stated = stated
        self.command = command
        self.stage = Stage.ACCEPTED
        self.result: Result | None = None
        self.row = 0


class KeptEvent:
    """An event that the broker has not acknowledged: its name, and its message as it is sent each time."""

    __slots__ = ("name", "payload", "row")

    def __init__(self, name: str, payload: bytes, row: int = 0) -> None:
        """`row` is where a file has it, 0 as long as it was not committed."""
        self.name = name
        self.payload = payload
        self.row = row


class Usage(Struct, frozen=True):
    """How full a journal is: so many commands and bytes of their values, of so many that it takes.

    `path` is its file, null where it is in memory only.
    """

    path: str | None
    commands: int
    max_commands: int
    bytes: int
    max_bytes: int


class Journal(Protocol):
    """Where entries are kept, and events. All methods are called from the device's event loop."""

    @property
    def usage(self) -> Usage:
        """How full it is, and where."""
        ...

    @property
    def dropped_until(self) -> float:
        """The greatest stated `expires` among the entries dropped so far, Unix seconds; 0 if none."""
        ...

    @property
    def forgotten_before(self) -> float:
        """When a journal was lost, Unix seconds: what was issued before may have run. 0 where none was."""
        ...

    @property
    def full(self) -> bool:
        """Whether another command would go over the journal's size."""
        ...

    def find(self, key: Key) -> Entry | None:
        """The entry of a command received before, None if it is unknown."""
        ...

    def accept(self, entry: Entry) -> None:
        """Keep a command before it runs."""
        ...

    def withdraw(self, entry: Entry) -> None:
        """Forget a command that was accepted, could not be kept by `commit`, and does not run."""
        ...

    def started(self, entry: Entry) -> None:
        """It runs, as soon as that is committed."""
        ...

    def finished(self, entry: Entry, result: Result) -> None:
        """It has its final answer."""
        ...

    def delivered(self, entry: Entry) -> None:
        """The broker has acknowledged the final answer."""
        ...

    def unfinished(self) -> Iterable[Entry]:
        """The entries without a final answer, oldest first: at the start, those that a restart has interrupted."""
        ...

    def undelivered(self) -> Iterable[Entry]:
        """The entries with a final answer that the broker has not acknowledged, oldest first."""
        ...

    def prune(self, now: float) -> None:
        """Drop what is delivered, and expired and finished more than the clock tolerance before `now`, Unix seconds."""
        ...

    def keep_event(self, event: KeptEvent) -> None:
        """Keep an event until it is forgotten."""
        ...

    def forget_event(self, event: KeptEvent) -> None:
        """The broker has acknowledged it; or it could not be kept, and was never sent."""
        ...

    def events(self) -> Iterable[KeptEvent]:
        """The events that are kept, oldest first."""
        ...

    def status(self) -> str | None:
        """The life-cycle status to come back with, None for a new device."""
        ...

    def keep_status(self, status: str | None) -> None:
        """Keep the life-cycle status; None after `terminate`."""
        ...

    def next_session(self, now: float, above: int = 0) -> int:
        """A session number above every one before and above `above`: at least `now` in microseconds."""
        ...

    def commit(self) -> None:
        """Keep for good all that was noted so far.

        :raises JournalError: it could not be written; what was noted is tried again by the next call.
        """
        ...

    def close(self) -> None:
        """Let go of the file, if there is one; what was not committed is tried once more."""
        ...


def digest(command: Command) -> bytes:
    """What must be the same for two messages under one key to be the same command: name and arguments."""
    args = b"" if isinstance(command.args, UnsetType) else bytes(command.args)
    return blake2b(b"\0".join((command.command.encode(), args)), digest_size=16).digest()
