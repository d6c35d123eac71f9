"""Workspaces: each owner's own, within its quota, and never a way out, whatever a script left there."""

import asyncio
import os
import stat
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from outrider.device.scripts import quota, workspace
from outrider.device.scripts.commands import keeping
from outrider.device.scripts.limits import Held
from outrider.device.scripts.refusals import NoSuchFile, ScriptRefused, WorkspacesInUse
from outrider.device.scripts.workspace import Owner, Workspaces

ANN = Owner("ann", "")
BOB = Owner("bob", "")


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "workspaces", user=None, quota=100_000, files=50, patterns=("*.py",))


@pytest.fixture
def folder(workspaces: Workspaces, tmp_path: Path) -> Path:
    """Ann's folder, as her scripts see it."""
    send(workspaces, {"script.py": "pass"})
    return tmp_path / "workspaces" / ANN.folder


def send(workspaces: Workspaces, files: dict[str, str], owner: Owner = ANN) -> None:
    workspaces.write(owner, workspaces.check(files))


def names(workspaces: Workspaces, owner: Owner = ANN) -> list[str]:
    return [file.name for file in workspaces.list(owner)]


def test_what_is_sent_stays_and_can_be_fetched(workspaces: Workspaces) -> None:
    send(workspaces, {"main.py": "print(1)", "lib/tools.py": "x = 'ä'"})
    send(workspaces, {"more.py": ""})
    assert names(workspaces) == ["lib/tools.py", "main.py", "more.py"]
    chunk = workspaces.read(ANN, "lib/tools.py", 4, 100)
    assert (chunk.data, chunk.size, chunk.offset) == ("'ä'".encode(), 8, 4)


def test_part_behind_the_end_of_a_file_is_empty(workspaces: Workspaces) -> None:
    send(workspaces, {"main.py": "print(1)"})
    assert workspaces.read(ANN, "main.py", 1000, 10).data == b""


@pytest.mark.parametrize(
    "other",
    [BOB, Owner("", "ann"), Owner("ann", "x"), Owner("an", "n"), Owner("ANN", ""), Owner('ann",""', ""), Owner("", "")],
)
def test_owners_with_like_names_have_nothing_in_common(workspaces: Workspaces, folder: Path, other: Owner) -> None:
    assert names(workspaces, other) == []
    with pytest.raises(NoSuchFile, match="no files here"):
        workspaces.read(other, "script.py", 0, 10)
    assert workspaces.purge(other) == 0
    assert names(workspaces) == ["script.py"]


def test_refusal_says_the_same_whether_or_not_another_owner_has_the_file(workspaces: Workspaces, folder: Path) -> None:
    send(workspaces, {"mine.py": ""}, BOB)
    said: list[str] = []
    for name in ("script.py", "nobodys.py"):
        with pytest.raises(NoSuchFile) as missing:
            workspaces.read(BOB, name, 0, 10)
        said.append(str(missing.value).replace(name, "NAME"))
    assert said[0] == said[1]
    assert ANN.folder not in said[0]


def test_folders_are_closed_to_others(workspaces: Workspaces, folder: Path) -> None:
    for path in (folder, folder.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "script.py").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["secret", "up/secret", "hard", "fifo", "inner", "device"])
def test_what_is_no_file_of_ones_own_is_not_fetched(workspaces: Workspaces, folder: Path, name: str) -> None:
    secret = folder.parents[1] / "secret"
    secret.write_text("of the device")
    (folder / "secret").symlink_to(secret)
    (folder / "up").symlink_to(secret.parent)
    os.link(secret, folder / "hard")
    os.mkfifo(folder / "fifo")
    (folder / "inner").mkdir()
    (folder / "device").symlink_to("/dev/zero")
    with pytest.raises(NoSuchFile):
        workspaces.read(ANN, name, 0, 10)
    assert "secret" not in names(workspaces)
    assert "up/secret" not in names(workspaces)


def test_upload_replaces_a_link_and_leaves_what_it_leads_to(workspaces: Workspaces, folder: Path) -> None:
    outside = folder.parents[1] / "outside.py"
    outside.write_text("whole")
    (folder / "script.py").unlink()
    (folder / "script.py").symlink_to(outside)
    send(workspaces, {"script.py": "mine"})
    assert outside.read_text() == "whole"
    assert workspaces.read(ANN, "script.py", 0, 10).data == b"mine"


