"""One command to many devices: rollouts, samples, who is away, cancelling, typed outcomes."""

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest
from msgspec import Struct, ValidationError

from outrider.controller import Dispatch, Fleet, Outcome
from outrider.controller.course import AnyOf, Patience
from outrider.controller.faults import FaultProxy, Hold
from outrider.controller.plan import Plan, Share
from outrider.device import Device, Invocation, Job
from outrider.schema import (
    UNKNOWN,
    Command,
    CommandFailed,
    Error,
    LocalError,
    NoAnswer,
    NoMember,
    Result,
    State,
    Status,
    UnknownTarget,
)
from tests.brokers import BrokerUnderTest
from tests.controller.test_results import claim
from tests.peers import Connect, Peer
from tests.processes import until


class Reading(Struct):
    device: str
    level: int


class Bench:
    """Devices in this process and what ran on them."""

    def __init__(self, broker: BrokerUnderTest, prefix: str) -> None:
        self.broker = broker
        self.prefix = prefix
        self.ran: list[str] = []
        self.at_work: set[str] = set()
        self.most_at_work = 0
        self.fails: set[str] = set()

    def device(self, id: str, *, groups: Sequence[str] = ("all-of-them",), pools: Sequence[str] = ()) -> Device:
        device = Device(id, groups=groups, pools=pools, initial="ready")

        @device.command
        async def work(job: Job, seconds: float = 0.02) -> str:
            self.ran.append(id)
            self.at_work.add(id)
            self.most_at_work = max(self.most_at_work, len(self.at_work))
            try:
                await asyncio.sleep(seconds)
                if id in self.fails:
                    raise RuntimeError("worn out")
            finally:
                self.at_work.discard(id)
            return id

        @device.command
        async def read() -> Reading:
            return Reading(id, 7)

        return device

    @asynccontextmanager
    async def serving(self, *devices: Device) -> AsyncGenerator[Fleet]:
        async with (
            asyncio.TaskGroup() as tasks,
            Fleet(self.broker.address, requester="tester", prefix=self.prefix) as fleet,
        ):
            for device in devices:
                tasks.create_task(device.serve(self.broker.address, prefix=self.prefix), name=device.id)
            changed = asyncio.Event()
            with fleet.roster.watch(lambda state: changed.set()):
                async with asyncio.timeout(20):
                    while not {device.id for device in devices} <= fleet.roster.states.keys():
                        changed.clear()
                        await changed.wait()
            try:
                yield fleet
            finally:
                for device in devices:
                    device.stop()


@pytest.fixture
def bench(broker: BrokerUnderTest, prefix: str) -> Bench:
    return Bench(broker, prefix)


async def to_its_end(dispatch: Dispatch) -> dict[str, Status]:
    async with asyncio.timeout(40):
        async for _ in dispatch:
            pass
    return {device: result.status for device, result in dispatch.outcomes.items()}


def words(result: Result) -> str:
    return result.error.message if result.error else ""


async def test_rollout_never_has_more_at_work_than_the_batch_and_reaches_all(bench: Bench) -> None:
    async with bench.serving(*(bench.device(f"lamp-{n}") for n in range(7))) as fleet:
        dispatch = fleet.dispatch("all", "work", plan=Plan.of("1,3"))
        outcomes = await to_its_end(dispatch)
    assert outcomes == {f"lamp-{n}": Status.DONE for n in range(7)}
    assert sorted(bench.ran) == sorted(outcomes)
    assert bench.most_at_work <= 3
    assert {result.id for result in dispatch.outcomes.values()} == {dispatch.id}


