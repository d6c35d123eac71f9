"""What a script writes and reads: any amount, any bytes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.security.sandbox.host import Outcome
from tests.security.sandbox.hosts import Host

Runner = Callable[..., Outcome]


def resident(pid: int) -> int:
    """The most memory that a process ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_flood_of_output_is_read_and_not_kept(host: Host, run: Runner) -> None:
    children = [
        host.process.pid,
        *map(int, Path(f"/proc/{host.process.pid}/task/{host.process.pid}/children").read_text().split()),
    ]
    run("print(1)")
    before = [resident(pid) for pid in children]
    outcome = run("import os\nfor _ in range(1600): os.write(1, bytes(65536))")
    assert outcome.written == 1600 * 65536
    for pid, old in zip(children, before, strict=True):
        assert resident(pid) - old < 8_000_000


@pytest.mark.parametrize("written", ["b'\\xff\\x00' * 5000", "b'x' * 10000", "bytes(range(256)) * 40"])
def test_any_bytes_arrive(run: Runner, written: str) -> None:
    outcome = run(f"import os; os.write(1, {written}); os.write(2, {written})")
    assert outcome.written == 2 * len(eval(written))


def test_large_stdin_is_read(run: Runner) -> None:
    assert run("import sys; print(len(sys.stdin.read()))", stdin="x" * 3_000_000).stdout == "3000000\n"


@pytest.mark.parametrize("source", ["import os; os.close(0)", "pass"])
def test_stdin_nobody_reads_is_no_matter(run: Runner, source: str) -> None:
    outcome = run(source, stdin="x" * 3_000_000)
    assert outcome.ended is not None
    assert outcome.ended.exit_code == 0


def test_output_left_to_a_daemon_does_not_hold_up_the_end(run: Runner) -> None:
    began = time.monotonic()
    run("import os, time\nif os.fork() == 0: time.sleep(60)")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("source", "exit_code", "killed_by"),
    [
        ("raise SystemExit(3)", 3, None),
        ("1 / 0", 1, None),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139, "SIGSEGV"),
        ("import os; os.abort()", 134, "SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "SIGKILL"),
        ("not python", 1, None),
    ],
)
def test_end_is_told_as_it_was(run: Runner, source: str, exit_code: int, killed_by: str | None) -> None:
    outcome = run(source)
    assert outcome.ended is not None
    assert (outcome.ended.exit_code, outcome.ended.killed_by) == (exit_code, killed_by)


def test_stdout_can_be_opened_by_its_name(run: Runner) -> None:
    assert run("open('/dev/stdout', 'w').write('by name')").stdout == "by name"


def test_workspace_is_where_it_is_said_to_be(host: Host, run: Runner, workspace: Path) -> None:
    expected = "/workspace" if host.kind == "bubblewrap" else os.fspath(workspace)
    assert run("import os; print(os.getcwd(), os.environ['HOME'])").stdout == f"{expected} {expected}\n"
