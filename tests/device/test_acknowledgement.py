"""When a device acknowledges what it received: after the one commit that keeps all of it."""

import asyncio
import contextlib
import struct
import threading

from outrider.device import Device, MemoryJournal
from outrider.device.journal import Entry
from tests.device.scripted import Kind, Wire, encoded, scripted

LIMIT = 10.0
TOGETHER = 3


class Slow(MemoryJournal):
    """A journal whose commits take as long as a test wants; it notes how many commands each of them keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[int] = []
        self.committing = threading.Event()
        self.go_on = threading.Event()
        self._accepted = 0

    def accept(self, entry: Entry) -> None:
        super().accept(entry)
        self._accepted += 1

    def commit(self) -> None:
        if self._accepted:
            self.commits.append(self._accepted)
            self._accepted = 0
            self.committing.set()
            assert self.go_on.wait(LIMIT)


async def test_commands_that_came_together_are_acknowledged_after_one_commit() -> None:
    journal = Slow()
    device = Device("lamp-1", journal=journal, initial="ready")

    @device.command
    async def dim(level: int) -> int:
        return level

    early: list[int] = []
    acknowledged: list[int] = []
    ended = asyncio.Event()

    async def broker(wire: Wire) -> None:
        await wire.accept()
        subscribe = await wire.expect(Kind.SUBSCRIBE)
        wire.send(encoded(Kind.SUBACK, struct.pack(">H", subscribe.packet_id) + b"\0\1\1\1"))
        commands = [b'{"id": "a%d", "command": "dim", "args": [1]}' % number for number in range(TOGETHER)]
        sent = [wire.publish(b"devices/lamp-1/cmd/ann", each, packet_id=id) for id, each in enumerate(commands, 1)]
        wire.send(b"".join(sent))
        assert await asyncio.to_thread(journal.committing.wait, LIMIT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):  # time for an acknowledgement that does not wait
                while (packet := await wire.read()).kind is not Kind.PUBACK:
                    pass
                early.append(packet.packet_id)
        journal.go_on.set()
        while len(early) + len(acknowledged) < TOGETHER:
            packet = await wire.read()
            if packet.kind is Kind.PUBACK:
                acknowledged.append(packet.packet_id)
            elif packet.kind is Kind.PUBLISH:
                wire.acknowledge(packet)
        wire.send(wire.publish(b"devices/lamp-1/cmd/ann", b'{"command": "terminate"}', packet_id=9))
        ended.set()
        while (packet := await wire.read()).kind is not Kind.DISCONNECT:
            if packet.kind is Kind.PUBLISH:
                wire.acknowledge(packet)

    async def end_session(wire: Wire) -> None:
        await wire.accept()
        await wire.expect(Kind.DISCONNECT)

    async with scripted(broker, end_session) as port, asyncio.timeout(2 * LIMIT):
        # A daemon: its loop stands still in a commit, and must not hold up a test that fails.
        serving = threading.Thread(target=asyncio.run, args=(device.serve(f"mqtt://127.0.0.1:{port}"),), daemon=True)
        serving.start()
        await ended.wait()
        await asyncio.to_thread(serving.join, LIMIT)
    assert early == []
    assert ended.is_set()
    assert acknowledged == [1, 2, 3]
    assert journal.commits[0] == TOGETHER
