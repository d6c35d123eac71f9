"""Reaching other processes, and outliving one's own end."""

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import marked, until
from tests.security.sandbox.host import Outcome
from tests.security.sandbox.hosts import Host, start_host

Runner = Callable[..., Outcome]

DAEMONS = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
def again(depth):
    if depth and os.fork() == 0:
        try: os.setsid()
        except OSError: pass
        try: os.setpgid(0, 0)
        except OSError: pass
        again(depth - 1)
        if os.fork() == 0: time.sleep(300)
        os._exit(0) if depth % 2 else time.sleep(300)
again(4)
print("daemons", flush=True)
"""


@pytest.fixture
def victim(host: Host) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of the user that scripts have."""
    with subprocess.Popen(["sleep", "300"], user=None if os.getuid() else host.user) as process:
        yield process
        process.kill()


def test_signals_reach_nobody_else(host: Host, run: Runner, victim: "subprocess.Popen[bytes]") -> None:
    source = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None)
pids = [*map(int, sys.argv[1:]), os.getppid(), 1, -1]
for pid in pids:
    for number in (0, signal.SIGSTOP, signal.SIGKILL):
        if pid == 1 and number == 0: continue
        for send in (os.kill, os.killpg, lambda p, n: signal.pidfd_send_signal(os.pidfd_open(p), n)):
            if pid == -1 or pid == 1 and send is os.killpg: continue
            try: send(pid, number)
            except (OSError, OverflowError, ValueError): continue
            if pid in pids[:2] and number: print("sent", pid, number)
        libc.tgkill(pid, pid, number)
"""
    run(source, victim.pid, host.process.pid)
    assert victim.poll() is None
    assert Path(f"/proc/{victim.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
    assert run("print('alive')").stdout == "alive\n"
    run("import os, signal; os.kill(-1, signal.SIGKILL)")
    assert victim.poll() is None
    assert run("print('alive')").stdout == "alive\n"


def test_settings_of_other_processes_stay(host: Host, run: Runner, victim: "subprocess.Popen[bytes]") -> None:
    source = """
import os, resource, sys
for pid in map(int, sys.argv[1:]):
    for change in (lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3)),
                   lambda: os.sched_setaffinity(pid, {0}),
                   lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
                   lambda: os.setpriority(os.PRIO_USER, os.getuid(), 19)):
        try: change()
        except OSError: continue
"""
    run(source, victim.pid, host.process.pid)
    assert os.getpriority(os.PRIO_PROCESS, victim.pid) == os.getpriority(os.PRIO_PROCESS, 0)
    assert os.sched_getaffinity(victim.pid) == os.sched_getaffinity(0)
    assert "Max open files            3 " not in Path(f"/proc/{victim.pid}/limits").read_text()


def test_proc_shows_nobody_else(host: Host, run: Runner, victim: "subprocess.Popen[bytes]") -> None:
    source = """
import os, sys
try: print(max((int(name) for name in os.listdir("/proc") if name.isdigit())) < 20)
except OSError: print(True)
for pid in sys.argv[1:]:
    for name in ("cmdline", "environ", "maps", "mem", "status", "fd", "task"):
        try:
            path = f"/proc/{pid}/{name}"
            print(os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(10))
        except OSError: pass
    for name in ("cwd", "exe", "root", "fd/1", "ns/net"):
        try: print(os.readlink(f"/proc/{pid}/{name}"))
        except OSError: pass
"""
    assert run(source, victim.pid, host.process.pid).stdout == "True\n"


def test_ptrace_reaches_nobody(run: Runner, victim: "subprocess.Popen[bytes]") -> None:
    source = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
for request in (16, 0x4206, 0):  # ATTACH, SEIZE, TRACEME
    print(libc.ptrace(request, int(sys.argv[1]), 0, 0))
buffer = ctypes.create_string_buffer(8)
vector = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
print(libc.process_vm_readv(int(sys.argv[1]), vector, 1, vector, 1, 0))
"""
    assert run(source, victim.pid).stdout == "-1\n" * 4


