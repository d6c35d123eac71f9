"""Real players, on a real broker, each test with folders of its own."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest
from pong.__main__ import app
from typer.testing import CliRunner, Result

from outrider.controller import Fleet
from outrider.schema import OutriderError

LIMIT = 15.0
POLL = 0.02


def until(condition: Callable[[], object], what: str, timeout: float = LIMIT) -> None:
    """Wait for what no event tells of."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(POLL)


def free_port(count: int = 1) -> int:
    """The first of so many ports in a row that are free."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port: int = first.getsockname()[1]
            try:
                for following in range(1, count):
                    socket.create_server(("127.0.0.1", port + following)).close()
            except (OSError, OverflowError):
                continue
            return port


class Stage:
    """Starts brokers and players, and asks them as a user does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port(2)  # the embedded broker needs two
        self.environment = {
            **os.environ,
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "OUTRIDER_BROKER": f"mqtt://127.0.0.1:{self.port}",
            "PYTHONPATH": str(Path(__file__).parent.parent),
        }
        self._processes: list[Popen[bytes]] = []
        self._brokers: list[Popen[bytes]] = []

    def spawn(self, *program: str) -> "Popen[bytes]":
        """Run a module of this environment; its output is in `output.txt`."""
        return self.execute(sys.executable, "-m", *program)

    def execute(self, *program: str) -> "Popen[bytes]":
        """Run a program; its output is in `output.txt`."""
        with (self.folder / "output.txt").open("ab") as output:
            process = Popen(
                program,
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    @property
    def output(self) -> str:
        return (self.folder / "output.txt").read_text()

    def broker(self) -> "Popen[bytes]":
        """A broker that takes connections; another one on the same port where the last has ended."""
        outrider = Path(sys.executable).with_name("outrider")
        process = self.execute(str(outrider), "broker", "--port", str(self.port))
        self._brokers.append(process)
        until(lambda: answers(self.port), f"a broker on {self.port}\n{self.output}")
        return process

    def player(self, name: str, *options: str) -> "Popen[bytes]":
        """A player; whoever needs it there asks `all_there`."""
        return self.spawn("pong", "player", name, *options)

    def ask(self, *arguments: str) -> Result:
        """What comes of `pong …`, run in this process, which has imported all of it already."""
        return CliRunner().invoke(app, arguments, env=self.environment)

    def pong(self, *arguments: str, fails: bool = False) -> str:
        """What `pong …` prints."""
        done = self.ask(*arguments)
        assert (done.exit_code != 0) == fails, f"{arguments}\n{done.output}\n{self.output}"
        return done.stderr if fails else done.stdout

    def status(self, game: str) -> str:
        """The lines of `pong status` about the games of a name."""
        return "".join(line for line in self.pong("status").splitlines(keepends=True) if f": {game} with" in line)

    def all_there(self, *names: str) -> None:
        """Wait until a broker knows these players."""
        until(lambda: all(self._is_ready(name) for name in names), f"{names} are ready\n{self.output}")

    def log_file(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def log(self, name: str) -> str:
        """A player's log so far."""
        path = self.log_file(name)
        return path.read_text() if path.exists() else ""

    def pings(self, name: str, opponent: str, game: str = "pong") -> int:
        """The number of the last ping that a player has sent or got in a game."""
        found = re.findall(rf" {game} between {name} and {opponent}: ping (\d+) ", self.log(name))
        return int(found[-1]) if found else 0

    def until_pinged(self, name: str, opponent: str, more: int = 4, game: str = "pong") -> None:
        """Wait for so many more pings."""
        wanted = self.pings(name, opponent, game) + more
        until(lambda: self.pings(name, opponent, game) >= wanted, f"ping {wanted}\n{self.log(name)}\n{self.output}")

    def until_said(self, words: str) -> None:
        """Wait until a program has printed something."""
        until(lambda: words in self.output, f"{words!r}\n{self.output}")

    def until_logged(self, name: str, words: str) -> None:
        until(lambda: words in self.log(name), f"{words!r}\n{self.log(name)}\n{self.output}")

    def kill_player(self, name: str) -> None:
        """Kill the player of this stage's own broker that `pong run` has started."""
        words = b"\0".join([b"player", name.encode()])
        broker = f"OUTRIDER_BROKER={self.environment['OUTRIDER_BROKER']}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if words in (process / "cmdline").read_bytes() and broker in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)

    def call(self, requester: str, device: str, command: str, *arguments: object) -> object:
        """Call a command of a player as somebody."""

        async def ask() -> object:
            async with Fleet(self.environment["OUTRIDER_BROKER"], requester=requester) as fleet:
                return await fleet.call(device, command, *arguments)

        return asyncio.run(ask())

    def _is_ready(self, name: str) -> bool:
        try:
            return self.call("stage", name, "ping") == "pong"
        except OutriderError:
            return False

    def close(self) -> None:
        """End what was started; the brokers last, of which players take leave."""
        _end([process for process in self._processes if process not in self._brokers])
        _end(self._brokers)


def _end(processes: "list[Popen[bytes]]") -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def stage(tmp_path: Path) -> Generator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.close()


@pytest.fixture(scope="session")
def playing(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stage]:
    """A broker with first, second and third on it. All tests share them, each with a game of its own."""
    stage = Stage(tmp_path_factory.mktemp("playing"))
    stage.broker()
    for name in ("first", "second", "third"):
        stage.player(name)
    stage.all_there("first", "second", "third")
    yield stage
    stage.close()
