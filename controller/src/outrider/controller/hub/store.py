"""The hub's store: everything it remembers, in one database, for callers in any thread."""

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from . import access, export, reading, retention, summaries, writing
from .access import IdempotencyConflict, Token, TokenExists
from .database import Database, StoreHeld, StoreUnavailable, StoreUnusable
from .export import KINDS, Kind
from .records import (
    Bucket,
    CommandQuery,
    CommandRecord,
    EventQuery,
    EventRecord,
    Page,
    ProgressRecord,
    Record,
    ResultQuery,
    ResultRecord,
    StateRecord,
    Summary,
)
from .summaries import InvalidQuery

__all__ = [
    "IdempotencyConflict",
    "InvalidQuery",
    "Store",
    "StoreHeld",
    "StoreUnavailable",
    "StoreUnusable",
    "Token",
    "TokenExists",
]


class Store:
    """An open store; a context manager. Any thread may call it, and an event loop through `asyncio.to_thread`.

    Every method raises `StoreUnavailable` where the database is full, locked or away: the same call may succeed later.

    :param stored: called after each write, in the thread that wrote, with the records that were new.
    """

    def __init__(self, database: Database, stored: Callable[[Sequence[Record]], None] | None = None) -> None:
        self._database = database
        self._stored = stored

    @classmethod
    def open(
        cls,
        url: str,
        *,
        read_only: bool = False,
        beside: bool = False,
        stored: Callable[[Sequence[Record]], None] | None = None,
    ) -> "Store":
        """The store in the database at `url`, made or brought up to date.

        :param read_only: only to read, beside the hub that has it.
        :param beside: also to write, as tokens, beside the hub that has it.
        :param stored: called after each write, in the thread that wrote, with the records that were new.
        :raises StoreUnusable: it is of a newer outrider or another program, another hub has it, or it cannot be opened.
        """
        return cls(Database(url, read_only=read_only, beside=beside), stored)

    @property
    def name(self) -> str:
        """The database's URL, without its password."""
        return self._database.name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def write(self, batch: Sequence[Record]) -> int:
        """Store what is new of a batch, all or nothing, and return how many records that were.

        Their own `seq` is not looked at. When it returns, they outlive a power cut.

        :raises StoreUnavailable: nothing was written.
        """
        with self._database.writing() as connection:
            new = writing.write(connection, batch)
        if self._stored is not None:
            self._stored(new)
        return len(new)

    def commands(self, query: CommandQuery) -> Page[CommandRecord]:
        """Commands, newest first; `since` and `until` are of when the hub heard them."""
        with self._database.reading() as connection:
            return reading.find_commands(connection, query)

    def results(self, query: ResultQuery) -> Page[ResultRecord]:
        """Results, newest first; `since` and `until` are of when the hub heard them."""
        with self._database.reading() as connection:
            return reading.find_results(connection, query)

    def progress(
        self,
        id: str,
        *,
        requester: str,
        device: str | None = None,
        stream: str | None = None,
        after: int = 0,
        limit: int = 1000,
    ) -> Page[ProgressRecord]:
        """What happened to a command after the record `after`, oldest first; `next` is the `after` of what follows.

        :param stream: only what was written there, as `stdout`.
        """
        with self._database.reading() as connection:
            return reading.find_progress(connection, id, requester, device, after, limit, stream=stream)

    def states(self, device: str, *, cursor: int | None = None, limit: int = 100) -> Page[StateRecord]:
        """The states a device was in, newest first."""
        with self._database.reading() as connection:
            return reading.find_states(connection, device, cursor, limit)

    def events(self, query: EventQuery) -> Page[EventRecord]:
        """Events, newest stored first; with `after` oldest first, and `next` is the `after` of what follows."""
        with self._database.reading() as connection:
            return reading.find_events(connection, query)

    def names(self) -> list[str]:
        """The names that events came with, in order."""
        with self._database.reading() as connection:
            return reading.find_names(connection)

    def summary(
        self, name: str, *, key: str | None = None, since: float | None = None, until: float | None = None
    ) -> list[Summary]:
        """The events of a name whose time is in [since, until), Unix seconds, exact to the row.

        :param key: gives exactly one; without it there is one for each key seen in the range, in order of keys. Events
            without a key come first, as `None`.
        """
        with self._database.reading() as connection:
            return summaries.summarise(connection, name, key, since, until)

    def series(self, name: str, *, key: str | None = None, since: float, until: float, step: float) -> list[Bucket]:
        """Whole buckets of `step` seconds, from the one that holds `since` to before `until`; `step` as in `LEVELS`.

        In order of keys and times. A bucket without events is left out.

        :raises InvalidQuery: there are no buckets of this step.
        """
        with self._database.reading() as connection:
            return summaries.bars(connection, name, key, since, until, step)

    def export(
        self, kinds: Sequence[Kind] = tuple(KINDS), since: float | None = None, until: float | None = None
    ) -> Iterator[Record]:
        """Every record of these kinds that the hub received in [since, until), one kind after the other, oldest first.

        What is stored meanwhile may be among them or not. `export.py` makes lines of them.
        """
        return export.records(self._database, kinds, since, until)

    def prune(
        self,
        *,
        older_than: float | None = None,
        larger_than: int | None = None,
        counts_older_than: float | None = None,
        now: float | None = None,
    ) -> int:
        """Remove what is too old, then the oldest rows until the rest is small enough; return how many rows left.

        :param older_than: Unix seconds; rows that were received before leave, and idempotency keys.
        :param larger_than: bytes of the whole database; on PostgreSQL an estimate. Counts of events from before the
            oldest event leave with the rows.
        :param counts_older_than: Unix seconds; the counts of events before leave, but never before their rows.
        :param now: Unix seconds; by default this machine's clock.
        """
        return retention.prune(
            self._database,
            now=time.time() if now is None else now,
            older_than=older_than,
            larger_than=larger_than,
            counts_older_than=counts_older_than,
        )

    def token(self, digest: str) -> Token | None:
        """The token with this digest, also one that has expired."""
        with self._database.reading() as connection:
            return access.find_token(connection, digest)

    def tokens(self) -> list[Token]:
        """Every token, in order of names."""
        with self._database.reading() as connection:
            return access.all_tokens(connection)

    def add_token(
        self,
        name: str,
        digest: str,
        scopes: Sequence[str],
        *,
        expires: float | None = None,
        created: float | None = None,
    ) -> None:
        """Keep a token, of which only this digest is stored.

        :raises TokenExists: there is one of this name, or with this digest.
        """
        with self._database.writing() as connection:
            now = time.time() if created is None else created
            access.add_token(connection, name, digest, scopes, now, expires)

    def remove_token(self, name: str) -> bool:
        """Forget a token; False if there is none of this name."""
        with self._database.writing() as connection:
            return access.remove_token(connection, name)

    def remember(
        self, token: str, key: str, digest: str, command_id: str, *, created: float | None = None
    ) -> str | None:
        """Keep which command an idempotency key of a client stands for. None if it is new, else the id kept before.

        :raises IdempotencyConflict: the key was kept with another digest.
        """
        with self._database.writing() as connection:
            now = time.time() if created is None else created
            return access.remember(connection, token, key, digest, command_id, now)
