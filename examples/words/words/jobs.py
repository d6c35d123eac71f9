"""The jobs: one table in the hub's database, the same on SQLite and PostgreSQL. Its methods block.

A hub that works on a job holds a lease on it. Where the hub dies, the lease ends, and another hub, or this one when it
is back, takes the job over. The work may then be done twice, and the first result stays.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from uuid import uuid4

from sqlalchemy import (
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    delete,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.engine import Engine

LEASE: Final = 10.0
"""Seconds for which a hub has a job, unless it renews that. Clocks of hubs may differ by less."""

IN_PROGRESS: Final = "IN_PROGRESS"
COMPLETE: Final = "COMPLETE"
FAIL: Final = "FAIL"

_metadata = MetaData()
_jobs: Final = Table(
    "words_jobs",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("submitted", Double, nullable=False),
    Column("finished", Double),
    Column("hub", Text),  # who works on it,
    Column("lease", Double, nullable=False),  # until then
    Column("attempts", Integer, nullable=False),  # that a worker did not survive
    Column("result", Text),  # JSON
    Column("error", Text),
    Index("words_jobs_waiting", "status", "submitted"),
)


class Job(NamedTuple):
    """A job as one asks for it. `result` is JSON: word → count."""

    id: str
    url: str
    status: str
    result: str | None
    error: str | None


class Claim(NamedTuple):
    """A job that this hub is to do now."""

    id: str
    url: str
    attempts: int


class Jobs:
    """The table.

    :param url: of the hub's database.
    :param hub: this hub's name; each that shares the database has one of its own.
    :param clock: Unix seconds.
    """

    def __init__(self, url: str, hub: str, *, clock: Callable[[], float] = time.time) -> None:
        self._engine: Engine = create_engine(url, pool_pre_ping=True)
        self._hub = hub
        self._clock = clock
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":  # two hubs that start at once
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7766)")
            _metadata.create_all(connection)
        self.release()

    def add(self, urls: Sequence[str]) -> list[str]:
        """Write down new jobs with one commit, and return their ids."""
        now = self._clock()
        rows = [
            {"id": uuid4().hex, "url": url, "status": IN_PROGRESS, "submitted": now, "lease": 0.0, "attempts": 0}
            for url in urls
        ]
        with self._engine.begin() as connection:
            connection.execute(insert(_jobs), rows)
        return [str(row["id"]) for row in rows]

    def get(self, id: str) -> Job | None:
        """A job; None where there is no such."""
        wanted = select(_jobs.c.id, _jobs.c.url, _jobs.c.status, _jobs.c.result, _jobs.c.error).where(_jobs.c.id == id)
        with self._engine.connect() as connection:
            row = connection.execute(wanted).one_or_none()
        return None if row is None else Job(*row)

    def claim(self, most: int) -> list[Claim]:
        """Take the oldest jobs that no hub has a lease on."""
        now = self._clock()
        free = (
            select(_jobs.c.id)
            .where(_jobs.c.status == IN_PROGRESS, _jobs.c.lease < now)
            .order_by(_jobs.c.submitted)
            .limit(most)
            .with_for_update(skip_locked=True)  # SQLite knows nothing of it, and lets one write at a time
        )
        take = (
            update(_jobs)
            .where(_jobs.c.id.in_(free))
            .values(hub=self._hub, lease=now + LEASE)
            .returning(_jobs.c.id, _jobs.c.url, _jobs.c.attempts)
        )
        with self._engine.begin() as connection:
            return [Claim(*row) for row in connection.execute(take)]

    def renew(self, ids: Sequence[str]) -> None:
        """Hold on to jobs that this hub works on."""
        self._update(ids, lease=self._clock() + LEASE)

    def put_back(self, id: str, *, attempts: int) -> None:
        """Let a job wait again."""
        self._update([id], hub=None, lease=0.0, attempts=attempts)

    def release(self) -> None:
        """Let all jobs wait again that this hub had: when it ends, and when it begins after it was killed."""
        with self._engine.begin() as connection:
            connection.execute(update(_jobs).where(_jobs.c.hub == self._hub).values(hub=None, lease=0.0))

    def complete(self, id: str, result: str) -> None:
        """Write down what a worker counted."""
        self._end(id, status=COMPLETE, result=result)

    def fail(self, id: str, error: str) -> None:
        """Write down why there is no result, and never will be."""
        self._end(id, status=FAIL, error=error)

    def remove(self, age: float, most: int) -> int:
        """Remove some of the jobs that ended more than `age` seconds ago, and return how many."""
        before = self._clock() - age
        old = (
            select(_jobs.c.id)
            # None ended before it was submitted: that is in the index.
            .where(_jobs.c.status.in_([COMPLETE, FAIL]), _jobs.c.submitted < before, _jobs.c.finished < before)
            .limit(most)
            .with_for_update(skip_locked=True)  # another hub removes those
        )
        with self._engine.begin() as connection:
            return connection.execute(delete(_jobs).where(_jobs.c.id.in_(old))).rowcount

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def _update(self, ids: Sequence[str], **values: object) -> None:
        mine = or_(_jobs.c.hub == self._hub, _jobs.c.hub.is_(None))
        with self._engine.begin() as connection:
            connection.execute(
                update(_jobs).where(_jobs.c.id.in_(ids), _jobs.c.status == IN_PROGRESS, mine).values(values)
            )

    def _end(self, id: str, **values: object) -> None:
        ended = {"finished": self._clock(), "hub": None, **values}
        with self._engine.begin() as connection:
            # Whose lease it was does not matter: the first result stays.
            connection.execute(update(_jobs).where(_jobs.c.id == id, _jobs.c.status == IN_PROGRESS).values(ended))
