"""The processes of a soak: a broker, devices, controllers; each is started, killed, and started again."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from . import device, layout

ROOT: Final = Path(__file__).parents[3]

MOSQUITTO: Final = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")

AUTOSAVE: Final = 3
"""Seconds between two savings of the broker: what came since is lost when it is killed."""


class Member:
    """One process that may be killed; its output of all lives is in one file beside `folder`'s others."""

    def __init__(self, name: str, arguments: tuple[str, ...], folder: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.kills = 0
        self.log = folder / f"{name}.out"
        self._arguments = arguments
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **env}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs, or is down."""
        return None if self._process is None else self._process.poll()

    @property
    def down(self) -> bool:
        """Whether it was killed and not started again."""
        return self._process is None

    @property
    def pid(self) -> int:
        """The process id; 0 while it is down."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        """Begin a life."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env=self._env,
            )

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None
        self.kills += 1

    def end(self) -> None:
        """End it as a person would, or by force after a while."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def last_words(self) -> str:
        """The end of its output."""
        return self.log.read_text(errors="replace")[-2000:]


class Cast:
    """All members of one soak, their files in `folder`. A context manager: at its end all processes have ended.

    :param count: commands in all, `rate`: of them a second, `seed`: of the choice of commands.
    """

    def __init__(self, folder: Path, count: int, rate: float, seed: int) -> None:
        self.folder = folder
        self.port = _free_port()
        broker = f"mqtt://127.0.0.1:{self.port}"
        self.broker = Member("broker", (str(MOSQUITTO), "-c", str(self._configuration())), folder, {})
        executions = {device.LOG: str(layout.executions_file(folder))}
        self.devices = [Member(name, _device(name, broker, folder), folder, executions) for name in layout.DEVICES]
        shares = len(layout.CONTROLLERS)
        self.controllers = [
            Member(name, _controller(name, broker, folder, _share(count, at, shares), rate / shares, seed), folder, {})
            for at, name in enumerate(layout.CONTROLLERS)
        ]

    @property
    def all(self) -> list[Member]:
        """Everybody."""
        return [self.broker, *self.devices, *self.controllers]

    def __enter__(self) -> "Cast":
        try:
            self.broker.start()
            self._wait_for_broker()
            for member in (*self.devices, *self.controllers):
                member.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for member in (*self.controllers, *self.devices, self.broker):
            member.end()

    def _wait_for_broker(self) -> None:
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
                return
            if self.broker.code is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the broker did not start: {self.broker.last_words()}")
            time.sleep(0.02)

    def _configuration(self) -> Path:
        store = self.folder / "broker"
        store.mkdir(exist_ok=True)
        path = self.folder / "mosquitto.conf"
        lines = (
            "per_listener_settings false",
            f"user {'root' if os.getuid() == 0 else 'mosquitto'}",
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            "max_inflight_messages 0",
            "max_queued_messages 100000",
            "set_tcp_nodelay true",
            "persistence true",
            f"persistence_location {store}/",
            f"autosave_interval {AUTOSAVE}",
        )
        path.write_text("\n".join(lines) + "\n")
        return path


def _device(name: str, broker: str, folder: Path) -> tuple[str, ...]:
    return (
        str(Path(sys.executable).with_name("outrider-device")),
        "run",
        f"{device.__name__}:device",
        *("--id", name, "--ready", "--broker", broker, "--journal", str(layout.journal_file(folder, name))),
        *(word for group in layout.groups_of(name) for word in ("--group", group)),
        *(word for pool in layout.pools_of(name) for word in ("--pool", pool)),
    )


def _controller(name: str, broker: str, folder: Path, count: int, rate: float, seed: int) -> tuple[str, ...]:
    module = f"{__package__}.controller"
    return (sys.executable, "-m", module, broker, name, str(folder), str(count), str(rate), str(seed))


def _share(count: int, at: int, shares: int) -> int:
    return count // shares + (at < count % shares)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
