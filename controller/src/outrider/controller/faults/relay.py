"""One client's connection and the one to the broker behind it: packets go across, and rules act on them."""

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

from .lane import Lane, Piece
from .log import Action
from .packets import DIRECTIONS, Direction, Kind, Packet, Reader, client_id_of, release_of
from .rules import Cut, Delay, Drop, Duplicate, HalfOpen, Hold, Reorder, Rule, Rules

LINGER: Final = 5.0
"""Seconds that an end which was told that it is over has to close, until it is closed."""

_OPPOSITE: Final[dict[Direction, Direction]] = {"to_broker": "to_client", "to_client": "to_broker"}
_FIRST_OWN_ID: Final = 65_535
"""Packet ids that a proxy chooses go down from here, where those of brokers and clients go up from 1."""


class Ends(NamedTuple):
    """A connection's two streams."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Note(Protocol):
    """What notes an event of this connection."""

    def __call__(
        self, action: Action, *, direction: Direction | None = None, packet: Packet | None = None, words: str = ""
    ) -> None:
        """Note it."""


class Held(NamedTuple):
    """A packet that waits to be released, and the rule that holds it."""

    rule: Rule
    direction: Direction
    pieces: tuple[Piece, ...]


class Relay:
    """Carries bytes between a client and the broker until one of them ends it, or a fault does.

    :param note: notes an event of the client that `client` names by then.
    :param rate: bytes a second that may go one way now.
    """

    def __init__(
        self, client: Ends, broker: Ends, *, rules: Rules, rate: Callable[[Direction], float | None], note: Note
    ) -> None:
        self.client = ""
        self._sources: dict[Direction, Ends] = {"to_broker": client, "to_client": broker}
        self._rules = rules
        self._note = note
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[Direction, Lane] = {
            "to_broker": self._lane("to_broker", broker.writer, rate),
            "to_client": self._lane("to_client", client.writer, rate),
        }
        self._readers: dict[Direction, Reader] = {
            "to_broker": Reader(Kind.CONNECT),
            "to_client": Reader(Kind.CONNACK, Kind.AUTH),
        }
        self._opaque = False
        self._over = asyncio.Event()
        self._cut = False
        self._open: set[Direction] = set()
        """After a cut: which sources have been told of the end, and have not closed yet."""
        self._held: list[Held] = []
        self._delayed: dict[tuple[Rule, Direction], float] = {}
        self._unconfirmed = {way: Counter[int]() for way in DIRECTIONS}
        """By the direction of the acknowledgement and the packet id: repeats whose acknowledgement nobody waits for."""
        self._own: dict[Direction, set[int]] = {way: set() for way in DIRECTIONS}
        """By the direction of the acknowledgement: packet ids that only the proxy has given."""

    @property
    def half_open(self) -> bool:
        """Whether nothing passes, one way at least."""
        return not all(lane.gate.is_set() for lane in self._lanes.values())

    @property
    def held(self) -> int:
        """How many packets wait to be released."""
        return len(self._held)

    async def run(self, begun: bytes) -> None:
        """Carry on until the connection has ended, and leave both ends closed.

        :param begun: what the client has sent already.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self._pump(way, begun if way == "to_broker" else b""), name=f"relay {way}")
                    for way in DIRECTIONS
                ]
                sending = [tasks.create_task(self._send(lane), name="relay sends") for lane in self._lanes.values()]
                ended = tasks.create_task(self._over.wait(), name="relay ends")
                await asyncio.wait((ended, tasks.create_task(_all(sending))), return_when=asyncio.FIRST_COMPLETED)
                if self._cut and not self._over.is_set():
                    await asyncio.wait((ended,), timeout=LINGER)
                for task in (*running, *sending, ended):
                    task.cancel()
        finally:
            for each in self._sources.values():
                each.writer.transport.abort()
            self._lose()
            if not self._cut:
                self._note("ended")

    def stall(self, ways: Direction | None) -> None:
        """Let nothing pass any more, one way or both; both ends stay open, and neither hears of the other."""
        for way in DIRECTIONS if ways is None else (ways,):
            lane = self._lanes[way]
            lane.flush()
            lane.gate.clear()
        self._note("half-open", direction=ways)

    def resume(self) -> None:
        """Let everything pass again, first what came meanwhile: as TCP does once the network is back."""
        if self.half_open:
            for lane in self._lanes.values():
                lane.gate.set()
            self._note("resumed")

    def release(self, rule: Rule | None = None) -> None:
        """Send what this rule holds, or what any rule does, in the order in which it came."""
        held, self._held = self._held, []
        for each in held:
            if rule is None or each.rule == rule:
                for piece in each.pieces:
                    self._lanes[each.direction].send(piece)
            else:
                self._held.append(each)

    def hurry(self) -> None:
        """Send what is held, delayed or reordered at once."""
        for lane in self._lanes.values():
            lane.hurry()
        self.release()

    def cut(self, *, reset: bool = True) -> None:
        """End the connection: both ends see a reset, or else the end of the stream."""
        self._end(reset, reset)

    async def _pump(self, way: Direction, data: bytes) -> None:
        lane, (reader, _) = self._lanes[way], self._sources[way]
        try:
            while data or (data := await reader.read(65_536)):
                await self._carry(way, data)
                data = b""
                await lane.room()
        except OSError:
            await lane.gate.wait()
            self._broken()
        else:
            lane.finish()
            self._open.discard(way)
            if self._cut and not self._open:
                self._over.set()

    async def _send(self, lane: Lane) -> None:
        try:
            await lane.run()
        except OSError:
            self._broken()

    async def _carry(self, way: Direction, data: bytes) -> None:
        """Take what came one way to where it goes."""
        lane, reader = self._lanes[way], self._readers[way]
        await lane.gate.wait()
        if self._cut:
            return
        if not self._opaque:
            for packet in reader.feed(data):
                if packet.kind is Kind.CONNECT and not self.client:
                    self._begin(packet)
                await lane.gate.wait()
                self._judge(way, packet)
                if self._cut:
                    return
            if not reader.broken:
                return
            self._opaque = True
            self._note("opaque", words=reader.broken)
            data = reader.rest
        lane.send(Piece(data, None))

    def _begin(self, packet: Packet) -> None:
        self.client = client_id_of(packet.data)
        protocol = self._readers["to_broker"].protocol
        self._readers["to_client"].protocol = protocol
        self._note("connected", words=f"MQTT {'5' if protocol == 5 else '3.1.1' if protocol == 4 else protocol}")

    def _judge(self, way: Direction, packet: Packet) -> None:
        """Let the rules act on a packet, and send what they leave of it."""
        lane = self._lanes[way]
        if self._absorb(way, packet):
            self._note("absorbed", direction=way, packet=packet)
            return
        acting: dict[type[Rule], Rule] = {type(rule): rule for rule in self._rules.acting(packet, way, self.client)}
        if Drop in acting:
            self._note("dropped", direction=way, packet=packet)
            return
        match acting.get(Cut):
            case Cut(after=after, reset=reset):
                if after:
                    lane.send(Piece(packet.data, packet))
                else:
                    self._note("lost", direction=way, packet=packet)
                for each in self._lanes.values():
                    each.flush()
                # A reset may overtake what was sent before it: the side that this goes to sees the end of the stream.
                self._end(reset and way == "to_broker", reset and way == "to_client")
                return
            case _:
                pass
        match acting.get(HalfOpen):
            case HalfOpen(ways=ways):
                self.stall(ways)
            case _:
                pass
        self._forward(way, packet, acting)

    def _forward(self, way: Direction, packet: Packet, acting: dict[type[Rule], Rule]) -> None:
        lane, packets = self._lanes[way], [packet]
        match acting.get(Duplicate):
            case Duplicate(as_new=as_new):
                packets.append(self._copy(way, packet, as_new=as_new))
                self._note("duplicated", direction=way, packet=packets[1])
            case _:
                pass
        pieces = tuple(Piece(each.data, each) for each in packets)
        if hold := acting.get(Hold):
            self._note("held", direction=way, packet=packet)
            self._held.append(Held(hold, way, pieces))
            return
        match acting.get(Reorder), acting.get(Delay):
            case Reorder(by=by), _:
                self._note("reordered", direction=way, packet=packet)
                for piece in pieces:
                    lane.send_behind(by, piece)
            case _, Delay() as delay:
                self._note("delayed", direction=way, packet=packet)
                due = max(
                    self._loop.time() + self._rules.seconds(delay), self._delayed.get((delay, way), float("-inf"))
                )
                self._delayed[delay, way] = due
                for piece in pieces:
                    lane.send_at(due, piece)
            case _:
                for piece in pieces:
                    lane.send(piece)

    def _copy(self, way: Direction, packet: Packet, *, as_new: bool) -> Packet:
        """The second one of a PUBLISH that is duplicated."""
        back = _OPPOSITE[way]
        if packet.packet_id is None:
            return packet
        if not as_new:
            self._unconfirmed[back][packet.packet_id] += 2
            return packet.repeated()
        own = next(
            each for each in range(_FIRST_OWN_ID, 0, -1) if each not in self._own[back] and each != packet.packet_id
        )
        self._own[back].add(own)
        return packet.renumbered(own)

    def _absorb(self, way: Direction, packet: Packet) -> bool:
        """Whether this answers what the proxy has made up, so that it must not pass."""
        if packet.kind not in (Kind.PUBACK, Kind.PUBREC, Kind.PUBCOMP) or packet.packet_id is None:
            return False
        if packet.packet_id in self._own[way]:
            if packet.kind is Kind.PUBREC:
                self._lanes[_OPPOSITE[way]].send(Piece(release_of(packet.packet_id), None))
            else:
                self._own[way].discard(packet.packet_id)
            return True
        waiting = self._unconfirmed[way]
        if packet.kind is Kind.PUBCOMP or not waiting[packet.packet_id]:
            return False
        waiting[packet.packet_id] -= 1
        return waiting[packet.packet_id] % 2 == 0

    def _end(self, client_reset: bool, broker_reset: bool) -> None:
        """End both ends, each with a reset or with the end of the stream."""
        if self._cut:
            return
        self._cut = True
        self._note("cut")
        self._lose()
        for way, reset in zip(DIRECTIONS, (client_reset, broker_reset), strict=True):
            writer = self._sources[way].writer
            if reset:
                _reset(writer)
                continue
            # It reads on until it closes.
            self._open.add(way)
            with contextlib.suppress(OSError):
                writer.write_eof()
        if not self._open:
            self._over.set()

    def _broken(self) -> None:
        """One end has been reset: so is the other."""
        if not self._cut:
            for each in self._sources.values():
                _reset(each.writer)
        self._over.set()

    def _lane(self, way: Direction, sink: asyncio.StreamWriter, rate: Callable[[Direction], float | None]) -> Lane:
        def passed(packet: Packet) -> None:
            self._note("passed", direction=way, packet=packet)

        return Lane(sink, lambda: rate(way), passed)

    def _lose(self) -> None:
        """Note what was still to be sent and never will be."""
        for way, lane in self._lanes.items():
            for packet in lane.close():
                self._note("lost", direction=way, packet=packet)
        held, self._held = self._held, []
        for each in held:
            for piece in each.pieces:
                self._note("lost", direction=each.direction, packet=piece.packet)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset (RST), as a crash of the machine at the other end looks once it is back."""
    opened: socket.socket | None = writer.get_extra_info("socket")
    if opened is not None and not writer.transport.is_closing() and opened.family != socket.AF_UNIX:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _all(tasks: Iterable["asyncio.Task[None]"]) -> None:
    await asyncio.wait(tuple(tasks))
