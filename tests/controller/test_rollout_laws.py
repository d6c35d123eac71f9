"""The laws of a rollout, against a second reckoning of who is in flight, who has failed, and when it may go on."""

from dataclasses import dataclass, field
from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from outrider.controller.plan import MINIMUM, Plan, Share
from outrider.controller.rollout import Decision, Rollout
from outrider.schema import Status

SETTLE = 10.0
WORKING = 25.0
FINAL = st.sampled_from([Status.DONE, Status.DONE, Status.DONE, *(each for each in Status if each.final)])
NUMBER = st.integers(0, 29)


@dataclass
class Device:
    """What is known of one device, apart from what the rollout makes of it."""

    id: str
    away: bool = False
    batch: int | None = None
    accepted: bool = False
    answer: Status | None = None
    waited_for: bool = False
    failed: bool | None = None


@dataclass
class Reckoning:
    """What should be so, from the documented rules alone."""

    plan: Plan
    devices: list[Device]
    now: float = 0.0
    begun: float = 0.0
    over_since: float | None = None
    aborted: bool = False
    sizes: list[int] = field(default_factory=list[int])

    def in_flight(self) -> list[str]:
        return [device.id for device in self.devices if device.waited_for]

    def answer(self, device: Device, status: Status) -> None:
        if device.batch is None or device.answer is not None:
            return
        device.answer, device.waited_for = status, False
        if not (self.aborted and status is Status.CANCELLED):
            device.failed = status is not Status.DONE

    def settle(self) -> None:
        """Let those go that are away, silent or too long at work."""
        for device in self.devices:
            patience = max(WORKING, SETTLE) if device.accepted else SETTLE
            if device.waited_for and (device.away or self.now >= self.begun + patience):
                device.waited_for, device.failed = False, True
        if not self.in_flight() and self.over_since is None:
            self.over_since = self.now

    def must_abort(self) -> bool:
        judged = [device for device in self.devices if device.failed is not None]
        failures = sum(bool(device.failed) for device in judged)
        threshold = self.plan.abort_after
        if threshold is None or not failures:
            return False
        if not threshold.percent:
            return failures >= threshold.amount
        if self.plan.minimum is not None:
            enough = len(judged) >= self.plan.minimum
        else:
            enough = len(judged) >= MINIMUM or not self.in_flight()
        return enough and Fraction(failures, len(judged)) >= Fraction(str(threshold.amount)) / 100