@pytest.mark.parametrize("obstacle", ["link", "file", "loop"])
def test_upload_through_what_is_no_folder_is_refused(workspaces: Workspaces, folder: Path, obstacle: str) -> None:
    outside = folder.parents[1] / "elsewhere"
    outside.mkdir()
    match obstacle:
        case "link":
            (folder / "lib").symlink_to(outside)
        case "file":
            (folder / "lib").write_text("")
        case _:
            (folder / "lib").symlink_to("lib")
    with pytest.raises(ScriptRefused, match="in its way"):
        send(workspaces, {"lib/x.py": ""})
    assert list(outside.iterdir()) == []


def test_upload_over_a_folder_is_refused_and_leaves_nothing(workspaces: Workspaces, folder: Path) -> None:
    (folder / "x.py").mkdir()
    with pytest.raises(ScriptRefused, match="in its way"):
        send(workspaces, {"x.py": ""})
    assert sorted(path.name for path in folder.iterdir()) == ["script.py", "x.py"]


def test_workspace_that_a_script_closed_works_again(workspaces: Workspaces, folder: Path) -> None:
    folder.chmod(0)
    send(workspaces, {"again.py": ""})
    assert names(workspaces) == ["again.py", "script.py"]


def test_over_the_quota_nothing_is_written(workspaces: Workspaces, folder: Path) -> None:
    (folder / "data").write_bytes(bytes(90_000))
    with pytest.raises(ScriptRefused, match="may hold"):
        send(workspaces, {"large.py": "#" * 20_000})
    assert names(workspaces) == ["data", "script.py"]


def test_disk_that_is_nearly_full_takes_no_scripts(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path / "w", user=None, quota=1 << 60, files=50, patterns=("*.py",))
    with pytest.raises(ScriptRefused, match="left, less than a workspace may hold"):
        send(workspaces, {"x.py": ""})


def test_replacing_a_file_needs_no_room_for_both(workspaces: Workspaces) -> None:
    send(workspaces, {"large.py": "#" * 80_000})
    send(workspaces, {"large.py": "!" * 80_000})
    with pytest.raises(ScriptRefused, match="may hold"):
        send(workspaces, {"other.py": "!" * 80_000})


def test_sparse_file_counts_as_if_it_were_full(workspaces: Workspaces, folder: Path) -> None:
    with (folder / "sparse").open("wb") as file:
        file.truncate(200_000)
    with pytest.raises(ScriptRefused, match="may hold"):
        send(workspaces, {"x.py": ""})


def test_too_many_files_are_refused(workspaces: Workspaces) -> None:
    with pytest.raises(ScriptRefused, match="51 files and folders"):
        send(workspaces, {f"{number}.py": "" for number in range(51)})


def test_file_within_a_file_is_refused(workspaces: Workspaces) -> None:
    with pytest.raises(ScriptRefused, match="would lie in a file"):
        send(workspaces, {"a.py": "", "a.py/b.py": ""})


def test_text_that_cannot_be_encoded_is_refused(workspaces: Workspaces) -> None:
    with pytest.raises(ScriptRefused, match="no text"):
        send(workspaces, {"a.py": "\ud800"})


def test_reader_never_sees_half_a_file(workspaces: Workspaces, folder: Path) -> None:
    texts = ["a" * 60_000, "b" * 60_000]
    send(workspaces, {"x.py": texts[0]})
    done = threading.Event()

    def write() -> None:
        for turn in range(200):
            send(workspaces, {"x.py": texts[turn % 2]})
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen: set[str] = set()
    while not done.is_set():
        seen.add((folder / "x.py").read_text())
    writer.join()
    assert seen <= set(texts)


def test_purge_removes_all_and_counts_files(workspaces: Workspaces, folder: Path) -> None:
    send(workspaces, {"lib/a.py": ""})
    send(workspaces, {"mine.py": ""}, BOB)
    (folder / "link").symlink_to("/etc")
    (folder / "closed" / "inner").mkdir(parents=True)
    (folder / "closed" / "inner" / "file").write_text("")
    (folder / "closed" / "inner").chmod(0)
    (folder / "closed").chmod(0)
    assert workspaces.purge(ANN) == 4
    assert not folder.exists()
    assert names(workspaces, BOB) == ["mine.py"]
    assert Path("/etc").is_dir()
    assert [path.name for path in folder.parent.iterdir()] == [BOB.folder]


