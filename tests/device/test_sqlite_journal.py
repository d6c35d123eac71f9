import contextlib
import logging
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from outrider.device import Entry, JournalFile, KeptEvent, Key, MemoryJournal, SqliteJournal, Stage
from outrider.device import journal_file as files
from outrider.device.journal import CLOCK_TOLERANCE
from outrider.device.journal_file import Synchronous
from outrider.schema import Command, Encoding, JournalError, Result, Status, encode


def entry(id: str = "a1", *, expires: float = 1000.0, encoding: Encoding = Encoding.JSON) -> Entry:
    command = Command(id=id, command="dim", args=Raw(encode([40], encoding)))
    return Entry(Key("me", "", id), b"digest", encoding, expires=expires, stated=True, command=command)


def result(of: Entry, finished: float = 1.0) -> Result:
    value = Raw(encode({"level": 40}, of.encoding))
    return Result(id=of.key.id, device="lamp-1", command="dim", status=Status.DONE, value=value, finished=finished)


@contextlib.contextmanager
def opened(path: Path, device: str = "lamp-1") -> Generator[SqliteJournal]:
    """The journal as a device's process has it; leaving it is a crash, as nothing is committed then."""
    file = JournalFile(path)
    try:
        yield SqliteJournal(file, device)
    finally:
        file.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "lamp-1.sqlite"


@pytest.mark.parametrize("encoding", list(Encoding))
def test_restart_finds_what_was_committed_at_each_stage(path: Path, encoding: Encoding) -> None:
    accepted, started, finished, delivered = (entry(id, encoding=encoding) for id in ("a", "s", "f", "d"))
    with opened(path) as journal:
        for each in (accepted, started, finished, delivered):
            journal.accept(each)
        journal.started(started)
        for each in (finished, delivered):
            journal.finished(each, result(each))
        journal.delivered(delivered)
        journal.commit()
    with opened(path) as journal:
        assert [(each.key.id, each.stage) for each in journal.unfinished()] == [("a", 1), ("s", 2)]
        assert [each.command for each in journal.unfinished()] == [accepted.command, started.command]
        assert [each.key.id for each in journal.undelivered()] == ["f"]
        found = journal.find(delivered.key)
        assert found is not None
        assert (found.stage, found.result, found.digest) == (Stage.DELIVERED, result(delivered), b"digest")


def test_changes_after_a_restart_are_kept_too(path: Path) -> None:
    with opened(path) as journal:
        journal.accept(entry())
        journal.commit()
    with opened(path) as journal:
        (found,) = journal.unfinished()
        journal.finished(found, result(found))
        journal.commit()
    with opened(path) as journal:
        (found,) = journal.undelivered()
        journal.delivered(found)
        journal.prune(2000.0)
        assert len(journal) == 0
        journal.commit()
    with opened(path) as journal:
        assert len(journal) == 0
        assert journal.dropped_until == 1000.0


def test_crash_loses_what_was_not_committed(path: Path) -> None:
    with opened(path) as journal:
        journal.accept(entry("a"))
        journal.commit()
        journal.accept(entry("b"))
    with opened(path) as journal:
        assert [each.key.id for each in journal.unfinished()] == ["a"]


def test_status_and_session_survive(path: Path) -> None:
    with opened(path) as journal:
        journal.keep_status("ready")
        session = journal.next_session(10.0)
        journal.commit()
    with opened(path) as journal:
        assert journal.status() == "ready"
        assert journal.next_session(1.0) == session + 1  # also where the clock was set back


def test_close_commits(path: Path) -> None:
    with opened(path) as journal:
        journal.keep_status("ready")
        journal.close()
    with opened(path) as journal:
        assert journal.status() == "ready"


def test_devices_share_a_file_and_nothing_in_it(path: Path) -> None:
    with contextlib.closing(JournalFile(path)) as file:
        first, second = SqliteJournal(file, "lamp-1"), SqliteJournal(file, "lamp-2")
        first.accept(entry())
        first.keep_status("ready")
        first.commit()
        second.accept(entry())
        second.commit()
        assert second.status() is None
    with contextlib.closing(JournalFile(path)) as file:
        assert len(SqliteJournal(file, "lamp-1")) == len(SqliteJournal(file, "lamp-2")) == 1
        assert SqliteJournal(file, "lamp-2").status() is None


# Two processes


HOLDS = """
    import sys
    from pathlib import Path
    from outrider.device import JournalFile
    file = JournalFile(Path(sys.argv[1]))
    print("held", flush=True)
    sys.stdin.read()
"""


