"""Any order of emit, commit, crash, restart, lost connection and acknowledgement delivers every committed event."""

import asyncio
import tempfile
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from outrider.device import JournalFile, SqliteJournal
from outrider.device.events import Events
from outrider.schema import BrokerUnreachable, EventsFull, Topics
from outrider.schema.codec import EVENT

MOST = 12
"""Events that wait at most: near enough to be reached."""


class Crashable(SqliteJournal):
    """A journal whose process may be gone."""

    crashed = False

    def commit(self) -> None:
        if not self.crashed:
            super().commit()


@dataclass
class Network:
    """What a connection keeps, and a broker that takes it when it is told to."""

    connected: bool = True
    under_way: deque[tuple[str, bytes, asyncio.Future[None]]] = field(
        default_factory=deque[tuple[str, bytes, "asyncio.Future[None]"]]
    )

    def publish(self, topic: str, payload: bytes) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.under_way.append((topic, payload, future))
        return future


class EventPromises(RuleBasedStateMachine):
    """A device's events and journal, crashed at will, against what was promised.

    `told` are the ids that `emit` has returned; `heard` all that the broker took, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "lamp-1.sqlite")
        self.emitted = 0
        self.refused = 0
        self.told: list[str] = []
        self.heard: list[str] = []
        self.bytes_of: dict[str, bytes] = {}
        self.emitting: set[asyncio.Task[None]] = set()

    @initialize()
    def begin(self) -> None:
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        self.file = JournalFile(self.path)
        self.journal = Crashable(self.file, "lamp-1")
        self.network = Network()
        self.events = Events(
            "lamp-1",
            Topics(),
            self.journal,
            publish=self.network.publish,
            connected=lambda: self.network.connected,
            clock=lambda: 1_700_000_000.0,
            dropped=Counter(),
            max_waiting=MOST,
        )
        self.events.send()

    async def _settle(self) -> None:
        """Let everything happen that can."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def _emit(self) -> None:
        self.emitted += 1
        try:
            self.told.append(await self.events.emit("told", "e", None, {"number": self.emitted}))
        except EventsFull:
            self.refused += 1

    # What happens

    @rule(count=st.integers(1, 4), turns=st.integers(0, 6))
    def emit(self, count: int, turns: int) -> None:
        """Some at once; after so many turns of the event loop something else happens."""

        async def tell() -> None:
            for _ in range(count):
                task = asyncio.create_task(self._emit())
                self.emitting.add(task)
                task.add_done_callback(self.emitting.discard)
            for _ in range(turns):
                await asyncio.sleep(0)

        self.loop.run_until_complete(tell())

    @precondition(lambda self: self.network.connected and self.network.under_way)
    @rule(count=st.integers(1, 5), acknowledges=st.booleans(), settles=st.booleans())
    def take(self, count: int, acknowledges: bool, settles: bool) -> None:
        """The broker takes some in order; its acknowledgement may be lost with the connection."""

        async def arrive() -> None:
            for topic, payload, future in list(self.network.under_way)[:count]:
                event, _ = EVENT.decode(payload)
                assert topic == "devices/lamp-1/event/told"
                assert self.bytes_of.setdefault(event.id, payload) == payload
                self.heard.append(event.id)
                if acknowledges:
                    self.network.under_way.popleft()
                    future.set_result(None)
            if not acknowledges:
                self.network.connected = False
            if settles:
                await self._settle()

        self.loop.run_until_complete(arrive())

    @rule()
    def lose_connection(self) -> None:
        self.network.connected = False

    @rule()
    def connect(self) -> None:
        async def connect() -> None:
            self.network.connected = True
            self.events.send()
            await self._settle()

        self.loop.run_until_complete(connect())

    @rule()
    def write_commands(self) -> None:
        """A command comes: its commit takes with it what was emitted before."""
        self.journal.keep_status("ready")
        self.journal.commit()

    @rule()
    def crash(self) -> None:
        """What was not committed is gone, and nobody hears of it."""
        self.journal.crashed = True
        self.file.close()
        self._next_life()

    @rule()
    def restart(self) -> None:
        async def end() -> None:
            for _, _, future in self.network.under_way:
                future.set_exception(BrokerUnreachable("ended on this side"))
                future.exception()
            self.events.close()
            await self._settle()

        self.loop.run_until_complete(end())
        self.journal.close()
        self.file.close()
        self._next_life()

    def _next_life(self) -> None:
        pending = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        for task in pending:
            task.cancel()
        with suppress(Exception):
            self.loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self.loop.run_until_complete(self._start())

    # What was promised

    @invariant()
    def repeats_aside_events_come_in_order(self) -> None:

        numbers = [_number(self.bytes_of[id]) for id in dict.fromkeys(self.heard)]
        assert numbers == sorted(numbers)

    @invariant()
    def no_more_wait_than_may(self) -> None:
        if hasattr(self, "events"):
            assert self.events.waiting <= MOST
            assert self.events.waiting == len(list(self.journal.events()))

    def teardown(self) -> None:
        """In the end the broker is there, and has every event whose emission returned."""

        async def end() -> None:
            self.network.connected = True
            self.events.send()
            while self.events.waiting:
                await self._settle()
                while self.network.under_way:
                    _, payload, future = self.network.under_way.popleft()
                    event, _ = EVENT.decode(payload)
                    self.bytes_of.setdefault(event.id, payload)
                    self.heard.append(event.id)
                    future.set_result(None)
            self.events.close()

        try:
            if hasattr(self, "events"):
                self.loop.run_until_complete(end())
                self.repeats_aside_events_come_in_order()
                assert set(self.told) <= set(self.heard)
                assert len(self.told) + self.refused <= self.emitted
                assert not list(self.journal.events())
                self.file.close()
        finally:
            self.loop.close()
            self.folder.cleanup()


def _number(payload: bytes) -> int:
    event, _ = EVENT.decode(payload)
    return int(bytes(event.data).split(b":")[1].rstrip(b"}"))  # type: ignore[arg-type]  # it is set


TestEventPromises = EventPromises.TestCase
TestEventPromises.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
