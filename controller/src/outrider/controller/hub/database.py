"""The hub's database: found by its URL, opened, held, brought up to date, and what is wrong with it in words.

SQLite belongs to one hub at a time; others may read it meanwhile. PostgreSQL may have several.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, NoSuchModuleError, TimeoutError
from sqlalchemy.pool import QueuePool

from outrider.schema import LocalError

from .tables import metadata

PATIENCE: Final = 5.0
"""Seconds to wait for another process to let go of the database."""

CONNECT: Final = 5
"""Seconds to wait for a PostgreSQL server that does not answer."""

VERSION_TABLE: Final = "hub_version"
MIGRATIONS: Final = "outrider.controller.hub:migrations"

_RECORDING: Final = (
    # These two take effect in a new file only. Pages of twice the usual size made recording a tenth faster.
    "PRAGMA page_size=8192",
    "PRAGMA auto_vacuum=INCREMENTAL",
    "PRAGMA journal_mode=WAL",
    # What is acknowledged to the broker is gone there, so it must outlive a power cut here.
    "PRAGMA synchronous=FULL",
    # Keys are in no order, so each batch changes many pages, and most of them again in the next: measured, 64 MiB of
    # log before they go to the file made recording twice as fast as the usual 4.
    "PRAGMA wal_autocheckpoint=8192",
)
_ASKING: Final = ("PRAGMA cache_size=-65536", "PRAGMA temp_store=MEMORY")

_MIGRATING: Final = 0x4F757472
"""PostgreSQL's advisory lock of who brings a database up to date."""


class StoreUnusable(LocalError):
    """The hub's database cannot be opened, and will not be by waiting; the message says what to do."""


class StoreHeld(StoreUnusable):
    """Another hub has the database, a file, and shares it with nobody that records; or it has this one's name."""


class StoreUnavailable(LocalError):
    """The hub's database cannot be read or written now. Nothing was written; the same call may succeed later."""


