"""The sandbox of bubblewrap: namespaces of its own for everything, and a file system with only what a script needs."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from signal import Signals
from typing import Final, Self

from . import limits, seccomp
from .child import PATH, readable_once
from .run import WORKSPACE, Launch, Run, SandboxMissing, Tree
from .system import FOLDERS, settings, variables
from .tree import children, state

GATE: Final = 'echo >&3 && read -r go <&3 && exec "$@" 3<&-'
INIT: Final = 1
"""Bubblewrap's own processes in the namespace, which count as processes of the script's user there."""
SECCOMP: Final = 4


def view(run: Run) -> list[str]:
    """The options that make what a script sees: a system to read, two folders in memory, and its workspace."""
    options = ["--ro-bind", "/usr", "/usr"]
    for folder in FOLDERS:
        if folder.is_symlink():
            options += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            options += ["--ro-bind", str(folder), str(folder)]
    for path in settings(network=run.network):
        options += ["--ro-bind-try", str(path), str(path)]
    options += ["--proc", "/proc", "--dev", "/dev"]
    # They count as memory (tree.py) and are never more than it.
    size = str(run.limits.memory)
    options += ["--perms", "1777", "--size", size, "--tmpfs", "/tmp"]
    options += ["--perms", "1777", "--size", size, "--tmpfs", "/dev/shm"]
    for folder in run.packages:
        options += ["--ro-bind", str(folder), str(folder)]
    options += ["--bind", str(run.workspace), WORKSPACE, "--chdir", WORKSPACE]
    for made in ("/proc", "/dev", "/"):
        options += ["--remount-ro", made]
    return options


def command_line(run: Run, user: int | None) -> list[str]:
    """All of it: to an unprivileged user, into the sandbox, and once told so, within limits, the script."""
    arguments: list[str] = []
    if user is not None:
        arguments += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
    arguments += ["bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    if run.network:
        arguments.append("--share-net")
    arguments += ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--seccomp", str(SECCOMP)]
    arguments.append("--clearenv")
    for name, value in variables(run, temporary="/tmp").items():
        arguments += ["--setenv", name, value]
    arguments += [*view(run), "--", "sh", "-c", GATE, "sh"]
    return [
        *arguments,
        "prlimit",
        *limits.prlimit(run.limits, processes=run.limits.processes + INIT),
        "--",
        *run.command,
    ]


class Bubblewrap:
    """Bubblewrap, started as an unprivileged user: another one's where the device is root."""

    name = "bubblewrap"
    advice = (
        "It needs bubblewrap 0.8 and user namespaces: as root `sysctl kernel.unprivileged_userns_clone=1`, on Ubuntu "
        "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`; in a container, one that may make namespaces"
    )

    def __init__(self, user: int | None) -> None:
        self._user = user

    @classmethod
    def found(cls, user: int | None) -> Self:
        """The one of this machine, not yet tried.

        :raises SandboxMissing: something is not installed.
        """
        for program, package in {"bwrap": "bubblewrap", "prlimit": "util-linux", "setpriv": "util-linux"}.items():
            if shutil.which(program, path=PATH) is None:
                raise SandboxMissing(f"{program} is missing: apt install {package}")
        seccomp.available()
        return cls(user)

    @contextmanager
    def launch(self, run: Run) -> Generator[Launch]:
        """The command line, and the filter of system calls in a descriptor of its own."""
        with readable_once(seccomp.program(network=run.network, alone=True)) as descriptor:
            yield Launch(command_line(run, self._user), [descriptor], self._user)

    def tree(self, pid: int) -> Tree | None:
        """What stands under the first process of its namespace, which is the one child of `pid`.

        That process asks the kernel to end it with its parent just after it has started the script's, and then sleeps.
        """
        match children(pid):
            case [root] if state(root) == "S":
                return Tree(root, Signals.SIGKILL)
            case _:
                return None
