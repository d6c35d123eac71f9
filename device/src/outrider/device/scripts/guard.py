"""The guard of a script without bubblewrap: a program of its own, started with its orders in descriptor 4.

It waits at the gate in descriptor 3, starts the script, and kills all of it when its first process has ended, when
SIGTERM says so, or when the device's end of the gate is gone. It stands outside of what it locks in.

It imports little, since each start of a script waits for that.
"""

import contextlib
import ctypes
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, TypedDict

GATE: Final = 3
ORDERS: Final = 4
FILTER: Final = 5
PR_SET_SECCOMP: Final = 22
PR_SET_CHILD_SUBREAPER: Final = 36
SECCOMP_MODE_FILTER: Final = 2
LIBC: Final[Any] = ctypes.CDLL(None, use_errno=True)
SCOPED: Final = 6
"""The version of Landlock from which on it keeps signals and abstract sockets in."""
SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 3


class Orders(TypedDict):
    """What a guard is told.

    :ivar library: where the package landlock is. Python's own search for such places would take half of the start.
    :ivar user: whom to become before anything else.
    :ivar readable: what the script may read and execute, if it is there.
    :ivar devices: what it may write though it is no file.
    :ivar writable: folders in which it may do anything.
    :ivar limits: number and soft and hard value of each.
    """

    command: Sequence[str]
    environment: dict[str, str]
    library: str
    user: int | None
    folder: str
    readable: Sequence[str]
    devices: Sequence[str]
    writable: Sequence[str]
    limits: Sequence[tuple[int, int, int]]


class Filter(ctypes.Structure):
    """A program as the kernel takes it: the number of its instructions of 8 bytes, and where they are."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def main() -> int:
    """Follow the orders; what comes back is the script's exit code, as a shell has it."""
    orders: Orders = json.loads(read(ORDERS))
    program = read(FILTER)
    sys.path.append(orders["library"])
    lock_in = prepare(orders, program)  # before it changes the user, who may not be able to read this interpreter
    user = orders["user"]
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, woken_up)
    gate = socket.socket(fileno=GATE)
    gate.send(b"\n")
    if not gate.recv(1):
        return 1
    script = os.fork()
    if script == 0:
        start(orders, lock_in)
    # As the script itself does: whoever comes first, the group is there from now on.
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(script, script)
    return guard(script, gate, woken)


def woken_up(_number: int, _frame: object) -> None:
    """Let the number be written to the pipe that the guard waits for."""


def guard(script: int, gate: socket.socket, woken: int) -> int:
    """Wait for the end, or for the order to bring it about; then see to it that nothing is left."""
    while True:
        ready, _, _ = select.select([gate.fileno(), woken], [], [])
        if gate.fileno() in ready or signal.SIGTERM in os.read(woken, 4096):
            break
        # Not yet reaped: its number is that of the process group.
        if os.waitid(os.P_PID, script, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        reap(script)
    # No process leaves the group, and none is made in it while it is being killed.
    os.killpg(script, signal.SIGKILL)
    _, status = os.waitpid(script, 0)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def reap(script: int) -> None:
    """Let go of those who ended after their parents."""
    while True:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None or found.si_pid == script:
            return
        os.waitpid(found.si_pid, 0)


def prepare(orders: Orders, program: bytes) -> Callable[[], None]:
    """What locks the process in that calls it."""
    landlock: Any = importlib.import_module("landlock")  # it has no types
    plumbing: Any = importlib.import_module("landlock.plumbing")
    handled = landlock.FSAccess.all()
    ruleset = landlock.Ruleset(handled)
    if landlock.landlock_abi_version() >= SCOPED:  # the package knows nothing of that yet
        attributes = (ctypes.c_uint64 * 3)(handled, 0, SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS)
        untyped: Any = ctypes
        pointer = untyped.cast(attributes, untyped.POINTER(plumbing.RulesetAttr))
        object.__setattr__(ruleset, "_fd", plumbing.get_create_ruleset()(pointer, ctypes.sizeof(attributes), 0))
    reading = landlock.FSAccess.READ_FILE | landlock.FSAccess.EXECUTE
    for path in filter(Path.exists, map(Path, orders["readable"])):
        ruleset.allow(path, rules=reading | landlock.FSAccess.READ_DIR if path.is_dir() else reading)
    ruleset.allow(*orders["devices"], rules=landlock.FSAccess.READ_FILE | landlock.FSAccess.WRITE_FILE)
    ruleset.allow(*orders["writable"])
    instructions = Filter(len(program) // 8, program)

    def lock_in() -> None:
        ruleset.apply()
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(instructions))

    return lock_in


def start(orders: Orders, lock_in: Callable[[], None]) -> NoReturn:
    """Become the script."""
    try:
        os.setpgid(0, 0)
        os.chdir(orders["folder"])
        signal.set_wakeup_fd(-1)
        for caught in (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(caught, signal.SIG_DFL)
        for number, soft, hard in orders["limits"]:
            resource.setrlimit(number, (soft, hard))
        lock_in()
        os.closerange(GATE, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        os.execvpe(orders["command"][0], list(orders["command"]), orders["environment"])
    except BaseException as error:  # else it would go on as a second guard
        os.write(2, f"{orders['command'][0]}: {error}\n".encode())
    os._exit(127)


def read(descriptor: int) -> bytes:
    """All that stands there."""
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def prctl(option: int, *values: int) -> None:
    """The system call."""
    if LIBC.prctl(option, *map(ctypes.c_ulong, (*values, 0, 0, 0, 0)[:4])) != 0:
        code = ctypes.get_errno()
        ctypes.set_errno(0)
        raise OSError(code, os.strerror(code))


if __name__ == "__main__":
    sys.exit(main())
