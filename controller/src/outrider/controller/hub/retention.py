"""What leaves the store, oldest first: rows beyond an age or a size, and counts beyond an age of their own.

In short transactions, so that the writer waits for none of them long.
"""

from typing import Final

from sqlalchemy import Connection, Table, and_, delete, exists, func, select

from .database import Database
from .rows import TABLES
from .tables import LEVELS, event_counts, event_followups, event_keys, idempotency, metadata, reopened
from .tables import reopened_followups as followups

AT_ONCE: Final = 2000
"""Rows that leave in one transaction."""

PAGES: Final = 2000
"""Free pages of a SQLite file that go back to the disk in one transaction."""

ROW: Final = 280
"""Bytes that a row takes on PostgreSQL beside its values: its header, and its places in the indexes."""

ROWS: Final = tuple(TABLES.values())


def prune(
    database: Database, *, older_than: float | None, larger_than: int | None, counts_older_than: float | None
) -> int:
    """Remove what is too old, then the oldest rows until the rest is small enough; return how many rows left.

    :param older_than: Unix seconds; rows that were received before leave, and idempotency keys.
    :param larger_than: bytes of the whole database; on PostgreSQL an estimate, as the server gives no space back.
    :param counts_older_than: Unix seconds; counts of events before leave, but never while their rows may be there.
    """
    left = 0
    if older_than is not None:
        left += sum(_by_age(database, table, older_than) for table in ROWS)
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


def _by_age(database: Database, table: Table, older_than: float) -> int:
    """Rows are stored in the order in which they are received, so the oldest are looked at until some are young."""
    left = 0
    while True:
        oldest = select(table.c.seq).order_by(table.c.seq).limit(AT_ONCE).subquery()
        with database.writing() as connection:
            last = connection.scalar(select(func.max(oldest.c.seq)))
            if last is None:
                return left
            found = connection.execute(delete(table).where(table.c.seq <= last, table.c.received < older_than)).rowcount
        left += found
        if found == 0:
            return left


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
    return left


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
