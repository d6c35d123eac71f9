"""Calls spread over devices that are lost, refuse or never come: hand-written devices, a real broker."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from outrider.controller import Fleet, spreading
from outrider.controller.spread import Again
from outrider.controller.spreading import Ended, Spreading
from outrider.schema import LocalError, OutriderError, Result, Status
from tests.brokers import BrokerUnderTest
from tests.peers import Connect, Peer


class Hand:
    """A device by hand, in the pool `hands`."""

    def __init__(self, peer: Peer, prefix: str, id: str) -> None:
        self.peer = peer
        self.id = id
        self._topics = f"{prefix}/devices/{id}"
        self._session = 0
        self._heard = 0

    async def be(self, status: str) -> None:
        self._session += 1
        state: dict[str, object] = {
            "device": self.id,
            "status": status,
            "session": self._session,
            "since": 0,
            "pools": ["hands"],
        }
        await self.peer.publish(f"{self._topics}/state", state, retain=True)

    async def begin(self) -> None:
        await self.peer.subscribe(f"{self._topics}/cmd/#")
        await self.be("ready")

    async def command(self, name: str = "work") -> str:
        """The id of the next command of this name; other commands are passed over."""
        while True:
            self._heard += 1
            got = (await self.peer.wait_for_count(self._heard, 10))[self._heard - 1].json()
            if got["command"] == name:
                return str(got["args"][0] if name == "cancel" else got["id"])

    async def accept(self, id: str) -> None:
        progress = {"id": id, "device": self.id, "seq": 0, "accepted": True}
        await self.peer.publish(f"{self._topics}/progress/tester", progress)

    async def answer(self, id: str, status: str = "done", code: str = "") -> None:
        result: dict[str, object] = {"id": id, "device": self.id, "command": "work", "status": status}
        if code:
            result["error"] = {"code": code, "message": ""}
        await self.peer.publish(f"{self._topics}/result/tester", result)


@pytest_asyncio.fixture
async def hands(broker: BrokerUnderTest, prefix: str, connect: Connect) -> AsyncIterator[list[Hand]]:
    yield [Hand(await connect(Peer(broker.address)), prefix, id) for id in ("left", "right")]


@pytest_asyncio.fixture
async def fleet(broker: BrokerUnderTest, prefix: str, hands: list[Hand]) -> AsyncIterator[Fleet]:
    """With the left hand ready."""
    await hands[0].begin()
    async with Fleet(broker.address, requester="tester", prefix=prefix) as fleet, asyncio.timeout(40):
        changed = asyncio.Event()
        with fleet.roster.watch(lambda _: changed.set()):
            while "left" not in fleet.roster.states:
                changed.clear()
                await changed.wait()
        yield fleet


class Spreader:
    """A spreading that runs, and what has come of it."""

    def __init__(self, fleet: Fleet, calls: int, again: Again, **options: float) -> None:
        self.ends: dict[int, Ended] = {}
        self.spreading = Spreading(
            fleet,
            "any:hands",
            "work",
            lambda number: {"word": str(number)},
            calls,
            succeeded=lambda result: result.status is Status.DONE,
            ended=self.take,
            again=again,
            parallel=1,
            **options,
        )
        self.running = asyncio.create_task(self.spreading.run())

    def take(self, ended: Ended) -> None:
        self.ends[ended.number] = ended

    def result(self, number: int = 0) -> Result:
        result = self.ends[number].result
        assert result is not None
        return result


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices that were lost are given up at once, and none tells what it can do."""
    monkeypatch.setattr(spreading, "RETURN", 0.2)
    monkeypatch.setattr(spreading, "ABOUT_WAIT", 0.1)


async def test_a_call_on_a_device_that_was_lost_has_no_second_try_of_itself(fleet: Fleet, hands: list[Hand]) -> None:
    left, right = hands
    spreader = Spreader(fleet, 1, Again())
    await left.accept(await left.command())
    await right.begin()
    await left.be("lost")
    await spreader.running
    assert (spreader.result().status, spreader.result().device) == (Status.RUNNING, "left")
    assert spreader.ends[0].attempts == 1


