"""A Mosquitto with a configuration of the test's own: limits, passwords, access control, TLS."""

import asyncio
import contextlib
import shutil
import socket
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

PROGRAM = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """Return a port of the loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def mosquitto(directory: Path, *settings: str, port: int | None = None) -> AsyncGenerator[int]:
    """Run Mosquitto with these lines in its listener's configuration; yields the port. It ends with the context."""
    if PROGRAM is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    port = port or free_port()
    configuration = directory / f"mosquitto-{port}.conf"
    anonymous = [] if any(line.startswith("allow_anonymous") for line in settings) else ["allow_anonymous true"]
    lines = ["per_listener_settings false", "user root", f"listener {port} 127.0.0.1", *anonymous, *settings]
    configuration.write_text("\n".join(lines) + "\n")
    log = directory / f"mosquitto-{port}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(PROGRAM, "-c", configuration, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                assert process.returncode is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                await asyncio.sleep(0.01)
            else:
                writer.close()
                break
        yield port
    finally:
        process.terminate()
        await process.wait()
