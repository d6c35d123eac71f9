"""What scenarios are played on: a broker, a device and requesters, with a fault proxy before each of the two sides."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import Final, Literal

import pytest

from outrider.controller import Fleet
from outrider.controller import fleet as controller_fleet
from outrider.controller.broker import BrokerProcess
from outrider.controller.faults import FaultProxy
from outrider.device import Connection, ManualClock, MemoryJournal, Pace
from outrider.device import endpoint as device_endpoint
from outrider.schema import CommandExpired, Result, Status
from tests.faults import subject
from tests.processes import Processes, Spawned, script

Where = Literal["device", "requester"]
"""On which side of the broker a fault is made."""

QUICK: Final = Pace(unanswered=(0.3, 0.6), accepted=(0.6,), soon=0.05, quiet=0.05, patience=0.2)
KEEPALIVE: Final = 2
CONNECT_TIMEOUT: Final = 1.0
LIMIT: Final = 20.0
ROOT: Final = Path(__file__).parents[2]


class Stage:
    """Everything that a scenario's steps act on.

    :ivar sent: one task for each command that was sent, with its outcome.
    :ivar clock: the device's, where it runs in this process.
    :ivar patch: for limits that nobody reaches in a test.
    """

    def __init__(
        self,
        broker: str,
        prefix: str,
        folder: Path,
        spawn: Processes,
        patch: pytest.MonkeyPatch,
        *,
        process: bool = False,
        entries: int | None = None,
        own: BrokerProcess | None = None,
    ) -> None:
        self.address: Final = broker
        self.prefix: Final = prefix
        self.folder: Final = folder
        self.broker: Final = own
        self.proxies: Final[dict[Where, FaultProxy]] = {"device": FaultProxy(broker), "requester": FaultProxy(broker)}
        self.fleets: Final[list[Fleet]] = []
        self.sent: Final[list[asyncio.Task[Result]]] = []
        self.clock: Final = ManualClock(time.time())
        self.journal = folder / "lamp-1.sqlite" if entries is None else MemoryJournal(max_entries=entries)
        self.runs_file: Final = folder / "runs"
        self.device = subject.made()
        self.process: Spawned | None = None
        self.patch: Final = patch
        self._spawn = spawn
        self._as_process = process
        self._serving: asyncio.Task[bool] | None = None
        self._stack = contextlib.AsyncExitStack()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Begin with a ready device and one requester."""
        _hurry(self.patch)
        async with self._stack:
            for proxy in self.proxies.values():
                await self._stack.enter_async_context(proxy)
            self._stack.push_async_callback(self._end)
            self.start_device()
            await self.add_requester()
            await self.state("ready")
            yield

    # Requesters

    async def add_requester(self) -> None:
        """One more requester of the same name."""
        fleet = Fleet(self.proxies["requester"].address, requester="ann", prefix=self.prefix, pace=QUICK)
        self.fleets.append(await self._stack.enter_async_context(fleet))

    def send(self, command: str, args: dict[str, object], *, by: int, wait: float, expires: float | None) -> None:
        """Send a command; what becomes of it is in `sent`."""
        dispatch = self.fleets[by].dispatch(subject.ID, command, args, wait=wait, expires=expires)

        async def outcome() -> Result:
            async for _ in dispatch:
                pass
            return dispatch.outcomes[subject.ID]

        self.sent.append(asyncio.create_task(outcome(), name=f"{command} {dispatch.id}"))

    async def outcomes(self) -> list[Result]:
        """What became of all that was sent."""
        async with asyncio.timeout(LIMIT):
            return await asyncio.gather(*self.sent)

    async def state(self, status: str, *, above: int = 0) -> int:
        """Wait until the requester believes this status, of a session above that one; return the session."""
        roster = self.fleets[0].roster
        changed = asyncio.Event()
        with roster.watch(lambda _: changed.set()):
            async with asyncio.timeout(LIMIT):
                while (state := roster.states.get(subject.ID)) is None or (
                    state.status != status or state.session <= above
                ):
                    changed.clear()
                    await changed.wait()
        return state.session

    @property
    def session(self) -> int:
        """The session that the requester knows."""
        return self.fleets[0].roster.states[subject.ID].session

    # The device

    @property
    def alive(self) -> bool:
        """Whether the device runs."""
        if self._as_process:
            return self.process is not None and self.process.running
        return self._serving is not None and not self._serving.done()

    def start_device(self) -> None:
        """Start the device."""
        if self._as_process:
            self.process = self.spawn_device(str(self.journal))
            return
        self.device = subject.made(self.journal)
        serving = self.device.serve(self.proxies["device"].address, prefix=self.prefix, clock=self.clock)
        self._serving = asyncio.create_task(serving, name="serve the device")

    def spawn_device(self, journal: str, *before: str) -> Spawned:
        """Start a process of the device, with these words before its command."""
        command = (script("outrider-device"), "run", "tests.faults.subject:device", "--journal", journal)
        address = self.proxies["device"].address
        return self._spawn(*before, *command, "--broker", address, "--prefix", self.prefix, cwd=ROOT)

    async def kill_device(self) -> None:
        """End the device without a word: SIGKILL, or what comes nearest to it in this process."""
        if self.process is not None:
            self.process.kill()
            await self.process.wait()
        elif self._serving is not None:
            self.device.crash()
            await asyncio.wait((self._serving,))

    def runs(self) -> int:
        """How often a command has run."""
        return len(self.runs_file.read_text().splitlines()) if self.runs_file.exists() else 0

    async def settle(self) -> None:
        """End all faults, and return when everything has arrived that was on its way."""
        for proxy in self.proxies.values():
            proxy.heal()
        if self.alive:
            for fleet in self.fleets:
                async with asyncio.timeout(LIMIT):
                    with contextlib.suppress(CommandExpired):  # by a clock that is wrong
                        await fleet.call(subject.ID, "ping")

    async def _end(self) -> None:
        for task in self.sent:
            task.cancel()
        await asyncio.gather(*self.sent, return_exceptions=True)
        if self._serving is not None and not self._serving.done():
            self.device.stop()
            await asyncio.wait((self._serving,))


def _hurry(patch: pytest.MonkeyPatch) -> None:
    """Let connections notice within seconds what takes half a minute else."""
    quick: Callable[..., Connection] = partial(Connection, keepalive=KEEPALIVE, connect_timeout=CONNECT_TIMEOUT)
    patch.setattr(device_endpoint, "Connection", quick)
    patch.setattr(controller_fleet, "Connection", quick)
    patch.setattr(device_endpoint, "CATCHING_UP", 0.0)


def word_of(result: Result) -> str:
    """The outcome in a word, with the code where there is one."""
    code = result.error.code if result.error and result.status is Status.REJECTED else ""
    return f"{result.status} {code}".strip()