async def test_abort_on_failure_sends_nothing_more_and_names_who_was_never_addressed(
    bench: Bench, connect: Connect
) -> None:
    bench.fails = {"lamp-0", "lamp-2"}
    peer = await connect(Peer(bench.broker.address))
    await peer.subscribe(f"{bench.prefix}/devices/+/cmd/#", f"{bench.prefix}/groups/+/cmd/#")
    async with bench.serving(*(bench.device(f"lamp-{n}") for n in range(6))) as fleet:
        dispatch = fleet.dispatch("all", "work", plan=Plan.of("2", abort_after=Share.parse("2")))
        outcomes = await to_its_end(dispatch)
        await peer.round_trip()
    assert outcomes == {
        "lamp-0": Status.FAILED,
        "lamp-1": Status.DONE,
        "lamp-2": Status.FAILED,
        "lamp-3": Status.DONE,
        "lamp-4": Status.CANCELLED,
        "lamp-5": Status.CANCELLED,
    }
    assert dispatch.never_addressed == ("lamp-4", "lamp-5")
    assert words(dispatch.outcomes["lamp-5"]) == "never addressed: the command was not sent to it"
    assert dispatch.rollout is not None
    assert dispatch.rollout.aborted in ("2 of 3 failed", "2 of 4 failed")  # lamp-3 may be a moment slower
    sent_to = {message.topic.removeprefix(f"{bench.prefix}/").split("/")[1] for message in peer.messages}
    assert sent_to == {"lamp-0", "lamp-1", "lamp-2", "lamp-3"}


async def test_abort_cancels_what_runs_where_the_plan_says_so(bench: Bench) -> None:
    bench.fails = {"lamp-0"}
    slow = bench.device("lamp-1")

    async with bench.serving(bench.device("lamp-0"), slow, bench.device("lamp-2")) as fleet:
        plan = Plan.of("2", abort_after=Share.parse("1"), cancel=True)
        dispatch = fleet.dispatch("all", "work", [0.5], plan=plan)
        outcomes = await to_its_end(dispatch)
    assert outcomes["lamp-0"] is Status.FAILED
    assert outcomes["lamp-1"] in (Status.CANCELLED, Status.DONE)  # it ends in the same moment as the one that fails
    assert outcomes["lamp-2"] is Status.CANCELLED
    assert "lamp-2" not in bench.ran


async def test_batch_that_hangs_on_an_offline_device_does_not(bench: Bench, connect: Connect) -> None:
    peer = await connect(Peer(bench.broker.address))
    lost = {"device": "lamp-1", "status": "lost", "session": 1, "since": 0}
    await peer.publish(f"{bench.prefix}/devices/lamp-1/state", lost, retain=True)
    async with bench.serving(bench.device("lamp-0"), bench.device("lamp-2")) as fleet:
        async with asyncio.timeout(15):  # less than the time that a silent device would be waited for
            dispatch = fleet.dispatch("all", "work", plan=Plan.of("1"))
            outcomes = await to_its_end(dispatch)
    assert outcomes == {"lamp-0": Status.DONE, "lamp-1": Status.QUEUED, "lamp-2": Status.DONE}


async def test_silent_device_holds_up_a_rollout_no_longer_than_it_may_settle(bench: Bench, connect: Connect) -> None:
    peer = await connect(Peer(bench.broker.address))
    there = {"device": "lamp-1", "status": "ready", "session": 1, "since": 0}
    await peer.publish(f"{bench.prefix}/devices/lamp-1/state", there, retain=True)
    async with bench.serving(bench.device("lamp-0"), bench.device("lamp-2")) as fleet:
        dispatch = fleet.dispatch("all", "work", plan=Plan.of("1", settle=0.5))
        outcomes = await to_its_end(dispatch)
    assert outcomes == {"lamp-0": Status.DONE, "lamp-1": Status.QUEUED, "lamp-2": Status.DONE}
    assert dispatch.rollout is not None
    assert dispatch.rollout.failed_devices == ("lamp-1",)


async def test_offline_device_is_queued_by_default_and_offline_with_fail(bench: Bench, connect: Connect) -> None:
    peer = await connect(Peer(bench.broker.address))
    await peer.subscribe(f"{bench.prefix}/devices/+/cmd/#", f"{bench.prefix}/groups/+/cmd/#")
    lost = {"device": "lamp-1", "status": "lost", "session": 1, "since": 0, "groups": ["all-of-them"]}
    await peer.publish(f"{bench.prefix}/devices/lamp-1/state", lost, retain=True)
    async with bench.serving(bench.device("lamp-0")) as fleet:
        queued = fleet.dispatch("@all-of-them", "work")
        assert await to_its_end(queued) == {"lamp-0": Status.DONE, "lamp-1": Status.QUEUED}
        assert words(queued.outcomes["lamp-1"]) == "the device is lost; it runs when it is back within 30 s"
        failing = fleet.dispatch("@all-of-them", "work", if_offline="fail")
        assert await to_its_end(failing) == {"lamp-0": Status.DONE, "lamp-1": Status.OFFLINE}
        assert words(failing.outcomes["lamp-1"]) == "lost: nothing was sent to it"
        await peer.round_trip()
    topics = [message.topic for message in peer.messages if message.json()["id"] == failing.id]
    assert topics == [f"{bench.prefix}/devices/lamp-0/cmd/tester"]


