"""When a command goes out again, over all that may happen to it; time is a number here."""

import math
from collections.abc import Iterator
from itertools import cycle, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.device.repeats import OVER, PACE, Pace, Repeats

DEVICES: tuple[str, ...] = ("lamp-1", "lamp-2", "lamp-3")
STEADY = Pace(soon=0.0)


def nobody(device: str) -> bool:
    return False


def sent(now: float = 0.0, *, expires: float = 1000.0, chance: float = 0.5, pace: Pace = STEADY) -> Repeats:
    """One device, whose copy the broker has acknowledged. Without chance each pause is as the pace says."""
    repeats = Repeats(lambda: chance, pace)
    repeats.sent(["lamp-1"], expires)
    repeats.settled(["lamp-1"], now)
    return repeats


def times(repeats: Repeats, until: float, now: float = 0.0) -> list[float]:
    """When the one device gets copies, each acknowledged at once."""
    at: list[float] = []
    while (now := max(now, repeats.next)) < until:
        if repeats.due(now, nobody, 10):
            at.append(now)
            repeats.settled(["lamp-1"], now)
    return at


def test_pauses_grow_and_then_stay() -> None:
    at = times(sent(), until=100)
    assert [b - a for a, b in pairwise([0.0, *at])][:6] == [2, 4, 8, 15, 15, 15]


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.75), (1.0, 1.25)])
def test_pauses_vary_by_a_quarter(chance: float, factor: float) -> None:
    at = times(sent(chance=chance), until=100)
    assert [b - a for a, b in pairwise([0.0, *at])][:4] == [factor * pause for pause in PACE.unanswered]


def test_nothing_is_repeated_that_the_broker_has_not_acknowledged() -> None:
    repeats = Repeats(lambda: 0.5)
    repeats.sent(["lamp-1"], math.inf)
    assert repeats.next == math.inf
    assert repeats.due(1e6, nobody, 10) == []
    repeats.settled(["lamp-1"], 1e6)
    assert repeats.due(1e6 + 2, nobody, 10) == ["lamp-1"]
    assert repeats.due(2e6, nobody, 10) == []


def test_device_that_has_not_accepted_it_is_only_asked_once_it_cannot_start_any_more() -> None:
    repeats = sent(expires=10.0)
    assert times(repeats, until=300) == [2.0, 6.0, 70.0, 130.0, 190.0, 250.0]
    assert not repeats.only_asks("lamp-1", 6.0)
    assert repeats.only_asks("lamp-1", 70.0)
    assert repeats.good_for("lamp-1", 70.0) == 30


def test_reconnect_and_return_ask_nobody_between_expiry_and_the_end_of_the_tolerance() -> None:
    repeats = sent(expires=10.0)
    repeats.reconnected(11.0)
    assert repeats.due(12.0, nobody, 10) == []
    repeats.returned(["lamp-1"], 69.0)
    assert repeats.due(69.9, nobody, 10) == []
    assert repeats.due(70.0, nobody, 10) == ["lamp-1"]


def test_device_that_accepted_it_gets_the_command_and_no_question() -> None:
    repeats = sent(expires=10.0)
    repeats.accepted("lamp-1", 1.0)
    assert not repeats.only_asks("lamp-1", 100.0)


def test_accepted_device_is_asked_slowly_also_after_it_expires() -> None:
    repeats = sent(expires=10.0)
    repeats.accepted("lamp-1", 1.0)
    assert times(repeats, until=230, now=1.0) == [16.0, 46.0, 106.0, 166.0, 226.0]
    assert repeats.good_for("lamp-1", 226.0) == 30


def test_progress_puts_the_next_copy_off() -> None:
    repeats = sent()
    for now in range(1, 100):
        repeats.accepted("lamp-1", float(now))
        assert repeats.due(float(now), nobody, 10) == []


