"""Using up the machine: each bomb is stopped, and the result says by which limit."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from outrider.device.scripts import quota
from outrider.device.scripts.contract import MIB, Limits
from tests.security.sandbox.host import Outcome
from tests.security.sandbox.hosts import Host

Runner = Callable[..., Outcome]


def killed_by(outcome: Outcome) -> str | None:
    assert outcome.ended is not None
    return outcome.ended.killed_by


def test_harmless_script_runs(run: Runner) -> None:
    outcome = run(
        "import os, sys; print(sys.stdin.read()); os.chdir('/'); print(os.getcwd())",
        stdin="line",
    )
    assert outcome.ended is not None
    assert (outcome.ended.exit_code, outcome.stdout, outcome.stderr) == (0, "line\n/\n", "")


def test_endless_loop_ends_by_cpu(run: Runner) -> None:
    assert killed_by(run("while True: pass", limits=Limits(cpu=0.3))) == "cpu"


def test_endless_loops_together_end_by_cpu(run: Runner) -> None:
    outcome = run("import os\nfor _ in range(3): os.fork()\nwhile True: pass", limits=Limits(cpu=0.5))
    assert killed_by(outcome) == "cpu"


def test_children_nobody_waits_for_count_as_cpu(run: Runner) -> None:
    source = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    if os.fork() == 0:
        until = time.process_time() + 0.2
        while time.process_time() < until: pass
        os._exit(0)
    time.sleep(0.3)
"""
    assert killed_by(run(source, limits=Limits(cpu=0.5))) == "cpu"


def test_ignoring_sigxcpu_does_not_help(run: Runner) -> None:
    source = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    assert killed_by(run(source, limits=Limits(cpu=0.3))) == "cpu"


def test_memory_bomb_gets_no_more(run: Runner) -> None:
    outcome = run("b = bytearray(200_000_000)", limits=Limits(memory=64 * MIB))
    assert outcome.ended is not None
    assert outcome.ended.exit_code == 1
    assert "MemoryError" in outcome.stderr


def test_memory_of_many_processes_together_ends_them(run: Runner) -> None:
    source = """
import os, time
for number in range(8):
    if os.fork() == 0: break
held = bytearray(os.urandom(1000)) * 20_000
time.sleep(60)
"""
    outcome = run(source, limits=Limits(memory=64 * MIB))
    assert killed_by(outcome) == "memory"
    assert outcome.ended is not None
    assert outcome.ended.peak_memory > 64 * MIB


def test_pages_that_processes_share_count_once(run: Runner) -> None:
    source = """
import os, time
held = bytearray(os.urandom(1000)) * 20_000
children = [os.fork() or (time.sleep(0.5), os._exit(0)) for _ in range(6)]
for child in children: os.waitpid(child, 0)
"""
    outcome = run(source, limits=Limits(memory=64 * MIB))
    assert outcome.ended is not None
    assert outcome.ended.exit_code == 0


@pytest.mark.parametrize("where", ["/tmp", "/dev/shm"])
def test_files_in_memory_count_as_memory(run: Runner, where: str) -> None:
    source = """
import os, sys, tempfile, time
try:
    for number in range(8):
        with open(f"{sys.argv[1]}/{number}", "wb") as file: file.write(bytes(10_000_000))
    time.sleep(60)
except OSError as error:
    print(error)
"""
    outcome = run(source, where, limits=Limits(memory=64 * MIB))
    assert killed_by(outcome) == "memory" or "denied" in outcome.stdout or "No space" in outcome.stdout


def test_fork_bomb_stays_within_its_processes(run: Runner) -> None:
    source = """
import os, time
made = 0
try:
    for _ in range(100):
        if os.fork() == 0: time.sleep(60)
        made += 1
except OSError: pass
print(made, flush=True)
time.sleep(0.5)
"""
    outcome = run(source, limits=Limits(processes=16))
    if killed_by(outcome) != "processes":
        assert outcome.stdout == "15\n"


def test_fork_bomb_that_goes_on_ends(run: Runner) -> None:
    source = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
    began = time.monotonic()
    assert killed_by(run(source, limits=Limits(processes=32, cpu=1))) in ("cpu", "processes")
    assert time.monotonic() - began < 20


