"""A rollout beside a connection that comes and goes, and a broker that refuses."""

import asyncio

from outrider.controller.batches import InBatches
from outrider.controller.plan import Plan, Share
from outrider.controller.rollout import Rollout
from outrider.device import Invocation, Reply
from outrider.schema import Command, Progress, PublishRefused, State, Status

IDS = ("lamp-0", "lamp-1", "lamp-2")
STATES = {id: State(device=id, status="ready", session=1, since=0.0) for id in IDS}


class Bench:
    """A rollout of three devices, without a broker: what would be published is noted as on its way."""

    def __init__(self, plan: Plan) -> None:
        self.connected = True
        self.invocation = Invocation("1", Command(command="work"))
        self.batches = InBatches(Rollout(plan, IDS), IDS, self.invocation, STATES, lambda: self.connected)
        self.publishes: dict[str, asyncio.Future[None]] = {}

    def step(self, now: float) -> tuple[str, ...]:
        sent = tuple(self.batches.step(now).send)
        for device in sent:
            self.publishes[device] = asyncio.get_running_loop().create_future()
            self.invocation.address((device,), self.publishes[device])
        return sent


async def test_while_the_broker_is_gone_no_device_is_taken_for_silent() -> None:
    bench = Bench(Plan.of("1", settle=10, abort_after=Share.parse("1")))
    assert bench.step(0) == ("lamp-0",)
    bench.connected = False
    assert bench.step(5) == ()
    assert 0 < bench.batches.left(5) <= 5
    assert bench.step(60) == ()
    bench.connected = True
    assert bench.step(61) == ()
    assert bench.batches.rollout.failures == 0
    assert bench.step(61 + 4.9) == ()
    assert bench.batches.rollout.failures == 0
    bench.step(61 + 5)  # 10 s in all, in which it could have been heard
    assert bench.batches.rollout.failed_devices == ("lamp-0",)


async def test_device_that_has_taken_it_holds_its_batch() -> None:
    bench = Bench(Plan.of("1", settle=10))
    bench.step(0)
    bench.invocation.take(Reply("lamp-0", Progress(id="1", device="lamp-0", seq=0, accepted=True)))
    assert bench.step(100) == ()
    assert bench.batches.rollout.in_flight == ("lamp-0",)


async def test_refusal_of_the_broker_is_a_failure_at_once() -> None:
    bench = Bench(Plan.of("1", abort_after=Share.parse("2")))
    bench.step(0)
    bench.publishes["lamp-0"].set_exception(PublishRefused("not authorized"))
    await asyncio.sleep(0)
    assert bench.step(1) == ("lamp-1",)
    assert bench.batches.rollout.failed_devices == ("lamp-0",)


async def test_after_stop_nobody_is_addressed_and_it_is_over_when_the_batch_is() -> None:
    bench = Bench(Plan.of("1"))
    bench.step(0)
    bench.batches.stop()
    bench.batches.rollout.finished("lamp-0", Status.DONE)
    assert bench.step(1) == ()
    assert bench.batches.left(1) == 0
    assert bench.batches.counted() == IDS
