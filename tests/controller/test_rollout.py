"""The decisions of a rollout: its laws, and the cases that users know."""

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from outrider.controller.plan import MINIMUM, InvalidPlan, Plan, Share
from outrider.controller.rollout import Rollout
from outrider.schema import Status

BAD = (Status.FAILED, Status.REJECTED, Status.CANCELLED, Status.TIMED_OUT, Status.EXPIRED, Status.INTERRUPTED)


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
) -> Plan:
    return Plan(
        Plan.parse_batches(batches), pause, None if abort is None else Share.parse(abort), minimum, cancel, settle
    )


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


def test_plan_is_described_in_words() -> None:
    described = plan("1,10%", pause=30, abort="5%").describe(40)
    assert (
        described
        == "40 devices in 11 batches: 1, 4, 4, 4, 4, 4, …; 30 s between them; aborts at 5% of those judged failed"
    )
    assert plan("5", abort="1").describe(1) == "1 device in 1 batch: 1; aborts at 1 failed"


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


def test_device_that_still_works_at_the_end_of_settle_is_not_judged_until_it_answers() -> None:
    rollout = Rollout(plan("1", settle=20, abort="1"), devices(3))
    rollout.decide(0, nobody)
    rollout.accepted("lamp-000")
    assert rollout.decide(20, nobody).send == ("lamp-001",)
    assert rollout.judged == 0
    finish(rollout, ["lamp-000"], Status.FAILED)
    assert rollout.decide(21, nobody).send == ()
    assert rollout.aborted == "1 of 1 failed"


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


def test_late_failure_of_an_earlier_batch_counts() -> None:
    rollout = Rollout(plan("1", settle=10, abort="2"), devices(5))
    rollout.decide(0, nobody)
    rollout.accepted("lamp-000")
    rollout.decide(10, nobody)
    finish(rollout, ["lamp-001", "lamp-000"], Status.FAILED)
    assert rollout.decide(11, nobody).send == ()
    assert rollout.aborted == "2 of 2 failed"


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


class Laws(RuleBasedStateMachine):
    """A rollout among devices that come, go, answer, fall silent, answer twice, in any order."""

    @initialize(
        total=st.integers(0, 40),
        batches=st.lists(st.sampled_from(["1", "2", "5", "10%", "50%"]), min_size=1, max_size=3),
        pause=st.sampled_from([0.0, 5.0]),
        abort=st.sampled_from([None, "1", "3", "10%", "60%"]),
        minimum=st.sampled_from([None, 1, 4]),
        cancel=st.booleans(),
    )
    def begin(
        self, total: int, batches: list[str], pause: float, abort: str | None, minimum: int | None, cancel: bool
    ) -> None:
        self.plan = plan(",".join(batches), pause=pause, abort=abort, minimum=minimum, cancel=cancel, settle=10)
        self.targets = devices(total)
        self.rollout = Rollout(self.plan, self.targets)
        self.now = 0.0
        self.away: set[str] = set()
        self.sent: list[str] = []
        self.aborted_after: int | None = None
        self.batch_ended: float | None = None
        self.wake: float | None = None
        self.over = False

    def decide(self) -> None:
        before, batch = len(self.sent), self.rollout.batch
        in_flight = set(self.rollout.in_flight)
        decision = self.rollout.decide(self.now, self.away.__contains__)
        if decision.send:
            assert self.aborted_after is None, "sent after the abort"
            if batch and not in_flight and self.batch_ended is not None and self.plan.pause:
                assert self.now >= self.batch_ended + self.plan.pause, "the pause was cut short"
        self.sent += decision.send
        if self.rollout.aborted is not None and self.aborted_after is None:
            self.aborted_after = len(self.sent)
        assert len(self.sent) == before or self.aborted_after in (None, len(self.sent))
        self.batch_ended = (self.batch_ended or self.now) if not self.rollout.in_flight else None
        if decision.send and not self.rollout.in_flight:
            self.batch_ended = self.now
        self.wake, self.over = decision.wake, decision.over

    @rule()
    def ask(self) -> None:
        self.decide()

    @rule(seconds=st.sampled_from([0.5, 5.0, 10.0]))
    def time_goes_on(self, seconds: float) -> None:
        self.now += seconds
        self.decide()

    @rule(number=st.integers(0, 39), status=st.sampled_from([Status.DONE, Status.DONE, *BAD]))
    def answer(self, number: int, status: Status) -> None:
        self.rollout.finished(f"lamp-{number:03}", status)
        self.decide()

    @precondition(lambda self: self.rollout.in_flight)
    @rule(at=st.integers(0, 10), status=st.sampled_from([Status.DONE, Status.DONE, Status.FAILED]))
    def answer_of_one_in_flight(self, at: int, status: Status) -> None:
        in_flight = self.rollout.in_flight
        self.rollout.finished(in_flight[at % len(in_flight)], status)
        self.decide()

    @rule(number=st.integers(0, 39))
    def accept(self, number: int) -> None:
        self.rollout.accepted(f"lamp-{number:03}")

    @rule(number=st.integers(0, 39))
    def come_or_go(self, number: int) -> None:
        self.away ^= {f"lamp-{number:03}"}
        self.decide()

    @invariant()
    def never_more_in_flight_than_the_batch(self) -> None:
        if self.rollout.batch:
            size = self.plan.size(self.rollout.batch - 1, len(self.targets))
            assert len(self.rollout.in_flight) <= size

    @invariant()
    def every_target_is_accounted_for_once_and_in_order(self) -> None:
        assert [*self.rollout.addressed, *self.rollout.never_addressed] == self.targets
        assert list(self.rollout.addressed) == self.sent

    @invariant()
    def nobody_who_is_away_is_waited_for_after_a_decision(self) -> None:
        if self.rollout.batch:
            assert not self.away & set(self.rollout.in_flight)

    @invariant()
    def it_sleeps_only_while_something_is_due(self) -> None:
        if self.rollout.batch and not self.over:
            assert self.wake is not None

    def teardown(self) -> None:
        """Whatever happened: with time alone it comes to its end."""
        if not hasattr(self, "rollout"):
            return
        for _ in range(3 * len(self.targets) + 3):
            self.decide()
            if self.over:
                break
            assert self.wake is not None
            self.now = max(self.now, self.wake)
        assert self.over
        assert self.rollout.aborted is not None or not self.rollout.never_addressed


TestLaws = Laws.TestCase
TestLaws.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
