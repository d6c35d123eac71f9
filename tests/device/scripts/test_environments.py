"""Installed packages: with the real uv, from a folder of wheels made here."""

import asyncio
import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from outrider.device.scripts.contract import MIB
from outrider.device.scripts.environments import Environments
from outrider.device.scripts.installer import Installer, environment_of_uv, size_of_tree
from outrider.device.scripts.interpreter import Interpreter, find_interpreter
from outrider.device.scripts.refusals import PackagesUnavailable
from tests.device.scripts.wheels import make_wheel
from tests.processes import until

Make = Callable[..., Environments]


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    return find_interpreter(None, None)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    make_wheel(folder, "alpha")
    make_wheel(folder, "alpha", "2.0")
    make_wheel(folder, "beta", needs=("alpha<2",))
    return folder


@pytest.fixture
def make(tmp_path: Path, wheels: Path, interpreter: Interpreter) -> Make:
    def made(most: int = 100 * MIB, index: Path = wheels) -> Environments:
        return Environments(tmp_path / "packages", Installer(interpreter, index=str(index), most=most), most=most)

    return made


class Told(list[str]):
    """Words for people, as they come."""

    def __call__(self, text: str) -> None:
        self.append(text)


async def version(environments: Environments, *requirements: str, told: Told | None = None) -> str:
    async with environments.holding(requirements, told if told is not None else Told()) as folder:
        return imported(folder, "alpha")


def imported(folder: Path, name: str) -> str:
    code = f"import {name}; print({name}.VERSION)"
    done = subprocess.run(
        (sys.executable, "-c", code), capture_output=True, check=True, env={"PYTHONPATH": str(folder)}
    )
    return done.stdout.decode().strip()


async def test_package_and_what_it_needs_are_installed(make: Make) -> None:
    told = Told()
    async with make().holding(("beta",), told) as folder:
        assert (imported(folder, "beta"), imported(folder, "alpha")) == ("1.0", "1.0")
    assert told == ["installing packages"]


async def test_versions_are_kept_to(make: Make) -> None:
    assert await version(make(), "alpha") == "2.0"
    assert await version(make(), "alpha<2") == "1.0"


async def test_same_set_is_installed_once(make: Make) -> None:
    told = Told()
    environments = make()
    for _ in range(2):
        assert await version(environments, "alpha", "beta", told=told) == "1.0"
    assert await version(environments, "beta", "alpha", told=told) == "1.0"
    assert await version(make(), "alpha", "beta", told=told) == "1.0"
    assert told == ["installing packages"]


async def test_same_set_is_installed_once_for_many_at_once(make: Make, tmp_path: Path) -> None:
    told = Told()
    several = [make() for _ in range(3)]  # as so many processes: they know nothing of each other
    found = await asyncio.gather(*(version(several[turn % 3], "alpha", told=told) for turn in range(12)))
    assert set(found) == {"2.0"}
    assert len(told) == 3, "each of the three says that it is needed"
    assert len(sets(tmp_path)) == 1
    assert left(tmp_path) == []


def sets(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "packages").iterdir() if path.is_dir() and not path.name.startswith(".")]


def left(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "packages").iterdir() if path.name.startswith(".")]


async def test_package_that_cannot_be_found_is_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(PackagesUnavailable, match="no-such-package"):
        await version(make(), "alpha", "no-such-package")
    assert list((tmp_path / "packages").iterdir()) == []


async def test_version_that_cannot_be_found_is_named(make: Make) -> None:
    with pytest.raises(PackagesUnavailable, match=r"alpha==7"):
        await version(make(), "alpha==7")


async def test_after_a_failure_it_is_tried_again(make: Make, wheels: Path) -> None:
    environments = make()
    with pytest.raises(PackagesUnavailable):
        await version(environments, "gamma")
    make_wheel(wheels, "gamma", needs=("alpha",))
    assert await version(environments, "gamma") == "2.0"


async def test_source_distribution_is_not_built(make: Make, wheels: Path) -> None:
    (wheels / "delta-1.0.tar.gz").write_bytes(b"never opened")
    with pytest.raises(PackagesUnavailable, match="delta"):
        await version(make(), "delta")


async def test_index_that_is_not_there_is_said(make: Make, tmp_path: Path) -> None:
    with pytest.raises(PackagesUnavailable, match="alpha"):
        await version(make(index=tmp_path / "nowhere"), "alpha")


