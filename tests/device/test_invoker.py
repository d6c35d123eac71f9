import asyncio
import contextlib
import math
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Sequence

import pytest
from msgspec import Raw

from outrider.device import Address, Connection, Device, Invoker, Message, Reply, error_of
from outrider.device.invoker import Arguments
from outrider.schema import (
    CommandRejected,
    Encoding,
    Error,
    InvalidArguments,
    InvalidName,
    NoAnswer,
    Progress,
    Result,
    Status,
    Topics,
    encode,
)
from tests.brokers import BrokerUnderTest
from tests.peers import Connect, Peer


@contextlib.asynccontextmanager
async def asking(broker: BrokerUnderTest, prefix: str, encoding: Encoding = Encoding.JSON) -> AsyncGenerator[Invoker]:
    topics = Topics(prefix)

    def receive(batch: Sequence[Message]) -> None:
        for message in batch:
            topic = topics.parse(message.topic)
            assert topic is not None
            invoker.receive(topic, message.payload)

    async with connected(broker, prefix, receive) as connection:
        invoker = Invoker(connection, topics=topics, requester="asker", encoding=encoding)
        await invoker.open()
        yield invoker


@contextlib.asynccontextmanager
async def connected(
    broker: BrokerUnderTest, prefix: str, receive: Callable[[Sequence[Message]], None]
) -> AsyncGenerator[Connection]:
    async with Connection(Address.parse(broker.address), client_id=f"asker-{prefix}", receive=receive) as connection:
        await connection.wait_connected(timeout=5)
        yield connection


@contextlib.asynccontextmanager
async def serving(device: Device, broker: BrokerUnderTest, prefix: str) -> AsyncGenerator[None]:
    served = asyncio.create_task(device.serve(broker.address, prefix=prefix))
    try:
        yield
    finally:
        device.stop()
        assert await served


