"""Reading and writing elsewhere: of the machine a script sees programs and libraries, and writes only its workspace."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.security.sandbox.host import Outcome
from tests.security.sandbox.hosts import SECRET, Host

Runner = Callable[..., Outcome]

READ = """
import os, sys
for path in sys.argv[1:]:
    try:
        print("read", path, open(path, "rb").read(100) if not os.path.isdir(path) else os.listdir(path))
    except OSError: pass
"""
CHANGES = """
import os, shutil, sys
path = sys.argv[1]
def attempt(what, *arguments):
    try: what(*arguments)
    except OSError: pass
attempt(lambda: open(path, "wb").write(b"changed"))
attempt(lambda: open(path, "ab").write(b"changed"))
attempt(os.truncate, path, 0)
attempt(lambda: os.open(path, os.O_RDONLY | os.O_TRUNC))
attempt(os.chmod, path, 0o777)
attempt(os.chmod, os.path.dirname(path), 0o777)
attempt(os.utime, path, (1, 1))
attempt(os.setxattr, path, "user.mark", b"1")
attempt(os.rename, path, path + "-moved")
attempt(os.rename, path, "taken")
attempt(os.link, path, "linked")
attempt(os.symlink, path, "symbolic")
attempt(lambda: open("symbolic", "wb").write(b"changed"))
attempt(lambda: open("linked", "wb").write(b"changed"))
attempt(lambda: print(open("symbolic").read()))
attempt(lambda: print(open("linked").read()))
attempt(lambda: print(open("taken").read()))
attempt(os.unlink, path)
attempt(os.mkdir, path + "-folder")
attempt(os.mkfifo, path + "-fifo")
attempt(shutil.rmtree, os.path.dirname(path))
attempt(os.chown, path, os.getuid(), os.getgid())
try: descriptor = os.open(path, os.O_PATH)
except OSError: pass
else:
    attempt(os.chmod, descriptor, 0o777)
    attempt(os.chmod, f"/proc/self/fd/{descriptor}", 0o777)
    attempt(lambda: open(f"/proc/self/fd/{descriptor}", "wb"))
"""


@pytest.fixture
def foreign(host: Host, workspace: Path) -> Path:
    """A file in the workspace of somebody else, whose scripts have the same user."""
    folder = host.workspace(f"{workspace.name}-other")
    path = folder / "private.txt"
    path.write_text("private of another")
    path.chmod(0o644)
    os.chown(path, host.user, host.user)
    return path


def test_password_hashes_and_the_devices_own_are_out_of_reach(host: Host, run: Runner, foreign: Path) -> None:
    journal = host.folder / "journal.db"
    journal.write_text("the device's own")
    journal.chmod(0o666)
    paths: list[object] = [
        "/etc/shadow",
        "/etc/passwd",
        "/etc/hostname",
        "/root",
        "/home",
        "/var/lib",
        "/var/log",
        "/run",
        "/sys",
    ]
    paths += [
        journal,
        journal.parent,
        foreign,
        foreign.parent,
        Path(__file__),
        "/boot",
        "/opt",
        "/srv",
        "/mnt",
        "/proc/kmsg",
    ]
    paths += ["/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", f"/proc/{host.process.pid}/environ", "/proc/kcore"]
    outcome = run(READ, *paths)
    assert outcome.ended is not None
    assert (outcome.stdout, outcome.stderr, outcome.ended.exit_code) == ("", "", 0)


@pytest.mark.parametrize(
    "detour", ["../{}", "/proc/self/cwd/../{}", "/proc/self/root{}", "/proc/1/root{}", "/proc/1/cwd"]
)
def test_no_detour_leads_to_anothers_workspace(run: Runner, foreign: Path, detour: str) -> None:
    name = f"{foreign.parent.name}/{foreign.name}" if ".." in detour else foreign
    assert "private" not in run(READ, detour.format(name)).stdout


def test_nothing_changes_a_file_of_another(host: Host, run: Runner, foreign: Path) -> None:
    before = foreign.stat(), foreign.parent.stat()
    outcome = run(CHANGES, foreign)
    after = foreign.stat(), foreign.parent.stat()
    assert "Traceback" not in outcome.stderr
    assert "private" not in outcome.stdout
    assert foreign.read_text() == "private of another"
    for old, new in zip(before, after, strict=True):
        assert (new.st_mode, new.st_mtime, new.st_nlink, new.st_uid) == (
            old.st_mode,
            old.st_mtime,
            old.st_nlink,
            old.st_uid,
        )
    assert os.listxattr(foreign) == []
    assert [path.name for path in foreign.parent.iterdir()] == [foreign.name]


def test_link_in_the_workspace_leads_nowhere(run: Runner, workspace: Path, foreign: Path) -> None:
    (workspace / "shadow").symlink_to("/etc/shadow")
    (workspace / "other").symlink_to(foreign)
    outcome = run(READ, "shadow", "other")
    assert outcome.stdout == ""


def test_only_the_workspace_and_temporary_folders_can_be_written(host: Host, run: Runner, workspace: Path) -> None:
    source = """
