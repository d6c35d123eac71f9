"""Installs packages with uv: wheels only, in a process that knows nothing of the device and takes only so much disk."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from .contract import MIB
from .endings import to_the_end
from .interpreter import Interpreter
from .quota import size_of
from .refusals import PackagesUnavailable

PASSED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "NETRC")
"""Variables that uv gets as they are: where its own configuration is."""

MACHINE: Final = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "UV_CONFIG_FILE",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_HTTP_TIMEOUT",
    "UV_INDEX",
    "UV_INDEX_STRATEGY",
    "UV_INDEX_URL",
    "UV_INSECURE_HOST",
    "UV_KEYRING_PROVIDER",
    "UV_NATIVE_TLS",
    "UV_NO_INDEX",
    "UV_OFFLINE",
    "UV_SYSTEM_CERTS",
)
"""How this machine reaches an index: what it says to uv, also in small letters where that is the custom."""

_OF_PIP: Final = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_CERT": "SSL_CERT_FILE",
}
"""What a machine says to pip only, and how uv calls it."""

LOOK: Final = 0.25
"""Seconds between two looks at how much there is already."""

_SAID: Final = 1200
"""Characters of uv's words that an error repeats."""


class Installer:
    """Installs wheels for one interpreter.

    :param index: URL of the index, or a folder with wheels; None for what the machine's configuration says.
    :param most: bytes that one installation may have.
    :raises PackagesUnavailable: uv is not installed.
    """

    def __init__(self, interpreter: Interpreter, *, index: str | None, most: int) -> None:
        try:
            import uv

            self._uv = uv.find_uv_bin()
        except (ImportError, FileNotFoundError):
            raise PackagesUnavailable(
                "packages for scripts need uv: pip install 'outrider-device[scripts]', or allow none"
            ) from None
        self._interpreter = interpreter
        self._index = index
        self._most = most

    @property
    def source(self) -> str:
        """All that decides what a requirement stands for here, beside the requirement itself."""
        machine = sorted(machine_settings(os.environ).items())
        return repr((self._interpreter, self._index, machine))

    async def install(self, requirements: Sequence[str], folder: Path, look: Callable[[], Awaitable[None]]) -> None:
        """Install into a new folder.

        :param look: is called all the while, and at an error of its the installation ends.
        :raises PackagesUnavailable: it names what was not found, or is too large.
        """
        temporary = folder.with_name(f"{folder.name}.tmp")  # of uv: on the same disk, so that it can link
        await asyncio.to_thread(_make, folder, temporary)
        process = await asyncio.create_subprocess_exec(
            self._uv,
            *self._arguments(folder),
            *requirements,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**environment_of_uv(os.environ), "TMPDIR": str(temporary)},
            cwd=temporary,
            umask=0o022,  # whom scripts run as must be able to read what is installed
            start_new_session=True,
        )
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch((folder, temporary), requirements, look), name="size of packages")
                assert process.stderr is not None
                said = await process.stderr.read()
                await process.wait()
                watch.cancel()
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await to_the_end(process.wait())
        if process.returncode:
            words = _words(said.decode(errors="replace"))
            raise PackagesUnavailable(f"{', '.join(requirements)} cannot be installed: {words}")
        await asyncio.to_thread(_tidy, folder, temporary)
        await self._check_size((folder,), requirements)

    def _arguments(self, folder: Path) -> list[str]:
        arguments = ["pip", "install", "--quiet", "--no-progress", "--color=never", "--no-cache"]
        arguments += ["--python", self._interpreter.path, "--no-python-downloads", "--only-binary", ":all:"]
        arguments += ["--target", str(folder)]
        if self._index is not None:
            is_folder = "://" not in self._index
            arguments += ["--no-index", "--find-links", self._index] if is_folder else ["--default-index", self._index]
        return arguments

    async def _watch(
        self, folders: Sequence[Path], requirements: Sequence[str], look: Callable[[], Awaitable[None]]
    ) -> None:
        while True:
            await asyncio.sleep(LOOK)
            await self._check_size(folders, requirements)
            await look()

    async def _check_size(self, folders: Sequence[Path], requirements: Sequence[str]) -> None:
        if await asyncio.to_thread(size_of_tree, *folders) > self._most:
            raise PackagesUnavailable(
                f"{', '.join(requirements)} need more than {self._most / MIB:,.0f} MiB, which is what packages of "
                "scripts may have here"
            )


def environment_of_uv(variables: Mapping[str, str]) -> dict[str, str]:
    """What uv may know of this process's environment: the machine's way to an index, nothing of the device."""
    passed = {name: variables[name] for name in PASSED if name in variables}
    return {**passed, **machine_settings(variables)}


def machine_settings(variables: Mapping[str, str]) -> dict[str, str]:
    """What of an environment says how this machine reaches an index, as uv calls it."""
    found = {ours: variables[pips] for pips, ours in _OF_PIP.items() if variables.get(pips)}
    names = (*MACHINE, *(name.lower() for name in MACHINE if name.endswith("_PROXY")))
    return found | {name: variables[name] for name in names if variables.get(name)}


def _make(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir()
        folder.chmod(0o755)  # whatever the umask


def _tidy(folder: Path, temporary: Path) -> None:
    """Remove what uv leaves beside the packages: a lock that everybody may write, and its own files."""
    (folder / ".lock").unlink(missing_ok=True)
    shutil.rmtree(temporary, ignore_errors=True)


def size_of_tree(*folders: Path) -> int:
    """Bytes of all files below the folders, of those that are several times there (hard links) once."""
    sizes: dict[int, int] = {}
    for folder in folders:
        for above, _, names in os.walk(folder):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    found = os.lstat(os.path.join(above, name))  # noqa: PTH118 - for each of thousands of files
                    sizes[found.st_ino] = size_of(found)
    return sum(sizes.values())


def _words(said: str) -> str:
    """What uv says, in one line: without frames, and without what stands before @ in a URL."""
    plain = re.sub(r"//[^/@\s]*@", "//", re.sub(r"[\u00d7\u2500-\u25ff]+", " ", said))
    return " ".join(plain.split())[:_SAID] or "uv says no reason"
