"""A broker and a Redis server as processes for all tests, and hubs for those that want some."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .processes import Hub, Process, script


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def missing(what: str) -> None:
    """Skip a test by its name; in CI it fails, for a suite without it has shown nothing."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and in CI nothing may be missing")
    pytest.skip(what)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its URL."""
    folder = tmp_path_factory.mktemp("broker")
    process = Process(folder, script("outrider"), "broker", "--kind", "embedded", "--port", "0")
    yield process.wait_for(r"(mqtt://\S+?:\d+)")
    process.end()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that nobody else uses, and that keeps nothing."""
    if shutil.which("redis-server") is None:
        missing("redis-server is not installed: apt install redis-server")
    port = str(free_port())
    words = ("--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
    process = Process(tmp_path_factory.mktemp("redis"), "redis-server", *words)
    process.wait_for("(Ready to accept connections)")
    yield f"redis://127.0.0.1:{port}"
    process.end()


StartHub = Callable[..., Hub]


@pytest.fixture(scope="session")
def start_hub(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartHub]:
    """Start hubs, each under a name of its own, in a folder called so."""
    started: list[Hub] = []

    def start(name: str, folder: Path | None = None, **given: str) -> Hub:
        hub = Hub(folder or tmp_path_factory.mktemp(name, numbered=True), broker, **given)
        started.append(hub)
        return hub

    yield start
    for hub in started:
        hub.end()


@pytest.fixture(scope="session")
def hub(start_hub: StartHub, tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """One for all tests that do not mind what others have told it. It has the name that hubs have by themselves."""
    return start_hub("hub", tmp_path_factory.mktemp("hub", numbered=False), SEED="1")