async def test_where_it_may_run_again_it_does_elsewhere_and_the_first_is_cancelled(
    fleet: Fleet, hands: list[Hand]
) -> None:
    left, right = hands
    spreader = Spreader(fleet, 1, Again(1, perhaps_ran=True))
    first = await left.command()
    await left.accept(first)
    await right.begin()
    await left.be("lost")
    second = await right.command()
    await left.be("ready")
    assert await left.command("cancel") == first
    await right.answer(second)
    await spreader.running
    assert (spreader.result().status, spreader.result().device) == (Status.DONE, "right")
    assert spreader.ends[0].attempts == 2


async def test_a_device_that_comes_back_tells_how_the_call_ended(
    fleet: Fleet, hands: list[Hand], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreading, "RETURN", 20)
    left, _ = hands
    spreader = Spreader(fleet, 1, Again(5, perhaps_ran=True))
    id = await left.command()
    await left.accept(id)
    await left.be("lost")
    await left.be("ready")
    await left.answer(id)
    await spreader.running
    assert (spreader.result().status, spreader.ends[0].attempts) == (Status.DONE, 1)


async def test_a_call_that_was_rejected_goes_to_a_device_that_came_meanwhile(fleet: Fleet, hands: list[Hand]) -> None:
    left, right = hands
    spreader = Spreader(fleet, 1, Again())
    id = await left.command()
    await right.begin()
    await left.answer(id, "rejected", "unknown-command")
    await right.answer(await right.command())
    await spreader.running
    assert spreader.result().device == "right"


async def test_calls_that_no_device_takes_are_given_up_after_the_wait(fleet: Fleet, hands: list[Hand]) -> None:
    left, _ = hands
    spreader = Spreader(fleet, 3, Again(), wait=0.3)
    await left.be("unready")
    await left.answer(await left.command())
    await spreader.running
    assert spreader.result(0).status is Status.DONE
    assert [(each.result, each.attempts) for number, each in spreader.ends.items() if number] == [(None, 0)] * 2


async def test_wait_for_a_device_begins_when_the_last_call_has_ended(fleet: Fleet, hands: list[Hand]) -> None:
    left, right = hands
    spreader = Spreader(fleet, 2, Again(), wait=2.0)
    id = await left.command()
    await left.be("unready")
    await asyncio.sleep(2.2)  # longer than that wait
    await left.answer(id)
    await right.begin()
    await right.answer(await right.command())
    await spreader.running
    assert [spreader.result(number).status for number in (0, 1)] == [Status.DONE, Status.DONE]


async def test_a_call_that_no_other_device_takes_has_its_last_outcome(fleet: Fleet, hands: list[Hand]) -> None:
    left, _ = hands
    spreader = Spreader(fleet, 1, Again(), wait=0.3)
    await left.answer(await left.command(), "rejected", "unknown-command")
    await spreader.running
    assert (spreader.result().status, spreader.ends[0].attempts) == (Status.REJECTED, 1)


async def test_stopping_cancels_those_that_run_and_sends_no_more(fleet: Fleet, hands: list[Hand]) -> None:
    left, _ = hands
    spreader = Spreader(fleet, 3, Again())
    id = await left.command()
    spreader.spreading.stop()
    assert await left.command("cancel") == id
    await left.answer(id, "cancelled")
    await spreader.running
    assert spreader.result(0).status is Status.CANCELLED
    assert [spreader.ends[number].result for number in (1, 2)] == [None, None]


async def test_what_cannot_be_told_ends_it_all_with_the_reason(fleet: Fleet, hands: list[Hand]) -> None:
    left, _ = hands

    class Full(OutriderError):
        pass

    class Refusing(Spreader):
        def take(self, ended: Ended) -> None:
            raise Full("no room")

    spreader = Refusing(fleet, 3, Again())
    await left.answer(await left.command())
    with pytest.raises(Full, match="no room"):
        await spreader.running


async def test_arguments_that_cannot_be_sent_end_it_all_with_the_reason(fleet: Fleet, hands: list[Hand]) -> None:
    def refuse(number: int) -> dict[str, object]:
        raise LocalError("too large")

    ends: list[Ended] = []
    spread = Spreading(
        fleet, "any:hands", "work", refuse, 3, succeeded=bool, ended=ends.append, again=Again(), parallel=1
    )
    with pytest.raises(LocalError, match="too large"):
        await spread.run()
    assert [each.result for each in ends] == [None] * 2
