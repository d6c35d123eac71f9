"""The sandbox as the rest of a device sees it: which one there is, whose rights scripts have, and running one in it."""

import logging
import os
import pwd
import tempfile
from pathlib import Path
from typing import Final

from .bubblewrap import Bubblewrap
from .child import Child
from .contract import MIB, Limits
from .execution import execute
from .landlock import Landlock
from .run import WORKSPACE, Ended, Run, Sandbox, SandboxFailed, SandboxMissing

__all__ = [
    "WORKSPACE",
    "Ended",
    "Run",
    "Sandbox",
    "SandboxFailed",
    "SandboxMissing",
    "execute",
    "find_sandbox",
    "script_user",
]

logger = logging.getLogger("outrider.device")

ACCOUNT: Final = "outrider-scripts"
KINDS: Final = (Bubblewrap, Landlock)
"""The stronger one first."""
CHILDREN: Final = Path("/proc/thread-self/children")
"""By which the processes of a script are found. Not each kernel has it."""
TRIAL: Final = 10.0
"""Seconds that a sandbox gets to show that it works."""


def script_user() -> int | None:
    """The unprivileged user that scripts get where the device is root: that of the account `outrider-scripts`, if any.

    Else it is nobody's, which owns no files. Where the device is an ordinary user already, scripts get its rights, less
    those that the sandbox takes away.
    """
    if os.geteuid() != 0:
        return None
    for name in (ACCOUNT, "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    return 65534


def find_sandbox(name: str | None = None) -> Sandbox:
    """The strongest sandbox that works here, or the one of that name: `bubblewrap` or `landlock`.

    Each is tried, since a program may be installed and the kernel forbid what it does.

    :raises SandboxMissing: none does, or not that one, or the kernel shows too little to watch what is in it.
    """
    names = [kind.name for kind in KINDS]
    if name is not None and name not in names:
        raise SandboxMissing(f"there is no sandbox {name!r}; there are {', '.join(names)}")
    if not CHILDREN.exists():
        raise SandboxMissing(
            "scripts cannot be watched on this machine: its kernel does not list the children of a process "
            f"({CHILDREN}). It needs one with CONFIG_PROC_CHILDREN, and /proc mounted"
        )
    reasons: list[str] = []
    for kind in KINDS:
        if name in (None, kind.name):
            try:
                sandbox = kind.found(script_user())
                _try(sandbox)
            except SandboxMissing as error:
                reasons.append(f"{kind.name}: {error}")
            else:
                if reasons:
                    logger.warning("scripts get the weaker sandbox, %s. %s", kind.name, "; ".join(reasons))
                return sandbox
    raise SandboxMissing(f"scripts cannot be locked in on this machine. {'; '.join(reasons)}")


def _try(sandbox: Sandbox) -> None:
    """Run something in it."""
    with tempfile.TemporaryDirectory(prefix="outrider-sandbox-") as folder:
        user = script_user()
        if user is not None:
            os.chown(folder, user, user)
        run = Run(["true"], Path(folder), Limits(), quota=MIB, files=1)
        try:
            with sandbox.launch(run) as launch, Child.start(launch) as child:
                child.go()
                code, words = child.wait(TRIAL)
        except SandboxFailed as error:
            raise SandboxMissing(str(error)) from error
    if code != 0:
        raise SandboxMissing(f"it does not work here ({words or f'exit code {code}'}). {sandbox.advice}")
