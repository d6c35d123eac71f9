"""What a fleet tells its invoker: who is away, who is back, that the broker was gone; and very many targets."""

import asyncio
from collections.abc import Callable
from typing import Any

from outrider.controller import Dispatch, Fleet
from outrider.device import Pace
from outrider.schema import Encoding, Result, State, Status, encode
from tests.brokers import BrokerUnderTest
from tests.peers import Connect, Peer, Received
from tests.processes import until

QUICK = Pace(unanswered=(0.3, 0.6), accepted=(0.6,), soon=0.05, quiet=0.05, patience=0.3)
SLOW = QUICK._replace(unanswered=(60.0,), accepted=(60.0,))


class Site:
    """A broker on which devices are played by hand."""

    def __init__(self, broker: BrokerUnderTest, prefix: str, peer: Peer) -> None:
        self.broker = broker
        self.prefix = prefix
        self.peer = peer

    def fleet(self, pace: Pace) -> Fleet:
        return Fleet(self.broker.address, requester="tester", prefix=self.prefix, pace=pace)

    async def state(self, id: str, status: str, session: int) -> None:
        state = {"device": id, "status": status, "session": session, "since": 0}
        await self.peer.publish(f"{self.prefix}/devices/{id}/state", state, retain=True)

    def copies(self, id: str, command: str = "dim") -> list[Received]:
        mine = f"{self.prefix}/devices/{id}/cmd/tester"
        return [each for each in self.peer.messages if each.topic == mine and each.json()["command"] == command]

    async def copy(self, id: str, number: int, command: str = "dim", timeout: float = 5.0) -> dict[str, Any]:
        await self.peer.wait_for(lambda _: len(self.copies(id, command)) >= number, timeout)
        return dict(self.copies(id, command)[number - 1].json())

    async def accept(self, id: str, command: dict[str, Any]) -> None:
        progress = {"id": command["id"], "device": id, "seq": 0, "accepted": True}
        await self.peer.publish(f"{self.prefix}/devices/{id}/progress/tester", progress)

    async def end(self, id: str, command: dict[str, Any], status: Status = Status.DONE) -> None:
        result = Result(id=command["id"], device=id, command=command["command"], status=status, finished=1.0)
        await self.peer.publish(f"{self.prefix}/devices/{id}/result/tester", encode(result, Encoding.JSON))


async def site_of(broker: BrokerUnderTest, prefix: str, connect: Connect, *ready: str) -> Site:
    peer = await connect(Peer(broker.address))
    await peer.subscribe(f"{prefix}/devices/+/cmd/#")
    site = Site(broker, prefix, peer)
    for id in ready:
        await site.state(id, "ready", 1)
    return site


async def seen(fleet: Fleet, condition: Callable[[], bool]) -> None:
    changed = asyncio.Event()
    with fleet.roster.watch(lambda state: changed.set()):
        async with asyncio.timeout(5):
            while not condition():
                changed.clear()
                await changed.wait()


async def outcomes(dispatch: Dispatch) -> dict[str, Status]:
    async with asyncio.timeout(15):
        async for _ in dispatch:
            pass
    return {device: result.status for device, result in dispatch.outcomes.items()}


async def test_device_with_a_new_session_after_it_accepted_is_asked_at_once(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    site = await site_of(broker, prefix, connect, "lamp-1")
    async with site.fleet(SLOW) as fleet, asyncio.TaskGroup() as tasks:
        showing = tasks.create_task(outcomes(fleet.dispatch("lamp-1", "dim", wait=10)))
        first = await site.copy("lamp-1", 1)
        await site.accept("lamp-1", first)
        await site.state("lamp-1", "lost", 1)
        await site.state("lamp-1", "ready", 2)
        assert await site.copy("lamp-1", 2) == first
        await site.end("lamp-1", first, Status.INTERRUPTED)
        assert await showing == {"lamp-1": Status.INTERRUPTED}


async def test_lost_device_gets_no_copies(broker: BrokerUnderTest, prefix: str, connect: Connect) -> None:
    site = await site_of(broker, prefix, connect, "lamp-1", "lamp-2")
    await site.state("lamp-1", "lost", 1)
    async with site.fleet(QUICK) as fleet, asyncio.TaskGroup() as tasks:
        await seen(fleet, lambda: fleet.roster.states["lamp-1"].status == "lost")
        showing = tasks.create_task(outcomes(fleet.dispatch("lamp-1,lamp-2", "dim", wait=4)))
        await site.copy("lamp-2", 4)
        assert len(site.copies("lamp-1")) == 1
        await site.end("lamp-2", await site.copy("lamp-2", 1))
        assert await showing == {"lamp-1": Status.QUEUED, "lamp-2": Status.DONE}
    assert len(site.copies("lamp-1")) == 1


async def test_cancel_is_repeated_until_it_is_answered(broker: BrokerUnderTest, prefix: str, connect: Connect) -> None:
    site = await site_of(broker, prefix, connect, "lamp-1")
    async with site.fleet(QUICK) as fleet, asyncio.TaskGroup() as tasks:
        dispatch = fleet.dispatch("lamp-1", "dim", wait=10)
        showing = tasks.create_task(outcomes(dispatch))
        await site.accept("lamp-1", await site.copy("lamp-1", 1))
        dispatch.cancel()
        first = await site.copy("lamp-1", 1, "cancel")
        assert await site.copy("lamp-1", 2, "cancel") == first
        await site.end("lamp-1", first)
        await site.end("lamp-1", await site.copy("lamp-1", 1), Status.CANCELLED)
        assert await showing == {"lamp-1": Status.CANCELLED}


async def test_all_that_are_missing_are_asked_at_once_after_a_reconnect(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    site = await site_of(broker, prefix, connect, "lamp-1", "lamp-2")
    async with site.fleet(SLOW) as fleet, asyncio.TaskGroup() as tasks:
        dispatch = fleet.dispatch("lamp-*", "dim", wait=10)
        showing = tasks.create_task(outcomes(dispatch))
        await dispatch.sent()
        await site.end("lamp-1", await site.copy("lamp-1", 1))
        await until(lambda: len(dispatch.missing) == 1)
        fleet.connection.drop()
        again = await site.copy("lamp-2", 2)
        await site.end("lamp-2", again)
        assert await showing == {"lamp-1": Status.DONE, "lamp-2": Status.DONE}
    assert len(site.copies("lamp-1")) == 1


async def test_twenty_thousand_devices_each_have_their_outcome(broker: BrokerUnderTest, prefix: str) -> None:
    count = 20_000
    async with Fleet(broker.address, requester="tester", prefix=prefix) as fleet:
        for number in range(count):
            id = f"lamp-{number}"
            topic = fleet.topics.parse(fleet.topics.state(id))
            assert topic is not None
            state = State(device=id, status="ready", session=1, since=0)
            fleet.roster.receive(topic, encode(state, Encoding.JSON))
        dispatch = fleet.dispatch("lamp-*", "dim", wait=0.5)
        assert len(await outcomes(dispatch)) == count
        async with asyncio.timeout(60):
            await dispatch.sent()
    assert {result.status for result in dispatch.outcomes.values()} == {Status.QUEUED}
