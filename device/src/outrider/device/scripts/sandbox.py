"""The sandbox as the rest of a device sees it: which one there is, whose rights scripts have, and running one in it."""

import os
import pwd

from .bubblewrap import Bubblewrap
from .execution import execute
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

ACCOUNT = "outrider-scripts"


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

    :raises SandboxMissing: none does, or not that one.
    """
    return Bubblewrap(script_user())
