"""A PostgreSQL server of the tests' own, as Debian installs it, in a folder that goes with it."""

import contextlib
import os
import pwd
import secrets
import shutil
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
    """A running server; each test has a database of its own in it."""

    def __init__(self, port: int) -> None:
        self.port = port

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
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, *options], user=user, cwd=folder, stdout=log, stderr=log
            )
        try:
            _wait(server, Server(port), folder / "log", programs)
            yield Server(port)
        finally:
            server.send_signal(2)  # a fast shutdown: who is connected is cut off
            server.wait(30)
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
