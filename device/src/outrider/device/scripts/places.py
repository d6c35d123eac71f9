"""Where workspaces and packages are: somewhere that the user whom scripts get can reach."""

import contextlib
import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from outrider.device.journal_file import state_folder

from .refusals import UnreachableFolder

SYSTEM: Final = Path("/var/lib/outrider/scripts")
"""Of a device that is root and whose own state is closed to others, as everything below /root is."""


def place(wanted: Path | None, user: int | None) -> Path:
    """The folder for all that scripts have on the disk.

    :param wanted: by the device's owner; None for that of `OUTRIDER_SCRIPTS`, else under `$XDG_STATE_HOME/outrider`,
        else one under `SYSTEM`.
    :param user: the user that scripts run as, where that is another one than the device's.
    :raises UnreachableFolder: that user cannot reach it.
    """
    state = state_folder()
    if wanted is None and (named := os.environ.get("OUTRIDER_SCRIPTS")):
        wanted = Path(named).absolute()
    if wanted is None:
        own = state / "scripts"
        if user is None or not (closed := _closed(own, user)):
            return own
        wanted = SYSTEM / hashlib.sha256(str(state).encode()).hexdigest()[:16]
    if user is not None and (closed := _closed(wanted, user)):
        raise UnreachableFolder(
            f"the folder {wanted} for scripts lies in {closed}, which the user {user}, whom scripts get, cannot enter: "
            "open that one (chmod o+x), or name another with --script-folder"
        )
    return wanted


def make(folder: Path) -> None:
    """Make a folder, and those above it that are missing, so that others can enter, whatever the umask."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):
            each.mkdir()
            each.chmod(0o755)


def _closed(folder: Path, user: int) -> Path | None:
    """The first folder on the way that a user, and the group of the same number, cannot enter."""
    for above in (*reversed(folder.parents), folder):
        try:
            found = above.stat()
        except FileNotFoundError:
            return None  # it will be made, as are all below
        owned = found.st_uid == user
        right = stat.S_IXUSR if owned else stat.S_IXGRP if found.st_gid == user else stat.S_IXOTH
        if not found.st_mode & right:
            return above
    return None
