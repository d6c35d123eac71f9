"""Real processes of this environment: their output in a file, waited for with a bound, and ended at the end."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

EXAMPLE = Path(__file__).parents[1]
LIMIT = 30.0
"""Seconds for what a process is waited for."""


def script(name: str) -> str:
    """A program of this environment."""
    return str(Path(sys.executable).with_name(name))


class Process:
    """A process, and what it has printed, of both kinds. It has an XDG home of its own, in `folder`."""

    def __init__(self, folder: Path, *command: str, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"{Path(command[0]).name}-{time.monotonic_ns()}.log"
        homes = {f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("STATE", "CONFIG", "CACHE")}
        self._home = f"XDG_CACHE_HOME={homes['XDG_CACHE_HOME']}".encode()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("OUTRIDER_")}
        with self._file.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env=inherited | homes | {"PYTHONUNBUFFERED": "1"} | environment,
                cwd=EXAMPLE,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # else a Ctrl-C of these tests is theirs, too
            )

    @property
    def output(self) -> str:
        return self._file.read_text(errors="replace")

    def wait_for(self, pattern: str) -> str:
        """The first group of the pattern, once it is printed."""
        deadline = time.monotonic() + LIMIT
        while not (match := re.search(pattern, self.output)):
            assert self._process.poll() is None, f"it has ended: {self.output}"
            assert time.monotonic() < deadline, f"no {pattern!r} within {LIMIT:g} s: {self.output}"
            time.sleep(0.02)
        return match[1]

    def programs(self) -> list[str]:
        """What runs of it: the process, and all that it has started, which have its homes."""
        found: list[str] = []
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                if self._home in environment.read_bytes():
                    found.append(environment.with_name("comm").read_text().strip())
        return found

    def wait(self) -> int:
        """Its exit code."""
        return self._process.wait(LIMIT)

    def interrupt(self) -> int:
        """What Ctrl-C does at a terminal: a signal for all that it has started. Its exit code."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        return self.wait()

    def end(self) -> None:
        """End it, and all that it has started, whatever its state."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def run(folder: Path, *command: str, **environment: str) -> tuple[int, str]:
    """Run a process to its end: exit code and output."""
    process = Process(folder, *command, **environment)
    try:
        return process.wait(), process.output
    finally:
        process.end()


class Hub(Process):
    """A hub with the service, and where it listens."""

    def __init__(self, folder: Path, broker: str, *, plugins: Sequence[str] = ("vowels.plugin",), **given: str) -> None:
        options = [word for name in plugins for word in ("--plugin", name)]
        address = given.pop("http", "127.0.0.1:0")
        words = ("hub", "--http", address, "--as", folder.name, "--broker", broker, *options)
        super().__init__(folder, script("outrider"), *words, **given)
        self.folder = folder
        self.url = self.wait_for(r"The hub is at (\S+)")
