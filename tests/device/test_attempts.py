import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.device.address import Address
from outrider.device.attempts import STEADY, HostChoice, Pauses, VersionChoice
from outrider.device.connection import Connection
from tests.device.mosquitto import free_port
from tests.processes import until


def test_mqtt_5_comes_first() -> None:
    assert VersionChoice().first == 5


def test_explicit_refusal_is_remembered() -> None:
    versions = VersionChoice()
    versions.fell_back(said_so=True)
    assert versions.first == 4


def test_silence_is_believed_the_second_time() -> None:
    versions = VersionChoice()
    versions.fell_back(said_so=False)
    assert versions.first == 5
    versions.fell_back(said_so=False)
    assert versions.first == 4


def test_silences_around_an_accepted_5_do_not_count() -> None:
    versions = VersionChoice()
    versions.fell_back(said_so=False)
    versions.accepted(5)
    versions.fell_back(said_so=False)
    assert versions.first == 5


def test_5_gets_another_chance_after_three_failures_in_a_row() -> None:
    versions = VersionChoice()
    versions.fell_back(said_so=True)
    versions.failed()
    versions.failed()
    versions.accepted(4)
    versions.failed()
    versions.failed()
    assert versions.first == 4
    versions.failed()
    assert versions.first == 5


def test_hosts_are_tried_in_the_order_of_the_url() -> None:
    assert HostChoice(3).round() == [0, 1, 2]


def test_host_that_worked_last_comes_first() -> None:
    hosts = HostChoice(3)
    hosts.opened(1)
    assert hosts.round() == [1, 0, 2]


def test_host_that_drops_its_connections_comes_later() -> None:
    hosts = HostChoice(3)
    hosts.opened(2)
    hosts.failed()
    assert hosts.round() == [0, 1, 2]


@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 4), st.booleans())))
def test_each_round_asks_every_host_once(count: int, course: list[tuple[int, bool]]) -> None:
    hosts = HostChoice(count)
    for number, lasted in course:
        hosts.opened(number % count)
        if not lasted:
            hosts.failed()
        assert sorted(hosts.round()) == list(range(count))
        assert (hosts.round()[0] == number % count) is (lasted or count == 1)


def test_pauses_are_chosen_from_a_range_that_doubles_up_to_half_a_minute() -> None:
    ranges: list[tuple[float, float]] = []

    def choose(low: float, high: float) -> float:
        ranges.append((low, high))
        return high / 3

    pauses = Pauses(choose)
    taken = [pauses.next(None) for _ in range(9)]
    assert ranges == [(0, longest) for longest in (0.25, 0.5, 1, 2, 4, 8, 16, 30, 30)]
    assert taken == [high / 3 for _, high in ranges]


def longest(*lives: float | None) -> list[float]:
    pauses = Pauses(lambda _, high: high)
    return [pauses.next(lived) for lived in lives]


def test_pauses_begin_anew_after_a_connection_that_lasted() -> None:
    assert longest(None, None, None, STEADY, None, 3600) == [0.25, 0.5, 1, 0.25, 0.25, 0.25]


def test_pauses_grow_where_a_broker_that_is_there_ends_each_connection_early() -> None:
    early = STEADY - 0.1
    assert longest(early, early, 0.0, early, STEADY, early) == [0.25, 0.5, 1, 2, 0.25, 0.25]


def test_pauses_do_not_grow_over_the_lives_of_a_broker_that_is_killed_again_and_again() -> None:
    killed = [1.0, None, None]
    assert longest(*killed * 20) == [0.25, 0.25, 0.5] * 20


def test_pauses_of_two_that_lost_one_broker_differ() -> None:
    one, other = Pauses(), Pauses()
    several = [(one.next(None), other.next(None)) for _ in range(9)]
    assert all(first != second for first, second in several)
    assert all(0 <= pause <= 30 for pair in several for pause in pair)


async def test_connection_waits_as_its_pauses_say(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    told: list[float | None] = []

    class Told(Pauses):
        def next(self, lived: float | None) -> float:
            told.append(lived)
            asked.append(asyncio.get_running_loop().time())
            return 0.2

    monkeypatch.setattr("outrider.device.connection.Pauses", Told)
    async with Connection(Address("127.0.0.1", free_port()), client_id="c", receive=lambda _: None):
        await until(lambda: len(asked) >= 3, 10)
    assert told[:3] == [None, None, None]
    assert all(after - before >= 0.19 for before, after in pairwise(asked))
