"""Temporary folders of scripts go, whatever scripts did to them, and whoever is left to remove them."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from outrider.device.scripts.sandbox import script_user
from outrider.device.scripts.temporary import sweep, temporary_folder
from tests.processes import until
from tests.security.sandbox.hosts import CHECKOUT, ORDINARY, ordinary, start_host

CLOSED = """
import os, sys
from pathlib import Path
from outrider.device.scripts.removal import remove
for mode in (0, 0o500, 0o300):
    top = Path(sys.argv[1], "top")
    (top / "closed" / "inner").mkdir(parents=True)
    (top / "file").touch()
    (top / "closed").chmod(0)
    top.chmod(mode)
    remove(top)
    print(top.exists())
"""


@pytest.fixture
def folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    made = place / f"temporary-{len(list(place.iterdir()))}"
    made.mkdir()
    made.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    return made


def test_folder_that_was_closed_is_removed(folder: Path) -> None:
    command = [sys.executable, "-c", CLOSED, str(folder)]
    if os.getuid() == 0:
        command = ordinary(command)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert (done.stdout, done.stderr) == ("False\n" * 3, "")


def test_folder_that_nobody_uses_is_swept(folder: Path) -> None:
    user = script_user()
    left = folder / "outrider-script-left"
    (left / "closed").mkdir(parents=True)
    left.chmod(0)
    if user is not None:
        os.chown(left, user, user)
    (folder / "outrider-other").mkdir()
    outside = folder / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (folder / "outrider-script-link").symlink_to(outside)
    with temporary_folder(user) as used:
        sweep(user)
        assert {path.name for path in folder.iterdir()} == {
            used.name,
            "outrider-other",
            "outside",
            "outrider-script-link",
        }
        assert (outside / "file").exists()
    assert not used.exists()


def test_folder_of_somebody_else_is_not_swept(folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("the tests are not root")
    other = folder / "outrider-script-other"
    other.mkdir()
    os.chown(other, ORDINARY, ORDINARY)
    sweep(script_user())
    assert other.exists()


async def test_killed_device_leaves_a_folder_that_the_next_one_removes(place: Path) -> None:
    folder = place / f"left-{len(list(place.iterdir()))}"
    folder.mkdir()
    folder.chmod(0o711)

    def left() -> list[Path]:
        return list((folder / "tmp").glob("outrider-script-*"))

    with start_host("landlock", "ordinary", folder) as one:
        one.send(one.workspace("one"), "import time; time.sleep(60)")
        await until(left)
        (used,) = left()
        with start_host("landlock", "ordinary", folder) as other:
            assert used.exists()
            other.run(other.workspace("other"), "pass")
        assert left() == [used]
        one.process.send_signal(signal.SIGKILL)
        one.process.wait()
    assert left() == [used]
    with start_host("landlock", "ordinary", folder):
        assert left() == []
