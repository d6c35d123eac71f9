import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgresql import Server, running
from tests.processes import Hub, Stage, Standing
from tests.site import Site


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    stage = Stage(tmp_path_factory.mktemp("broker"))
    asyncio.run(_started(stage))
    yield stage.broker
    stage.close()


@pytest.fixture(scope="session")
def standing(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """A hub and a worker that nobody kills."""
    stage = Stage(tmp_path_factory.mktemp("standing"), broker, prefix="standing")
    yield Standing(stage, asyncio.run(_serving(stage)))
    stage.close()


async def _started(stage: Stage) -> None:
    await stage.start_broker()


async def _serving(stage: Stage) -> Hub:
    stage.worker("words-1")
    hub = await stage.hub()
    await hub.until_ready("words-1")
    return hub


@pytest.fixture
def stage(broker: str, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path, broker, prefix=f"t{secrets.token_hex(4)}")
    yield stage
    stage.close()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    with running() as server:
        yield server
