"""Births and wills of one device in any order: in the end everybody believes the device."""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

import pytest

from outrider.controller import Roster
from outrider.device import Device, ManualClock, MemoryJournal, Message, presence
from outrider.device.presence import Presence
from outrider.schema import About, Decoder, Encoding, Kind, State, Topic, Topics, encode

RACES: Final = 10_000
TOPIC: Final = Topics().state("lamp-1")
DECODER: Final = Decoder(State)


class Retaining:
    """A broker for one topic: it keeps the last message, and passes each one on."""

    def __init__(self) -> None:
        self.retained: bytes | None = None
        self.subscribers: list[Callable[[Message], None]] = []

    def publish(self, payload: bytes) -> None:
        self.retained = payload
        for subscriber in self.subscribers:
            subscriber(Message(TOPIC, payload, False, False))

    def subscribe(self, receive: Callable[[Message], None]) -> None:
        self.subscribers.append(receive)
        if self.retained is not None:
            receive(Message(TOPIC, self.retained, True, False))


class Watcher:
    """A requester that watches the device, and has believed these sessions, in this order."""

    def __init__(self, broker: Retaining) -> None:
        self.roster = Roster()
        self.sessions: list[int] = []
        self._topic = Topic(Kind.STATE, device="lamp-1")
        broker.subscribe(self._receive)

    def _receive(self, message: Message) -> None:
        self.roster.receive(self._topic, message.payload)
        self.sessions.append(self.roster.states["lamp-1"].session)

    @property
    def state(self) -> State:
        return self.roster.states["lamp-1"]


class Lamp:
    """What a device does about its state, on connections that a race makes for it."""

    def __init__(self, broker: Retaining) -> None:
        self.sent: list[bytes] = []
        self.clock = ManualClock()
        self._publish: Callable[[bytes], None] = self.sent.append
        self._broker = broker
        self.presence = Presence(
            Device("lamp-1"),
            Topics(),
            (About(versions={}, commands={}), "digest"),
            journal=MemoryJournal(),
            publish=self._retain,
            reconnect=self.connect_at_last,
            clock=self.clock,
        )

    def _retain(self, topic: str, payload: bytes) -> None:
        assert topic == TOPIC
        self._publish(payload)

    def connect(self, *, dies_at_once: bool) -> list[bytes]:
        """Connect and be lost; return what is on its way then: the birth, and the will."""
        self.clock.advance(0.001)
        will = self.presence.will().payload
        self.sent.clear()
        if not dies_at_once:
            self.presence.publish("ready")
        return [*self.sent, will]

    def subscribe(self) -> None:
        """From now on the device hears its own state, over a connection that lasts."""
        self.clock.advance(0.001)
        self.presence.will()
        self._publish = self._broker.publish
        self._broker.subscribe(self.presence.receive)

    def connect_at_last(self) -> None:
        """The connection was made anew, to overtake a newer session."""
        self.presence.will()
        self.presence.publish("ready")


async def race(chance: random.Random) -> None:
    broker = Retaining()
    lamp = Lamp(broker)
    late = [
        payload for _ in range(chance.randint(1, 3)) for payload in lamp.connect(dies_at_once=chance.random() < 0.3)
    ]
    chance.shuffle(late)
    before, between = sorted((chance.randint(0, len(late)), chance.randint(0, len(late))))
    if chance.random() < 0.2:  # somebody else has had the device's id for a moment, and a clock that is ahead
        ahead = int(lamp.clock() * 1e6) + chance.randint(0, 10**6)
        foreign = State(device="lamp-1", status="lost", session=ahead, since=0.0)
        late.insert(chance.randint(before, len(late)), encode(foreign, Encoding.JSON))
    watchers = [Watcher(broker)]
    for payload in late[:before]:
        broker.publish(payload)
    watchers.append(Watcher(broker))
    lamp.subscribe()
    for payload in late[before:between]:
        broker.publish(payload)
    lamp.presence.publish("ready")
    for payload in late[between:]:
        broker.publish(payload)
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    for _ in range(4):
        await asyncio.sleep(0)
    lamp.presence.close()
    watchers.append(Watcher(broker))
    assert broker.retained is not None
    last = DECODER.decode(broker.retained)[0]
    assert (last.status, last.session) == ("ready", lamp.presence.session), late
    for watcher in watchers:
        assert watcher.state == last
        assert watcher.sessions == sorted(watcher.sessions)


async def test_will_that_comes_before_the_first_state_of_a_process_is_not_answered_with_one() -> None:
    broker = Retaining()
    lamp = Lamp(broker)
    heard: list[bytes] = []
    (will,) = lamp.connect(dies_at_once=True)
    lamp.subscribe()
    broker.subscribe(lambda message: heard.append(message.payload))
    broker.publish(will)
    for _ in range(4):
        await asyncio.sleep(0)
    assert heard == [will]
    lamp.presence.publish("ready")
    lamp.presence.close()
    assert DECODER.decode(heard[-1])[0].status == "ready"


async def test_will_that_overtakes_a_birth_is_made_good_in_ten_thousand_races(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(presence, "HEALING", 0.0)
    caplog.set_level(logging.ERROR, "outrider.device")
    chance = random.Random(4)
    for _ in range(RACES):
        await race(chance)
