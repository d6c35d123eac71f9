"""Stores to test on: every test that takes one runs on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider.controller.hub.store import Store
from tests.controller.hub.postgresql import Server, running

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server, one for all tests of a session."""
    with running() as server:
        yield server


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of the test's own, empty."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/hub.sqlite"
        return
    server: Server = request.getfixturevalue("postgresql")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """A store of the test's own, empty."""
    with Store.open(url) as store:
        yield store


@pytest.fixture(scope="module", params=DATABASES)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store for all examples of a property: keep to names, devices and subjects of your own."""
    if request.param == "sqlite":
        with Store.open(f"sqlite:///{tmp_path_factory.mktemp('shared')}/hub.sqlite") as store:
            yield store
        return
    server: Server = request.getfixturevalue("postgresql")
    url = server.create()
    with Store.open(url) as store:
        yield store
    server.drop(url)
