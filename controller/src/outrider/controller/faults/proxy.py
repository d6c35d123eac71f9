"""The proxy: listens, relays each client to the broker, and makes faults. All sockets are opened here.

    async with FaultProxy("mqtt://localhost:1883") as proxy:
        ...                                        # connect clients to proxy.address
        proxy.add(Drop(packet="PUBACK", direction="to_client", count=1))
        await proxy.seen("PUBACK", action="dropped")
        proxy.cut()

Not for several event loops: everything is called in the one that it runs in.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Final, Self

from outrider.device import Address
from outrider.schema import LocalError

from .commands import Command, CutNow, Door, HalfOpenNow, Heal, NewConnections, Release, Throttle, check_visible
from .log import KEPT, Action, Event, Log
from .packets import DIRECTIONS, Direction, Packet
from .relay import Ends, Note, Relay
from .rules import Hold, Match, Rule, Rules

LOOPBACK: Final = "127.0.0.1"

BACKLOG: Final = 1024
CONNECT_LIMIT: Final = 10.0
"""Seconds that the broker has to accept a connection."""

PATIENCE: Final = 10.0
"""Seconds that `seen` waits unless it is told otherwise."""

HEARD: Final = 65_536
"""Bytes of a client that are kept while nobody answers it."""


class CannotListen(LocalError):
    """The proxy has no port to listen on."""


class NotSeen(LocalError, TimeoutError):
    """What a test waited for did not pass the proxy in time."""


class FaultProxy:
    """Stands between clients and a broker as long as the context lasts. It does nothing to what passes until told to.

    :param broker: the broker's URL. Over `mqtt://` and `unix://` single packets can be acted on, of MQTT 5 and 3.1.1;
        what is encrypted or in a WebSocket is relayed as bytes, and only faults of whole connections are possible:
        others raise `InvalidFault`.
    :param port: where to listen; 0 finds a free port, which stays the same until the context ends.
    :param seed: what chance decides follows from it.
    :param kept: how many events the log keeps.
    :param told: called with each event.
    :ivar rules: what is done to which packets.
    :ivar log: what passed, and what was done.

    :raises InvalidAddress: the URL cannot be used.
    """

    def __init__(
        self,
        broker: str,
        *,
        port: int = 0,
        host: str = LOOPBACK,
        seed: int = 0,
        kept: int = KEPT,
        told: Callable[[Event], None] | None = None,
    ) -> None:
        self.broker: Final = Address.parse(broker)
        self.host: Final = host
        self.port = port
        self.rules = Rules(seed)
        self.log = Log(kept=kept, told=told)
        self._door: Door = "open"
        self._opened = asyncio.Event()
        self._opened.set()
        self._rates: dict[Direction, float | None] = dict.fromkeys(DIRECTIONS)
        self._relays: dict[int, Relay] = {}
        self._connections = 0
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._fillers: list[socket.socket] = []
        self._began = 0.0

    async def __aenter__(self) -> Self:
        """Listen.

        :raises CannotListen: the port is taken, or the host is not this machine's.
        """
        self._began = asyncio.get_running_loop().time()
        self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._deafen()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    @property
    def address(self) -> str:
        """The URL at which clients reach the broker through this proxy; without the password, if there is one."""
        host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(self.host, self.host)
        broker = self.broker
        if broker.kind == "unix":
            broker = replace(broker, kind="tcp", path="")
        return str(replace(broker, host=host, port=self.port, more=()))

    @property
    def door(self) -> Door:
        """What becomes of new connections."""
        return self._door

    @property
    def clients(self) -> list[str]:
        """The client ids of the connections that are relayed now; empty for one that has not said it, or no MQTT."""
        return [relay.client for relay in self._relays.values()]

    @property
    def half_open_clients(self) -> list[str]:
        """The client ids of those connections on which nothing passes."""
        return [relay.client for relay in self._relays.values() if relay.half_open]

    @property
    def held(self) -> int:
        """How many packets wait to be released."""
        return sum(relay.held for relay in self._relays.values())

    def rate(self, direction: Direction) -> float | None:
        """Bytes a second that may pass this way on each connection; None without a limit."""
        return self._rates[direction]

    # Faults

    def add(self, *rules: Rule) -> None:
        """Let these rules act on packets from now on."""
        for rule in rules:
            check_visible(rule, self.broker)
        self.rules.add(*rules)

    def cut(self, client: str | None = None, *, reset: bool = True) -> None:
        """End the connections of these clients (a glob), or all: with a reset, or else the end of the stream."""
        check_visible(CutNow(client=client), self.broker)
        for relay in self._of(client):
            relay.cut(reset=reset)

    def half_open(self, ways: Direction | None = None, *, client: str | None = None) -> None:
        """Let nothing pass any more on the connections that there are, one way or both; new ones are not affected.

        They stay open, and neither side hears that the other one has closed, until `heal` or `resume`.
        """
        check_visible(HalfOpenNow(client=client), self.broker)
        for relay in self._of(client):
            relay.stall(ways)

    def resume(self, client: str | None = None) -> None:
        """Let half-open connections go on, first with what came meanwhile."""
        for relay in self._of(client):
            relay.resume()

    def throttle(self, rate: float | None, ways: Direction | None = None) -> None:
        """Let so many bytes a second pass on each connection, one way or each way; None is no limit."""
        for way in DIRECTIONS if ways is None else (ways,):
            self._rates[way] = rate

    def blackhole(self) -> None:
        """Accept new connections and say nothing to them, until `heal`. Those that are there then are relayed."""
        self.new_connections("blackhole")

    def refuse(self) -> None:
        """Refuse new connections until `heal`, as a host does on which no broker runs."""
        self.new_connections("refuse")

    def new_connections(self, door: Door) -> None:
        """Say what becomes of new connections.

        :raises CannotListen: the port, which was free meanwhile, has been taken.
        """
        before, self._door = self._door, door
        if before in ("unanswered", "refuse") and before != door:
            self._close_socket()
            self._listen()
        if door == "refuse":
            self._close_socket()
        elif door == "unanswered" and before != door:
            self._fill()
        if door == "open":
            self._opened.set()
        else:
            self._opened.clear()

    def release(self, rule: Rule | None = None) -> None:
        """Let go what this rule holds, or any rule, in the order in which it came."""
        for relay in self._of(None):
            relay.release(rule)

    def heal(self) -> None:
        """End every fault: no rules, no limits; half-open connections go on, and what was held or delayed arrives."""
        self.rules.clear()
        self.throttle(None)
        for relay in self._of(None):
            relay.hurry()
            relay.resume()
        self.new_connections("open")

    def do(self, command: Command) -> Callable[[], None] | None:
        """Do what a command says, and return what undoes it; None where nothing can."""
        match command:
            case Hold():
                self.add(command)
                return lambda: self._let_go(command)
            case Rule():
                self.add(command)
                return lambda: self.rules.remove(command)
            case CutNow(client=client, reset=reset):
                self.cut(client, reset=reset)
            case HalfOpenNow(ways=ways, client=client):
                self.half_open(ways, client=client)
                return lambda: self.resume(client)
            case Throttle(rate=rate, ways=ways):
                self.throttle(rate, ways)
                return lambda: self.throttle(None, ways)
            case NewConnections(door=door):
                self.new_connections(door)
                return lambda: self.new_connections("open")
            case Release():
                self.release()
            case Heal():
                self.heal()
        return None

    def _let_go(self, hold: Hold) -> None:
        self.rules.remove(hold)
        self.release(hold)

    # What was seen

    async def seen(
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
        """Wait until so many such events are in the log, and return all of them. Those that are there already count.

        :param action: what happened, as `"passed"` or `"dropped"`; without a packet also `"connected"` or `"cut"`.
        :param since: only events with a greater number, as `proxy.log.last` said before.
        :raises NotSeen: not so many came in time; it says what did happen.
        """
        match = Match(packet=packet, direction=direction, topic=topic, client=client, contains=contains)
        found: list[Event] = []
        try:
            async with asyncio.timeout(timeout):
                while True:
                    found += self.log.find(match, action, since=since)
                    since = self.log.last
                    if len(found) >= count:
                        break
                    await self.log.change()
        except TimeoutError:
            last = "".join(f"\n  {event}" for event in list(self.log)[-10:])
            raise NotSeen(
                f"{count} {action} of {_shown(match)} expected within {timeout:g} s, {len(found)} seen. "
                f"{f'The last events:{last}' if last else f'No client has come to {self.address}.'}"
            ) from None
        return found

    # Connections

    def _of(self, client: str | None) -> Iterator[Relay]:
        for relay in tuple(self._relays.values()):
            if client is None or fnmatchcase(relay.client, client):
                yield relay

    def _listen(self) -> None:
        opened = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.setblocking(False)
            opened.bind((self.host, self.port))
            opened.listen(BACKLOG)
        except OSError as error:
            opened.close()
            taken = error.errno == errno.EADDRINUSE
            raise CannotListen(
                f"cannot listen on {self.host} port {self.port}: {'it is taken' if taken else error}; choose another"
            ) from None
        self.port = opened.getsockname()[1]
        self._socket = opened
        self._accepting = asyncio.create_task(self._accept(opened), name="accept clients")

    def _close_socket(self) -> None:
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        if self._accepting:
            self._accepting.cancel()
            self._accepting = None
        if self._socket:
            self._socket.close()
            self._socket = None

    def _fill(self) -> None:
        """Let no connection come about: nothing is accepted, and the queue of those to be accepted is full (Linux)."""
        assert self._socket is not None
        assert self._accepting is not None
        self._accepting.cancel()
        self._accepting = None
        self._socket.listen(0)
        for _ in range(3):
            filler = socket.socket(self._socket.family, socket.SOCK_STREAM)
            filler.setblocking(False)
            filler.connect_ex(self._socket.getsockname())
            self._fillers.append(filler)

    async def _deafen(self) -> None:
        accepting = self._accepting
        self._close_socket()
        if accepting:
            await asyncio.wait((accepting,))

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except ConnectionError:  # gone again before it was accepted
                continue
            except OSError as error:
                # Out of files: those that end make room.
                self._note("unreachable", words=f"cannot accept a connection: {error.strerror}")
                await asyncio.sleep(0.1)
                continue
            task = asyncio.create_task(self._serve(accepted), name="relay a client")
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, accepted: socket.socket) -> None:
        self._connections += 1
        number = self._connections
        client = await _ends(accepted)
        try:
            begun = b"" if self._opened.is_set() else await self._unheard(client, number)
            if begun is None:
                return
            try:
                async with asyncio.timeout(CONNECT_LIMIT):
                    broker = await self._reach()
            except (OSError, TimeoutError) as error:
                self._note("unreachable", number, words=f"the broker at {self.broker.place}: {_reason(error)}")
                return
            relay = Relay(client, broker, rules=self.rules, rate=self.rate, note=self._noting(number))
            self._relays[number] = relay
            await relay.run(begun)
        finally:
            self._relays.pop(number, None)
            client.writer.transport.abort()

    async def _unheard(self, client: Ends, number: int) -> bytes | None:
        """Say nothing to a client until new connections are relayed; then what it sent, or None if it is gone."""
        self._note("blackholed", number)
        heard = bytearray()

        async def hear() -> None:
            while len(heard) < HEARD and (data := await client.reader.read(HEARD - len(heard))):
                heard.extend(data)
            if len(heard) >= HEARD:
                await self._opened.wait()

        hearing = asyncio.create_task(hear(), name="hear a client")
        opening = asyncio.create_task(self._opened.wait(), name="wait for relaying")
        try:
            await asyncio.wait((hearing, opening), return_when=asyncio.FIRST_COMPLETED)
        finally:
            opening.cancel()
            hearing.cancel()
            await asyncio.wait((hearing,))
        if not self._opened.is_set() or (not hearing.cancelled() and len(heard) < HEARD):
            self._note("ended", number)
            return None
        return bytes(heard)

    async def _reach(self) -> Ends:
        if self.broker.kind == "unix":
            return Ends(*await asyncio.open_unix_connection(self.broker.path))
        failure: OSError = OSError("no host")
        for each in self.broker.each:
            try:
                ends = Ends(*await asyncio.open_connection(each.host, each.port))
            except OSError as error:
                failure = error
            else:
                _no_delay(ends)
                return ends
        raise failure

    def _noting(self, number: int) -> Note:
        def note(
            action: Action, *, direction: Direction | None = None, packet: Packet | None = None, words: str = ""
        ) -> None:
            self._note(action, number, direction=direction, packet=packet, words=words)

        return note

    def _note(
        self,
        action: Action,
        number: int = 0,
        *,
        direction: Direction | None = None,
        packet: Packet | None = None,
        words: str = "",
    ) -> None:
        relay = self._relays.get(number)
        self.log.add(
            asyncio.get_running_loop().time() - self._began,
            action,
            connection=number,
            client=relay.client if relay else "",
            direction=direction,
            packet=packet,
            words=words,
        )


async def _ends(accepted: socket.socket) -> Ends:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted)
    ends = Ends(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
    _no_delay(ends)
    return ends


def _no_delay(ends: Ends) -> None:
    opened: socket.socket = ends.writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _reason(error: OSError | TimeoutError) -> str:
    # asyncio puts words of its own, with the address again, where the system's belong.
    return os.strerror(error.errno) if error.errno else str(error) or "no answer"


def _shown(match: Match) -> str:
    words = [match.packet or "any packet", (match.direction or "").replace("_", " "), match.topic or ""]
    words += [f"of {match.client}" if match.client else "", repr(match.contains) if match.contains else ""]
    return " ".join(word for word in words if word)