def test_journal_of_a_running_process_is_refused_and_free_once_that_is_killed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.05)
    arguments = [sys.executable, "-c", textwrap.dedent(HOLDS), str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(JournalError, match=r"this device runs already.*another --id.*--journal PATH"):
            JournalFile(path)
        process.kill()
    JournalFile(path).close()


# Files that cannot be used


def test_folder_instead_of_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"cannot be written: it is a folder\. Name a file in it"):
        JournalFile(tmp_path)


def test_file_that_cannot_be_opened_is_no_full_disk(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("/proc/nowhere/journal")
    with pytest.raises(JournalError, match=r"it is not writable \(unable to open.*\)\. Make it so, or give") as raised:
        JournalFile(tmp_path / "dangling")
    assert "Free space" not in str(raised.value)


def test_state_home_that_is_not_absolute_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XDG Base Directory Specification: a relative path is invalid and ignored."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert files.default_path("lamp-1") == tmp_path / ".local/state/outrider/devices/lamp-1.sqlite"


def set_aside(path: Path) -> list[Path]:
    return sorted(path.parent.glob("*.broken-*"))


def damaged_in_the_middle(path: Path) -> None:
    with opened(path) as journal:
        for n in range(2000):
            journal.accept(entry(f"a{n}"))
        journal.commit()
    data = bytearray(path.read_bytes())
    data[8192:16384] = os.urandom(8192)
    path.write_bytes(data)


def foreign(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")
        database.commit()


def noise(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(os.urandom(4096))


@pytest.mark.parametrize("make", [damaged_in_the_middle, foreign, noise])
def test_broken_or_foreign_file_is_set_aside_and_reported(
    path: Path, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    make(path)
    with caplog.at_level(logging.ERROR), opened(path) as journal:
        assert len(journal) == 0
        lost = journal.forgotten_before
        assert lost > 1_700_000_000
        journal.commit()
    assert str(path) in caplog.text
    (aside,) = [each for each in set_aside(path) if not each.name.endswith(("-wal", "-shm"))]
    assert aside.name in caplog.text
    caplog.clear()
    with opened(path) as journal:  # no second time, and it is remembered that something was lost
        assert journal.forgotten_before == lost
    assert caplog.text == ""


def test_empty_file_becomes_a_journal(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()
    with opened(path) as journal:
        assert journal.forgotten_before == 0
    assert set_aside(path) == []


def test_journal_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    with opened(path) as journal:
        journal.accept(entry())
        journal.commit()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version=99")
    with pytest.raises(JournalError, match="newer outrider"):
        JournalFile(path)
    assert set_aside(path) == []


def test_journal_of_the_first_version_is_brought_up_to_date_and_takes_events(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(files.STEPS[0])
        database.execute(
            "INSERT INTO entries VALUES (1, 'lamp-1', 'me', '', 'a1', 'digest', 'json', 1000.0, 1, ?, 1, NULL)",
            (b'{"command":"dim"}',),
        )
        database.execute(f"PRAGMA application_id={files.APPLICATION}")
        database.execute("PRAGMA user_version=1")
    with opened(path) as journal:
        assert [each.key.id for each in journal.unfinished()] == ["a1"]
        journal.keep_event(KeptEvent("told", b"{}"))
        journal.commit()
    with opened(path) as journal:
        assert [each.key.id for each in journal.unfinished()] == ["a1"]
        assert [(each.name, each.payload) for each in journal.events()] == [("told", b"{}")]
    assert set_aside(path) == []


def test_events_of_devices_in_one_file_are_their_own(path: Path) -> None:
    with contextlib.closing(JournalFile(path)) as file:
        first, second = SqliteJournal(file, "lamp-1"), SqliteJournal(file, "lamp-2")
        first.keep_event(KeptEvent("told", b"1"))
        first.commit()
        second.keep_event(KeptEvent("told", b"2"))
        second.commit()
        first.forget_event(*first.events())
        first.commit()
    with contextlib.closing(JournalFile(path)) as file:
        assert not list(SqliteJournal(file, "lamp-1").events())
        assert [each.payload for each in SqliteJournal(file, "lamp-2").events()] == [b"2"]


def test_older_journal_is_brought_up_to_date_and_forgets_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path) as journal:
        journal.accept(entry())
        journal.commit()
    monkeypatch.setattr(files, "STEPS", (*files.STEPS, "CREATE TABLE later (x); CREATE TABLE last (x)"))
    with opened(path) as journal:
        assert journal.find(entry().key) is not None
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(files.STEPS),)


def test_update_that_fails_midway_leaves_the_older_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path) as journal:
        journal.accept(entry())
        journal.commit()
    with monkeypatch.context() as patch:
        patch.setattr(files, "STEPS", (*files.STEPS, "CREATE TABLE later (x); CREATE TABLE entries (x)"))
        with pytest.raises(JournalError):
            JournalFile(path)
    assert set_aside(path) == []
    with opened(path) as journal:
        assert journal.find(entry().key) is not None


def test_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="--journal memory"):
        JournalFile(tmp_path / "file" / "lamp-1.sqlite")


def test_file_is_its_users_alone(path: Path) -> None:
    with opened(path):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


# A disk that is full


def test_commit_that_fails_keeps_what_was_noted_for_the_next(path: Path) -> None:
    with contextlib.closing(JournalFile(path)) as file:
        journal = SqliteJournal(file, "lamp-1")
        journal.keep_status("ready")
        journal.commit()
        (pages,) = file.connection.execute("PRAGMA page_count").fetchone()
        file.connection.execute(f"PRAGMA max_page_count={pages}")
        for n in range(500):
            journal.accept(entry(f"a{n}"))
        with pytest.raises(JournalError, match=r"cannot be written: database or disk is full.*Free space"):
            journal.commit()
        withdrawn = journal.find(Key("me", "", "a0"))
        assert withdrawn is not None
        journal.withdraw(withdrawn)
        file.connection.execute("PRAGMA max_page_count=100000")
        journal.commit()
    with opened(path) as journal:
        assert len(journal) == 499
        assert journal.find(withdrawn.key) is None


# It behaves as the one in memory


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "accept",
                "start",
                "finish",
                "deliver",
                "time",
                "commit",
                "restart",
                "withdraw",
                "status",
                "emit",
                "forget",
            ]
        ),
        st.integers(0, 7),
        st.floats(-100, 200),
    ),
    max_size=40,
)


