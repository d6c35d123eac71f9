"""What every way of locking a script in has in common, and how one is chosen."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from msgspec import Struct

from .contract import Limits


class Run(Struct, frozen=True):
    """One script to be run.

    :ivar command: the program and its arguments, as seen inside.
    :ivar workspace: the only folder that it may write, which it finds at `WORKSPACE` and begins in.
    :ivar packages: folders with installed packages, which it may read and not write; inside they have the same path.
    :ivar environment: all variables that it gets, beside those which every script has.
    :ivar network: whether it may reach the network.
    :ivar quota: bytes that the workspace may hold in all.
    :ivar files: files that the workspace may hold in all.
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


class Launch(NamedTuple):
    """How to start it: a command line, the descriptors that it inherits, and the user it starts under (as root)."""

    arguments: Sequence[str]
    descriptors: Sequence[int]
    user: int | None


class Sandbox(Protocol):
    """One way of locking a script in."""

    name: str

    def launch(self, run: Run) -> AbstractContextManager[Launch]:
        """Prepare a start; the context is left once the process has been started."""
        ...