async def test_no_device_that_answers_late_is_lost_from_the_counts(bench: Bench) -> None:
    async with bench.serving(*(bench.device(f"lamp-{n}") for n in range(3))) as fleet:
        dispatch = fleet.dispatch("all", "work", [2.0], wait=0.5)
        assert await to_its_end(dispatch) == dict.fromkeys(("lamp-0", "lamp-1", "lamp-2"), Status.RUNNING)


async def test_devices_that_have_answered_are_still_among_those_addressed(bench: Bench) -> None:
    async with bench.serving(*(bench.device(f"lamp-{n}") for n in range(2))) as fleet:
        dispatch = fleet.dispatch("all", "work", [0.0])
        await to_its_end(dispatch)
        assert dispatch.missing == ()
        assert dispatch.addressed == ("lamp-0", "lamp-1")


async def test_cancel_ends_it_on_every_device_and_their_outcomes_still_come(bench: Bench) -> None:
    async with bench.serving(*(bench.device(f"lamp-{n}") for n in range(3))) as fleet:
        dispatch = fleet.dispatch("all", "work", [60.0])
        accepted: set[str] = set()
        async with asyncio.timeout(20):
            async for reply in dispatch:
                accepted.add(reply.device)
                if len(accepted) == 3 and not isinstance(reply.message, Result):
                    dispatch.cancel()
    assert {result.status for result in dispatch.outcomes.values()} == {Status.CANCELLED}
    assert len(dispatch.outcomes) == 3


async def test_cancel_of_a_rollout_addresses_nobody_any_more(bench: Bench) -> None:
    async with bench.serving(*(bench.device(f"lamp-{n}") for n in range(3))) as fleet:
        dispatch = fleet.dispatch("all", "work", [60.0], plan=Plan.of("1"))
        async with asyncio.timeout(20):
            async for reply in dispatch:
                if not isinstance(reply.message, Result):
                    dispatch.cancel()
    assert {result.status for result in dispatch.outcomes.values()} == {Status.CANCELLED}
    assert dispatch.never_addressed == ("lamp-1", "lamp-2")
    assert bench.ran == ["lamp-0"]


async def test_send_yields_outcomes_whose_values_have_the_type_asked_for(bench: Bench) -> None:
    async with bench.serving(bench.device("lamp-0"), bench.device("lamp-1")) as fleet:
        found: list[Outcome[Reading]] = [each async for each in fleet.send("all", "read", type=Reading)]
        assert sorted(each.value.device for each in found) == ["lamp-0", "lamp-1"]
        assert all(each.done and each.error is None and each.status is Status.DONE for each in found)
        (plain,) = [each async for each in fleet.send("lamp-0", "read")]
        assert plain.value == {"device": "lamp-0", "level": 7}
        (wrong,) = [each async for each in fleet.send("lamp-0", "read", type=int)]
        with pytest.raises(ValidationError):
            assert wrong.value


async def test_value_of_an_outcome_that_is_not_done_raises_what_became_of_it(bench: Bench, connect: Connect) -> None:
    bench.fails = {"lamp-0"}
    peer = await connect(Peer(bench.broker.address))
    lost = {"device": "lamp-1", "status": "lost", "session": 1, "since": 0}
    await peer.publish(f"{bench.prefix}/devices/lamp-1/state", lost, retain=True)
    async with bench.serving(bench.device("lamp-0")) as fleet:
        found = {each.device: each async for each in fleet.send("all", "work", 0)}
    with pytest.raises(CommandFailed, match="worn out"):
        assert found["lamp-0"].value
    with pytest.raises(NoAnswer, match="lamp-1: queued") as none:
        assert found["lamp-1"].value
    assert none.value.status is Status.QUEUED