@given(steps=STEPS)
@settings(max_examples=60, deadline=None)
def test_journal_in_a_file_is_the_one_in_memory(steps: list[tuple[str, int, float]]) -> None:
    memory = MemoryJournal()
    file = JournalFile(Path(":memory:"))
    try:
        kept = SqliteJournal(file, "lamp-1")
        now = 10_000.0
        for number, (step, which, seconds) in enumerate(steps):
            if step == "restart":
                kept.commit()
                kept = SqliteJournal(file, "lamp-1")
            if step == "time":
                now += seconds
            for journal in (memory, kept):
                entries = [*journal.unfinished(), *journal.undelivered()]
                found = entries[which % len(entries)] if entries else None
                match step:
                    case "accept":
                        journal.accept(entry(f"a{number}", expires=now + seconds))
                    case "start" if found and found.stage is Stage.ACCEPTED:
                        journal.started(found)
                    case "finish" if found and found.stage < Stage.FINISHED:
                        journal.finished(found, result(found, now))
                    case "deliver" if found and found.stage is Stage.FINISHED:
                        journal.delivered(found)
                    case "withdraw" if found and found.stage is Stage.ACCEPTED:
                        journal.withdraw(found)
                    case "status":
                        journal.keep_status("ready" if which else None)
                    case "emit":
                        journal.keep_event(KeptEvent("told", b"%d" % number))
                    case "forget" if events := list(journal.events()):
                        journal.forget_event(events[which % len(events)])
                    case "commit":
                        journal.commit()
                    case _:
                        journal.prune(now)
            assert _told(memory) == _told(kept)
    finally:
        file.close()


def _told(journal: MemoryJournal) -> object:
    waiting = [(each.key, each.stage, each.command) for each in journal.unfinished()]
    answers = [(each.key, each.result) for each in journal.undelivered()]
    events = [(each.name, each.payload) for each in journal.events()]
    return len(journal), waiting, answers, events, journal.dropped_until, journal.status()


def test_finished_job_is_remembered_for_a_while_however_long_ago_it_expired() -> None:
    journal = MemoryJournal(linger=0.0)
    job = entry(expires=100.0)
    journal.accept(job)
    journal.prune(5000.0)
    journal.finished(job, result(job, finished=5000.0))
    journal.delivered(job)
    journal.prune(5000.0 + CLOCK_TOLERANCE)
    assert journal.find(job.key) is job
    journal.prune(5001.0 + CLOCK_TOLERANCE)
    assert journal.find(job.key) is None


@pytest.mark.parametrize(("synchronous", "level"), [("normal", 1), ("full", 2)])
def test_commit_survives_what_was_chosen(path: Path, synchronous: Synchronous, level: int) -> None:
    with contextlib.closing(JournalFile(path, synchronous=synchronous)) as file:
        assert file.connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert file.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