import os, sys, tempfile
written, seen = set(), 0
def attempt(folder):
    path = os.path.join(folder, "outrider-attack")
    try:
        with open(path, "w") as file: file.write("here")
    except OSError: return
    written.add(folder)
for start in ("/", *sys.argv[1:], os.getcwd(), tempfile.gettempdir()):
    attempt(start)
    for folder, folders, files in os.walk(start):
        if folder.startswith("/proc/") and folder.count("/") > 4: folders.clear()
        attempt(folder)
        seen += 1
        if seen > 3000: folders.clear()
expected = {os.getcwd(), tempfile.gettempdir()} | ({"/dev/shm"} if os.getcwd() == "/workspace" else set())
print(sorted(written ^ expected))
"""
    folders = [f"/{name}" for name in os.listdir("/")] + ["/dev/shm", "/var/tmp", "/var/lib", "/run/lock"]  # noqa: PTH208
    outcome = run(source, *folders, host.folder, workspace.parent)
    assert (outcome.stdout, outcome.stderr) == ("[]\n", "")
    for folder in (*folders, str(host.folder)):
        assert not os.path.exists(f"{folder}/outrider-attack")  # noqa: PTH110 - Path says it of no closed folder
    assert (workspace / "outrider-attack").read_text() == "here"


def test_devices_cannot_be_made(run: Runner) -> None:
    source = """
import os, stat
try: os.mknod("disk", 0o666 | stat.S_IFBLK, os.makedev(254, 0))
except OSError: print("refused")
"""
    assert run(source).stdout == "refused\n"


def test_environment_holds_nothing_of_the_device(run: Runner) -> None:
    source = """
import glob, os
print(os.environ)
for path in glob.glob("/proc/[0-9]*/environ") + ["/proc/self/environ"]:
    try: print(open(path, "rb").read())
    except OSError: pass
"""
    outcome = run(source)
    assert SECRET not in outcome.stdout
    assert "DEVICE" not in outcome.stdout


def test_no_descriptor_is_inherited(run: Runner) -> None:
    source = """
import os
for number in range(1000):
    try: os.fstat(number)
    except OSError: continue
    print(number, end=" ")
"""
    assert run(source).stdout == "0 1 2 "


@pytest.fixture
def packages(host: Host) -> Path:
    """Installed ones, which belong to the user who runs the script."""
    made = host.workspace(f"packages-{len(list(host.folder.iterdir()))}")
    (made / "module.py").write_text("answer = 42")
    for path in (made, made / "module.py"):
        os.chown(path, host.user, host.user)
    return made


def test_packages_are_read_and_not_written(packages: Path, run: Runner) -> None:
    source = """
import sys
sys.path.append(sys.argv[1])
sys.dont_write_bytecode = True
import module
print(module.answer)
for name in ("module.py", "other.py"):
    try: open(f"{sys.argv[1]}/{name}", "w")
    except OSError: print("refused")
"""
    outcome = run(source, packages, packages=[str(packages)])
    assert (outcome.stdout, outcome.stderr) == ("42\nrefused\nrefused\n", "")


def test_packages_are_not_changed_by_descriptors_to_read(packages: Path, run: Runner) -> None:
    source = """
import ctypes, fcntl, os, struct, sys
libc = ctypes.CDLL(None)
for path in (sys.argv[1], sys.argv[1] + "/module.py"):
    descriptor = os.open(path, os.O_RDONLY)
    for change in (lambda: os.fchmod(descriptor, 0), lambda: os.utime(descriptor, (1, 1)),
                   lambda: os.setxattr(descriptor, "user.mark", b"1"), lambda: os.chown(descriptor, os.getuid(), -1),
                   lambda: os.removexattr(descriptor, "user.before"),
                   lambda: fcntl.ioctl(descriptor, 0x40086602, struct.pack("l", 0x40))):  # FS_IOC_SETFLAGS
        try: change()
        except OSError: continue
        print("changed")
    libc.syscall(280, descriptor, None, None, 0)
    libc.syscall(469, descriptor, b"", bytes(24), 24, 0x1000)
"""
    os.setxattr(packages / "module.py", "user.before", b"1")
    before = [path.stat() for path in (packages, packages / "module.py")]
    outcome = run(source, packages, packages=[str(packages)])
    assert (outcome.stdout, outcome.stderr) == ("", "")
    for old, path in zip(before, (packages, packages / "module.py"), strict=True):
        assert (path.stat().st_mode, path.stat().st_mtime, path.stat().st_ctime) == (
            old.st_mode,
            old.st_mtime,
            old.st_ctime,
        )
    assert os.listxattr(packages / "module.py") == ["user.before"]


def test_file_stays_for_the_next_run(run: Runner, workspace: Path) -> None:
    run("open('note', 'w').write('kept')")
    assert run("print(open('note').read())").stdout == "kept\n"


def test_temporary_file_is_gone_in_the_next_run(run: Runner) -> None:
    source = """
import os, tempfile
for folder, _, files in os.walk(tempfile.gettempdir()): print(files)
open(tempfile.gettempdir() + "/left", "w").write("left")
"""
    assert (run(source).stdout, run(source).stdout) == ("[]\n", "[]\n")