async def test_expires_says_how_long_a_device_may_begin_it(bench: Bench, connect: Connect) -> None:
    peer = await connect(Peer(bench.broker.address))
    await peer.subscribe(f"{bench.prefix}/#")
    lost = {"device": "lamp-1", "status": "lost", "session": 1, "since": 0}
    await peer.publish(f"{bench.prefix}/devices/lamp-1/state", lost, retain=True)
    async with Fleet(bench.broker.address, requester="tester", prefix=bench.prefix) as fleet:
        dispatch = fleet.dispatch("lamp-1", "work", expires=3600)
        await dispatch.sent()
        message = await peer.wait_for(lambda each: each.topic.endswith("/cmd/tester"))
    command = message.json()
    assert command["expires"] - command["issued"] == pytest.approx(3600)


async def test_a_short_expiry_is_kept_to_and_one_over_a_week_is_refused(bench: Bench, connect: Connect) -> None:
    peer = await connect(Peer(bench.broker.address))
    await peer.subscribe(f"{bench.prefix}/#")
    async with bench.serving(bench.device("lamp-1")) as fleet:
        await to_its_end(fleet.dispatch("lamp-1", "work", expires=5))
        message = await peer.wait_for(lambda each: each.topic.endswith("/cmd/tester"))
        with pytest.raises(LocalError, match="7 days at most"):
            fleet.dispatch("lamp-1", "work", expires=8 * 86400)
    command = message.json()
    assert command["expires"] - command["issued"] == pytest.approx(5)


async def test_what_was_sent_and_not_waited_for_runs_on(bench: Bench) -> None:
    async with bench.serving(bench.device("lamp-0")) as fleet:
        async with Fleet(bench.broker.address, requester="passer-by", prefix=bench.prefix) as passing:
            await passing.dispatch("lamp-0", "work", [0.0]).sent()
        async with asyncio.timeout(10):
            while bench.ran != ["lamp-0"]:
                await fleet.call("lamp-0", "ping")


async def test_an_id_never_seen_is_queued_only_when_asked_to(bench: Bench) -> None:
    device = bench.device("lamp-9")
    async with Fleet(bench.broker.address, requester="tester", prefix=bench.prefix) as fleet:
        for if_offline in (None, "fail"):
            with pytest.raises(UnknownTarget, match="lamp-9"):
                fleet.dispatch("lamp-9", "work", if_offline=if_offline)
        dispatch = fleet.dispatch("lamp-9", "work", if_offline="queue")
        assert await to_its_end(dispatch) == {"lamp-9": Status.QUEUED}
        assert "nobody has seen the device" in words(dispatch.outcomes["lamp-9"])
    assert bench.ran == []
    assert device.id == "lamp-9"


