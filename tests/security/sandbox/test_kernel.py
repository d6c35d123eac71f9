"""Reaching the kernel by calls that scripts do not need."""

import platform
from collections.abc import Callable

import pytest

from tests.security.sandbox.host import Outcome

Runner = Callable[..., Outcome]

x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="platform: the numbers are those of x86-64")

CALL = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    return "EPERM" if result < 0 and ctypes.get_errno() == 1 else f"{result} {ctypes.get_errno()}"
"""

NUMBERS = {
    "ptrace": 101, "personality": 135, "pivot_root": 155, "mount": 165, "umount2": 166, "swapon": 167, "reboot": 169,
    "init_module": 175, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272,
    "perf_event_open": 298, "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310, "finit_module": 313,
    "memfd_create": 319, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "pidfd_getfd": 438, "memfd_secret": 447, "open_tree_attr": 467, "shmget": 29,
    "msgget": 68, "mq_open": 240, "semget": 64, "syslog": 103, "acct": 163, "quotactl": 179, "chroot": 161,
    "mount_setattr": 442, "fanotify_init": 300, "kcmp": 312, "settimeofday": 164, "sethostname": 170,
}  # fmt: skip


@x86
def test_dangerous_calls_are_denied(run: Runner) -> None:
    source = f"{CALL}\nfor name, number in {NUMBERS}.items(): print(name, call(number, 0, 0, 0, 0, 0))"
    lines = run(source).stdout.splitlines()
    assert [line for line in lines if not line.endswith(" EPERM")] == []
    assert len(lines) == len(NUMBERS)


@x86
@pytest.mark.parametrize(
    "flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x10020000]
)
def test_clone_makes_no_namespace(run: Runner, flag: int) -> None:
    assert run(f"{CALL}\nprint(call(56, {flag | 17}, 0, 0, 0, 0))").stdout == "EPERM\n"


@x86
def test_clone3_is_not_there(run: Runner) -> None:
    assert run(f"{CALL}\nprint(call(435, 0, 0))").stdout == "-1 38\n"


@x86
@pytest.mark.parametrize("number", [0x40000000 + 39, 0x40000000 + 165])
def test_calls_of_x32_end_the_script(run: Runner, number: int) -> None:
    outcome = run(f"{CALL}\nprint(call({number}))")
    assert outcome.stdout == ""
    assert outcome.ended is not None
    assert outcome.ended.killed_by == "SIGSYS"


@x86
def test_calls_of_i386_end_the_script(run: Runner) -> None:
    source = """
import ctypes, mmap
code = bytes.fromhex("b814000000cd80c3")  # mov eax, getpid; int 0x80; ret
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(code)
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())
"""
    outcome = run(source)
    assert outcome.stdout == ""
    assert outcome.ended is not None
    assert outcome.ended.killed_by in ("SIGSYS", "SIGSEGV")


def test_programs_make_no_namespace(run: Runner) -> None:
    source = """
import subprocess
for command in (["unshare", "--user", "true"], ["unshare", "--mount", "true"], ["unshare", "--user", "--net", "true"],
                ["nsenter", "--target", "1", "--mount", "true"], ["mount", "-t", "tmpfs", "none", "/tmp"]):
    print(subprocess.run(command, capture_output=True).returncode != 0)
"""
    assert run(source).stdout == "True\n" * 5


def test_no_program_gives_more_rights(run: Runner) -> None:
    source = """
import ctypes, os, subprocess
print(ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))  # PR_GET_NO_NEW_PRIVS
for change in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]), lambda: os.seteuid(0)):
    try: change()
    except OSError: continue
    print("changed")
print(os.getuid() != 0, os.geteuid() != 0, 0 in os.getgroups())
print(subprocess.run(["su", "-c", "true"], capture_output=True, stdin=subprocess.DEVNULL).returncode != 0)
"""
    assert run(source).stdout == "1\nTrue True False\nTrue\n"


def test_terminal_cannot_be_typed_into(run: Runner) -> None:
    source = """
import fcntl
for request in (0x5412, 0x541C, 0x7fffffff00005412 & 0xffffffff):
    try: fcntl.ioctl(0, request, b"x")
    except OSError as error: print(error.errno)
try: open("/dev/tty")
except OSError: print("none")
"""
    assert run(source).stdout == "1\n1\n1\nnone\n"


def test_script_does_not_hide_from_the_watch(run: Runner) -> None:
    assert run("import ctypes; print(ctypes.CDLL(None).prctl(4, 0, 0, 0, 0))").stdout == "-1\n"


def test_usual_python_works(run: Runner) -> None:
    source = """
import asyncio, concurrent.futures, json, os, sqlite3, subprocess, tempfile, threading, zoneinfo
async def main():
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    return (await process.communicate(b"through"))[0]
print(asyncio.run(main()))
with concurrent.futures.ThreadPoolExecutor(4) as pool: print(sum(pool.map(len, ["a"] * 4)))
print(sqlite3.connect("data.db").execute("select 1").fetchone(), subprocess.check_output(["echo", "child"]))
with tempfile.TemporaryFile() as file: print(file.write(b"x"))
"""
    outcome = run(source)
    assert (outcome.stdout, outcome.stderr) == ("b'through'\n4\n(1,) b'child\\n'\n1\n", "")