def test_device_that_ended_it_is_left_alone() -> None:
    repeats = sent()
    repeats.ended("lamp-1")
    repeats.returned(["lamp-1"], 1.0)
    repeats.reconnected(1.0)
    assert repeats.due(1e6, nobody, 10) == []


def test_device_that_is_away_gets_nothing_until_it_is_back() -> None:
    repeats = sent()
    away = {"lamp-1"}
    for now in range(100):
        assert repeats.due(float(now), away.__contains__, 10) == []
    away.clear()
    repeats.returned(["lamp-1"], 100.0)
    assert repeats.due(100.0, away.__contains__, 10) == ["lamp-1"]
    repeats.settled(["lamp-1"], 100.0)
    assert repeats.next == 102.0  # and then as at the beginning


def test_device_that_returns_after_it_accepted_is_asked_at_once() -> None:
    repeats = sent(expires=10.0)
    repeats.accepted("lamp-1", 1.0)
    repeats.returned(["lamp-1", "lamp-2"], 50.0)
    assert repeats.due(50.0, nobody, 10) == ["lamp-1"]


def test_return_while_a_copy_is_on_its_way_is_not_forgotten() -> None:
    repeats = Repeats(lambda: 0.5, STEADY)
    repeats.sent(["lamp-1"], 1000.0)
    repeats.returned(["lamp-1"], 1.0)
    assert repeats.due(1.0, nobody, 10) == []
    repeats.settled(["lamp-1"], 1.5)
    assert repeats.due(1.5, nobody, 10) == ["lamp-1"]


def test_answers_of_others_put_copies_off_but_not_for_ever() -> None:
    repeats = Repeats(lambda: 0.5)
    repeats.sent(["lamp-1", "lamp-2"], 1000.0)
    repeats.settled(["lamp-1", "lamp-2"], 0.0)
    sent_at = None
    for tenth in range(300):
        now = tenth / 10
        repeats.heard(now)
        if repeats.due(now, nobody, 10):
            sent_at = now
            break
    assert sent_at == pytest.approx(2 + PACE.patience, abs=0.11)


def test_slow_broadcast_of_ten_thousand_causes_no_storm() -> None:
    chances = cycle(each / 10 for each in range(11))
    repeats = Repeats(lambda: next(chances))
    devices = [f"lamp-{n}" for n in range(10_000)]
    repeats.sent(devices, 30.0)
    repeats.settled(devices, 0.0)
    copies, left = 0, list(reversed(devices))
    for tenth in range(100):  # they all answer within 10 s
        now = tenth / 10
        for _ in range(100):
            repeats.ended(left.pop())
            repeats.heard(now)
        copies += len(repeats.due(now, nobody, 1000))
    assert copies == 0


def test_no_more_copies_at_once_than_there_is_room_for() -> None:
    repeats = Repeats(lambda: 0.5)
    repeats.sent(DEVICES, 1000.0)
    repeats.settled(DEVICES, 0.0)
    assert repeats.due(2.0, nobody, 2) == ["lamp-1", "lamp-2"]
    assert repeats.next <= 2.0
    assert repeats.due(2.2, nobody, 2) == ["lamp-3"]


def test_reconnect_asks_all_that_are_missing_spread_over_time() -> None:
    chances = cycle(each / 100 for each in range(101))
    repeats = Repeats(lambda: next(chances))
    devices = [f"lamp-{n}" for n in range(1000)]
    repeats.sent(devices, 1000.0)
    repeats.settled(devices, 0.0)
    repeats.ended("lamp-0")
    repeats.reconnected(0.1)
    first = repeats.due(0.4, nobody, 10_000)
    assert 100 < len(first) < 400
    assert {*first, *repeats.due(1.7, nobody, 10_000)} == set(devices[1:])


Event = tuple[str, str, float]
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["settle", "accept", "end", "return", "reconnect", "hear", "leave", "look"]),
        st.sampled_from(DEVICES),
        st.floats(0.0, 20.0),
    ),
    max_size=60,
)


