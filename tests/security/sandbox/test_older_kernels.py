"""Landlock of older kernels, which keeps less in: the filter of system calls has to deny the rest."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from outrider.device.scripts.contract import MIB, Limits
from outrider.device.scripts.landlock import SCOPES, TRUNCATION, Landlock
from outrider.device.scripts.sandbox import Ended, Run, execute, script_user
from tests.security.sandbox.host import PYTHON

OWNERS = """
import fcntl, os, signal, socket, struct, sys
pid = int(sys.argv[1])
def by_fcntl(file, number): fcntl.fcntl(file, fcntl.F_SETOWN, number)
def by_type(file, number): fcntl.fcntl(file, 15, struct.pack("ii", 1, number))
def by_ioctl(file, number): fcntl.ioctl(file, 0x8901, struct.pack("i", number))
def by_group(file, number): fcntl.ioctl(file, 0x8902, struct.pack("i", number))
for own in (by_fcntl, by_type, by_ioctl, by_group):
    one, other = socket.socketpair()
    try: own(one, pid)
    except OSError: print("refused", own.__name__)
    try: fcntl.fcntl(one, 10, signal.SIGKILL)  # F_SETSIG
    except OSError: print("no other signal")
    fcntl.fcntl(one, fcntl.F_SETFL, fcntl.fcntl(one, fcntl.F_GETFL) | os.O_ASYNC)
    other.send(b"x")
"""


@pytest.fixture
def victim() -> Iterator["subprocess.Popen[bytes]"]:
    """A process of the user that scripts have."""
    with subprocess.Popen(["sleep", "300"], user=script_user()) as process:
        yield process
        process.kill()


async def run(version: int, folder: Path, source: str, *arguments: str) -> tuple[Ended, str]:
    """Run a script as on a kernel with that version of Landlock."""
    written = bytearray()

    def output(_: Literal["stdout", "stderr"], data: bytes) -> None:
        written.extend(data)

    order = Run([PYTHON, "-c", source, *arguments], folder, Limits(), quota=10 * MIB, files=100)
    ended = await execute(Landlock(script_user(), version), order, output)
    return ended, written.decode()


async def test_owner_of_a_descriptor_sends_no_signal(folder: Path, victim: "subprocess.Popen[bytes]") -> None:
    ended, words = await run(SCOPES - 1, folder, OWNERS, str(victim.pid))
    refusals = [f"refused {way}" for way in ("by_fcntl", "by_type", "by_ioctl", "by_group")]
    assert words.splitlines() == [line for refusal in refusals for line in (refusal, "no other signal")]
    assert ended.exit_code == 0
    assert victim.poll() is None


async def test_no_signal_is_sent_and_scripts_work(folder: Path, victim: "subprocess.Popen[bytes]") -> None:
    source = """
import os, signal, subprocess, sys
for send in (os.kill, os.killpg, lambda pid, number: signal.pidfd_send_signal(os.pidfd_open(pid), number)):
    try: send(int(sys.argv[1]), signal.SIGKILL)
    except PermissionError: print("refused")
print(subprocess.check_output(["echo", "child"]))
"""
    ended, words = await run(SCOPES - 1, folder, source, str(victim.pid))
    assert (words, ended.exit_code) == ("refused\nrefused\nrefused\nb'child\\n'\n", 0)
    assert victim.poll() is None


async def test_truncating_by_path_is_denied(folder: Path) -> None:
    source = """
import os
with open("file", "w") as file: file.write("content")
try: os.truncate("file", 0)
except PermissionError: print("refused", os.path.getsize("file"))
with open("file", "r+") as file: file.truncate(3)
print(os.path.getsize("file"))
"""
    ended, words = await run(TRUNCATION - 1, folder, source)
    assert (words, ended.exit_code) == ("refused 7\n3\n", 0)
