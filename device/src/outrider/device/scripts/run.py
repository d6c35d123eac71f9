"""What is to be run, how it ended, and what every way of locking it in has in common."""

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from signal import Signals
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from outrider.schema import LocalError

from .contract import Limits
from .turns import Turns

WORKSPACE: Final = "/workspace"
"""Where a script finds its workspace. In a command and its variables it stands for the folder in every sandbox."""


class SandboxMissing(LocalError):
    """Nothing on this machine can lock a script in; the words say what to install."""


class SandboxFailed(LocalError):
    """The sandbox could not be built, and the script has not been started."""


class Run(Struct, frozen=True):
    """One script to be run.

    :ivar command: the program and its arguments, as seen inside.
    :ivar workspace: the only folder that it may write, which it finds at `WORKSPACE` and begins in.
    :ivar packages: folders with installed packages, which it may read and not write; inside they have the same path.
    :ivar environment: all variables that it gets, beside those which every script has.
    :ivar network: whether it may reach the network.
    :ivar quota: bytes that the workspace may hold in all.
    :ivar files: files and folders that the workspace may hold in all.
    :ivar stdin: what it reads.
    """

    command: Sequence[str]
    workspace: Path
    limits: Limits
    quota: int
    files: int
    packages: Sequence[Path] = ()
    environment: Mapping[str, str] = {}
    network: bool = False
    stdin: bytes = b""


class Ended(Struct, frozen=True):
    """How it ended; the fields are those of `contract.ScriptResult`."""

    exit_code: int
    duration: float
    peak_memory: int
    killed_by: str | None


class Launch(NamedTuple):
    """How to start it.

    :ivar arguments: the command line. What it starts says so by a line in descriptor 3, and goes on to the script when
        it reads a line there; at its end it gives up: then nothing runs that was started by a device that is no more.
    :ivar descriptors: become 4, 5 and so on in it.
    :ivar user: whose rights the script will have, if not the device's.
    :ivar folders: what it may write beside the workspace, and counts as that.
    """

    arguments: Sequence[str]
    descriptors: Sequence[int]
    user: int | None
    folders: Sequence[Path] = ()


class Tree(NamedTuple):
    """The processes of a script.

    :ivar root: the sandbox's own, from which all descend. When it has ended, all have.
    :ivar ending: the signal upon which it ends.
    """

    root: int
    ending: Signals


def starts() -> Turns:
    """One for a new sandbox: building more at once than there are processors takes longer, and the event loop waits."""
    return Turns(os.cpu_count() or 1)


class Sandbox(Protocol):
    """One way of locking a script in."""

    name: str
    advice: str
    """What to do where it is installed and does not work."""
    starts: Turns
    """For as many as are built at once."""

    def launch(self, run: Run) -> AbstractContextManager[Launch]:
        """Prepare a start; the context is left when all has ended. Both take time that no loop has."""
        ...

    def tree(self, pid: int) -> Tree | None:
        """The processes of a script whose sandbox, started as `pid`, has said that it stands; None: ask again."""
        ...