class Told:
    """Plays events on `Repeats` and keeps what it should be held to."""

    def __init__(self, expires: float, chance: Iterator[float]) -> None:
        self.repeats = Repeats(lambda: next(chance))
        self.expires = expires
        self.now = 0.0
        self.accepted: set[str] = set()
        self.ended: set[str] = set()
        self.away: set[str] = set()
        self.under_way = set(DEVICES)
        self.copies: list[tuple[float, str]] = []
        self.occasions = len(DEVICES)
        self.repeats.sent(DEVICES, expires)

    def play(self, event: Event) -> None:
        what, device, after = event
        self.now += after
        match what:
            case "settle":
                self.under_way.discard(device)
                self.repeats.settled([device], self.now)
            case "accept" if device not in self.ended:
                self.accepted.add(device)
                self.repeats.accepted(device, self.now)
            case "end":
                self.ended.add(device)
                self.repeats.ended(device)
            case "return":
                self.occasions += 1
                self.away.discard(device)
                self.repeats.returned([device], self.now)
            case "leave":
                self.away.add(device)
            case "reconnect":
                self.occasions += len(DEVICES)
                self.repeats.reconnected(self.now)
            case "hear":
                self.repeats.heard(self.now)
            case _:
                self.look()

    def look(self) -> None:
        for device in self.repeats.due(self.now, self.away.__contains__, 10):
            assert device not in self.ended
            assert device not in self.away
            assert device not in self.under_way
            silent = device not in self.accepted
            assert not (silent and self.expires <= self.now < self.expires + OVER)
            assert self.repeats.only_asks(device, self.now) == (silent and self.now >= self.expires)
            assert self.repeats.good_for(device, self.now) > 0
            self.under_way.add(device)
            self.copies.append((self.now, device))


CHANCES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20)


@given(EVENTS, st.floats(1.0, 300.0), CHANCES)
@settings(max_examples=300)
def test_whatever_happens_nobody_is_asked_who_should_not_be(
    events: list[Event], expires: float, chances: list[float]
) -> None:
    told = Told(expires, cycle(chances))
    for event in events:
        told.play(event)
    bound = told.occasions * 5 + len(DEVICES) * told.now / (0.75 * PACE.unanswered[0])
    assert len(told.copies) <= bound


@given(EVENTS, CHANCES, st.sampled_from(DEVICES))
@settings(max_examples=300)
def test_whatever_happened_before_a_device_that_returns_is_asked_once_soon(
    events: list[Event], chances: list[float], device: str
) -> None:
    told = Told(1e9, cycle(chances))
    for event in events:
        told.play(event)
    told.play(("settle", device, 0.0))
    told.play(("return", device, 0.0))
    count = len(told.copies)
    told.now += PACE.soon
    told.look()
    asked = [who for _, who in told.copies[count:]]
    assert asked.count(device) == (device not in told.ended)
    told.play(("settle", device, 0.0))
    told.now += 0.7 * PACE.unanswered[0]
    count = len(told.copies)
    told.look()
    assert device not in [who for _, who in told.copies[count:]]


@given(st.floats(1.0, 3e3), CHANCES, st.floats(0.0, 1.0))
def test_silent_device_is_asked_ever_more_slowly_and_only_so_often(
    expires: float, chances: list[float], delay: float
) -> None:
    chance = cycle(chances)
    repeats = Repeats(lambda: next(chance))
    repeats.sent(["lamp-1"], expires)
    repeats.settled(["lamp-1"], 0.0)
    at, now = [0.0], 0.0
    while (now := max(now, repeats.next) + delay) < expires + OVER:
        if repeats.due(now, nobody, 10):
            at.append(now)
            repeats.settled(["lamp-1"], now)
    assert all(each < expires for each in at)
    assert len(at) <= 4 + expires / (0.75 * 15)
    for pause, (before, after) in zip((2, 4, 8, *[15] * len(at)), pairwise(at), strict=False):
        assert 0.75 * pause <= round(after - before, 6) <= 1.25 * pause + 1 + delay