class Database:
    """An open database; several threads may use it.

    :param url: `sqlite:///FILE`, made where there is none, or `postgresql+psycopg://…`.
    :param read_only: to read beside a hub that has it; it is not made or brought up to date then.
    :param beside: to write a little beside a hub that has it; it is not made or brought up to date then either.
    :raises StoreHeld: another hub has it.
    :raises StoreUnusable: it is of a newer outrider or another program, or it cannot be opened.
    """

    def __init__(self, url: str, *, read_only: bool = False, beside: bool = False) -> None:
        self._url = _parsed(url)
        self.name = self._url.render_as_string(hide_password=True)
        self.sqlite = self._url.get_backend_name() == "sqlite"
        self._read_only = read_only
        self._beside = read_only or beside
        self._turn = threading.Lock()
        self._held: sqlite3.Connection | None = None
        self._closed = False
        self._engine = self._connected() if not self.sqlite else self._opened(Path(self._url.database or ""))
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def reading(self) -> Generator[Connection]:
        """A transaction that sees the database as it is now.

        :raises StoreUnavailable: it cannot be read.
        """
        with self._in_words("read"), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Generator[Connection]:
        """A transaction that is committed at the end; one at a time.

        :raises StoreUnavailable: it cannot be written, and nothing of it was.
        """
        with (
            self._turn,
            self._in_words("written"),
            self._engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextlib.contextmanager
    def alone(self) -> Generator[Connection]:
        """A connection without a transaction, for what cannot be done inside one.

        :raises StoreUnavailable: it cannot be done now.
        """
        # With SQLite the engine's own AUTOCOMMIT would change the connection for good.
        options = {"alone": True} if self.sqlite else {"isolation_level": "AUTOCOMMIT"}
        with self._turn, self._in_words("written"), self._engine.connect() as connection:
            yield connection.execution_options(**options)

    def close(self) -> None:
        """Let go of it. What is under way in other threads ends with its transaction, and finds it unavailable then."""
        self._closed = True
        self._engine.dispose()
        if self._held is not None:
            self._held.close()

    def _connected(self) -> Engine:
        arguments = {"connect_timeout": CONNECT} if "connect_timeout" not in self._url.query else {}
        try:
            return create_engine(self._url, pool_pre_ping=True, pool_size=8, max_overflow=8, connect_args=arguments)
        except ModuleNotFoundError as error:
            raise StoreUnusable(
                f"{self.name} needs a driver that is not installed: pip install 'outrider-controller[postgresql]'"
            ) from error

    def _opened(self, path: Path) -> Engine:
        if self._beside:
            if not path.is_file():
                raise StoreUnusable(f"there is no database {path}: see the hub's --db for the file it writes")
        else:
            try:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise StoreUnusable(
                    f"the folder of {path} cannot be made: {error.strerror or error}. Give the hub a place that it can "
                    "write to with --db sqlite:///FILE"
                ) from error
            self._held = hold(
                path.with_name(f"{path.name}-hub"),
                f"another hub has {path}: end that one first, or give this one a database of its own with --db. "
                "Several hubs can share one on PostgreSQL",
            )
        mode = "ro" if self._read_only else "rwc"
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        engine = create_engine(
            "sqlite://",
            creator=lambda: _connect(uri, PATIENCE, *(() if self._read_only else _RECORDING), *_ASKING),
            poolclass=QueuePool,
            pool_size=8,
            max_overflow=8,
        )
        event.listen(engine, "begin", _begin)
        return engine

    def _check(self) -> None:
        try:
            with self._engine.connect().execution_options(writes=not self._read_only) as connection, connection.begin():
                if not self.sqlite and not self._beside:
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
                self._bring_up_to_date(connection)
        except (DBAPIError, TimeoutError) as error:
            raise StoreUnusable(f"{self._what()} cannot be opened: {_words(error)}. {self._advice(error)}") from error

    def _bring_up_to_date(self, connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", MIGRATIONS)
        config.attributes["connection"] = connection
        scripts = ScriptDirectory.from_config(config)
        head = scripts.get_current_head()
        present = set(inspect(connection).get_table_names())
        if VERSION_TABLE not in present and (present if self.sqlite else present & metadata.tables.keys()):
            raise StoreUnusable(f"{self._what()} belongs to another program: give the hub another one with --db URL")
        found = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
        if found == head:
            return
        if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
            raise StoreUnusable(
                f"{self._what()} was made by a newer outrider (schema {found}, this is {head}): install that one "
                "again, or give this hub another database with --db URL"
            )
        if self._beside:
            raise StoreUnusable(
                f"{self._what()} is {'of an older outrider' if found else 'empty'}: start the hub on it once"
            )
        command.upgrade(config, "head")

    @contextlib.contextmanager
    def _in_words(self, verb: str) -> Generator[None]:
        if self._closed:  # the engine would open it anew, which another hub may have by now
            raise StoreUnavailable(f"{self._what()} cannot be {verb}: it was closed")
        try:
            yield
        except DataError:  # the fault is in what was given, and waiting would not mend it
            raise
        except (DBAPIError, TimeoutError) as error:
            raise StoreUnavailable(
                f"{self._what()} cannot be {verb}: {_words(error)}. {self._advice(error)}"
            ) from error

    def _what(self) -> str:
        return f"the hub's database {self._url.database if self.sqlite else self.name}"

    def _advice(self, error: Exception) -> str:
        words = str(error)
        if not self.sqlite:
            return "See whether its server runs, and lets this user in and write"
        if "locked" in words or "busy" in words:
            return f"Another process has held it for {PATIENCE:g} s: end that one"
        if "full" in words:
            return "Make room on its disk, or let the hub keep less"
        if "readonly" in words or "unable to open" in words or "I/O" in words:
            return "See whether its disk is there, and whether the hub may write the file and its folder"
        if "not a database" in words:
            return "It is a file of another program: give the hub another one with --db sqlite:///FILE"
        return "It may be damaged: move it away, or put back a copy"


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise StoreUnusable(_NO_URL.format(url.split("@")[-1])) from error
    if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
        raise StoreUnusable(_NO_URL.format(parsed.render_as_string(hide_password=True)))
    if parsed.drivername == "sqlite" and (not parsed.database or parsed.database == ":memory:"):
        raise StoreUnusable(f"{url} names no file, and a hub that forgets is none: sqlite:///FILE")
    return parsed


_NO_URL: Final = (
    "{} is no database that the hub knows: sqlite:///FILE (sqlite:////var/lib/… from the root), or "
    "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
)


def hold(beside: Path, taken: str) -> sqlite3.Connection:
    """Keep other hubs away, for as long as this process lives and does not close what is returned.

    A database is locked: SQLite's locks work everywhere and end with the process.

    :param beside: a file that is for this alone.
    :param taken: what is to be said where another process has it.
    :raises StoreHeld: it has.
    :raises StoreUnusable: the file cannot be made.
    """
    try:
        return _connect(str(beside), 1.0, "BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise StoreHeld(taken) from error
        raise StoreUnusable(
            f"{beside} cannot be made: {error}. Give the hub a place that it can write to with --db sqlite:///FILE"
        ) from error


def _connect(file: str, timeout: float, *statements: str) -> sqlite3.Connection:
    """A connection after these statements; where one of them fails it is closed."""
    connection = sqlite3.connect(
        file, uri=file.startswith("file:"), timeout=timeout, isolation_level=None, check_same_thread=False
    )
    try:
        for statement in statements:
            connection.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection


def _begin(connection: Connection) -> None:
    # A writer asks for the lock at once: a reader that turns writer is refused without waiting (SQLITE_BUSY_SNAPSHOT).
    options = connection.get_execution_options()
    if not options.get("alone"):
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes") else "BEGIN")


def _words(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(cause).split()).rstrip(".?")
