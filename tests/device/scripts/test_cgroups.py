"""Control groups for scripts, in folders that look like the kernel's: the machines of the tests delegate none."""

from pathlib import Path

import pytest

from outrider.device.scripts import cgroups
from outrider.device.scripts.contract import MIB, Limits

MOUNTS = """\
25 30 0:23 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
29 23 0:26 /system.slice /sys/fs/my\\040cgroup rw,nosuid shared:4 - ext4 /dev/sda rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate
"""


@pytest.mark.parametrize(
    ("membership", "expected"),
    [
        ("0::/system.slice/lamp.service\n", Path("/sys/fs/cgroup/system.slice/lamp.service")),
        ("8:pids:/a\n0::/b\n", Path("/sys/fs/cgroup/b")),
        ("8:pids:/a\n1:name=systemd:/\n", None),
        ("0::/../outside\n", None),
    ],
)
def test_folder_of_a_process_is_found(membership: str, expected: Path | None) -> None:
    assert cgroups.folder_of(membership, MOUNTS) == expected


def test_folder_beside_what_is_mounted_is_none() -> None:
    mounts = "30 23 0:26 /docker/1 /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n"
    assert cgroups.folder_of("0::/docker/1/lamp\n", mounts) == Path("/sys/fs/cgroup/lamp")
    assert cgroups.folder_of("0::/docker/2\n", mounts) is None


@pytest.mark.parametrize(
    ("owner", "user", "marks", "expected"),
    [
        (0, 0, set[bytes](), False),
        (0, 0, {b"1"}, True),
        (0, 0, {b"0"}, False),
        (1000, 1000, set[bytes](), True),
        (0, 1000, set[bytes](), False),
        (1000, 0, set[bytes](), False),
    ],
)
def test_folder_is_taken_only_if_delegated(owner: int, user: int, marks: set[bytes], expected: bool) -> None:
    assert cgroups.is_ours(owner, user, marks) is expected


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.procs").write_text("77\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    return tmp_path


def test_device_moves_to_a_group_of_its_own_first(folder: Path) -> None:
    assert cgroups.take(folder, 77) is not None
    assert (folder / "device" / "cgroup.procs").read_text() == "77"
    assert (folder / "cgroup.subtree_control").read_text() == "+memory +pids"


@pytest.mark.parametrize(("name", "content"), [("cgroup.controllers", "cpu pids\n"), ("cgroup.procs", "1\n77\n")])
def test_nothing_is_moved_without_controllers_or_beside_others(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    assert cgroups.take(folder, 77) is None
    assert not (folder / "device").exists()
    assert (folder / "cgroup.subtree_control").read_text() == ""


def test_device_moves_back_where_controllers_are_refused(folder: Path) -> None:
    (folder / "cgroup.subtree_control").unlink()
    (folder / "cgroup.subtree_control").mkdir()
    (folder / "device").mkdir()
    (folder / "device" / "cgroup.procs").symlink_to("/dev/null")  # as in the kernel, no file keeps the folder
    with pytest.raises(OSError, match=r"directory|not empty"):
        cgroups.take(folder, 77)
    assert (folder / "cgroup.procs").read_text() == "77"


def test_group_has_the_limits_and_ends_with_all_in_it(folder: Path) -> None:
    groups = cgroups.Groups(folder)
    with groups.group(Limits(memory=64 * MIB, processes=10)) as group:
        (made,) = folder.glob("script-*")
        group.add([5, 6])
        written = {path.name: path.read_text() for path in made.iterdir()}
        assert written == {
            "memory.max": str(64 * MIB + cgroups.MEMORY),
            "memory.swap.max": "0",
            "memory.oom.group": "1",
            "pids.max": str(10 + cgroups.PROCESSES),
            "cgroup.procs": "6",
        }
    assert (made / "cgroup.kill").read_text() == "1"


def test_group_that_somebody_is_in_still_goes_with_the_next_one(folder: Path) -> None:
    groups = cgroups.Groups(folder)
    with groups.group(Limits()):
        (made,) = folder.glob("script-*")
    assert made.exists()
    for path in made.iterdir():
        path.unlink()
    with groups.group(Limits()):
        assert not made.exists()


@pytest.mark.parametrize(("kills", "expected"), [(0, False), (3, True)])
def test_kill_for_memory_is_told(tmp_path: Path, kills: int, expected: bool) -> None:
    (tmp_path / "memory.events").write_text(f"low 0\nhigh 0\nmax 9\noom 1\noom_kill {kills}\noom_group_kill 0\n")
    assert cgroups.Group(tmp_path).out_of_memory is expected
