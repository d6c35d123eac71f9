import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from outrider.controller.hub import database, migrations
from outrider.controller.hub.database import Database
from outrider.controller.hub.records import EventQuery
from outrider.controller.hub.store import Store, StoreUnavailable, StoreUnusable
from outrider.controller.hub.tables import metadata
from tests.controller.hub.made import event
from tests.controller.hub.postgresql import Server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hub.sqlite"


def test_tables_are_what_the_migrations_make(url: str) -> None:
    with Store.open(url):
        pass
    engine = create_engine(url)
    made = inspect(engine)
    assert {*made.get_table_names()} == {*metadata.tables, "hub_version"}
    for table in metadata.tables.values():
        assert [column["name"] for column in made.get_columns(table.name)] == [column.name for column in table.columns]
        indexes = {index["name"] for index in made.get_indexes(table.name) if not index.get("duplicates_constraint")}
        assert indexes == {index.name for index in table.indexes}, table.name
    engine.dispose()


def test_store_opened_again_has_what_was_written(url: str) -> None:
    with Store.open(url) as store:
        store.write([event()])
    with Store.open(url) as store:
        assert len(store.events(EventQuery()).items) == 1


def test_database_of_a_newer_version_is_refused_and_left_alone(url: str) -> None:
    with Store.open(url):
        pass
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE hub_version SET version_num = '9999'")
    with pytest.raises(StoreUnusable, match=r"made by a newer outrider \(schema 9999"):
        Store.open(url)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM hub_version").scalar_one() == "9999"
    engine.dispose()


NEXT = '''
"""A column more."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("events", sa.Column("room", sa.Text(), nullable=False, server_default="none"))
    op.execute("UPDATE events SET room = name")
    {then}
'''