def test_purge_removes_a_tree_deeper_than_any_path(workspaces: Workspaces, folder: Path) -> None:
    here = os.open(folder, os.O_RDONLY)
    for _ in range(500):
        os.mkdir("d" * 50, dir_fd=here)
        below = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(ScriptRefused, match="too deep"):
        workspaces.list(ANN)
    with pytest.raises(ScriptRefused, match="too deep"):
        send(workspaces, {"x.py": ""})
    assert workspaces.purge(ANN) == 1
    assert names(workspaces) == []


def test_purge_while_a_script_runs_is_refused(workspaces: Workspaces) -> None:
    with workspaces.running(ANN), workspaces.running(ANN):
        send(workspaces, {"x.py": ""})
        with pytest.raises(ScriptRefused, match="2 of your scripts"):
            workspaces.purge(ANN)
        assert workspaces.purge(BOB) == 0
    assert workspaces.purge(ANN) == 1


def test_purge_that_was_broken_off_is_finished_at_the_next_start(workspaces: Workspaces, folder: Path) -> None:
    folder.rename(folder.with_name("removed-123"))
    workspaces.close()
    again = Workspaces(folder.parent, user=None, quota=1000, files=5, patterns=("*.py",))
    assert list(folder.parent.iterdir()) == []
    assert names(again) == []


def test_name_that_is_no_text_is_listed_so_that_it_can_be_sent(workspaces: Workspaces, folder: Path) -> None:
    (folder / os.fsdecode(b"\xff.txt")).write_text("")
    assert names(workspaces) == ["script.py", "\\xff.txt"]


@pytest.mark.skipif(os.geteuid() != 0, reason="platform: only root may give files to another user")
def test_files_belong_to_the_user_whom_scripts_get(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path / "w", user=65534, quota=1000_000, files=50, patterns=("*.py",))
    send(workspaces, {"lib/x.py": ""})
    folder = tmp_path / "w" / ANN.folder
    assert {path.stat().st_uid for path in (folder, folder / "lib", folder / "lib" / "x.py")} == {65534}
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o711
    assert (folder.parent.stat().st_uid, stat.S_IMODE(folder.stat().st_mode)) == (0, 0o700)


def test_second_process_leaves_what_runs_alone(
    workspaces: Workspaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "PATIENCE", 0.1)
    sent = workspaces.place_for_sent()
    workspaces.keep_sent(sent, {("main.py",): b"1"})
    with pytest.raises(WorkspacesInUse, match="runs already"):
        Workspaces(tmp_path / "workspaces", user=None, quota=1000, files=5, patterns=("*.py",))
    assert (sent / "main.py").read_text() == "1"


async def test_cancelled_while_it_is_written_leaves_nothing_of_what_was_sent(
    workspaces: Workspaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = threading.Event(), threading.Event()
    keep = workspaces.keep_sent

    def slow(folder: Path, files: Mapping[tuple[str, ...], bytes]) -> None:
        writing.set()
        assert go_on.wait(10)
        keep(folder, files)

    async def run() -> None:
        async with keeping(workspaces, {("main.py",): b"1"}):
            pass

    monkeypatch.setattr(workspaces, "keep_sent", slow)
    task = asyncio.create_task(run())
    await asyncio.to_thread(writing.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list((tmp_path / "workspaces").iterdir()) == []


def test_nobody_waits_for_the_files_of_another(
    workspaces: Workspaces, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = threading.Event(), threading.Event()
    holds = quota.holds

    def slow(path: Path) -> Held:
        if path == folder:
            writing.set()
            assert go_on.wait(10)
        return holds(path)

    monkeypatch.setattr(quota, "holds", slow)
    ann = threading.Thread(target=send, args=(workspaces, {"x.py": ""}))
    ann.start()
    bob = threading.Thread(target=send, args=(workspaces, {"y.py": ""}, BOB))
    try:
        assert writing.wait(10)
        bob.start()
        bob.join(5)
        assert names(workspaces, BOB) == ["y.py"]
    finally:
        go_on.set()
        ann.join()
        bob.join()
