"""The guard of a script without bubblewrap: a program of its own, started with its orders in descriptor 4.

It waits at the gate in descriptor 3, starts the script, and kills all of it when its first process has ended, when
SIGTERM says so, or when the device's end of the gate is gone. It stands outside of what it locks in.

It imports little, since each start of a script waits for that: hence no typing, pathlib, socket and json.
"""

import ctypes
import marshal
import os
import resource
import select
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn, TypedDict

    class Orders(TypedDict):
        """What a guard is told.

        :ivar user: whom to become before anything else.
        :ivar folder: where the script begins.
        :ivar limits: number and soft and hard value of each.
        """

        command: Sequence[str]
        environment: dict[str, str]
        user: int | None
        folder: str
        limits: Sequence[tuple[int, int, int]]


GATE = 3
ORDERS = 4
FILTER = 5
RULES = 6
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
NICE = 10
"""How much later than the device a script gets the processor."""
FIRST_TO_GO = b"1000"
"""What /proc calls the one whom the kernel ends before all others where memory is short."""
LANDLOCK_RESTRICT_SELF = 446  # on all architectures
LIBC: "Any" = ctypes.CDLL(None, use_errno=True)


class Filter(ctypes.Structure):
    """A program as the kernel takes it: the number of its instructions of 8 bytes, and where they are."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def main() -> int:
    """Follow the orders; what comes back is the script's exit code, as a shell has it."""
    orders: Orders = marshal.loads(read(ORDERS))
    program = read(FILTER)
    user = orders["user"]
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    checked(LIBC.prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, woken_up)
    os.write(GATE, b"\n")
    if not os.read(GATE, 1):
        return 1
    guarding = os.getpid()
    grouped, grouping = os.pipe()
    script = os.fork()
    if script == 0:
        start(orders, program, guarding, grouping)
    os.close(grouping)
    os.read(grouped, 1)  # ends when the script has a group, which can be killed as one
    return guard(script, woken)


def woken_up(_number: int, _frame: object) -> None:
    """Let the number be written to the pipe that the guard waits for."""


def guard(script: int, woken: int) -> int:
    """Wait for the end, or for the order to bring it about; then see to it that nothing is left."""
    while True:
        ready, _, _ = select.select([GATE, woken], [], [])
        if GATE in ready or signal.SIGTERM in os.read(woken, 4096):
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


def fall_first() -> None:
    """Be what the kernel ends where memory is short, with all descendants, before a guard and a device."""
    checked(LIBC.prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)  # what is not, since its user changed, has its /proc from root
    try:
        descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    except OSError:  # a kernel or container without
        return
    os.write(descriptor, FIRST_TO_GO)
    os.close(descriptor)


def start(orders: "Orders", program: bytes, guarding: int, grouping: int) -> "NoReturn":
    """Become the script, which ends with the guard."""
    try:
        os.setsid()  # a process group, and for the kernel's scheduler a share apart from the device's
        os.close(grouping)
        os.nice(NICE)
        fall_first()
        checked(LIBC.prctl, PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guarding:  # it has ended before
            os._exit(127)
        reason: str | None = None
        os.chdir(orders["folder"])
        signal.set_wakeup_fd(-1)
        for caught in (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(caught, signal.SIG_DFL)
        for number, soft, hard in orders["limits"]:
            resource.setrlimit(number, (soft, hard))
        checked(LIBC.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        checked(LIBC.syscall, LANDLOCK_RESTRICT_SELF, RULES, 0)
        instructions = Filter(len(program) // 8, program)
        checked(LIBC.prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(instructions), 0, 0)
        os.closerange(GATE, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        # Not os.execvpe, whose import in the middle fails where this interpreter cannot be read any more.
        name = orders["command"][0]
        for folder in [""] if "/" in name else orders["environment"]["PATH"].split(":"):
            try:
                os.execve(f"{folder}/{name}" if folder else name, list(orders["command"]), orders["environment"])
            except OSError as error:
                reason = error.strerror
        os.write(2, f"{name}: {reason}\n".encode())
    except BaseException as error:  # else it would go on as a second guard
        os.write(2, f"{orders['command'][0]}: {error}\n".encode())
    os._exit(127)


def read(descriptor: int) -> bytes:
    """All that stands there."""
    with open(descriptor, "rb") as file:
        return file.read()


def checked(call: "Callable[..., int]", *values: int) -> None:
    """Make a system call.

    :raises OSError: it has failed.
    """
    if call(*map(ctypes.c_long, values)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


if __name__ == "__main__":
    # Not sys.exit: at its end the interpreter gives up its handlers, and a SIGTERM that comes then would be the result.
    os._exit(main())
