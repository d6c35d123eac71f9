"""Choosing a sandbox, and what `execute` promises to who calls it."""

import asyncio
import contextlib
import errno
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from outrider.device.scripts import bubblewrap, folders, landlock, limits, quota
from outrider.device.scripts.cgroups import Group, Groups
from outrider.device.scripts.child import Child
from outrider.device.scripts.contract import MIB, Limits
from outrider.device.scripts.limits import Held, Used
from outrider.device.scripts.removal import empty, remove
from outrider.device.scripts.run import Launch
from outrider.device.scripts.sandbox import (
    WORKSPACE,
    Run,
    Sandbox,
    SandboxFailed,
    SandboxMissing,
    execute,
    find_sandbox,
    script_user,
)
from outrider.device.scripts.tree import children, members
from tests.processes import marked, until
from tests.security.sandbox.host import PYTHON

KINDS = ["bubblewrap", "landlock"]


@pytest.fixture(params=KINDS)
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    if request.param == "bubblewrap" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    return find_sandbox(request.param)


def script(folder: Path, source: str, *arguments: str) -> Run:
    return Run([PYTHON, "-c", source, *arguments], folder, Limits(), quota=10 * MIB, files=100)


def ignored(stream: Literal["stdout", "stderr"], data: bytes) -> None:
    pass


def test_bubblewrap_is_preferred() -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    assert find_sandbox().name == "bubblewrap"


def test_landlock_takes_over_where_bubblewrap_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "PATH", "/nowhere")
    assert find_sandbox().name == "landlock"


def test_no_sandbox_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "PATH", "/nowhere")
    monkeypatch.setattr(landlock.Landlock, "found", _none)
    with pytest.raises(
        SandboxMissing, match=r"bubblewrap: bwrap is missing: apt install bubblewrap; landlock: the kernel"
    ):
        find_sandbox()


def _none(_user: int | None) -> Sandbox:
    raise SandboxMissing("the kernel has no Landlock")


