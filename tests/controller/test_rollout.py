"""The decisions of a rollout: the cases that users know. Its laws are in `test_rollout_laws.py`."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.controller.plan import MINIMUM, InvalidPlan, Plan, Share
from outrider.controller.rollout import Rollout
from outrider.schema import LocalError, Status

PAGE = (Path(__file__).parents[2] / "docs" / "rollouts.md").read_text()


def devices(count: int) -> list[str]:
    return [f"lamp-{number:03}" for number in range(count)]


def plan(
    batches: str,
    *,
    pause: float = 0.0,
    abort: str | None = None,
    minimum: int | None = None,
    cancel: bool = False,
    settle: float = 30.0,
    working: float = 3600.0,
) -> Plan:
    share = None if abort is None else Share.parse(abort)
    return Plan(Plan.parse_batches(batches), pause, share, minimum, cancel, settle, working)


def nobody(device: str) -> bool:
    return False


def away(*ids: str) -> Callable[[str], bool]:
    return lambda device: device in ids


def finish(rollout: Rollout, ids: Iterable[str], status: Status = Status.DONE) -> None:
    for id in ids:
        rollout.finished(id, status)


@pytest.mark.parametrize(
    ("batches", "total", "sizes"),
    [
        ("5", 12, [5, 5, 2]),
        ("10%", 25, [3, 3, 3, 3, 3, 3, 3, 3, 1]),
        ("1,10%,50%", 111, [1, 12, 56, 42]),
        ("100%", 7, [7]),
        ("7%", 100, [7] * 14 + [2]),
        ("0.1%", 10, [1] * 10),
        ("99", 3, [3]),
        ("2", 0, []),
    ],
)
def test_batches_are_as_given_and_the_last_size_repeats(batches: str, total: int, sizes: list[int]) -> None:
    assert plan(batches).sizes(total) == sizes


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "101%", "0%", "five", "1,,2", "10 %%", "1e3", "%"])
def test_a_size_that_says_nothing_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(InvalidPlan, match="write"):
        Plan.parse_batches(text)


@given(st.integers(1, 500), st.lists(st.from_regex(r"[1-9]\d{0,2}%?", fullmatch=True), min_size=1, max_size=4))
def test_batches_of_any_plan_add_up_to_the_devices(total: int, parts: list[str]) -> None:
    try:
        batches = Plan.parse_batches(",".join(parts))
    except InvalidPlan:
        return
    sizes = Plan(batches).sizes(total)
    assert sum(sizes) == total
    assert all(size >= 1 for size in sizes)


@pytest.mark.parametrize("share", [Share(0), Share(-1), Share(1.5), Share(float("nan")), Share(float("inf"))])
def test_a_plan_made_in_python_of_a_share_that_says_nothing_is_refused(share: Share) -> None:
    with pytest.raises(InvalidPlan, match="whole and from 1 on"):
        Plan((share,))
    with pytest.raises(InvalidPlan, match="whole and from 1 on"):
        Plan((Share(1),), abort_after=share)
    with pytest.raises(InvalidPlan):
        Plan((Share(share.amount if share.amount <= 0 else 101, percent=True),))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize("time", ["pause", "settle", "working"])
def test_times_that_cannot_be_are_refused(time: str, wrong: float) -> None:
    times = {"pause": 0.0, "settle": 1.0, "working": 1.0} | {time: wrong}
    with pytest.raises(InvalidPlan, match="seconds"):
        plan("1", pause=times["pause"], settle=times["settle"], working=times["working"])


def test_no_batches_and_no_minimum_are_refused_as_bad_use() -> None:
    with pytest.raises(LocalError, match="needs the size of its batches"):
        Plan(())
    with pytest.raises(ValueError, match="from 1 on"):
        plan("1", minimum=0)


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (plan("1,10%,50%").describe(111), "111 devices in 4 batches: 1, 12, 56, 42"),
        (plan("1").describe(0), "no device to send to"),
        (plan("1").describe(10), "10 devices in 10 batches: 1, 1, 1, 1, 1, 1, …"),
        (plan("5", abort="1").describe(1), "1 device in 1 batch: 1; aborts at 1 failure"),
        (
            plan("1,20%", pause=3, abort="5%").describe(5),
            "5 devices in 5 batches: 1, 1, 1, 1, 1; 3 s between them; aborts when 5% of the devices judged have failed",
        ),
        (
            plan("2", abort="3", cancel=True).describe(4),
            "4 devices in 2 batches: 2, 2; aborts at 3 failures and cancels what runs",
        ),
    ],
)
def test_plan_is_described_in_words(described: str, words: str) -> None:
    assert described == words


def test_next_batch_waits_for_the_whole_one_before_and_the_pause() -> None:
    rollout = Rollout(plan("2", pause=10), devices(4))
    assert rollout.decide(0, nobody).send == ("lamp-000", "lamp-001")
    finish(rollout, ["lamp-000"])
    assert rollout.decide(1, nobody).send == ()
    finish(rollout, ["lamp-001"])
    pausing = rollout.decide(5, nobody)
    assert (pausing.send, pausing.wake) == ((), 15)
    assert rollout.decide(14.9, nobody).send == ()
    assert rollout.decide(15, nobody).send == ("lamp-002", "lamp-003")
    finish(rollout, ["lamp-002", "lamp-003"])
    assert rollout.decide(16, nobody).over


def test_offline_device_does_not_stall_its_batch_and_is_no_failure() -> None:
    rollout = Rollout(plan("2", abort="1"), devices(4))
    first = rollout.decide(0, away("lamp-000", "lamp-001"))
    assert first.send == tuple(devices(4))  # the first batch is settled at once, so the second follows
    assert rollout.in_flight == ("lamp-002", "lamp-003")
    assert (rollout.failures, rollout.aborted) == (0, None)


def test_silent_device_holds_up_its_batch_no_longer_than_settle_and_is_a_failure() -> None:
    rollout = Rollout(plan("1", settle=20), devices(2))
    assert rollout.decide(0, nobody).wake == 20
    assert rollout.decide(19.9, nobody).send == ()
    assert rollout.decide(20, nobody).send == ("lamp-001",)
    assert rollout.failed_devices == ("lamp-000",)


def test_offline_devices_take_no_place_of_the_canary() -> None:
    rollout = Rollout(plan("1,10%,50%", abort="1"), devices(100))
    first = rollout.decide(0, lambda device: device < "lamp-011")
    assert first.send == tuple(devices(12))
    assert rollout.in_flight == ("lamp-011",)
    finish(rollout, ["lamp-011"], Status.FAILED)
    assert rollout.decide(1, lambda device: device < "lamp-011").over
    assert len(rollout.never_addressed) == 88


def test_fleet_that_is_offline_altogether_is_addressed_and_over_at_once() -> None:
    rollout = Rollout(plan("1", pause=60, abort="1"), devices(50))
    decision = rollout.decide(0, lambda device: True)
    assert (len(decision.send), decision.over, rollout.judged) == (50, True, 0)


def test_canary_that_is_still_at_work_holds_the_others_back() -> None:
    rollout = Rollout(plan("1,100%", settle=20, abort="1"), devices(50))
    rollout.decide(0, nobody)
    rollout.accepted("lamp-000")
    for now in (20, 60, 600):
        assert rollout.decide(now, nobody).send == ()
        assert rollout.judged == 0
    finish(rollout, ["lamp-000"], Status.FAILED)
    assert rollout.decide(601, nobody).over
    assert rollout.aborted == "1 of 1 failed"
    assert len(rollout.never_addressed) == 49


def test_device_that_never_ends_its_work_holds_up_its_batch_no_longer_than_working_and_is_a_failure() -> None:
    rollout = Rollout(plan("1", settle=20, working=100), devices(2))
    rollout.decide(0, nobody)
    rollout.accepted("lamp-000")
    assert rollout.decide(20, nobody).wake == 100
    assert rollout.decide(100, nobody).send == ("lamp-001",)
    assert rollout.failed_devices == ("lamp-000",)


def test_settle_that_is_longer_than_working_holds_for_both() -> None:
    rollout = Rollout(plan("1", settle=200, working=100), devices(2))
    rollout.decide(0, nobody)
    rollout.accepted("lamp-000")
    assert rollout.decide(199, nobody).send == ()
    assert rollout.decide(200, nobody).send == ("lamp-001",)


def test_time_in_which_nobody_could_be_heard_does_not_make_a_device_silent() -> None:
    rollout = Rollout(plan("5", settle=30, abort="1"), devices(10))
    rollout.decide(0, nobody)
    rollout.postpone(60)  # the broker was gone for a minute
    assert rollout.decide(61, nobody).wake == 90
    assert rollout.aborted is None
    finish(rollout, devices(5))
    assert rollout.decide(62, nobody).send == tuple(devices(10)[5:])
    assert rollout.decide(92, nobody).over  # only the batch that was waiting got more time


def test_device_lost_after_it_was_addressed_is_a_failure() -> None:
    rollout = Rollout(plan("1", abort="1"), devices(3))
    rollout.decide(0, nobody)
    rollout.accepted("lamp-000")
    assert rollout.decide(1, away("lamp-000")).send == ()
    assert rollout.aborted is not None
    assert rollout.never_addressed == ("lamp-001", "lamp-002")


def test_abort_on_failure_aborts_at_the_number_given_and_nothing_more_is_sent() -> None:
    rollout = Rollout(plan("5", abort="3"), devices(20))
    finish(rollout, rollout.decide(0, nobody).send[:2], Status.FAILED)
    assert rollout.decide(1, nobody).send == ()
    assert rollout.aborted is None
    finish(rollout, ["lamp-002"], Status.TIMED_OUT)
    decision = rollout.decide(2, nobody)
    assert (decision.send, decision.over) == ((), False)
    assert rollout.aborted == "3 of 3 failed"
    finish(rollout, ["lamp-003", "lamp-004"])
    assert rollout.decide(3, nobody).over
    assert rollout.never_addressed == tuple(devices(20)[5:])


def test_a_failed_canary_aborts_a_percentage_at_the_end_of_its_batch() -> None:
    rollout = Rollout(plan("1,50%", abort="5%"), devices(20))
    finish(rollout, rollout.decide(0, nobody).send, Status.FAILED)
    assert rollout.decide(1, nobody).over
    assert rollout.aborted == "1 of 1 failed, 100%"


def test_percentage_within_a_batch_counts_from_the_minimum_on() -> None:
    within = Rollout(plan("100%", abort="20%"), devices(30))
    sent = within.decide(0, nobody).send
    finish(within, sent[:5], Status.FAILED)
    finish(within, sent[5 : MINIMUM - 1])
    within.decide(1, nobody)
    assert within.aborted is None
    finish(within, sent[MINIMUM - 1 : MINIMUM])
    within.decide(2, nobody)
    assert within.aborted == "5 of 10 failed, 50%"


def test_percentage_with_a_minimum_counts_from_there_on_also_at_the_end_of_a_batch() -> None:
    rollout = Rollout(plan("1", abort="20%", minimum=3), devices(9))
    for expected in (None, None, "3 of 3 failed, 100%"):
        rollout.decide(0, nobody)
        assert rollout.aborted is None
        finish(rollout, rollout.in_flight, Status.FAILED)
        if expected:
            assert rollout.decide(0, nobody).over
            assert rollout.aborted == expected


def test_abort_cancels_what_runs_once_where_the_plan_says_so() -> None:
    rollout = Rollout(plan("3", abort="1", cancel=True), devices(6))
    rollout.decide(0, nobody)
    finish(rollout, ["lamp-001"], Status.FAILED)
    assert rollout.decide(1, nobody).cancel == ("lamp-000", "lamp-002")
    assert rollout.decide(2, nobody).cancel == ()


def test_what_the_abort_cancels_is_no_further_failure() -> None:
    rollout = Rollout(plan("3", abort="1", cancel=True), devices(6))
    rollout.decide(0, nobody)
    finish(rollout, ["lamp-001"], Status.FAILED)
    finish(rollout, rollout.decide(1, nobody).cancel, Status.CANCELLED)
    assert rollout.decide(2, nobody).over
    assert (rollout.failures, rollout.aborted) == (1, "1 of 1 failed")


def test_command_that_somebody_cancels_while_the_rollout_goes_on_is_a_failure() -> None:
    rollout = Rollout(plan("1", abort="1"), devices(2))
    finish(rollout, rollout.decide(0, nobody).send, Status.CANCELLED)
    rollout.decide(1, nobody)
    assert rollout.aborted == "1 of 1 failed"


def test_late_failure_of_an_earlier_batch_counts() -> None:
    rollout = Rollout(plan("1", settle=10, abort="2"), devices(5))
    rollout.decide(0, away("lamp-000"))  # so lamp-001 is the one in the first batch
    finish(rollout, ["lamp-001"])
    assert rollout.decide(1, nobody).send == ("lamp-002",)
    finish(rollout, ["lamp-000", "lamp-002"], Status.FAILED)  # the first one is back
    assert rollout.decide(2, nobody).send == ()
    assert rollout.aborted == "2 of 3 failed"


def test_second_answer_of_a_device_changes_nothing() -> None:
    rollout = Rollout(plan("2", abort="1"), devices(4))
    finish(rollout, rollout.decide(0, nobody).send)
    finish(rollout, ["lamp-000", "lamp-001"], Status.FAILED)
    rollout.decide(1, nobody)
    assert (rollout.failures, rollout.judged, rollout.aborted) == (0, 2, None)


@pytest.mark.parametrize("status", [status for status in Status if not status.final])
def test_a_word_that_is_not_final_settles_nothing(status: Status) -> None:
    rollout = Rollout(plan("1", abort="1"), devices(2))
    finish(rollout, rollout.decide(0, nobody).send, status)
    assert rollout.decide(1, nobody).send == ()
    assert (rollout.judged, rollout.in_flight) == (0, ("lamp-000",))


@pytest.mark.parametrize("status", [status for status in Status if status.final and status is not Status.DONE])
def test_every_final_answer_but_done_is_a_failure(status: Status) -> None:
    rollout = Rollout(plan("1", abort="1"), devices(2))
    finish(rollout, rollout.decide(0, nobody).send, status)
    assert rollout.decide(1, nobody).over
    assert rollout.failed_devices == ("lamp-000",)


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_percentage_is_reached_exactly_where_the_fraction_says(tenths: int, judged: int) -> None:
    """At N.M% with whole numbers: a binary fraction must not decide."""
    failures = min(judged, -(-tenths * judged // 1000))
    for failed in {failures - 1, failures} - {0}:
        rollout = Rollout(plan("100%", abort=f"{tenths / 10}%"), devices(judged))
        sent = rollout.decide(0, nobody).send
        finish(rollout, sent[:failed], Status.FAILED)
        finish(rollout, sent[failed:])
        rollout.decide(1, nobody)
        assert (rollout.aborted is not None) == (failed * 1000 >= tenths * judged)


def test_device_that_is_back_and_done_is_judged_good() -> None:
    rollout = Rollout(plan("1", abort="2"), devices(4))
    rollout.decide(0, nobody)
    rollout.decide(1, away("lamp-000"))
    assert rollout.failed_devices == ("lamp-000",)
    finish(rollout, ["lamp-000"])
    rollout.decide(2, nobody)
    assert (rollout.failures, rollout.judged, rollout.aborted) == (0, 1, None)


def test_answers_of_devices_not_addressed_are_not_taken() -> None:
    rollout = Rollout(plan("1", abort="1"), devices(3))
    rollout.decide(0, nobody)
    finish(rollout, ["lamp-002", "oven-1"], Status.FAILED)
    rollout.decide(1, nobody)
    assert (rollout.judged, rollout.aborted) == (0, None)


def test_worked_example_of_the_page_comes_out_as_it_says() -> None:
    ids = [f"lamp-{number:02}" for number in range(1, 41)]
    offline = away("lamp-01", "lamp-04")
    rollout = Rollout(plan("1,10%,50%", pause=30, abort="10%"), ids)
    assert rollout.plan.describe(40) in PAGE
    first = rollout.decide(0, offline)
    assert (first.send, rollout.in_flight) == (("lamp-01", "lamp-02"), ("lamp-02",))
    finish(rollout, ["lamp-02"])
    assert rollout.decide(1, offline).wake == 31
    assert rollout.decide(31, offline).send == tuple(ids[2:7])
    assert len(rollout.in_flight) == 4
    finish(rollout, rollout.in_flight)
    rollout.decide(32, offline)
    assert rollout.decide(62, offline).send == tuple(ids[7:27])
    finish(rollout, ["lamp-08", "lamp-09", "lamp-10"], Status.FAILED)
    rollout.decide(63, offline)
    assert (rollout.failures, rollout.judged, rollout.aborted) == (3, 8, None)
    finish(rollout, ["lamp-11", "lamp-12"])
    assert not rollout.decide(64, offline).over
    assert rollout.aborted == "3 of 10 failed, 30%"
    finish(rollout, [device for device in rollout.in_flight if device != "lamp-20"])
    assert rollout.decide(65, offline).wake == 92
    assert rollout.decide(92, offline).over
    assert rollout.never_addressed == tuple(ids[27:])
    assert "3 of 10 failed, 30%" in PAGE
    found = re.search(
        r"there are (\d+) `done`, (\d+) `failed`, (\d+) `queued` .*? and (\d+) `cancelled`", PAGE, re.DOTALL
    )
    assert found is not None
    counts = [int(count) for count in found.groups()]
    assert counts == [rollout.judged - rollout.failures, 3, 3, len(rollout.never_addressed)]
    assert sum(counts) == len(ids)


def test_page_says_of_every_status_whether_it_is_a_failure() -> None:
    table = PAGE.partition("## What counts as a failure")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for cell in cells for name in re.findall("`([a-z_]+)`", cell)} == set(Status)
