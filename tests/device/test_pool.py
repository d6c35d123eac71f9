"""Which member of a pool is asked, under any order of answers, losses and returns."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.device.invocation import Invocation, Reply
from outrider.device.patience import Patience
from outrider.device.pool import SILENT, TRIED_ELSEWHERE, AnyMember, no_member
from outrider.schema import Code, Command, Error, NoMember, Progress, Result, State, Status

MEMBERS = [f"words-{number}" for number in range(5)]
WAIT = 30.0


def state(device: str, status: str) -> State:
    return State(device=device, status=status, session=1, since=0.0, pools=["words"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Asking:
    """A caller without a network: sending is noted, answers are made up."""

    def __init__(self, states: dict[str, State], loads: dict[str, int], *, idempotent: bool, seed: int) -> None:
        self.now = 0.0
        self.states = states
        self.sent: list[str] = []
        self.invocation = Invocation("a1", Command(command="count"), clock=lambda: self.now)
        self.choice = AnyMember(
            "words",
            MEMBERS,
            self.invocation,
            states,
            Patience(until=WAIT, lost_too=True, taken_by=WAIT),
            load=lambda device: loads.get(device, 0),
            idempotent=idempotent,
            chance=random.Random(seed),
        )

    def step(self) -> None:
        while (member := self.choice.next(self.now)) is not None:
            self.sent.append(member)
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            done.set_result(None)
            self.invocation.address([member], done, b"", WAIT)

    def accept(self, device: str) -> None:
        self.invocation.take(Reply(device, Progress(id="a1", device=device, seq=0, accepted=True)))

    def answer(self, device: str, status: Status, code: str = "") -> None:
        result = Result(id="a1", device=device, command="count", status=status, error=Error(code, ""))
        self.invocation.take(Reply(device, result))
        if self.invocation.results.get(device) is result:
            self.choice.finished(result, self.now)


STATUSES = st.sampled_from(["ready", "unready", "lost", "terminated"])
STATES = st.fixed_dictionaries(dict.fromkeys(MEMBERS, STATUSES))
LOADS = st.dictionaries(st.sampled_from(MEMBERS), st.integers(0, 3))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.floats(0, 10)),
        st.tuples(st.just("accept"), st.integers(0, 4)),
        st.tuples(st.just("become"), st.integers(0, 4), STATUSES),
        st.tuples(
            st.just("answer"),
            st.integers(0, 4),
            st.sampled_from(
                [
                    (Status.DONE, ""),
                    (Status.REJECTED, Code.BUSY),
                    (Status.REJECTED, Code.INVALID_ARGUMENTS),
                    (Status.INTERRUPTED, ""),
                    (Status.EXPIRED, ""),
                    (Status.FAILED, Code.ERROR),
                ]
            ),
        ),
    ),
    max_size=30,
)


@given(statuses=STATES, loads=LOADS, seed=st.integers(0, 1000))
async def test_first_member_is_ready_and_has_the_fewest_in_flight(
    statuses: dict[str, str], loads: dict[str, int], seed: int
) -> None:
    states = {member: state(member, status) for member, status in statuses.items()}
    ready = [member for member in MEMBERS if statuses[member] == "ready"]
    if not ready:
        with pytest.raises(NoMember, match="no member of any:words is ready"):
            Asking(states, loads, idempotent=False, seed=seed)
        return
    asking = Asking(states, loads, idempotent=False, seed=seed)
    asking.step()
    (first,) = asking.sent
    assert first in ready
    assert loads.get(first, 0) == min(loads.get(member, 0) for member in ready)


@given(statuses=STATES, steps=STEPS, idempotent=st.booleans(), seed=st.integers(0, 1000))
async def test_no_member_is_asked_twice_nor_another_one_while_the_command_may_run(
    statuses: dict[str, str], steps: list[tuple[object, ...]], idempotent: bool, seed: int
) -> None:
    states = {member: state(member, status) for member, status in statuses.items()}
    if "ready" not in statuses.values():
        return
    asking = Asking(states, {}, idempotent=idempotent, seed=seed)
    asking.step()
    outcome = False
    for step in steps:
        before = len(asking.sent)
        match step:
            case ("pass", float(seconds)):
                asking.now += seconds
            case ("accept", int(number)):
                asking.accept(MEMBERS[number])
            case ("become", int(number), str(status)):
                states[MEMBERS[number]] = state(MEMBERS[number], status)
            case ("answer", int(number), (Status() as status, str(code))):
                asking.answer(MEMBERS[number], status, code)
            case _:
                raise AssertionError(step)
        asking.step()
        for member in asking.sent[before:]:
            assert states[member].status == "ready"
        if not idempotent and len(asking.sent) > before:
            for earlier in asking.sent[:before]:
                result = asking.invocation.results[earlier]  # nobody else while one may still run it
                elsewhere = result.error is not None and result.error.code in TRIED_ELSEWHERE
                assert result.status is Status.EXPIRED or (result.status is Status.REJECTED and elsewhere)
        if outcome:
            assert len(asking.sent) == before
        done = [result for result in asking.invocation.results.values() if result.status is Status.DONE]
        if done:
            outcome = True
            assert asking.choice.left(asking.now) == 0.0
    assert len(asking.sent) == len(set(asking.sent))
    assert len(asking.choice.counted()) == 1


async def test_idempotent_command_goes_to_another_member_when_the_first_is_silent_or_lost() -> None:
    states = {member: state(member, "ready") for member in MEMBERS[:3]}
    asking = Asking(states, {}, idempotent=True, seed=1)
    asking.step()
    asking.now = SILENT - 0.1
    asking.step()
    assert len(asking.sent) == 1
    asking.now = SILENT
    asking.step()
    assert len(asking.sent) == 2
    asking.accept(asking.sent[1])
    asking.now = 3 * SILENT
    asking.step()
    assert len(asking.sent) == 2  # it works on it
    states[asking.sent[1]] = state(asking.sent[1], "lost")
    asking.step()
    assert sorted(asking.sent) == sorted(states)


async def test_command_that_took_long_is_not_sent_to_another_member_once_it_is_done() -> None:
    asking = Asking({member: state(member, "ready") for member in MEMBERS}, {}, idempotent=True, seed=1)
    asking.step()
    asking.accept(asking.sent[0])
    asking.now = 2 * SILENT
    asking.answer(asking.sent[0], Status.DONE)
    asking.step()
    assert len(asking.sent) == 1
    assert asking.choice.left(asking.now) == 0.0


def test_pool_without_members_says_so() -> None:
    assert str(no_member("words", {})) == "no member of any:words is ready: no device is in this pool"
    states = {"words-1": state("words-1", "lost"), "words-2": state("words-2", "unready")}
    assert str(no_member("words", states)) == "no member of any:words is ready (members: 1 lost, 1 unready)"