def test_disk_bomb_ends(run: Runner) -> None:
    source = "n = 0\nwhile True:\n  n += 1\n  open(f'file-{n}', 'wb').write(bytes(1_000_000))"
    assert killed_by(run(source, quota=20 * MIB)) == "workspace"


def test_file_is_bounded(run: Runner) -> None:
    outcome = run("open('file', 'wb').write(bytes(10_000_000))", limits=Limits(file_size=5 * MIB))
    assert "File too large" in outcome.stderr


def test_sparse_file_counts_as_its_size(run: Runner) -> None:
    outcome = run(
        "import time\nfor n in range(10): open(f'{n}', 'wb').truncate(5_000_000)\ntime.sleep(60)", quota=20 * MIB
    )
    assert killed_by(outcome) == "workspace"


def test_many_small_files_end(run: Runner) -> None:
    source = "n = 0\nwhile True:\n  n += 1\n  open(f'file-{n}', 'w').close()"
    assert killed_by(run(source, files=100)) == "workspace"


def test_what_is_left_at_the_end_counts(run: Runner) -> None:
    source = "import os\nfor n in range(150): os.mkdir(f'd{n}')"
    assert killed_by(run(source, files=100)) == "workspace"


def test_open_files_are_not_sent_away(run: Runner) -> None:
    source = """
import array, socket
one, other = socket.socketpair()
one.send(b"plain"); print(other.recv(5))
rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))]
try: one.sendmsg([b"x"], rights)
except PermissionError: print("refused")
"""
    assert run(source).stdout == "b'plain'\nrefused\n"


def test_script_ends_where_the_disk_has_little_left(tmp_path: Path) -> None:
    assert quota.short_of_disk(tmp_path, 1 << 60)
    assert not quota.short_of_disk(tmp_path, 4096)


def test_many_folders_in_each_other_end(run: Runner) -> None:
    source = "import os\nwhile True:\n  os.mkdir('d'); os.chdir('d')"
    assert killed_by(run(source)) == "workspace"


def test_folder_nobody_may_list_ends(run: Runner) -> None:
    outcome = run(
        "import os, time\nos.mkdir('d', 0o300); os.chdir('d')\n"
        "for n in range(30): open(f'{n}', 'wb').write(bytes(1_000_000))\ntime.sleep(60)",
        quota=20 * MIB,
    )
    assert killed_by(outcome) == "workspace"


def test_workspace_nobody_may_list_ends(host: Host, run: Runner) -> None:
    closes = (host.kind, host.role) == ("bubblewrap", "ordinary")  # root sees it all, and Landlock's filter denies it
    source = "import os, sys, time\nos.fchmod(os.open('.', os.O_RDONLY), 0)\ntime.sleep(int(sys.argv[1]))"
    outcome = run(source, 60 if closes else 0)
    assert killed_by(outcome) == ("workspace" if closes else None)
    assert ("PermissionError" in outcome.stderr) == (host.kind == "landlock")


@pytest.mark.parametrize("keep", ["held.append(file)", "held.append(mmap.mmap(file.fileno(), 0))"])
def test_files_without_a_name_count(run: Runner, keep: str) -> None:
    source = f"""
import mmap, os, time
held = []
for number in range(10):
    file = open('file', 'wb+')
    file.write(bytes(4_000_000)); file.flush()
    os.unlink('file')
    {keep}
    del file
time.sleep(60)
"""
    assert killed_by(run(source, quota=20 * MIB)) == "workspace"


def test_limits_cannot_be_raised(run: Runner) -> None:
    source = """
import resource
for name in ("AS", "CPU", "FSIZE", "NOFILE", "NPROC", "CORE"):
    number = getattr(resource, "RLIMIT_" + name)
    soft, hard = resource.getrlimit(number)
    try: resource.setrlimit(number, (soft, hard + 1))
    except (ValueError, OSError): continue
    print(name)
"""
    outcome = run(source)
    assert (outcome.stdout, outcome.stderr) == ("", "")


def test_open_files_are_bounded(run: Runner) -> None:
    outcome = run("held = [open('/dev/null') for _ in range(100)]", limits=Limits(open_files=32))
    assert "Too many open files" in outcome.stderr
