"""Devices that run scripts, on a broker, and `outrider` as a process to send them some."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from msgspec import json

from outrider.controller import Fleet
from tests.brokers import BrokerUnderTest
from tests.processes import Processes, Spawned, script
from tests.terminals import Terminal, open_terminal

OUTRIDER, DEVICE = script("outrider"), script("outrider-device")


@dataclass(frozen=True)
class Ended:
    """What a process left behind."""

    code: int
    output: str
    errors: str

    @property
    def json(self) -> list[dict[str, Any]]:
        return [json.decode(line, type=dict[str, Any]) for line in self.output.splitlines()]


class Yard:
    """A broker under a prefix, devices on it, and `outrider` in a folder with the scripts."""

    def __init__(self, broker: BrokerUnderTest, prefix: str, spawn: Processes, folder: Path) -> None:
        self.folder = folder
        self.broker = broker
        self.prefix = prefix
        self.env = {
            "OUTRIDER_BROKER": broker.address,
            "OUTRIDER_PREFIX": prefix,
            "OUTRIDER_NAME": "tester",
            "XDG_CONFIG_HOME": str(folder / "empty"),
        }
        self._spawn = spawn

    def fleet(self) -> Fleet:
        return Fleet(self.broker.address, requester="tester", prefix=self.prefix)

    async def runner(self, id: str, **env: str) -> Spawned:
        """Start a device that runs scripts, and wait until it is there."""
        more = {"RUNNER": id, "RUNNER_FOLDER": str(self.folder / "runners"), **env}
        return await self.device(id, "runner:runner", folder=Path(__file__).parent, **more)

    async def device(self, id: str, *options: str, folder: Path | None = None, **env: str) -> Spawned:
        process = self._spawn(DEVICE, "run", *options, env={**self.env, **env}, cwd=folder or self.folder)
        await self.until(id, "ready")
        return process

    async def until(self, id: str, status: str) -> None:
        """Wait until the device is so."""
        changed = asyncio.Event()
        async with self.fleet() as fleet, asyncio.timeout(20):
            with fleet.roster.watch(lambda _: changed.set()):
                while (state := fleet.roster.states.get(id)) is None or state.status != status:
                    changed.clear()
                    await changed.wait()

    def start(self, *words: str, stdin: bool = False, **env: str | None) -> Spawned:
        return self._spawn(OUTRIDER, "script", *words, env={**self.env, **env}, cwd=self.folder, stdin=stdin)

    async def __call__(self, *words: str, stdin: bytes | None = None, **env: str | None) -> Ended:
        process = self.start(*words, stdin=stdin is not None, **env)
        if stdin is not None:
            assert process.process.stdin is not None
            process.process.stdin.write(stdin)
            process.close_input()
        code = await process.wait(30)
        return Ended(code, process.output, process.errors)

    def terminal(self, *words: str, columns: int = 100) -> AbstractAsyncContextManager[Terminal]:
        return open_terminal(OUTRIDER, "script", *words, env=self.env, columns=columns)

    def write(self, name: str, text: str) -> str:
        """Write a file into the folder; its name."""
        (self.folder / name).write_text(text)
        return name

    def path(self, name: str, text: str) -> str:
        """Write a file into the folder; its whole path."""
        return str(self.folder / self.write(name, text))


@pytest.fixture(scope="module")
def module_spawn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    processes = Processes(tmp_path_factory.mktemp("processes"))
    yield processes
    processes.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def yard(
    broker: BrokerUnderTest, module_spawn: Processes, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Yard]:
    """With runner-1 and runner-2, in the group kitchen and the pool scripts, and lamp-1, which runs no scripts."""
    yard = Yard(broker, f"test-script-{secrets.token_hex(5)}", module_spawn, tmp_path_factory.mktemp("yard"))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(yard.runner("runner-1"))
        tasks.create_task(yard.runner("runner-2"))
        tasks.create_task(yard.device("lamp-1", "--id", "lamp-1", "--ready"))
    yield yard


@pytest.fixture
def own_yard(broker: BrokerUnderTest, prefix: str, spawn: Processes, tmp_path: Path) -> Yard:
    """Without devices, for a test that ends some."""
    folder = tmp_path / "yard"
    folder.mkdir()
    return Yard(broker, prefix, spawn, folder)
