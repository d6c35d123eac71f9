"""Real child processes for tests: output in files, waiting with a deadline, and an end for each at teardown."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

POLL: Final = 0.01


def script(name: str) -> str:
    """Return the path of a console script of this environment, as `outrider` or `outrider-device`."""
    return str(Path(sys.executable).with_name(name))


async def until(condition: Callable[[], object], timeout: float = 5.0) -> None:
    """Wait until the condition holds, for what no event tells of."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not so within {timeout:g} s"
        await asyncio.sleep(POLL)


def exists(pid: int) -> bool:
    """Say whether a process, not necessarily a child of ours, is there and has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that nobody has reaped yet has ended as well.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def marked(mark: str) -> list[int]:
    """The processes of this machine with that in their command line, but for pytest's own."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            words = path.read_bytes()
            if mark.encode() in words and b"pytest" not in words:
                found.append(int(path.parent.name))
    return found


class Spawned:
    """A child process whose output is collected; `output` and `errors` hold all of it so far."""

    def __init__(self, process: "subprocess.Popen[bytes]", arguments: Sequence[str], out: Path, err: Path) -> None:
        self.process = process
        self.arguments = tuple(arguments)
        self._out = out
        self._err = err

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def output(self) -> str:
        """Standard output so far."""
        return self._out.read_text(errors="replace")

    @property
    def errors(self) -> str:
        """Standard error so far."""
        return self._err.read_text(errors="replace")

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    async def wait_for(self, pattern: str, timeout: float = 10.0, *, errors: bool = False) -> re.Match[str]:
        """Wait until the regular expression is found in the output (or in standard error) and return the match.

        Fails when the deadline passes, or the process ends without it.
        """
        deadline = time.monotonic() + timeout
        while True:
            ended = not self.running
            if match := re.search(pattern, self.errors if errors else self.output, re.MULTILINE):
                return match
            if ended or time.monotonic() > deadline:
                why = f"ended with exit code {self.process.returncode}" if ended else f"still ran after {timeout:g} s"
                raise AssertionError(f"{pattern!r} did not appear; the process {why}\n{self}")
            await asyncio.sleep(POLL)

    async def wait(self, timeout: float = 10.0) -> int:
        """Wait for the end and return the exit code, -n where signal n ended it."""
        deadline = time.monotonic() + timeout
        while (code := self.process.poll()) is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"the process still ran after {timeout:g} s\n{self}")
            await asyncio.sleep(POLL)
        return code

    def write(self, text: str) -> None:
        """Write to its standard input, which must have been asked for (`stdin=True`)."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def close_input(self) -> None:
        """Close its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.terminate()

    def kill(self) -> None:
        """Send SIGKILL, as a crash would end it."""
        self.process.kill()

    def __str__(self) -> str:
        return f"{' '.join(self.arguments)}\n--- output\n{self.output}\n--- errors\n{self.errors}\n---"


class Processes:
    """Starts processes and ends what is left of them at `close`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._spawned: list[Spawned] = []

    def __call__(
        self,
        *arguments: str | Path,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        stdin: bool = False,
    ) -> Spawned:
        """Start a process.

        `env` is put over this process's environment, out of which every OUTRIDER_ variable was taken; None takes a
        variable out. `stdin` gives it a pipe to write to, else its standard input is empty.
        """
        environment: dict[str, str | None] = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OUTRIDER_")},
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "200",
            **(env or {}),
        }
        words = [str(argument) for argument in arguments]
        number = len(self._spawned)
        out, err = self._directory / f"{number}.out", self._directory / f"{number}.err"
        with out.open("wb") as out_file, err.open("wb") as err_file:
            process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=out_file,
                stderr=err_file,
                cwd=cwd,
                env={name: value for name, value in environment.items() if value is not None},
            )
        spawned = Spawned(process, words, out, err)
        self._spawned.append(spawned)
        return spawned

    def python(
        self,
        *arguments: str | Path,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        stdin: bool = False,
    ) -> Spawned:
        """Start this Python with arguments, as `python("-m", "outrider.device.main", …)` or `python("-c", code)`."""
        return self(sys.executable, *arguments, env=env, cwd=cwd, stdin=stdin)

    def close(self) -> None:
        """End what still runs: SIGTERM, and SIGKILL after two seconds."""
        for spawned in self._spawned:
            if spawned.running:
                spawned.terminate()
        deadline = time.monotonic() + 2
        for spawned in self._spawned:
            try:
                spawned.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                spawned.kill()
                spawned.process.wait()
            if spawned.process.stdin is not None and not spawned.process.stdin.closed:
                with contextlib.suppress(BrokenPipeError):
                    spawned.process.stdin.close()
