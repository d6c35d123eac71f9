"""The sandbox of bubblewrap: namespaces of its own for everything, and a file system with only what a script needs."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from signal import Signals
from typing import Final, Self

from . import limits, seccomp
from .child import PATH, readable_once
from .run import WORKSPACE, Launch, Run, SandboxMissing, Tree, starts
from .system import FOLDERS, settings, variables
from .tree import children, state

PROGRAMS: Final = {"bwrap": "bubblewrap", "choom": "util-linux", "prlimit": "util-linux", "setpriv": "util-linux"}
"""What must be installed, and the package that has it."""
GATE: Final = 'echo >&3 && read -r go <&3 && exec "$@" 3<&-'
INIT: Final = 1
"""Bubblewrap's own processes in the namespace, which count as processes of the script's user there."""
FILTER: Final = 4
OPTIONS: Final = 5


def view(run: Run) -> list[str]:
    """The options that make what a script sees: a system to read, two folders in memory, and its workspace."""
    shown = ["--ro-bind", "/usr", "/usr"]
    for folder in FOLDERS:
        if folder.is_symlink():
            shown += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            shown += ["--ro-bind", str(folder), str(folder)]
    for path in settings(network=run.network):
        shown += ["--ro-bind-try", str(path), str(path)]
    shown += ["--proc", "/proc", "--dev", "/dev"]
    # They count as memory (tree.py) and are never more than it.
    size = str(run.limits.memory)
    shown += ["--perms", "1777", "--size", size, "--tmpfs", "/tmp"]
    shown += ["--perms", "1777", "--size", size, "--tmpfs", "/dev/shm"]
    for folder in run.packages:
        shown += ["--ro-bind", str(folder), str(folder)]
    shown += ["--bind", str(run.workspace), WORKSPACE, "--chdir", WORKSPACE]
    for made in ("/proc", "/dev", "/"):
        shown += ["--remount-ro", made]
    return shown


def options(run: Run) -> list[str]:
    """Bubblewrap's options. They reach it in a descriptor: a command line is there for everybody to read."""
    chosen = ["--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    if run.network:
        chosen.append("--share-net")
    chosen += ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--seccomp", str(FILTER), "--clearenv"]
    for name, value in variables(run, temporary="/tmp").items():
        chosen += ["--setenv", name, value]
    return [*chosen, *view(run)]


def command_line(run: Run, user: int | None) -> list[str]:
    """To an unprivileged user, into the sandbox, and once told so, within limits, the script."""
    arguments: list[str] = []
    if user is not None:
        arguments += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
    arguments += ["choom", "-n", "1000", "--"]  # where memory is short, the kernel ends it before the device
    arguments += ["bwrap", "--args", str(OPTIONS), "--", "sh", "-c", GATE, "sh"]
    arguments += ["prlimit", *limits.prlimit(run.limits, processes=run.limits.processes + INIT)]
    return [*arguments, "--", *run.command]


class Bubblewrap:
    """Bubblewrap, started as an unprivileged user: another one's where the device is root."""

    name = "bubblewrap"
    advice = (
        "It needs bubblewrap 0.8 and user namespaces: as root `sysctl kernel.unprivileged_userns_clone=1`, on Ubuntu "
        "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`; in a container, one that may make namespaces"
    )

    def __init__(self, user: int | None) -> None:
        self._user = user
        self.starts = starts()

    @classmethod
    def found(cls, user: int | None) -> Self:
        """The one of this machine, not yet tried.

        :raises SandboxMissing: something is not installed.
        """
        for program, package in PROGRAMS.items():
            if shutil.which(program, path=PATH) is None:
                raise SandboxMissing(f"{program} is missing: apt install {package}")
        seccomp.available()
        return cls(user)

    @contextmanager
    def launch(self, run: Run) -> Generator[Launch]:
        """The command line, with the filter of system calls and the options in descriptors."""
        given = b"".join(os.fsencode(option) + b"\0" for option in options(run))
        with (
            readable_once(seccomp.program(network=run.network, alone=True)) as filtering,
            readable_once(given) as chosen,
        ):
            yield Launch(command_line(run, self._user), [filtering, chosen], self._user)

    def tree(self, pid: int) -> Tree | None:
        """What stands under the first process of its namespace, which is the one child of `pid`.

        That process asks the kernel to end it with its parent just after it has started the script's, and then sleeps.
        """
        match children(pid):
            case [root] if state(root) == "S":
                return Tree(root, Signals.SIGKILL)
            case _:
                return None
