"""A PostgreSQL server of the tests' own, as Debian installs it, in a folder that goes with it."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name.split(".")[0]))
USER = "outrider"


class Server:
    """A server in a folder; each test has a database of its own in it."""

    def __init__(self, folder: Path, programs: Path, user: str | None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._folder = folder
        self._programs = programs
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self._folder,
            "fsync": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        program, data, log = self._programs / "postgres", self._folder / "data", self._folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [program, "-D", data, *options], user=self._user, cwd=self._folder, stdout=output, stderr=output
            )
        _wait(self._process, self, log, self._programs)

    def stop(self) -> None:
        """Shut it down; who is connected is cut off."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # which it calls a fast shutdown
            self._process.wait(30)
            self._process = None

    def url(self, database: str) -> str:
        """What `Store.open` takes."""
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{database}"

    def create(self) -> str:
        """Make a database and return its URL."""
        name = f"test_{secrets.token_hex(5)}"
        self.do("CREATE DATABASE {}", name)
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever still has it open."""
        self.do("DROP DATABASE {} WITH (FORCE)", url.rsplit("/", 1)[1])

    def do(self, statement: str, name: str) -> None:
        with self.connect("postgres") as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))  # pyright: ignore[reportArgumentType]

    def connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, dbname=database, autocommit=True, connect_timeout=5
        )


@contextlib.contextmanager
def running() -> Generator[Server]:
    """Start a server, or skip where PostgreSQL is not installed."""
    if not PROGRAMS:
        assert not os.environ.get("CI"), "nothing may be skipped there"
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    programs = PROGRAMS[-1]
    user = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="outrider-postgresql-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        made = ["-D", str(data), "-U", USER, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]
        subprocess.run([str(programs / "initdb"), *made], check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)
        server = Server(folder, programs, user)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> str | None:
    """Whom to run it as: PostgreSQL refuses root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _wait(process: subprocess.Popen[bytes], server: Server, log: Path, programs: Path) -> None:
    ready = [str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(server.port), "-t", "1", "-q"]
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended: {log.read_text()}")
        if subprocess.run(ready, check=False).returncode == 0:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    raise TimeoutError(f"PostgreSQL does not answer: {log.read_text()}")