def test_bubblewrap_that_does_not_work_is_refused(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    wrong = place / "bin"
    wrong.mkdir(exist_ok=True)
    for name in ("bwrap", "choom", "setpriv", "prlimit"):
        (wrong / name).write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2; exit 1\n")
        (wrong / name).chmod(0o755)
    monkeypatch.setattr(bubblewrap, "PATH", str(wrong))
    monkeypatch.setattr("outrider.device.scripts.child.PATH", str(wrong))
    with pytest.raises(SandboxMissing, match=r"No permissions to create new namespace.*sysctl"):
        find_sandbox("bubblewrap")


def test_kernel_that_lists_no_children_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outrider.device.scripts.sandbox.CHILDREN", Path("/proc/thread-self/none"))
    with pytest.raises(SandboxMissing, match=r"does not list the children of a process.*CONFIG_PROC_CHILDREN"):
        find_sandbox()


def test_unknown_sandbox_is_refused() -> None:
    with pytest.raises(SandboxMissing, match="there is no sandbox 'docker'; there are bubblewrap, landlock"):
        find_sandbox("docker")


def test_scripts_of_root_have_an_ordinary_user() -> None:
    assert script_user() is None if os.getuid() else script_user() not in (None, 0)


async def test_missing_workspace_fails_before_the_start(folder: Path) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    with pytest.raises(SandboxFailed, match="the sandbox could not be built"):
        await execute(find_sandbox("bubblewrap"), script(folder / "none", "pass"), ignored)


async def test_error_of_who_takes_the_output_ends_the_script(sandbox: Sandbox, folder: Path) -> None:
    def refuse(stream: Literal["stdout", "stderr"], data: bytes) -> None:
        raise ValueError("full")

    run = script(folder, "import time; print('x', flush=True); time.sleep(60)", "refused-output")
    with pytest.raises(ValueError, match="full"):
        await execute(sandbox, run, refuse)
    assert marked("refused-output") == []


async def test_output_waits_for_who_takes_it(sandbox: Sandbox, folder: Path) -> None:
    taken = asyncio.Semaphore(0)
    sizes: list[int] = []

    async def slow(stream: Literal["stdout", "stderr"], data: bytes) -> None:
        sizes.append(len(data))
        await taken.acquire()

    source = "import os, sys\nfor n in range(100): os.write(1, bytes(10000)); os.pwrite(3, b'%d' % n, 0)"
    source = f"import os\nfile = os.open('count', os.O_CREAT | os.O_RDWR)\n{source}"
    task = asyncio.ensure_future(execute(sandbox, script(folder, source), slow))
    await until(lambda: sizes)
    assert not task.done()
    for _ in range(200):
        taken.release()
    assert (await task).exit_code == 0
    assert sum(sizes) == 1_000_000


async def test_many_run_at_once(sandbox: Sandbox, folder: Path) -> None:
    runs = [script(folder, f"import time; time.sleep(0.2); print({number})") for number in range(30)]
    written: list[bytes] = []
    ended = await asyncio.gather(*(execute(sandbox, run, lambda _, data: written.append(data)) for run in runs))
    assert {one.exit_code for one in ended} == {0}
    assert sorted(int(data) for data in written) == list(range(30))


async def test_cancelled_at_any_moment_leaves_nothing(sandbox: Sandbox, folder: Path) -> None:
    for number in range(12):
        run = script(folder, "import time; time.sleep(60)", f"cancelled-early-{sandbox.name}")
        task = asyncio.ensure_future(execute(sandbox, run, ignored))
        await asyncio.sleep(number * 0.004)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert marked(f"cancelled-early-{sandbox.name}") == []


async def test_event_loop_goes_on_while_a_start_is_prepared_and_cleaned_up_after(
    sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[str] = []
    launch = sandbox.launch

    @contextmanager
    def slow(run: Run) -> Generator[Launch]:
        with launch(run) as prepared:
            wait("prepared")
            yield prepared
            wait("ended")

    def wait(when: str) -> None:  # until the event loop had a turn
        passed = threading.Event()
        loop.call_soon_threadsafe(passed.set)
        assert passed.wait(5), "the event loop is blocked"
        reached.append(when)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(sandbox, "launch", slow)
    await execute(sandbox, script(folder, "pass"), ignored)
    assert reached == ["prepared", "ended"]


async def test_no_descriptor_is_left_open(sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        await execute(sandbox, script(folder, "pass"), ignored)
    monkeypatch.setattr(os, "posix_spawn", _refuse)
    with pytest.raises(OSError, match="no more processes"):
        await execute(sandbox, script(folder, "pass"), ignored)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def _refuse(*_: object, **__: object) -> int:
    raise BlockingIOError("no more processes")


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        (Used(100, 1.0, 1), None),
        (Used(32 * MIB + 1, 0.0, 1), "memory"),
        (Used(0, 2.5, 1), "cpu"),
        (Used(0, 0.0, 5), "processes"),
    ],
)
def test_broken_limit_is_named(used: Used, expected: str | None) -> None:
    assert limits.broken(used, Limits(memory=32 * MIB, cpu=2, processes=4)) == expected


def test_workspace_is_overfull_by_bytes_or_files() -> None:
    assert [limits.overfull(held, 10, 2) for held in (Held(10, 2), Held(11, 1), Held(1, 3))] == [
        None,
        "workspace",
        "workspace",
    ]


def test_command_line_holds_user_and_limits_and_options_the_rest(folder: Path) -> None:
    line = bubblewrap.command_line(script(folder, "pass"), 1234)
    assert line[:5] == ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "--"]
    assert line[-5:] == ["--msgqueue=0:0", "--", PYTHON, "-c", "pass"]
    options = bubblewrap.options(script(folder, "pass"))
    assert ["--bind", str(folder), WORKSPACE] == options[options.index("--bind") :][:3]
    assert "--share-net" not in options


@pytest.mark.parametrize(
    ("code", "stopped", "expected"),
    [
        (0, None, None),
        (0, "memory", None),
        (137, "memory", "memory"),
        (137, None, "SIGKILL"),
        (152, None, "cpu"),
        (255, None, None),
    ],
)
def test_cause_of_the_end_is_named(code: int, stopped: limits.Broken | None, expected: str | None) -> None:
    assert limits.cause(code, stopped) == expected


def test_what_a_script_left_is_removed_however_deep(place: Path) -> None:
    top = place / "deep"
    top.mkdir()
    outside = place / "outside.txt"
    outside.write_text("stays")
    folder = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(os.open("file", os.O_CREAT, dir_fd=inner))
        os.close(folder)
        folder = inner
    os.close(folder)
    (top / "link").symlink_to(outside)
    (top / "closed").mkdir(0o000)
    assert empty(top) == 1501
    assert list(top.iterdir()) == []
    assert outside.read_text() == "stays"
    remove(top)
    assert not top.exists()


def test_sandbox_serves_one_event_loop_after_the_other(sandbox: Sandbox, folder: Path) -> None:
    async def crowd() -> list[int]:
        runs = [script(folder, "pass") for _ in range((os.cpu_count() or 1) * 2 + 1)]
        return [ended.exit_code for ended in await asyncio.gather(*(execute(sandbox, run, ignored) for run in runs))]

    for _ in range(2):
        assert set(asyncio.run(crowd())) == {0}


@pytest.mark.parametrize("failing", [1, 2], ids=["of the child", "of its root"])
async def test_failed_start_leaves_no_child_and_no_descriptor(
    sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    original = os.pidfd_open
    calls = 0

    def refuse(pid: int, flags: int = 0) -> int:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.EMFILE, "too many open files")
        return original(pid, flags)

    before = set(children(os.getpid())), len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="too many open files"):
        await execute(sandbox, script(folder, "pass"), ignored)
    assert (set(children(os.getpid())), len(list(Path("/proc/self/fd").iterdir()))) == before


