"""The hub put together: store, recorder, fleet, services and the HTTP server, opened in order and ended cleanly."""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from outrider.controller.fleet import Fleet
from outrider.device import Address
from outrider.schema import LocalError, Topics

from . import plugins
from .api.application import create_app
from .database import hold
from .live import Live
from .metrics import Metrics
from .parts import Parts
from .plugins import Context, Plugin
from .recorder import Recorder
from .retention import Age
from .server import Server, bind, is_loopback
from .services import Functions, Services
from .store import Store, StoreUnavailable
from .submissions import Submissions
from .telling import Telling
from .tokens import Tokens
from .writer import Writer

logger = logging.getLogger("outrider.controller.hub")

PRUNING: Final = 600.0
"""Seconds between two looks at what is too old to be kept."""


class TokensNeeded(LocalError):
    """The hub would listen where others reach it, and has no token that keeps them out."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a hub is told.

    :ivar requester: who it is to the broker; the recorder's session is called after it.
    :ivar database: `sqlite:///FILE` or `postgresql+psycopg://…`.
    :ivar outbox: the file in which commands are written down before they are sent.
    :ivar port: 0 finds a free one.
    :ivar origins: sites whose pages may use the API.
    :ivar keep: seconds for which records are kept; None: for ever.
    :ivar most: bytes that the database may have; None: as many as there are.
    """

    broker: str
    requester: str
    database: str
    outbox: Path
    prefix: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    plugins: Sequence[str] = ()
    origins: Sequence[str] = ()
    keep: float | None = None
    most: int | None = None


class Hub:
    """A hub that runs as long as the context is open.

    :ivar parts: what it is made of, once it is open.
    """

    parts: Parts

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stack = contextlib.AsyncExitStack()
        self._server: Server

    @property
    def url(self) -> str:
        """Where its page and its API are."""
        return self._server.url

    async def __aenter__(self) -> Self:
        """Open everything; what had been accepted before a crash goes on.

        :raises StoreUnusable: the database is of a newer version, another hub's, or cannot be opened.
        :raises StoreHeld: a hub of this name has the same state folder and broker.
        :raises TokensNeeded: it would listen where others reach it, without a token.
        :raises CannotListen: the address is not this machine's, or taken.
        :raises BrokerUnreachable: there is no broker, or it does not let the hub in.
        :raises OutboxUnusable: the outbox cannot be opened.
        :raises LocalError: a plugin cannot be loaded.
        """
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it: answer what was asked, write down what was heard, and leave the broker."""
        await self._stack.aclose()

    async def _open(self) -> None:
        settings, enter = self.settings, self._stack.enter_async_context
        address, topics = Address.parse(settings.broker), Topics(settings.prefix)
        metrics = Metrics()
        store = await asyncio.to_thread(Store.open, settings.database, stored=metrics.stored)
        self._stack.callback(store.close)
        bound = self._stack.enter_context(bind(settings.host, settings.port))
        loopback = is_loopback(bound)
        if not loopback and not await asyncio.to_thread(store.tokens):
            raise TokensNeeded(
                f"on {settings.host} everybody who reaches this machine could command your devices: make a token first "
                "with `outrider hub token add NAME --scope send`, or keep to 127.0.0.1"
            )
        self._stack.callback(self._hold_name(address, settings).close)
        live = Live()
        writer = await enter(Writer(store, recorded=live.recorded))
        session = "-".join((*topics.prefix.split("/"), settings.requester, "recorder")).lstrip("-")
        recorder = await enter(Recorder(address, topics, writer, name=session))
        fleet = await enter(
            Fleet(
                settings.broker,
                requester=settings.requester,
                prefix=settings.prefix,
                on_disconnect=lambda reason: logger.warning("the connection was lost: %s; connecting again", reason),
                outbox=settings.outbox,
            )
        )
        submissions = await enter(Submissions(fleet))
        found = plugins.load(settings.plugins)
        telling = Telling(settings.requester, writer)
        context = Context(settings.requester, fleet, store, telling, settings.database, settings.outbox.parent)
        functions = await self._functions(found, context)
        self.parts = Parts(fleet, store, writer, recorder, live, submissions, Tokens(store), metrics, functions)
        metrics.watch(self.parts)
        app = create_app(self.parts, loopback=loopback, origins=settings.origins, plugins=found, context=context)
        self._server = await enter(Server(app, settings.host, bound))
        self._stack.callback(live.close)  # before the server, which waits for those who follow
        if settings.keep is not None or settings.most is not None:
            pruning = asyncio.create_task(self._prune(store), name="retention")
            self._stack.callback(pruning.cancel)

    @staticmethod
    def _hold_name(address: Address, settings: Settings) -> sqlite3.Connection:
        """Keep away a second hub of this name: each would take the recorder's session from the other."""
        place = f"{address.place} {settings.prefix} {settings.requester}"
        with contextlib.suppress(OSError):  # what cannot be made in it is told next
            settings.outbox.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return hold(
            settings.outbox.with_name(f"hub-{sha256(place.encode()).hexdigest()[:16]}.lock"),
            f"a hub called {settings.requester} is at {address.place} already: end that one first, or give this one a "
            "name of its own with --as",
        )

    async def _functions(self, found: Sequence[Plugin], context: Context) -> Functions | None:
        """What plugins offer; a hub without any is no member of the pool."""
        settings = self.settings
        if not found:
            return None
        services = Services(
            found,
            context,
            broker=settings.broker,
            prefix=settings.prefix,
            journal=settings.outbox.with_name("hub-journal.sqlite"),
        )
        await self._stack.enter_async_context(services)
        return services.functions

    async def _prune(self, store: Store) -> None:
        """Remove what is too old or too much, from time to time."""
        age = None if self.settings.keep is None else Age(self.settings.keep)
        while True:
            now = time.time()
            older = None if age is None else age.before(now, running=time.monotonic())
            if age is not None and older is None:
                logger.warning("the clock has jumped: what is too old is looked for in %g s", PRUNING)
            try:
                gone = await asyncio.to_thread(store.prune, older_than=older, larger_than=self.settings.most, now=now)
                if gone:
                    logger.info("%d rows were too old, or too many, and are gone", gone)
            except StoreUnavailable as error:
                logger.warning("%s", error)
            except Exception:  # the next time may be better, and recording goes on
                logger.exception("what is too old could not be removed")
            await asyncio.sleep(PRUNING)