async def there(invoker: Invoker, device: str) -> None:
    """Return when the device answers: what is sent before it has subscribed reaches nobody."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(NoAnswer):
                await invoker.call(device, "ping", wait=0.2)
                return


@pytest.mark.parametrize("encoding", Encoding)
async def test_call_gives_the_final_answer(broker: BrokerUnderTest, prefix: str, encoding: Encoding) -> None:
    device = Device("lamp-1", initial="ready")

    @device.command
    async def double(n: int) -> int:
        return 2 * n

    async with serving(device, broker, prefix), asking(broker, prefix, encoding) as invoker:
        await there(invoker, "lamp-1")
        result = await invoker.call("lamp-1", "double", {"n": 21})
        assert result.status is Status.DONE
        assert isinstance(result.value, Raw)
        assert bytes(result.value) == encode(42, encoding)
        assert error_of(result) is None
        rejected = await invoker.call("lamp-1", "double", ["many"])
        error = error_of(rejected)
        assert isinstance(error, CommandRejected)
        assert (error.device, error.command, error.code) == ("lamp-1", "double", "invalid-arguments")
        assert error.details == {"argument": "n"}
        assert "lamp-1: double rejected (invalid-arguments): argument 'n'" in str(error)


async def test_call_without_an_answer_says_how_far_it_came(broker: BrokerUnderTest, prefix: str) -> None:
    device = Device("lamp-1", initial="ready")

    @device.command
    async def wait() -> None:
        await asyncio.Event().wait()

    async with serving(device, broker, prefix), asking(broker, prefix) as invoker:
        await there(invoker, "lamp-1")
        with pytest.raises(NoAnswer) as running:
            await invoker.call("lamp-1", "wait", wait=0.5)
        with pytest.raises(NoAnswer) as queued:
            await invoker.call("nobody", "wait", wait=0.05)
    assert (running.value.status, queued.value.status) == (Status.RUNNING, Status.QUEUED)


async def test_group_is_asked_with_one_message_and_answers_are_told_apart(broker: BrokerUnderTest, prefix: str) -> None:
    lamps = [Device(f"lamp-{n}", groups=["kitchen"], initial="ready") for n in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        for lamp in lamps:
            await stack.enter_async_context(serving(lamp, broker, prefix))
        invoker = await stack.enter_async_context(asking(broker, prefix))
        for lamp in lamps:
            await there(invoker, lamp.id)
        invocation = invoker.invoke([lamp.id for lamp in lamps[:2]], "ping", group="kitchen")
        replies: list[Reply] = []
        while len(replies) < 3:
            reply = await invocation.next(5)
            assert reply is not None
            replies.append(reply)
    assert sorted(reply.device for reply in replies) == ["lamp-0", "lamp-1", "lamp-2"]
    assert sorted(invocation.results) == ["lamp-0", "lamp-1"]
    assert list(invocation.missing) == []


async def test_answers_that_nobody_asked_for_are_dropped(broker: BrokerUnderTest, prefix: str) -> None:
    async with asking(broker, prefix) as invoker:
        topics = Topics(prefix)
        topic = topics.parse(topics.result("lamp-1", "asker"))
        assert topic is not None
        stranger = Result(id="unknown", device="lamp-1", command="ping", status=Status.DONE, finished=1.0)
        invoker.receive(topic, encode(stranger, Encoding.JSON))
        invoker.receive(topic, b"not a result")
        invocation = invoker.invoke(["lamp-1"], "ping")
        forged = Result(id=invocation.id, device="lamp-2", command="ping", status=Status.DONE, finished=1.0)
        invoker.receive(topic, encode(forged, Encoding.JSON))
        assert invoker.dropped == 3
        assert list(invocation.missing) == ["lamp-1"]


@pytest.mark.parametrize(
    ("wait", "good_for"),
    [
        pytest.param(0.01, 30, id="at least half a minute"),
        pytest.param(50.0, 50, id="as long as is waited"),
        pytest.param(1e6, 7 * 86_400, id="at most a week"),
        pytest.param(math.inf, 7 * 86_400, id="a week for ever"),
    ],
)
@pytest.mark.parametrize("how", ["call", "invoke", "invoke a group"])
async def test_a_command_says_when_it_was_asked_and_until_when_it_is_good(
    broker: BrokerUnderTest, prefix: str, connect: Connect, how: str, wait: float, good_for: float
) -> None:
    peer = await connect(Peer(broker.address))
    await peer.subscribe(f"{prefix}/#")
    async with asking(broker, prefix) as invoker:
        began = time.time()
        if how == "call":
            asked = asyncio.create_task(invoker.call("lamp-1", "dim", wait=wait))
            await peer.wait_for_count(1)
            asked.cancel()
        else:
            invoker.invoke(["lamp-1"], "dim", group="kitchen" if how == "invoke a group" else None, expires_in=wait)
        (message,) = await peer.wait_for_count(1)
    assert message.topic == f"{prefix}/{'groups/kitchen' if how == 'invoke a group' else 'devices/lamp-1'}/cmd/asker"
    command = message.json()
    assert began <= command["issued"] <= time.time()
    assert command["expires"] - command["issued"] == pytest.approx(good_for)
    if broker.kind == "embedded":  # a property would end it, if anybody spoke 3.1.1
        assert message.properties == {}
    else:
        expiry = message.properties["MessageExpiryInterval"]
        assert isinstance(expiry, int)
        assert good_for - 10 <= expiry <= good_for


@pytest.mark.parametrize("command", ["", "x" * 129])
async def test_a_command_that_no_message_can_carry_is_not_sent(
    broker: BrokerUnderTest, prefix: str, command: str
) -> None:
    async with asking(broker, prefix) as invoker:
        with pytest.raises(InvalidName, match="1 to 128"):
            invoker.invoke(["lamp-1"], command)
        with pytest.raises(InvalidName, match="1 to 128"):
            await invoker.call("lamp-1", command)


@pytest.mark.parametrize(
    ("args", "name"),
    [
        pytest.param([1.0, math.nan], "2", id="not a number, by position"),
        pytest.param({"level": math.inf}, "level", id="infinite, by name"),
        pytest.param({"path": [{"x": -math.inf}]}, "path", id="deep inside"),
        pytest.param({"level": 2**64}, "level", id="over 64 bits"),
    ],
)
async def test_a_number_that_no_message_can_carry_is_not_sent(
    broker: BrokerUnderTest, prefix: str, args: Arguments, name: str
) -> None:
    async with asking(broker, prefix) as invoker:
        with pytest.raises(InvalidArguments, match=f"argument '{name}'"):
            invoker.invoke(["lamp-1"], "dim", args)
        with pytest.raises(InvalidArguments, match=f"argument '{name}'"):
            await invoker.call("lamp-1", "dim", args)


async def test_answer_given_while_the_requester_was_away_is_found_after_the_reconnect(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    topics = Topics(prefix)
    peer = await connect(Peer(broker.address))

    def receive(batch: Sequence[Message]) -> None:
        for message in batch:
            topic = topics.parse(message.topic)
            assert topic is not None
            invoker.receive(topic, message.payload)

    async with connected(broker, prefix, receive) as connection:
        invoker = Invoker(connection, topics=topics, requester="asker")
        await invoker.open()
        invocation = invoker.invoke(["lamp-1"], "dim")
        await connection.flush(5)
        answer = Result(id=invocation.id, device="lamp-1", command="dim", status=Status.DONE)
        connection.drop()
        await peer.publish(topics.result("lamp-1", "asker"), encode(answer, Encoding.JSON), retain=True)
        assert not connection.connected
        assert await invocation.next(10) == Reply("lamp-1", answer)


async def test_an_invocation_that_nobody_holds_any_more_takes_no_answers(broker: BrokerUnderTest, prefix: str) -> None:
    async with asking(broker, prefix) as invoker:
        topics = Topics(prefix)
        topic = topics.parse(topics.progress("lamp-1", "asker"))
        assert topic is not None
        invocation = invoker.invoke(["lamp-1"], "ping")
        accepted = encode(Progress(id=invocation.id, device="lamp-1", seq=0, accepted=True), Encoding.JSON)
        invoker.receive(topic, accepted)
        assert (invoker.dropped, invocation.accepted) == (0, {"lamp-1"})
        gone = asyncio.Event()
        weakref.finalize(invocation, gone.set)
        del invocation
        async with asyncio.timeout(5):  # the broker's acknowledgement is still on its way to it
            await gone.wait()
        invoker.receive(topic, accepted)
        assert invoker.dropped == 1


def test_error_of_a_status_without_code_names_the_status() -> None:
    result = Result(id="a1", device="lamp-1", command="dim", status=Status.CANCELLED, error=Error("", "cancelled"))
    assert str(error_of(result)) == "lamp-1: dim cancelled: cancelled"
