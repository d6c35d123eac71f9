"""Which call goes where, and which is made again: decided without devices."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.controller.spread import AHEAD, Again, Ran, Spread, ran
from outrider.schema import Code, Error, Result, Status

KINDS = {
    "busy": (Status.REJECTED, Code.BUSY, Ran.NOT),
    "not ready": (Status.REJECTED, Code.NOT_READY, Ran.NOT),
    "no such command": (Status.REJECTED, Code.UNKNOWN_COMMAND, Ran.NOT),
    "invalid arguments": (Status.REJECTED, Code.INVALID_ARGUMENTS, Ran.FAILED),
    "offline": (Status.OFFLINE, "", Ran.NOT),
    "expired": (Status.EXPIRED, "", Ran.NOT),
    "interrupted": (Status.INTERRUPTED, "", Ran.PERHAPS),
    "lost in the middle": (Status.RUNNING, "", Ran.PERHAPS),
    "not taken yet": (Status.QUEUED, "", Ran.PERHAPS),
    "failed": (Status.FAILED, Code.ERROR, Ran.FAILED),
    "timed out": (Status.TIMED_OUT, "", Ran.FAILED),
    "cancelled": (Status.CANCELLED, "", Ran.FAILED),
}


def result(device: str, status: Status = Status.DONE, code: str = "") -> Result:
    return Result(id="1", device=device, command="c", status=status, error=Error(code, "") if code else None)


def spread(calls: int, again: Again = Again(), room: int = 2) -> Spread:  # noqa: B008  # frozen
    return Spread(calls, again, lambda device: room)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_known_of_each_outcome(kind: str) -> None:
    status, code, known = KINDS[kind]
    assert ran(result("a", status, code)) is known


def test_an_expired_call_that_the_device_had_forgotten_may_have_run() -> None:
    forgotten = Result(id="1", device="a", command="c", status=Status.EXPIRED, error=Error("", "", {"unknown": True}))
    assert ran(forgotten) is Ran.PERHAPS


def test_calls_go_to_the_devices_with_the_fewest_up_to_their_room() -> None:
    calls = spread(9)
    sent = [calls.next(["a", "b"], 0.0) for _ in range(5)]
    assert [each for each in sent if each] == [(0, "a"), (1, "b"), (2, "a"), (3, "b")]
    calls.ended(1, result("b"), 0.0, succeeded=True)
    assert calls.next(["a", "b"], 0.0) == (4, "b")


@pytest.mark.parametrize("kind", [kind for kind, (_, _, known) in KINDS.items() if known is Ran.PERHAPS])
def test_what_may_have_run_is_made_again_only_where_that_is_wanted(kind: str) -> None:
    status, code, _ = KINDS[kind]
    for wanted in (False, True):
        calls = spread(1, Again(1, perhaps_ran=wanted))
        calls.next(["a"], 0.0)
        assert calls.ended(0, result("a", status, code), 0.0, succeeded=False) is not wanted
        assert calls.over is not wanted


def test_it_is_made_again_on_another_device_even_where_that_has_no_room_yet() -> None:
    calls = spread(3, room=1)
    assert [calls.next(["a", "b"], 0.0) for _ in range(2)] == [(0, "a"), (1, "b")]
    assert not calls.ended(0, result("a", Status.EXPIRED), 0.0, succeeded=False)
    assert calls.next(["a", "b"], 0.0) == (2, "a")
    calls.ended(1, result("b"), 0.0, succeeded=True)
    assert calls.next(["a", "b"], 0.0) == (0, "b")


def test_where_no_other_device_is_there_the_same_one_gets_it_again() -> None:
    calls = spread(1)
    for attempt in range(3):
        assert calls.next(["a"], 0.0) == (0, "a")
        assert calls.ended(0, result("a", Status.EXPIRED), 0.0, succeeded=False) is (attempt == 2)
    assert calls.attempts(0) == 3


def test_a_busy_device_rests_longer_each_time_and_that_counts_for_nothing() -> None:
    calls = spread(1, Again(0))
    now = 0.0
    pauses: list[float | None] = []
    for _ in range(6):
        assert calls.next(["a"], now) == (0, "a")
        assert not calls.ended(0, result("a", Status.REJECTED, Code.BUSY), now, succeeded=False)
        assert calls.next(["a"], now) is None
        pause = calls.pause(now)
        pauses.append(pause)
        now += pause or 0.0
    assert pauses == [1, 2, 4, 8, 10, 10]
    assert calls.next(["a"], now) == (0, "a")
    assert calls.ended(0, result("a"), now, succeeded=True)


def test_a_device_without_the_command_gets_nothing_more() -> None:
    calls = spread(2, Again(0))
    assert calls.next(["a"], 0.0) == (0, "a")
    assert not calls.ended(0, result("a", Status.REJECTED, Code.UNKNOWN_COMMAND), 0.0, succeeded=False)
    assert calls.next(["a"], 0.0) is None
    assert calls.next(["a", "b"], 0.0) == (0, "b")


def test_none_is_far_ahead_of_the_first_that_has_not_ended() -> None:
    calls = spread(AHEAD * 2, room=10_000)
    assert sum(calls.next(["a"], 0.0) is not None for _ in range(AHEAD * 2)) == AHEAD
    calls.ended(0, result("a"), 0.0, succeeded=True)
    assert calls.next(["a"], 0.0) == (AHEAD, "a")


def test_giving_up_leaves_those_that_devices_have() -> None:
    calls = spread(5, Again(3, perhaps_ran=True), room=1)
    assert [calls.next(["a", "b"], 0.0) for _ in range(2)] == [(0, "a"), (1, "b")]
    assert calls.give_up() == [2, 3, 4]
    assert not calls.over
    assert calls.ended(0, result("a", Status.INTERRUPTED), 0.0, succeeded=False)
    assert calls.ended(1, result("b"), 0.0, succeeded=True)
    assert calls.over


@given(st.data())
def test_every_call_ends_once_whatever_devices_answer(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    devices = ["a", "b", "c"]
    again = Again(data.draw(st.integers(0, 2)), data.draw(st.booleans()), data.draw(st.booleans()))
    calls = spread(size, again)
    under_way: list[tuple[int, str]] = []
    ends: list[int] = []
    now = 0.0
    for step in count():
        assert step < 2000
        if calls.over:
            break
        while (call := calls.next(data.draw(st.lists(st.sampled_from(devices), unique=True)), now)) is not None:
            assert call[0] not in [number for number, _ in under_way]
            under_way.append(call)
        now += 1
        if under_way:
            number, device = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
            status, code, _ = data.draw(st.sampled_from([*KINDS.values(), (Status.DONE, "", Ran.FAILED)]))
            answer = result(device, status, code)
            if calls.ended(number, answer, now, succeeded=status is Status.DONE):
                ends.append(number)
        elif step > 300:
            ends += calls.give_up()
    assert sorted(ends) == list(range(size))


def test_call_that_could_not_be_made_leaves_its_room() -> None:
    calls = spread(2, room=1)
    assert calls.next(["a"], 0.0) == (0, "a")
    calls.drop(0, "a")
    assert calls.under_way == 0
    assert calls.next(["a"], 0.0) == (1, "a")
