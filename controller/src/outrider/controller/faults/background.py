"""Fault proxies in a thread with an event loop of their own, for tests of every kind."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self, TypeVar

from .commands import Command
from .lines import read_line
from .log import Action, Event
from .packets import Direction
from .proxy import PATIENCE, FaultProxy
from .rules import InvalidFault

T = TypeVar("T")

SHOWN: Final = 50
"""Events that are shown of each proxy where a test fails."""


class BackgroundProxy:
    """A fault proxy in a thread. `do` and `call` act on it and return when that is done; `seen` waits.

    :ivar address: the URL at which clients reach the broker through it; `host` and `port` are its parts.
    """

    def __init__(self, proxy: FaultProxy, loop: asyncio.AbstractEventLoop) -> None:
        self.address: Final = proxy.address
        self.host: Final = proxy.host
        self.port: Final = proxy.port
        self._proxy = proxy
        self._loop = loop

    def do(self, fault: str | Command) -> None:
        """Make a fault: a line as `outrider faults` takes it, or a rule or command.

        ::

            proxy.do("drop PUBACK to client 3")
            proxy.do(Drop(packet="PUBACK", direction="to_client", count=3))
            proxy.do("cut")

        :raises InvalidFault: the line cannot be read, or speaks of a time (`at`, `every`, `for`).
        """
        if isinstance(fault, str):
            step = read_line(fault)
            if step is None:
                return
            if step.at or step.every or step.lasts:
                raise InvalidFault(f"{fault!r}: a test says itself when: without at, every and for")
            fault = step.command
        command: Command = fault
        self.call(lambda proxy: proxy.do(command))

    def call(self, function: Callable[[FaultProxy], T]) -> T:
        """Call this with the proxy itself, in its thread, and return what it returns."""

        async def called() -> T:
            return function(self._proxy)

        return self._wait(called())

    def heal(self) -> None:
        """End every fault."""
        self.call(FaultProxy.heal)

    def seen(
        self,
        packet: str | None = None,
        *,
        direction: Direction | None = None,
        topic: str | None = None,
        client: str | None = None,
        contains: bytes = b"",
        action: Action = "passed",
        count: int = 1,
        since: int = 0,
        timeout: float = PATIENCE,
    ) -> list[Event]:
        """Wait until so many such events were there, as `FaultProxy.seen` does.

        A coroutine waits in a thread, `await asyncio.to_thread(proxy.seen, "PUBACK")`, else all others in its event
        loop would have to wait as well.

        :raises NotSeen: they were not in time.
        """
        return self._wait(
            self._proxy.seen(
                packet,
                direction=direction,
                topic=topic,
                client=client,
                contains=contains,
                action=action,
                count=count,
                since=since,
                timeout=timeout,
            )
        )

    @property
    def log(self) -> Sequence[Event]:
        """What has happened so far."""
        return self.call(lambda proxy: tuple(proxy.log))

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """How many events there were, as `counts["dropped", "PUBACK"]`; without a packet as `counts["cut", ""]`."""
        return self.call(lambda proxy: proxy.log.counts.copy())

    def _wait(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class FaultProxies:
    """Starts proxies in a thread of its own; they end with the context."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxies", daemon=True)
        self._stack = AsyncExitStack()
        self._proxies: list[BackgroundProxy] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._run(self._stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __call__(self, broker: str, *, seed: int = 0, port: int = 0) -> BackgroundProxy:
        """Start a proxy in front of this broker. It does nothing to what passes until it is told to.

        :raises InvalidAddress: the URL cannot be used.
        :raises CannotListen: the port is taken.
        """

        async def started() -> FaultProxy:
            return await self._stack.enter_async_context(FaultProxy(broker, seed=seed, port=port))

        proxy = BackgroundProxy(self._run(started()), self._loop)
        self._proxies.append(proxy)
        return proxy

    def sections(self) -> list[tuple[str, str]]:
        """What the proxies saw, as sections of a report."""
        return [
            (f"fault proxy {proxy.address}", "\n".join(map(str, proxy.log[-SHOWN:])) or "nothing")
            for proxy in self._proxies
        ]

    def _run(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