@pytest.mark.parametrize("group", ["", "setsid "], ids=["in its group", "outside of it"])
async def test_stuck_grandchild_of_a_failed_start_holds_up_nobody(monkeypatch: pytest.MonkeyPatch, group: str) -> None:
    monkeypatch.setattr("outrider.device.scripts.child.SOFT", 0.3)
    with Child.start(Launch(["sh", "-c", f"{group}sleep 600 3<&- & echo $!"], [], None)) as child:
        words = bytearray()
        reading = asyncio.ensure_future(child.read("stdout", lambda _, data: words.extend(data)))
        await until(lambda: words.endswith(b"\n"))
        reading.cancel()
        try:
            async with asyncio.timeout(30):
                await child.abandon()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(words), signal.SIGKILL)
    assert child.exit_code == 0


async def test_watch_over_many_processes_leaves_the_event_loop_to_others(sandbox: Sandbox, folder: Path) -> None:
    async def beat() -> int:
        beats = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.5):
                while True:
                    await asyncio.sleep(0.005)
                    beats += 1
        return beats

    source = """
import os, time
for _ in range(80):
    if os.fork() == 0: break
else: print("all", flush=True)
time.sleep(600)
"""
    crowded = Run([PYTHON, "-c", source], folder, Limits(processes=100), quota=10 * MIB, files=100)
    alone = await beat()
    standing: list[bytes] = []
    running = [
        asyncio.ensure_future(execute(sandbox, crowded, lambda _, data: standing.append(data))) for _ in range(4)
    ]
    await until(lambda: len(standing) == len(running))
    beside = await beat()
    assert not [task for task in running if task.done()]
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    assert beside > alone / 4


async def test_deep_workspaces_of_many_cost_few_descriptors(sandbox: Sandbox, folder: Path) -> None:
    deep = folder
    for _ in range(40):
        deep /= "d"
        deep.mkdir()
    standing: list[bytes] = []
    run = script(folder, "import time; print(1, flush=True); time.sleep(600)")
    running = [asyncio.ensure_future(execute(sandbox, run, lambda _, data: standing.append(data))) for _ in range(12)]
    await until(lambda: len(standing) == len(running))
    before = len(list(Path("/proc/self/fd").iterdir()))
    most = 0
    for _ in range(2000):
        await asyncio.sleep(0)
        most = max(most, len(list(Path("/proc/self/fd").iterdir())))
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    assert most - before <= 2 * (folders.DEEPEST + 3)


def test_walk_holds_one_descriptor_a_level(place: Path) -> None:
    top = place / f"levels-{time.monotonic_ns()}"
    deep = top
    for _ in range(30):
        deep /= "d"
    deep.mkdir(parents=True)
    before = len(list(Path("/proc/self/fd").iterdir()))
    most = [len(list(Path("/proc/self/fd").iterdir())) - before for _ in quota.walk(top)]
    assert max(most) <= 32


@contextlib.contextmanager
def few_descriptors(left: int) -> Generator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(left):
            os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_missing_descriptors_are_no_empty_workspace(place: Path) -> None:
    top = place / f"uncounted-{time.monotonic_ns()}"
    deep = top
    for _ in range(30):
        deep /= "d"
    deep.mkdir(parents=True)
    (deep / "large").write_bytes(bytes(MIB))
    with few_descriptors(20), pytest.raises(OSError, match="Too many open files"):
        quota.holds(top)
    assert quota.holds(top).size >= MIB


def test_missing_descriptors_are_no_absence_of_processes() -> None:
    with few_descriptors(0), pytest.raises(OSError, match="Too many open files"):
        list(members(os.getpid(), 10))


def test_device_with_scripts_may_have_the_descriptors_it_needs() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        limits.allow_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(limits.FILES, hard), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_sandbox_is_in_its_group_before_the_script_starts(
    sandbox: Sandbox, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.device.scripts.execution.delegated", lambda: Groups(tmp_path))
    added: list[list[int]] = []

    def add(_group: Group, processes: Iterable[int]) -> None:
        added.append(list(processes))
        (made,) = tmp_path.glob("script-*")
        (made / "memory.events").write_text("oom_kill 1\n")

    monkeypatch.setattr(Group, "add", add)
    ended = await execute(sandbox, script(folder, "import os; os.kill(os.getpid(), 9)"), ignored)
    (pids,) = added
    assert len(pids) >= (3 if sandbox.name == "bubblewrap" else 1)
    assert (ended.exit_code, ended.killed_by) == (137, "memory")
    assert [path.read_text() for path in tmp_path.glob("script-*/cgroup.kill")] == ["1"]