class TestPool:
    async def test_one_ready_member_runs_it_and_gives_the_one_outcome(self, bench: Bench) -> None:
        devices = [bench.device(f"lamp-{n}", pools=["words"]) for n in range(3)]
        async with bench.serving(*devices) as fleet:
            dispatch = fleet.dispatch("any:words", "work")
            outcomes = await to_its_end(dispatch)
            assert await fleet.call("any:words", "work", type=str) in {"lamp-0", "lamp-1", "lamp-2"}
        assert list(outcomes.values()) == [Status.DONE]
        assert bench.ran[:1] == list(outcomes)
        assert len(bench.ran) == 2

    async def test_the_member_with_the_fewest_of_ones_own_in_flight_is_picked(self, bench: Bench) -> None:
        devices = [bench.device(f"lamp-{n}", pools=["words"]) for n in range(4)]
        async with bench.serving(*devices) as fleet:
            dispatches = [fleet.dispatch("any:words", "work", [0.5]) for _ in range(8)]
            await asyncio.gather(*map(to_its_end, dispatches))
        assert sorted(bench.ran) == sorted(f"lamp-{n}" for n in range(4) for _ in range(2))

    async def test_another_member_is_asked_after_a_rejection_and_its_outcome_counts(
        self, bench: Bench, connect: Connect
    ) -> None:
        # One that rejects as busy, and claims to be ready.
        peer = await connect(Peer(bench.broker.address))
        await peer.subscribe(f"{bench.prefix}/devices/+/cmd/#")
        full = {"device": "full", "status": "ready", "session": 1, "since": 0, "pools": ["words"]}
        await peer.publish(f"{bench.prefix}/devices/full/state", full, retain=True)

        async def reject() -> None:
            seen = 0
            while True:
                message = await peer.wait_for(lambda each: "/full/" in each.topic, timeout=60, after=seen)
                seen = peer.messages.index(message) + 1
                busy = {"code": "busy", "message": "2 of 2 jobs run"}
                result = {"id": message.json()["id"], "device": "full", "command": "work"}
                rejected = result | {"status": "rejected", "error": busy}
                await peer.publish(f"{bench.prefix}/devices/full/result/tester", rejected)

        rejecting = asyncio.create_task(reject())
        async with bench.serving(bench.device("lamp-1", pools=["words"])) as fleet:
            passed = 0
            for _ in range(12):
                dispatch = fleet.dispatch("any:words", "work")
                assert await to_its_end(dispatch) == {"lamp-1": Status.DONE}
                passed += len(dispatch.passed)
                assert all(words(result) == "2 of 2 jobs run" for result in dispatch.passed)
            assert 0 < passed < 12
        rejecting.cancel()

    async def test_a_failure_is_the_outcome_and_no_other_member_is_asked(self, bench: Bench) -> None:
        bench.fails = {"lamp-0", "lamp-1"}
        devices = [bench.device(f"lamp-{n}", pools=["words"]) for n in range(2)]
        async with bench.serving(*devices) as fleet:
            dispatch = fleet.dispatch("any:words", "work")
            assert list((await to_its_end(dispatch)).values()) == [Status.FAILED]
        assert len(bench.ran) == 1

    async def test_when_all_members_reject_the_last_rejection_is_the_outcome(self, bench: Bench) -> None:
        devices = [bench.device(f"lamp-{n}", pools=["words"]) for n in range(3)]
        async with bench.serving(*devices) as fleet:
            dispatch = fleet.dispatch("any:words", "no_such_command")
            outcomes = await to_its_end(dispatch)
        assert list(outcomes.values()) == [Status.REJECTED]
        assert len(dispatch.passed) == 2
        assert {*outcomes, *(each.device for each in dispatch.passed)} == {"lamp-0", "lamp-1", "lamp-2"}

    @pytest.mark.parametrize(
        ("unknown", "idempotent", "elsewhere"), [(True, False, False), (True, True, True), (False, False, True)]
    )
    async def test_another_member_is_asked_after_expired_only_where_the_first_cannot_have_run_it(
        self, unknown: bool, idempotent: bool, elsewhere: bool
    ) -> None:
        states = {id: State(device=id, status="ready", session=1, since=0) for id in ("lamp-0", "lamp-1")}
        invocation = Invocation("a1", Command(id="a1", command="work"))
        patience = Patience(until=100.0, lost_too=True, taken_by=30.0)
        course = AnyOf(
            "words",
            tuple(states),
            invocation,
            states,
            patience,
            load=lambda _: 0,
            idempotent=idempotent,
            chance=random.Random(0),
        )
        (first,) = course.step(0.0).send
        error = Error("", "expired", {UNKNOWN: True} if unknown else None)
        expired = Result(id="a1", device=first, command="work", status=Status.EXPIRED, error=error)
        assert course.finished(expired, 1.0) == (not elsewhere)
        assert len(course.step(1.0).send) == elsewhere

    async def test_a_pool_without_a_ready_member_says_so_and_nothing_is_sent(
        self, bench: Bench, connect: Connect
    ) -> None:
        peer = await connect(Peer(bench.broker.address))
        await peer.subscribe(f"{bench.prefix}/devices/+/cmd/#")
        for id, status in (("lamp-0", "unready"), ("lamp-1", "lost")):
            state = {"device": id, "status": status, "session": 1, "since": 0, "pools": ["words"]}
            await peer.publish(f"{bench.prefix}/devices/{id}/state", state, retain=True)
        async with Fleet(bench.broker.address, requester="tester", prefix=bench.prefix) as fleet:
            with pytest.raises(NoMember, match=r"no member of any:words is ready \(members: 1 lost, 1 unready\)"):
                fleet.dispatch("any:words", "work")
            with pytest.raises(NoMember, match="no member of any:nothing is ready: no device is in this pool"):
                await fleet.call("any:nothing", "work")
            await peer.round_trip()
        assert peer.messages == []

    async def test_an_idempotent_command_goes_to_another_member_when_the_first_is_lost(
        self, bench: Bench, connect: Connect
    ) -> None:
        peer = await connect(Peer(bench.broker.address))
        await peer.subscribe(f"{bench.prefix}/devices/+/cmd/#")
        about = bench.device("lamp-1", pools=["words"])
        state = {"device": "fleeting", "session": 1, "since": 0, "pools": ["words"]}
        topic = f"{bench.prefix}/devices/fleeting/state"
        async with bench.serving(about) as fleet:
            digest = fleet.roster.states["lamp-1"].about
            await fleet.abouts(["lamp-1"])
            for attempt in range(30):  # which one is picked is chance
                ready = state | {"status": "ready", "session": 2 * attempt + 1, "about": digest}
                await peer.publish(topic, ready, retain=True)
                await fleet.connection.roundtrip()
                dispatch = fleet.dispatch("any:words", "ping")
                sent_to = dispatch.missing
                lost = state | {"status": "lost", "session": 2 * attempt + 2, "about": digest}
                await peer.publish(topic, lost, retain=True)
                assert await to_its_end(dispatch) == {"lamp-1": Status.DONE}
                if sent_to == ("fleeting",):
                    break
            else:
                raise AssertionError("it was never picked")


