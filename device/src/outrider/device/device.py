"""A device: its definition, served on a broker."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Generator
from pathlib import Path

from outrider.schema import NotServed, Topics

from .address import Address
from .calls import Asking, Calls
from .definition import Definition
from .emitting import Emits
from .endpoint import Endpoint
from .events import Events, not_served
from .journal import Journal
from .journal_file import JournalFile, default_path
from .sqlite_journal import SqliteJournal
from .watchdog import watch_loop

DEFAULT_BROKER = "mqtt://localhost:1883"


class Device(Definition, Calls, Emits):
    """A device: typed functions as commands, served on any MQTT broker.

    ::

        lamp = Device("lamp-1", groups=["kitchen"], initial="ready")

        @lamp.command
        def dim(level: Annotated[int, Meta(ge=0, le=100)]) -> int:
            "Set the brightness in percent and return it."

        asyncio.run(lamp.serve("mqtt://localhost"))

    Its parameters are those of `Definition`.
    """

    _endpoint: Endpoint | None = None
    _stopped = False

    async def serve(
        self, broker: str = DEFAULT_BROKER, *, prefix: str = "", clock: Callable[[], float] = time.time
    ) -> bool:
        """Connect and serve until terminated; without a broker keep trying.

        :param broker: URL, as `mqtt://user:password@host:1883`, `mqtts://`, `ws://`, `wss://` or `unix:///path`.
        :param prefix: levels that stand before every topic.
        :param clock: Unix seconds, by which commands expire; a test gives a `ManualClock`.
        :returns: False if a command's function would not end and may still run.
        :raises InvalidAddress: the URL cannot be used.
        :raises InvalidName: the prefix is not well formed.
        :raises JournalError: its journal cannot be opened: this device runs already, or the disk is at fault.
        :raises SubscribeRefused: the broker does not let this device read its commands.
        """
        address = Address.parse(broker)
        with self._open_journal(Topics(prefix).prefix) as journal, contextlib.ExitStack() as opened:
            for prepare in self.openings:
                opened.enter_context(prepare(address, Topics(prefix).prefix) or contextlib.nullcontext())
            self._endpoint = Endpoint(self, address, journal, prefix=prefix, clock=clock)
            if self._stopped:
                self._endpoint.stop()
            try:
                return await self._endpoint.run()
            finally:
                self._endpoint = None
                self._stopped = False

    @contextlib.contextmanager
    def _open_journal(self, prefix: str) -> Generator[Journal]:
        """The journal, opened here and closed at the end where it was not given open."""
        if not (self.journal is None or isinstance(self.journal, Path)):
            yield self.journal
            self.journal.commit()
            return
        path = self.journal or default_path(self.id, prefix)
        with contextlib.closing(JournalFile(path, synchronous=self.synchronous)) as file:
            name = f"{prefix}/{self.id}" if prefix else self.id
            with contextlib.closing(SqliteJournal(file, name, tolerance=self.clock_tolerance)) as journal:
                yield journal

    def telling(self) -> Events:
        """See `Emits`."""
        endpoint = self._endpoint  # this may be another thread
        if endpoint is None:
            raise not_served(self.id)
        return endpoint.events

    def asking(self) -> Asking:
        """See `Calls`."""
        if self._endpoint is None:
            raise NotServed(f"{self.id} is not being served, so it can call nobody: call it while serve runs")
        return self._endpoint

    def stop(self) -> None:
        """End `serve` as SIGTERM does: cleanly, and to come back with the present status.

        Before `serve` has begun it makes the next one end at once.
        """
        self._stopped = True
        if self._endpoint:
            self._endpoint.stop()

    def drop(self) -> None:
        """Lose the network connection as a broken cable would; the device connects anew. To rehearse a bad network."""
        if self._endpoint:
            self._endpoint.drop()

    def crash(self) -> None:
        """End `serve` without a word, so that the broker publishes the will. To rehearse a power cut.

        Running jobs are cancelled, and nobody gets their results.
        """
        self._stopped = True
        if self._endpoint:
            self._endpoint.crash()

    async def serve_until_signal(self, broker: str = DEFAULT_BROKER, *, prefix: str = "") -> bool:
        """`serve`, with SIGTERM and SIGINT ending it cleanly, and a watch on the event loop that says what blocks."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError):  # not on Windows
                loop.add_signal_handler(number, self.stop)
        with watch_loop(self.id):
            return await self.serve(broker, prefix=prefix)