async def test_installed_files_can_be_read_by_everybody_and_written_by_nobody_else(make: Make, tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        async with make().holding(("alpha",), Told()) as folder:
            for path in (folder, folder.parent, folder.parent.parent, *folder.rglob("*")):
                mode = stat.S_IMODE(path.stat().st_mode)
                assert mode & 0o444 == 0o444, path
                assert not mode & 0o022, path
    finally:
        os.umask(old)


async def test_sets_used_longest_ago_make_room_and_those_in_use_stay(make: Make, wheels: Path, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        make_wheel(wheels, name, files={f"{name}_data.bin": os.urandom(400_000)})
    environments = make(most=1_000_000)
    told = Told()
    async with environments.holding(("one",), told) as one:
        async with environments.holding(("two",), told):
            pass
        async with environments.holding(("three",), told):
            pass
        assert one.is_dir()
        assert len(sets(tmp_path)) == 2
        async with environments.holding(("two",), told):
            pass
    assert told == ["installing packages"] * 4


async def test_sets_in_use_that_leave_no_room_are_said(make: Make, wheels: Path, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        make_wheel(wheels, name, files={f"{name}_data.bin": os.urandom(400_000)})
    environments = make(most=1_000_000)
    async with environments.holding(("one",), Told()), environments.holding(("two",), Told()):
        with pytest.raises(PackagesUnavailable, match="no room"):
            await version(environments, "three")
        assert (len(sets(tmp_path)), left(tmp_path)) == (2, [])
    async with environments.holding(("three",), Told()):
        assert len(sets(tmp_path)) == 2


async def test_sets_that_are_installed_at_once_are_bounded_together(make: Make, wheels: Path, tmp_path: Path) -> None:
    for number in range(4):
        make_wheel(wheels, f"many{number}", files={f"many{number}_data.bin": os.urandom(400_000)})
    several = [make(most=1_000_000) for _ in range(2)]  # as two processes
    everyone, release = asyncio.Semaphore(0), asyncio.Event()

    async def hold(number: int) -> bool:
        try:
            async with several[number % 2].holding((f"many{number}",), Told()):
                everyone.release()
                await release.wait()
                return True
        except PackagesUnavailable:
            everyone.release()
            return False

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(hold(number)) for number in range(4)]
        for _ in tasks:
            await everyone.acquire()
        assert size_of_tree(tmp_path / "packages") < 1_000_000
        release.set()
    assert sum(task.result() for task in tasks) <= 2


async def test_size_counts_what_is_installed_and_what_is_temporary(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_bytes(bytes(8192))
    os.link(tmp_path / "one" / "data", tmp_path / "two" / "link")
    assert size_of_tree(tmp_path / "one", tmp_path / "two") == 16384


async def test_failure_is_that_of_all_who_waited(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Sequence[str]] = []
    install = Installer.install

    async def counted(
        self: Installer, requirements: Sequence[str], folder: Path, look: Callable[[], Awaitable[None]]
    ) -> None:
        tries.append(requirements)
        await install(self, requirements, folder, look)

    monkeypatch.setattr(Installer, "install", counted)
    environments = make()
    found = await asyncio.gather(*(version(environments, "gamma") for _ in range(10)), return_exceptions=True)
    assert {type(each) for each in found} == {PackagesUnavailable}
    assert len(tries) == 1


async def test_one_who_waits_is_cancelled_and_the_others_get_their_packages(make: Make) -> None:
    environments = make()
    first, second = (asyncio.create_task(version(environments, "alpha")) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "2.0"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_set_that_is_too_large_is_refused_while_it_comes(make: Make, wheels: Path, tmp_path: Path) -> None:
    make_wheel(wheels, "huge", files={f"data{number}.bin": bytes(2_000_000) for number in range(20)})
    with pytest.raises(PackagesUnavailable, match=r"huge .* more than"):
        async with make(most=5_000_000).holding(("huge",), Told()):
            pass
    assert (sets(tmp_path), left(tmp_path)) == ([], [])


@contextlib.asynccontextmanager
async def silent_index() -> AsyncGenerator[tuple[str, list[asyncio.StreamWriter]]]:
    """An index that takes connections and never answers."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/simple", writers
    finally:
        server.close()
        for writer in writers:
            writer.close()


async def test_cancelled_installation_leaves_no_process_and_no_file(interpreter: Interpreter, tmp_path: Path) -> None:
    async with silent_index() as (url, connections):
        installer = Installer(interpreter, index=url, most=MIB)
        environments = Environments(tmp_path / "packages", installer, most=MIB)
        task = asyncio.create_task(version(environments, "alpha"))
        await until(lambda: connections, timeout=20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert left(tmp_path) == []
    assert processes_with(str(tmp_path)) == []


def processes_with(word: str) -> list[str]:
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if word in line and "uv" in line.split(" ")[0]:
                found.append(line)
    return found


async def test_what_a_killed_device_left_is_removed_at_the_next_start(make: Make, tmp_path: Path) -> None:
    for name in (".new-abc-123", ".removed-456"):
        (tmp_path / "packages" / name / "packages").mkdir(parents=True)
    (tmp_path / "packages" / "abc.lock").touch()
    make()
    assert list((tmp_path / "packages").iterdir()) == []


def test_uv_knows_the_way_to_an_index_and_nothing_of_the_device() -> None:
    variables = {
        "PATH": "/bin",
        "OUTRIDER_BROKER": "mqtts://u:secret@h",
        "OUTRIDER_TOKEN": "secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "HTTPS_PROXY": "http://proxy",
        "https_proxy": "http://proxy",
        "UV_INDEX_URL": "http://index",
        "UV_PUBLISH_TOKEN": "secret",
        "PIP_CERT": "/ca.pem",
        "PYTHONPATH": "/x",
        "LD_PRELOAD": "/x",
        "VIRTUAL_ENV": "/x",
    }
    assert environment_of_uv(variables) == {
        "PATH": "/bin",
        "HTTPS_PROXY": "http://proxy",
        "https_proxy": "http://proxy",
        "UV_INDEX_URL": "http://index",
        "SSL_CERT_FILE": "/ca.pem",
    }


@pytest.mark.slow
async def test_package_of_the_index_that_this_machine_uses_is_installed(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    installer = Installer(interpreter, index=None, most=100 * MIB)
    environments = Environments(tmp_path / "packages", installer, most=100 * MIB)
    async with environments.holding(("six==1.17.0",), Told()) as folder:
        assert (folder / "six.py").is_file()
