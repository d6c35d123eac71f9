"""Somebody who speaks to a device with hand-made bytes, and hears everything under its prefix."""

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tests.brokers import BrokerUnderTest
from tests.peers import Peer, Received
from tests.processes import Spawned

Payload = bytes | Mapping[str, object]
Decoded = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunningDevice:
    """A device's process, and where it is spoken to."""

    id: str
    prefix: str
    broker: BrokerUnderTest
    process: Spawned

    def topic(self, *levels: str) -> str:
        """A topic of this device, as `topic("result", "ann")`."""
        return "/".join((self.prefix, "devices", self.id, *levels))

    def group(self, *levels: str) -> str:
        """A topic of a group, as `group("all", "cmd", "ann")`."""
        return "/".join((self.prefix, "groups", *levels))


def decoded(payload: bytes) -> Decoded:
    """A message of either encoding."""
    decode = msgspec.json.decode if payload[:1] == b"{" else msgspec.msgpack.decode
    message: Decoded = decode(payload)
    return message


class Outsider:
    """A requester made of a `Peer`. It encodes by itself: `json` or `msgpack`."""

    def __init__(self, peer: Peer, device: RunningDevice, *, encoding: str = "json", name: str | None = None) -> None:
        self.peer = peer
        self.device = device
        self.encoding = encoding
        self.name = name or f"ann-{secrets.token_hex(4)}"
        self.cmd = device.topic("cmd", self.name)

    def encode(self, message: Mapping[str, object]) -> bytes:
        """Bytes in this outsider's encoding."""
        if self.encoding == "msgpack":
            return msgspec.msgpack.encode(dict(message))
        return json.dumps(message).encode()

    async def send(self, payload: Payload, *, topic: str | None = None, retain: bool = False) -> None:
        """Publish to the device (under this name, unless another topic is given); a mapping is encoded first."""
        data = payload if isinstance(payload, bytes) else self.encode(payload)
        await self.peer.publish(topic or self.cmd, data, retain=retain)

    async def ask(self, command: str, args: object = None, *, topic: str | None = None, **envelope: object) -> Decoded:
        """Send a command and return its result."""
        return await self.result(await self.start(command, args, topic=topic, **envelope))

    async def start(self, command: str, args: object = None, *, topic: str | None = None, **envelope: object) -> str:
        """Send a command and return its id."""
        id = str(envelope.setdefault("id", secrets.token_hex(6)))
        given = {} if args is None else {"args": args}
        await self.send({"command": command, **given, **envelope}, topic=topic)
        return id

    async def result(self, id: str, *, after: int = 0, timeout: float = 5.0, topic: str | None = None) -> Decoded:
        """The result of a command on this outsider's own topic, or on another."""
        where = topic or self.device.topic("result", self.name)
        message = await self.peer.wait_for(
            lambda message: message.topic == where and decoded(message.payload)["id"] == id, timeout, after=after
        )
        return decoded(message.payload)

    async def running(self, id: str) -> None:
        """Return once a job runs: the device said that it accepted it."""
        where = self.device.topic("progress", self.name)
        await self.peer.wait_for(lambda message: message.topic == where and decoded(message.payload)["id"] == id)

    def results(self, id: str, *, after: int = 0) -> list[Decoded]:
        """All results of a command that came, on whatever topic."""
        return [each for each in self._on("/result", after) if each["id"] == id]

    def progress(self, id: str, *, after: int = 0) -> list[Decoded]:
        """All progress of a command that came."""
        return [each for each in self._on("/progress", after) if each["id"] == id]

    def _on(self, kind: str, after: int) -> list[Decoded]:
        return [decoded(each.payload) for each in self.peer.messages[after:] if kind in each.topic]

    async def state(
        self, status: str, *, after: int = 0, above: int = 0, timeout: float = 5.0, device: str | None = None
    ) -> Decoded:
        """The first state with this status, and a session above the given one."""
        where = self.device.topic("state") if device is None else f"{self.device.prefix}/devices/{device}/state"

        def fits(message: Received) -> bool:
            if message.topic != where or not message.payload:
                return False
            state = decoded(message.payload)
            return bool(state.get("status") == status and state["session"] > above)

        return decoded((await self.peer.wait_for(fits, timeout, after=after)).payload)

    def states(self, *, after: int = 0) -> list[Decoded]:
        """All states of the device that came."""
        where = self.device.topic("state")
        return [decoded(each.payload) for each in self.peer.messages[after:] if each.topic == where]

    async def stats(self) -> Decoded:
        """What the device's `stats` says."""
        value: Decoded = (await self.ask("stats", id=f"probe-{secrets.token_hex(6)}"))["value"]
        return value

    async def dropped(self, expected: Mapping[str, int]) -> None:
        """Return once the device has dropped so many, by reason: it may hear two topics in either order."""
        async with asyncio.timeout(5):
            while (await self.stats())["dropped"] != expected:
                pass

    async def provoke(
        self,
        payload: Payload,
        *,
        topic: str | None = None,
        retain: bool = False,
        dropped: str | None = None,
        answer: str | None = None,
        answer_topic: str | None = None,
    ) -> Decoded:
        """Send something hostile, and check that nothing comes of it but what is expected.

        Either it is `dropped` and counted under that reason, or there is one result whose id is `answer`, which is
        returned. The device goes on: it answers a ping, and nothing else appeared on any topic of its.
        """
        before = (await self.stats())["dropped"]
        count = len(self.peer.messages)
        await self.send(payload, topic=topic, retain=retain)
        result: Decoded = {}
        if answer is not None:
            result = await self.result(answer, after=count, topic=answer_topic)
        expected = dict(before)
        if dropped is not None:
            expected[dropped] = expected.get(dropped, 0) + 1
            await self.dropped(expected)
        ping = await self.ask("ping", id=f"probe-{secrets.token_hex(6)}")
        assert ping["status"] == "done"
        assert (await self.stats())["dropped"] == expected
        await self.peer.round_trip()
        others = [
            message
            for message in self.peer.messages[count:]
            if message.topic not in (topic, self.cmd)
            and not str(decoded(message.payload).get("id")).startswith("probe-")
        ]
        expected_topics: Sequence[str] = (
            [] if answer is None else [answer_topic or self.device.topic("result", self.name)]
        )
        assert [message.topic for message in others] == expected_topics, others
        return result
