"""The sandbox of Landlock and seccomp, for machines without bubblewrap: a guard starts the script locked in (guard.py).

There are no namespaces: a script sees the machine's own paths, and what Landlock does not rule, the filter of system
calls denies.
"""

import contextlib
import ctypes
import importlib
import marshal
import os
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import Signals
from typing import Any, Final, Self

from . import guard, limits, seccomp
from .child import readable_once
from .run import WORKSPACE, Launch, Run, SandboxMissing, Tree, starts
from .system import FOLDERS, settings, variables
from .temporary import sweep, temporary_folder

READABLE: Final = ("/dev/urandom", "/dev/random")
WRITABLE: Final = ("/dev/null", "/dev/zero", "/dev/full")

SCOPES: Final = 6
"""The version of Landlock from which on it keeps signals and abstract sockets in (Linux 6.12)."""
ABSTRACT_SOCKETS: Final = 1
SIGNALS: Final = 2
TRUNCATION: Final = 3
"""The one from which on truncating needs a right to write (Linux 6.2)."""
SPARE: Final = 256
"""Processes beyond the limit that the kernel lets through, since other scripts' count too; the watch is exact."""


class Landlock:
    """A guard that stays outside and kills what it guards at its end; the script's process locks itself in."""

    name = "landlock"
    advice = "It needs Landlock in the kernel (Linux 5.13, and `landlock` among the names in /sys/kernel/security/lsm)"

    def __init__(self, user: int | None, version: int) -> None:
        """Scripts get the rights of that user, on a kernel with that version of Landlock."""
        self._user = user
        self._version = version
        self.starts = starts()

    @classmethod
    def found(cls, user: int | None) -> Self:
        """The one of this machine, not yet tried. What killed devices left of it is removed.

        :raises SandboxMissing: a package is not installed, or the kernel has no Landlock.
        """
        seccomp.available()
        try:
            landlock: Any = importlib.import_module("landlock")  # it has no types
        except ImportError:
            raise SandboxMissing("the package landlock is missing: pip install 'outrider-device[scripts]'") from None
        try:
            version: int = landlock.landlock_abi_version()
        except landlock.LandlockError as error:
            raise SandboxMissing(f"the kernel has no Landlock ({error}). {cls.advice}") from error
        sweep(user)
        return cls(user, version)

    @contextmanager
    def launch(self, run: Run) -> Generator[Launch]:
        """The guard's command line, what it shall do, and a folder for temporary files that goes at the end."""
        with ExitStack() as stack:
            temporary = stack.enter_context(temporary_folder(self._user))
            filtering = seccomp.program(
                network=run.network,
                alone=False,
                signals=self._version >= SCOPES,
                truncation=self._version >= TRUNCATION,
            )
            # marshal, since the guard is run by this same interpreter and has it without an import.
            orders: Any = self._orders(run, temporary)
            yield Launch(
                [sys.executable, "-I", "-S", str(Path(guard.__file__))],
                [
                    stack.enter_context(readable_once(marshal.dumps(orders))),
                    stack.enter_context(readable_once(filtering)),
                    stack.enter_context(self._ruleset(run, temporary)),
                ],
                self._user,  # which the guard becomes by itself: that user may not be able to read its interpreter
                [temporary],
            )

    def tree(self, pid: int) -> Tree:
        """The guard is the root: what is left by a parent's end becomes its child."""
        return Tree(pid, Signals.SIGTERM)

    def _orders(self, run: Run, temporary: Path) -> "guard.Orders":
        workspace = str(run.workspace)
        given = variables(run, temporary=str(temporary))
        return {
            "command": [_outside(word, workspace) for word in run.command],
            "environment": {
                name: os.pathsep.join(_outside(path, workspace) for path in value.split(os.pathsep))
                for name, value in given.items()
            },
            "user": self._user,
            "folder": workspace,
            "limits": limits.rlimits(run.limits, processes=_threads(self._user) + run.limits.processes + SPARE),
        }

    @contextmanager
    def _ruleset(self, run: Run, temporary: Path) -> Generator[int]:
        """A descriptor of the rules for what may be opened."""
        landlock: Any = importlib.import_module("landlock")  # it has no types
        rights = landlock.FSAccess
        ruleset = landlock.Ruleset(rights.all())
        descriptor: int = ruleset._fd
        if self._version >= SCOPES:  # the package knows nothing of that yet
            os.close(descriptor)
            descriptor = self._scoped(rights.all())
            object.__setattr__(ruleset, "_fd", descriptor)
        try:
            system = [Path("/usr"), *FOLDERS, *settings(network=run.network), *map(Path, READABLE), *run.packages]
            for path in filter(Path.exists, system):
                right = rights.READ_FILE | rights.EXECUTE
                ruleset.allow(path, rules=right | rights.READ_DIR if path.is_dir() else right)
            ruleset.allow(*WRITABLE, rules=rights.READ_FILE | rights.WRITE_FILE)
            ruleset.allow(run.workspace, temporary)
            yield descriptor
        finally:
            os.close(descriptor)

    def _scoped(self, rights: int) -> int:
        untyped: Any = ctypes
        plumbing: Any = importlib.import_module("landlock.plumbing")
        attributes = (ctypes.c_uint64 * 3)(rights, 0, ABSTRACT_SOCKETS | SIGNALS)
        pointer = untyped.cast(attributes, untyped.POINTER(plumbing.RulesetAttr))
        made: int = plumbing.get_create_ruleset()(pointer, ctypes.sizeof(attributes), 0)
        return made


def _outside(path: str, workspace: str) -> str:
    """A path in the workspace as it is outside; anything else stays what it is."""
    return workspace + path.removeprefix(WORKSPACE) if path == WORKSPACE or path.startswith(f"{WORKSPACE}/") else path


def _threads(user: int | None) -> int:
    """How many processes and threads a user has: all of them count for the kernel's limit, whoever started them."""
    wanted = os.getuid() if user is None else user
    count = 0
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.stat().st_uid == wanted:
                count += (path / "task").stat().st_nlink - 2
    return count
