"""What tests of the REPL share: a broker with three devices, the REPL on a terminal or with a script, a session."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from outrider.controller import Fleet
from outrider.controller.cli.session import Session
from outrider.controller.cli.terminal import results_console, show
from tests.brokers import BrokerUnderTest
from tests.processes import Processes, Spawned, script
from tests.terminals import Terminal, open_terminal

GEAR = '''
import asyncio
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from outrider.device import Device, Job

gear = Device("gear-1", groups=["yard"], pools=["tools"], tags={"room": "shop", "fw": "2.0"}, initial="ready")


@gear.command
def turn(direction: Literal["left", "right"], speed: Annotated[int, Meta(ge=0, le=9)] = 1, fast: bool = False) -> str:
    """Turn the gear."""
    return f"{direction} {speed} {fast}"


@gear.command
def use(name: str, options: dict[str, int] = {}) -> str:
    """A command that is called like a word of the REPL."""
    return f"used {name} {options}"


@gear.command
def pair(device: str, mode: Literal["one way", "both"] = "both") -> str:
    """Pair it with another device."""
    return f"{device} {mode}"


@gear.command
def much(size: int) -> str:
    """Return much text."""
    return "-" * size


@gear.command
async def tell(job: Job) -> str:
    """Tell what would move the cursor."""
    job.print("one\\x1b[2J\\ntwo")
    return "\\x1b[31mred"


@gear.command
async def hold(path: str) -> str:
    """Return when the file is there."""
    while not Path(path).exists():
        await asyncio.sleep(0.01)
    return "held"


@gear.command
def fail() -> None:
    """Raise."""
    raise ValueError("no grease")
'''


@dataclass(frozen=True)
class Setting:
    """A broker with three devices: lamp-1 and lamp-2 in the group kitchen, gear-1 in the group yard."""

    address: str
    prefix: str
    processes: Processes

    @property
    def at(self) -> tuple[str, ...]:
        """Options that lead a device here."""
        return ("--broker", self.address, "--prefix", self.prefix)

    def environment(self, state: Path) -> dict[str, str]:
        """What a REPL needs."""
        return {
            "OUTRIDER_BROKER": self.address,
            "OUTRIDER_PREFIX": self.prefix,
            "OUTRIDER_NAME": "tester",
            "XDG_STATE_HOME": str(state),
            "XDG_CONFIG_HOME": str(state),
        }

    @contextlib.asynccontextmanager
    async def fleet(self) -> AsyncGenerator[Fleet]:
        """See and command the same devices as the REPL, as another requester."""
        async with Fleet(self.address, requester="other", prefix=self.prefix) as fleet:
            yield fleet


async def until_ready(setting: Setting, devices: Sequence[str]) -> None:
    changed = asyncio.Event()
    async with asyncio.timeout(10), setting.fleet() as fleet:
        with fleet.roster.watch(lambda _: changed.set()):
            while not all(
                (state := fleet.roster.states.get(id)) is not None and state.status == "ready" for id in devices
            ):
                changed.clear()
                await changed.wait()


def write_gear(directory: Path) -> None:
    (directory / "gear.py").write_text(GEAR)


def _start_devices(setting: Setting, directory: Path) -> dict[str, Spawned]:
    write_gear(directory)
    run = (script("outrider-device"), "run", *setting.at)
    started = {id: setting.processes(*run, "--id", id, "--ready", "--group", "kitchen") for id in ("lamp-1", "lamp-2")}
    started["gear-1"] = setting.processes(*run, "gear:gear", cwd=directory)
    return started


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def setting(broker: BrokerUnderTest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Setting]:
    directory = tmp_path_factory.mktemp("repl")
    processes = Processes(directory)
    try:
        setting = Setting(broker.address, f"test-repl-{secrets.token_hex(5)}", processes)
        _start_devices(setting, directory)
        await until_ready(setting, ("lamp-1", "lamp-2", "gear-1"))
        yield setting
    finally:
        processes.close()


Open = Callable[..., AbstractAsyncContextManager[Terminal]]


@pytest.fixture
def open_repl(setting: Setting, tmp_path: Path) -> Open:
    """Open the REPL on a terminal, at its first prompt."""

    @contextlib.asynccontextmanager
    async def open_(columns: int = 100, lines: int = 40) -> AsyncGenerator[Terminal]:
        environment = setting.environment(tmp_path)
        async with open_terminal(script("outrider"), "repl", env=environment, columns=columns, lines=lines) as terminal:
            await terminal.wait_for_line("outrider> ?")
            yield terminal

    return open_


@pytest.fixture
def run_script(setting: Setting, spawn: Processes, tmp_path: Path) -> Callable[..., Spawned]:
    """Start the REPL with these lines in the pipe; the pipe stays open if they are None."""

    def run(lines: str | bytes | None, *options: str) -> Spawned:
        repl = spawn(script("outrider"), "repl", *options, env=setting.environment(tmp_path), stdin=True)
        if lines is not None:
            assert repl.process.stdin is not None
            repl.process.stdin.write(lines.encode() if isinstance(lines, str) else lines)
            repl.close_input()
        return repl

    return run


@pytest_asyncio.fixture
async def session(setting: Setting) -> AsyncIterator[Session]:
    async with setting.fleet() as fleet, asyncio.TaskGroup() as tasks:
        session = Session(fleet, tasks, show=partial(show, results_console()), wait=5)
        yield session
        session.close()