class Laws(RuleBasedStateMachine):
    """A rollout among devices that come, go, take the command, answer, fall silent, answer twice, in any order."""

    @initialize(
        total=st.integers(0, 30),
        batches=st.lists(st.sampled_from(["1", "2", "5", "10%", "50%", "99"]), min_size=1, max_size=3),
        pause=st.sampled_from([0.0, 7.0]),
        abort=st.sampled_from([None, "1", "3", "10%", "60%"]),
        minimum=st.sampled_from([None, 1, 4]),
        cancel=st.booleans(),
        away=st.sets(NUMBER),
    )
    def begin(
        self,
        total: int,
        batches: list[str],
        pause: float,
        abort: str | None,
        minimum: int | None,
        cancel: bool,
        away: set[int],
    ) -> None:
        threshold = None if abort is None else Share.parse(abort)
        parsed = Plan.parse_batches(",".join(batches))
        plan = Plan(parsed, pause, threshold, minimum, cancel, SETTLE, WORKING)
        self.devices = [Device(f"lamp-{number:02}", away=number in away) for number in range(total)]
        self.by_id = {device.id: device for device in self.devices}
        self.rollout = Rollout(plan, [device.id for device in self.devices])
        self.known = Reckoning(plan, self.devices)
        self.sent: list[str] = []
        self.last = self.decide()

    def is_away(self, device: str) -> bool:
        return self.by_id[device].away

    def decide(self) -> Decision:
        """Ask, and hold the decision against the reckoning."""
        known, plan = self.known, self.known.plan
        first = not known.sizes
        known.settle()
        crossed = not known.aborted and known.must_abort()
        known.aborted = known.aborted or crossed
        decision = self.rollout.decide(known.now, self.is_away)

        may_send = not known.aborted and not known.in_flight() and len(self.sent) < len(self.devices)
        may_send = may_send and (first or (known.over_since is not None and known.now >= known.over_since + plan.pause))
        assert bool(decision.send) == may_send, "sent too early, or not when it was time"
        if decision.send:
            size = plan.size(len(known.sizes), len(self.devices))
            known.begun, known.over_since = known.now, None
            for id in decision.send:
                device = self.by_id[id]
                assert device.batch is None, "addressed twice"
                device.batch, device.waited_for = len(known.sizes), not device.away
            known.sizes.append(size)
            self.sent += decision.send
            assert len(known.in_flight()) <= size
            assert len(known.in_flight()) == size or len(self.sent) == len(self.devices), "a place was left free"
            known.settle()

        assert (self.rollout.aborted is not None) == known.aborted
        unanswered = [device.id for device in self.devices if device.batch is not None and device.answer is None]
        assert list(decision.cancel) == (unanswered if crossed and plan.cancel else [])
        assert decision.over == (not known.in_flight() and (known.aborted or len(self.sent) == len(self.devices)))
        assert decision.over == (decision.wake is None)
        assert decision.wake is None or decision.wake > known.now
        self.last = decision
        return decision

    @rule()
    def nothing_happens_until_it_wakes(self) -> None:
        before = (self.rollout.in_flight, self.rollout.failures, self.rollout.judged, self.rollout.batch)
        wake = self.last.wake
        later = self.known.now + (100.0 if wake is None else (wake - self.known.now) / 2)
        if wake is not None and later >= wake:
            return  # so near that there is no number between
        self.known.now = later
        decision = self.decide()
        assert decision.send == ()
        assert decision.cancel == ()
        assert (decision.wake, decision.over) == (wake, self.last.over)
        assert before == (self.rollout.in_flight, self.rollout.failures, self.rollout.judged, self.rollout.batch)

    @precondition(lambda self: self.last.wake is not None)
    @rule()
    def it_wakes(self) -> None:
        assert self.last.wake is not None
        self.known.now = self.last.wake
        self.decide()

    @rule(seconds=st.sampled_from([0.5, 5.0, 40.0]))
    def time_goes_on(self, seconds: float) -> None:
        self.known.now += seconds
        self.decide()

    @rule(number=NUMBER, status=FINAL)
    def answer_of_anybody(self, number: int, status: Status) -> None:
        self.say(f"lamp-{number:02}", status)

    @precondition(lambda self: self.rollout.in_flight)
    @rule(at=NUMBER, status=FINAL)
    def answer_of_one_in_flight(self, at: int, status: Status) -> None:
        in_flight = self.rollout.in_flight
        self.say(in_flight[at % len(in_flight)], status)

    @precondition(lambda self: self.rollout.in_flight)
    @rule()
    def all_in_flight_are_done(self) -> None:
        for id in self.rollout.in_flight:
            self.rollout.finished(id, Status.DONE)
            self.known.answer(self.by_id[id], Status.DONE)
        self.decide()

    def say(self, id: str, status: Status) -> None:
        self.rollout.finished(id, status)
        if id in self.by_id:
            self.known.answer(self.by_id[id], status)
        self.decide()

    @rule(number=NUMBER, status=st.sampled_from([Status.OFFLINE, Status.QUEUED, Status.RUNNING]))
    def word_that_is_not_final(self, number: int, status: Status) -> None:
        before = (self.rollout.in_flight, self.rollout.failures, self.rollout.judged)
        self.rollout.finished(f"lamp-{number:02}", status)
        assert before == (self.rollout.in_flight, self.rollout.failures, self.rollout.judged)

    @rule(number=NUMBER)
    def accept(self, number: int) -> None:
        id = f"lamp-{number:02}"
        self.rollout.accepted(id)
        if id in self.by_id and self.by_id[id].batch is not None:
            self.by_id[id].accepted = True
        self.decide()

    @precondition(lambda self: self.rollout.in_flight)
    @rule()
    def all_in_flight_accept(self) -> None:
        for id in self.rollout.in_flight:
            self.rollout.accepted(id)
            self.by_id[id].accepted = True
        self.decide()

    @rule(number=NUMBER)
    def come_or_go(self, number: int) -> None:
        if device := self.by_id.get(f"lamp-{number:02}"):
            device.away = not device.away
            self.decide()

    @precondition(lambda self: self.rollout.in_flight)
    @rule(seconds=st.sampled_from([1.0, 60.0]))
    def broker_is_gone_for_a_while(self, seconds: float) -> None:
        self.known.now += seconds
        self.known.begun += seconds
        self.rollout.postpone(seconds)
        self.decide()

    @rule()
    @precondition(lambda self: self.known.now > 50)
    def somebody_stops_it(self) -> None:
        self.rollout.stop()
        self.known.aborted = True
        assert self.decide().send == ()

    @invariant()
    def never_more_in_flight_than_the_batch(self) -> None:
        if self.known.sizes:
            assert len(self.rollout.in_flight) <= self.known.sizes[-1]

    @invariant()
    def those_in_flight_are_addressed_there_and_unsettled(self) -> None:
        assert list(self.rollout.in_flight) == self.known.in_flight()
        assert not any(self.by_id[id].away for id in self.rollout.in_flight)

    @invariant()
    def every_target_is_accounted_for_exactly_once_and_in_order(self) -> None:
        targets = [device.id for device in self.devices]
        assert [*self.rollout.addressed, *self.rollout.never_addressed] == targets
        assert list(self.rollout.addressed) == self.sent
        parts = (*self.rollout.in_flight, *self.rollout.settled, *self.rollout.never_addressed)
        assert sorted(parts) == targets

    @invariant()
    def verdicts_are_as_reckoned(self) -> None:
        assert sorted(self.rollout.failed_devices) == [device.id for device in self.devices if device.failed]
        assert self.rollout.failures == sum(bool(device.failed) for device in self.devices)
        assert self.rollout.judged == sum(device.failed is not None for device in self.devices)

    def teardown(self) -> None:
        """Whatever happened: with time alone it comes to its end."""
        if not hasattr(self, "rollout"):
            return
        for _ in range(3 * len(self.devices) + 3):
            if self.last.wake is None:
                break
            self.known.now = self.last.wake
            self.decide()
        assert self.last.over
        assert self.rollout.aborted is not None or not self.rollout.never_addressed


TestLaws = Laws.TestCase
TestLaws.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
