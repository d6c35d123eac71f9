"""What leaves the store, oldest first: rows beyond an age or a size, and counts beyond an age of their own.

In short transactions, so that the writer waits for none of them long.
"""

from typing import Final

from sqlalchemy import Connection, Table, and_, case, delete, exists, func, select

from .database import Database
from .rows import TABLES
from .tables import LEVELS, event_counts, event_followups, event_keys, events, idempotency, metadata, reopened
from .tables import reopened_followups as followups

AT_ONCE: Final = 2000
"""Rows that leave in one transaction."""

PAGES: Final = 2000
"""Free pages of a SQLite file that go back to the disk in one transaction."""

ROW: Final = 280
"""Bytes that a row takes on PostgreSQL beside its values: its header, and its places in the indexes."""

ROWS: Final = tuple(TABLES.values())

JUMP: Final = 60.0
"""Seconds by which a clock that is set right goes wrong between two looks at most."""


class Age:
    """When records are too old. A clock that has jumped is not believed until it has gone on from there.

    :param keep: seconds for which they are kept.
    """

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._ahead: float | None = None

    def before(self, now: float, *, running: float) -> float | None:
        """The time before which records are too old; None while that cannot be told.

        :param now: Unix seconds.
        :param running: seconds by a clock that nobody sets.
        """
        ahead, self._ahead = self._ahead, now - running
        return now - self._keep if ahead is None or abs(self._ahead - ahead) <= JUMP else None


def prune(
    database: Database,
    *,
    now: float,
    older_than: float | None,
    larger_than: int | None,
    counts_older_than: float | None,
) -> int:
    """Remove what is too old, then the oldest rows until the rest is small enough; return how many rows left.

    :param now: the hub's clock; what was received after it was so while the clock was wrong.
    :param older_than: Unix seconds; rows that were received before leave, and idempotency keys.
    :param larger_than: bytes of the whole database; on PostgreSQL an estimate, as the server gives no space back.
        Counts of events from before the oldest event leave with the rows, or they alone would fill it one day.
    :param counts_older_than: Unix seconds; counts of events before leave, but never while their rows may be there.
    """
    left = 0
    if older_than is not None:
        left += sum(_by_age(database, table, older_than, now) for table in ROWS)
        with database.writing() as connection:
            connection.execute(delete(idempotency).where(idempotency.c.created < older_than))
    if counts_older_than is not None:
        _counts(database, counts_older_than if older_than is None else min(counts_older_than, older_than))
    if larger_than is not None:
        left += _by_size(database, larger_than)
    if left:
        _give_back(database)
    return left


def size(database: Database) -> int:
    """Bytes that the store takes, without what is free inside its file."""
    with database.reading() as connection:
        if database.sqlite:
            pages, free, page = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("page_count", "freelist_count", "page_size")
            )
            return (pages - free) * page
        return sum(_postgresql_size(connection, table) for table in metadata.tables.values())


def _postgresql_size(connection: Connection, table: Table) -> int:
    """Its rows times what some of them take: what the server says has room in it that was given back."""
    part = f"(SELECT * FROM {table.name}{' ORDER BY seq DESC' if table in ROWS else ''} LIMIT 1000) AS part"
    row = connection.exec_driver_sql(f"SELECT avg(pg_column_size(part.*)) FROM {part}").scalar_one()
    count = connection.scalar(select(func.count()).select_from(table)) or 0
    return 0 if row is None else int(count * (float(row) + ROW))


def _by_age(database: Database, table: Table, older_than: float, now: float) -> int:
    """Rows are stored in the order in which they are received, so the oldest are looked at until some are young.

    Those that seem to come from after `now` tell nothing of the ones behind them: the clock was ahead for a while.
    """
    left, last = 0, 0
    while True:
        oldest = select(table.c.seq, table.c.received).where(table.c.seq > last).order_by(table.c.seq).limit(AT_ONCE)
        some = oldest.subquery()
        with database.writing() as connection:
            young = func.count(case((some.c.received.between(older_than, now), 1)))
            end, count = connection.execute(select(func.max(some.c.seq), young)).one()
            if end is None:
                return left
            these = table.c.seq > last, table.c.seq <= end, table.c.received < older_than
            found = connection.execute(delete(table).where(*these)).rowcount
        left += found
        if found == 0 and count:
            return left
        last = end


def _by_size(database: Database, larger_than: int) -> int:
    """The number says what is oldest, whatever the kind."""
    left = 0
    while (over := size(database) - larger_than) > 0:
        found = 0
        # On PostgreSQL rather too few: it is counted again.
        while found < AT_ONCE if database.sqlite else found * 3 * ROW < over:
            with database.writing() as connection:
                oldest = [connection.scalar(select(func.min(table.c.seq))) for table in ROWS]
                first = min((seq for seq in oldest if seq is not None), default=None)
                if first is None:
                    return left + found
                found += sum(
                    connection.execute(delete(table).where(table.c.seq < first + AT_ONCE)).rowcount for table in ROWS
                )
        left += found
        if (before := _oldest(database)) is not None:
            _counts(database, before)
    return left


def _oldest(database: Database) -> float | None:
    """When the first of the events that are there was received; None where there is none."""
    with database.reading() as connection:
        return connection.scalar(select(events.c.received).order_by(events.c.seq).limit(1))


def _counts(database: Database, older_than: float) -> None:
    with database.reading() as connection:
        keys = connection.execute(select(event_keys.c.name, event_keys.c.keyed, event_keys.c.key)).all()
    for name, keyed, key in keys:
        with database.writing() as connection:
            for level in LEVELS:
                for table in (event_counts, event_followups) if keyed else (event_counts,):
                    connection.execute(
                        delete(table).where(
                            table.c.name == name,
                            *([table.c.keyed == keyed] if table is event_counts else []),
                            table.c.key == key,
                            table.c.level == level,
                            table.c.bucket <= older_than - level,
                        )
                    )
    with database.writing() as connection:
        connection.execute(delete(reopened).where(reopened.c.time < older_than))
        connection.execute(delete(followups).where(~exists().where(reopened.c.subject == followups.c.subject)))
        same = and_(
            event_counts.c.name == event_keys.c.name,
            event_counts.c.keyed == event_keys.c.keyed,
            event_counts.c.key == event_keys.c.key,
        )
        connection.execute(delete(event_keys).where(~exists().where(same)))


def _give_back(database: Database) -> None:
    """Let the disk have what is free, or on PostgreSQL let new rows have it."""
    if not database.sqlite:
        with database.alone() as connection:
            for table in ROWS:
                connection.exec_driver_sql(f"VACUUM {table.name}")
        return
    while True:
        with database.alone() as connection:
            free = int(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one())
            vacuum = connection.connection.cursor()
            vacuum.execute(f"PRAGMA incremental_vacuum({PAGES})")
            vacuum.fetchall()  # it frees a page for each row, and the rows have no columns
            if int(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()) in (0, free):
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
                return