async def test_an_answer_that_comes_while_the_wait_ends_is_told(bench: Bench, connect: Connect) -> None:
    """Only a device that is lost is missing, so nothing is waited for but the broker's word; then it answers."""
    peer = await connect(Peer(bench.broker.address))
    await claim(peer, bench.prefix, "gone-1", "lost")
    await peer.subscribe(f"{bench.prefix}/devices/gone-1/cmd/#")
    async with (
        FaultProxy(bench.broker.address) as proxy,
        Fleet(proxy.address, requester="tester", prefix=bench.prefix) as fleet,
    ):
        proxy.add(Hold(packet="PUBACK", direction="to_client"))
        dispatch = fleet.dispatch("gone-1", "work", [])
        telling = asyncio.create_task(told(dispatch))
        await peer.wait_for_topic(f"{bench.prefix}/devices/gone-1/cmd/tester")
        await answer(peer, bench.prefix, "gone-1", dispatch.id)
        await until(lambda: not dispatch.missing)
        assert not telling.done()
        proxy.release()
        assert await telling == [("gone-1", Status.DONE)]


async def test_an_answer_that_comes_while_another_outcome_is_taken_is_told_late(bench: Bench, connect: Connect) -> None:
    peer = await connect(Peer(bench.broker.address))
    await claim(peer, bench.prefix, "gone-1", "lost")
    async with Fleet(bench.broker.address, requester="tester", prefix=bench.prefix) as fleet:
        dispatch = fleet.dispatch("gone-1", "work", [], wait=math.inf)
        async for _, message in dispatch:
            assert isinstance(message, Result)
            assert message.status is Status.QUEUED
            await answer(peer, bench.prefix, "gone-1", dispatch.id)
            await until(lambda: not dispatch.missing)
        async with asyncio.timeout(10):
            late = [
                (device, message.status) async for device, message in dispatch.late() if isinstance(message, Result)
            ]
        assert late == [("gone-1", Status.DONE)]
        assert dispatch.outcomes["gone-1"].status is Status.DONE


async def told(dispatch: Dispatch) -> list[tuple[str, Status]]:
    """The outcomes that were told, in order."""
    async with asyncio.timeout(20):
        return [(device, message.status) async for device, message in dispatch if isinstance(message, Result)]


async def answer(peer: Peer, prefix: str, device: str, id: str) -> None:
    """Answer in the name of a device that does not exist."""
    result = {"id": id, "device": device, "command": "work", "status": "done", "finished": 5}
    await peer.publish(f"{prefix}/devices/{device}/result/tester", result)
