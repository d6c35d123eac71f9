"""The sandbox of bubblewrap: namespaces of its own for everything, and a file system with only what a script needs."""

import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from . import limits, seccomp
from .run import WORKSPACE, Launch, Run
from .tree import PidNamespace, children, state

SYSTEM: Final = tuple(Path("/", name) for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"))
"""Folders of the root that are links into /usr on most machines, and folders on others."""

ETC: Final = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "mime.types", "os-release"),
    *("ssl", "ca-certificates", "pki", "python3", "python3.11", "python3.12", "python3.13"),
)
NETWORK: Final = ("resolv.conf", "hosts", "nsswitch.conf", "services", "protocols", "gai.conf", "host.conf")

GATE: Final = 'echo >&3 && read -r go <&3 && exec "$@" 3<&-'
PATH: Final = "/usr/local/bin:/usr/bin:/bin"
INIT: Final = 1
"""Bubblewrap's own processes in the namespace, which count as processes of the script's user there."""
SECCOMP: Final = 4


def variables(run: Run) -> dict[str, str]:
    """All variables that a script gets."""
    return {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "HOME": WORKSPACE,
        "TMPDIR": "/tmp",
        "USER": "script",
        "LOGNAME": "script",
        **run.environment,
    }


def view(run: Run) -> list[str]:
    """The options that make what a script sees: a system to read, two folders in memory, and its workspace."""
    options = ["--ro-bind", "/usr", "/usr"]
    for folder in SYSTEM:
        if folder.is_symlink():
            options += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            options += ["--ro-bind", str(folder), str(folder)]
    for name in (*ETC, *(NETWORK if run.network else ())):
        options += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    options += ["--proc", "/proc", "--dev", "/dev"]
    # They count as memory (tree.py) and are never more than it.
    size = str(run.limits.memory)
    options += ["--perms", "1777", "--size", size, "--tmpfs", "/tmp"]
    options += ["--perms", "1777", "--size", size, "--tmpfs", "/dev/shm"]
    for folder in run.packages:
        options += ["--ro-bind", str(folder), str(folder)]
    options += ["--bind", str(run.workspace), WORKSPACE, "--chdir", WORKSPACE]
    for folder in ("/proc", "/dev", "/"):
        options += ["--remount-ro", folder]
    return options


def command_line(run: Run, user: int | None) -> list[str]:
    """The whole command line: to an unprivileged user, into the sandbox, and once told so, within limits, the script."""
    arguments: list[str] = []
    if user is not None:
        arguments += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
    arguments += ["bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    if run.network:
        arguments.append("--share-net")
    arguments += ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--seccomp", str(SECCOMP)]
    arguments.append("--clearenv")
    for name, value in variables(run).items():
        arguments += ["--setenv", name, value]
    arguments += [*view(run), "--", "sh", "-c", GATE, "sh"]
    return [*arguments, "prlimit", *limits.prlimit(run.limits, overhead=INIT), "--", *run.command]


class Bubblewrap:
    """Bubblewrap, started as an unprivileged user: another one's where the device is root."""

    name = "bubblewrap"

    def __init__(self, user: int | None) -> None:
        self._user = user

    @contextmanager
    def launch(self, run: Run) -> Generator[Launch]:
        """The command line, and the filter of system calls in a descriptor of its own."""
        with memory_file(seccomp.program(network=run.network, alone=True)) as descriptor:
            yield Launch(command_line(run, self._user), [descriptor], self._user)

    def tree(self, pid: int) -> PidNamespace | None:
        """What stands under the first process of its namespace, which is the one child of `pid`.

        That process asks the kernel to end it with its parent just after it has started the script's, and then sleeps.
        """
        match children(pid):
            case [root] if state(root) == "S":
                return PidNamespace(root)
            case _:
                return None


@contextmanager
def memory_file(content: bytes) -> Generator[int]:
    """A descriptor from which a process reads that."""
    descriptor = os.memfd_create("outrider")
    try:
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def missing(programs: Sequence[str]) -> list[str]:
    """Those of the programs that are not there."""
    return [name for name in programs if shutil.which(name, path=PATH) is None]