def test_daemons_end_with_the_script(run: Runner) -> None:
    mark = secrets.token_hex(8)
    outcome = run(DAEMONS, mark)
    assert outcome.stdout == "daemons\n"
    assert marked(mark) == []


def test_daemons_end_with_a_limit(run: Runner) -> None:
    mark = secrets.token_hex(8)
    outcome = run(DAEMONS + "\nwhile True: open(str(time.monotonic_ns()), 'w').close()", mark, files=50)
    assert outcome.ended is not None
    assert outcome.ended.killed_by == "workspace"
    assert marked(mark) == []


def test_cancelled_script_that_ignores_signals_is_gone(run: Runner) -> None:
    mark = secrets.token_hex(8)
    began = time.monotonic()
    outcome = run(DAEMONS + "\ntime.sleep(300)", mark, cancel_on="daemons")
    assert outcome.ended is None
    assert time.monotonic() - began < 10
    assert marked(mark) == []


async def test_device_killed_leaves_no_script(host: Host) -> None:
    with start_host(host.kind, host.role, host.folder) as other:
        mark = secrets.token_hex(8)
        other.send(host.workspace(f"killed-{mark}"), DAEMONS + "\ntime.sleep(300)", mark)
        await until(lambda: len(marked(mark)) > 6, timeout=20)
        other.process.send_signal(signal.SIGKILL)
        await until(lambda: not marked(mark), timeout=20)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_guard_killed_leaves_no_script(host: Host) -> None:
    with start_host(host.kind, host.role, host.folder) as other:
        mark = secrets.token_hex(8)
        other.send(host.workspace(f"guard-{mark}"), "import time; time.sleep(300)", mark)
        await until(lambda: any(Path(f"/proc/{pid}/exe").resolve().name.startswith("python") for pid in marked(mark)))
        script = next(pid for pid in marked(mark) if Path(f"/proc/{pid}/exe").resolve().name.startswith("python"))
        os.kill(parent(script), signal.SIGKILL)
        await until(lambda: not marked(mark), timeout=20)


async def test_kernel_short_of_memory_ends_scripts_first(host: Host) -> None:
    with start_host(host.kind, host.role, host.folder) as other:
        mark = secrets.token_hex(8)
        other.send(host.workspace(f"memory-{mark}"), DAEMONS + "\ntime.sleep(300)", mark)
        await until(lambda: len(marked(mark)) > 6, timeout=20)
        assert {Path(f"/proc/{pid}/oom_score_adj").read_text() for pid in marked(mark)} == {"1000\n"}
        outside = {other.process.pid, *([parent(min(marked(mark)))] if host.kind == "landlock" else [])}
        assert "1000\n" not in {Path(f"/proc/{pid}/oom_score_adj").read_text() for pid in outside}
        other.process.send_signal(signal.SIGKILL)
        await until(lambda: not marked(mark), timeout=20)


def test_script_does_not_lower_that_it_goes_first(run: Runner) -> None:
    source = """
for name in ("oom_score_adj", "oom_adj"):
    try: open(f"/proc/self/{name}", "w").write("0")
    except OSError: continue
    print("lowered")
"""
    outcome = run(source)
    assert (outcome.stdout, outcome.stderr) == ("", "")


@pytest.mark.parametrize("pause", [0.0, 0.003, 0.006, 0.009, 0.015, 0.025])
async def test_device_killed_while_it_starts_one_leaves_no_script(host: Host, pause: float) -> None:
    with start_host(host.kind, host.role, host.folder) as other:
        mark = secrets.token_hex(8)
        other.send(host.workspace(f"killed-{mark}"), DAEMONS + "\ntime.sleep(300)", mark)
        time.sleep(pause)  # noqa: ASYNC251 (where in the start it is hit, is what differs)
        other.process.send_signal(signal.SIGKILL)
    await until(lambda: not marked(mark), timeout=20)