def newer(folder: Path, then: str = "") -> str:
    """The migrations of an outrider that has one more."""
    shutil.copytree(Path(migrations.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "0002_next.py").write_text(NEXT.format(then=then))
    return str(folder)


def test_database_of_an_older_version_is_brought_up_to_date_with_its_rows(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(url) as store:
        store.write([event("initial"), event("ack")])
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", newer(tmp_path / "newer"))
        with pytest.raises(StoreUnusable, match="of an older outrider: start the hub on it once"):
            Store.open(url, read_only=True)
        Store.open(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        rooms = connection.exec_driver_sql("SELECT room FROM events ORDER BY seq").scalars().all()
    engine.dispose()
    assert rooms == ["initial", "ack"]
    with pytest.raises(StoreUnusable, match=r"made by a newer outrider \(schema 0002, this is 0001\)"):
        Store.open(url)


def test_upgrade_that_fails_leaves_the_database_as_it_was(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(url) as store:
        store.write([event()])
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", newer(tmp_path / "newer", 'op.execute("DROP TABLE missing")'))
        with pytest.raises(StoreUnusable, match="missing"):
            Store.open(url)
    with Store.open(url) as store:
        assert len(store.events(EventQuery()).items) == 1


def test_database_of_another_program_is_refused_and_left_alone(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE events (what TEXT)")
    with pytest.raises(StoreUnusable, match="belongs to another program"):
        Store.open(url)
    assert inspect(engine).get_table_names() == ["events"]
    engine.dispose()


def test_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("my notes, " * 1000)
    with pytest.raises(StoreUnusable, match=r"file is not a database.*give the hub another one"):
        Store.open(f"sqlite:///{path}")
    assert path.read_text().startswith("my notes")


def test_second_hub_on_one_file_says_so_and_a_reader_does_not(path: Path) -> None:
    with Store.open(f"sqlite:///{path}") as store:
        store.write([event()])
        with pytest.raises(StoreUnusable, match="another hub has"):
            Store.open(f"sqlite:///{path}")
        with Store.open(f"sqlite:///{path}", read_only=True) as reader:
            assert len(reader.events(EventQuery()).items) == 1
            with pytest.raises(StoreUnavailable, match="readonly"):
                reader.write([event()])
    Store.open(f"sqlite:///{path}").close()


def test_second_hub_in_another_process_says_so(path: Path) -> None:
    code = "import sys; from outrider.controller.hub.store import Store; Store.open(sys.argv[1])"
    with Store.open(f"sqlite:///{path}"):
        run = [sys.executable, "-c", code, f"sqlite:///{path}"]
        ended = subprocess.run(run, capture_output=True, text=True, check=False, timeout=30)
    assert "another hub has" in ended.stderr
    assert subprocess.run(run, check=False, timeout=30).returncode == 0


def test_file_that_another_program_keeps_locked_is_unavailable_until_it_lets_go(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.1)
    with Store.open(f"sqlite:///{path}") as store:
        store.write([event()])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match=r"locked\. Another process has held it for"):
            store.write([event()])
        assert len(store.events(EventQuery()).items) == 1
        other.execute("ROLLBACK")
        other.close()
        assert store.write([event()]) == 1


def test_file_locked_at_the_start_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.1)
    Store.open(f"sqlite:///{path}").close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnusable, match="locked"):
        Store.open(f"sqlite:///{path}")
    other.close()


def test_full_disk_writes_nothing_and_goes_on_when_there_is_room(path: Path) -> None:
    with Store.open(f"sqlite:///{path}") as store:
        base = store.write([event(key="e") for _ in range(100)])
        _limit(store, 1)
        with pytest.raises(StoreUnavailable, match=r"full\. Make room on its disk"):
            store.write([event(key="e", subject="s" * 200) for _ in range(5000)])
        assert store.summary("initial")[0].count == base
        _limit(store, 2**30)
        assert store.write([event(key="e") for _ in range(5000)]) == 5000
        assert store.summary("initial")[0].count == base + 5000


def _limit(store: Store, pages: int) -> None:
    """Let the file have so many pages, or none more than it has."""
    held: Database = store._database  # pyright: ignore[reportPrivateUsage]
    with held.writing() as one:
        one.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("platform: only root can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("platform: nothing may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_disk_that_is_really_full_is_told_and_survived(small_disk: Path) -> None:
    kept = 0
    with Store.open(f"sqlite:///{small_disk}/hub.sqlite") as store:
        told = ""
        while not told and kept < 50_000:
            try:
                kept += store.write([event(key="e", subject="s" * 100) for _ in range(500)])
            except StoreUnavailable as full:
                told = str(full)
        assert "Make room on its disk" in told
        assert kept > 0
        assert store.summary("initial")[0].count == kept
    with Store.open(f"sqlite:///{small_disk}/hub.sqlite", read_only=True) as store:
        assert store.summary("initial")[0].count == kept


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Path]:
    """A folder that every user can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="outrider-hub-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def opened_by_somebody_else(path: Path) -> str:
    """What a user who owns nothing here is told."""
    code = (
        "import os, sys\n"
        "from outrider.controller.hub.store import Store\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "Store.open(sys.argv[1])\n"
    )
    run = [sys.executable, "-c", code, f"sqlite:///{path}"]
    return subprocess.run(run, capture_output=True, text=True, check=False, timeout=30).stderr


def test_folder_that_may_not_be_written_says_what_to_do(public: Path) -> None:
    public.chmod(0o555)
    assert "Give the hub a place that it can write to with --db" in opened_by_somebody_else(public / "hub.sqlite")
    public.chmod(0o755)


def test_file_that_may_not_be_written_says_what_to_do(public: Path) -> None:
    Store.open(f"sqlite:///{public}/hub.sqlite").close()
    for file in public.iterdir():
        file.chmod(0o666)
    (public / "hub.sqlite").chmod(0o444)
    public.chmod(0o777)
    assert "whether the hub may write the file and its folder" in opened_by_somebody_else(public / "hub.sqlite")


def test_folder_that_cannot_be_made_says_what_to_do() -> None:
    with pytest.raises(StoreUnusable, match="cannot be made"):
        Store.open("sqlite:////proc/hub/hub.sqlite")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "is no database that the hub knows"),
        ("hub.sqlite", "is no database that the hub knows"),
        ("mysql://root:secret@host/db", "is no database that the hub knows"),
        ("postgresql://ada:secret@host/db", "is no database that the hub knows"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("postgresql+psycopg://ada:secret@127.0.0.1:1/db", "cannot be opened"),
    ],
)
def test_url_that_cannot_be_opened_says_what_one_looks_like_and_no_password(url: str, words: str) -> None:
    with pytest.raises(StoreUnusable, match=words) as refused:
        Store.open(url)
    assert "secret" not in str(refused.value)
    assert not set("\n\t") & set(str(refused.value))  # what a driver says in several lines is one


def test_reader_of_a_file_that_is_not_there_does_not_make_it(path: Path) -> None:
    with pytest.raises(StoreUnusable, match="there is no database"):
        Store.open(f"sqlite:///{path}", read_only=True)
    assert not path.exists()


def test_database_that_comes_back_is_used_again(postgresql: Server) -> None:
    url = postgresql.create()
    with Store.open(url) as store:
        store.write([event(key="e")])
        with postgresql.connect("postgres") as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (url.rsplit("/", 1)[1],)
            )
        assert store.write([event(key="e")]) == 1
        postgresql.drop(url)
        with pytest.raises(StoreUnavailable, match="See whether its server runs"):
            store.write([event(key="e")])
