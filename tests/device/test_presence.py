import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from outrider.device import Device, Job, MemoryJournal
from outrider.schema.messages import MAX_SESSION
from tests.brokers import BrokerUnderTest
from tests.device.mosquitto import mosquitto
from tests.peers import Connect, Peer, Received
from tests.processes import until


@contextlib.asynccontextmanager
async def serving(device: Device, address: str, prefix: str) -> AsyncGenerator[None]:
    served = asyncio.create_task(device.serve(address, prefix=prefix))
    try:
        yield
    finally:
        device.stop()
        assert await served


def is_state(prefix: str, status: str) -> Callable[[Received], bool]:
    def matches(message: Received) -> bool:
        return message.topic == f"{prefix}/devices/lamp-1/state" and f'"status":"{status}"' in message.payload.decode()

    return matches


FORGED = [
    b"not a state",
    b'{"device":"lamp-1","status":"terminated","session":%d,"since":1}',
    b'{"device":"lamp-1","status":"ready","session":1,"since":1}',
    b'{"device":"lamp-1","status":"ready","session":9007199254740990,"since":1}',
    b'{"device":"lamp-1","status":"ready","session":9007199254740991,"since":1}',
]


@pytest.mark.parametrize("forged", FORGED)
async def test_forged_state_is_corrected_without_a_flood(
    broker: BrokerUnderTest, prefix: str, connect: Connect, forged: bytes
) -> None:
    lamp = Device("lamp-1", initial="ready")
    peer = await connect(Peer(broker.address_for("5")))
    await peer.subscribe(f"{prefix}/devices/lamp-1/state")
    async with serving(lamp, broker.address, prefix):
        ours = await peer.wait_for(is_state(prefix, "ready"))
        payload = forged % ours.json()["session"] if b"%d" in forged else forged
        for _ in range(20):
            await peer.publish(f"{prefix}/devices/lamp-1/state", payload, retain=True)
        sent = len(peer.messages)
        healed = await peer.wait_for(
            lambda message: message.payload != payload and message.json()["session"] >= ours.json()["session"], after=1
        )
        assert healed.json()["status"] == "ready"
        assert healed.json()["session"] < MAX_SESSION // 2
        await peer.wait_for(lambda message: message.payload == ours.payload, after=sent)
        # Twenty forgeries are answered once at first and once more when they are over, not one by one.
        corrections = [message for message in peer.messages[1:] if message.payload != payload]
        assert len(corrections) <= 5


async def test_about_over_the_brokers_limit_leaves_the_device_visible(
    tmp_path: Path, prefix: str, connect: Connect
) -> None:
    lamp = Device("lamp-1", initial="ready")
    async with mosquitto(tmp_path, "max_packet_size 2000") as port:
        peer = await connect(Peer(f"mqtt://127.0.0.1:{port}"))
        await peer.subscribe(f"{prefix}/devices/lamp-1/#")
        async with serving(lamp, f"mqtt://127.0.0.1:{port}", prefix):
            await peer.wait_for(is_state(prefix, "ready"))
            await peer.publish(f"{prefix}/devices/lamp-1/cmd", {"id": "a1", "command": "ping"})
            answer = await peer.wait_for_topic(f"{prefix}/devices/lamp-1/result")
            assert answer.json()["status"] == "done"
        assert not any(message.topic.endswith("/about") for message in peer.messages)


async def test_result_that_no_broker_took_is_given_when_the_device_serves_again(
    tmp_path: Path, prefix: str, connect: Connect
) -> None:
    journal = MemoryJournal()
    lamp = Device("lamp-1", initial="ready", journal=journal)
    began, go_on = asyncio.Event(), asyncio.Event()

    @lamp.command
    async def work() -> str:
        began.set()
        await go_on.wait()
        return "finished"

    topic = f"{prefix}/devices/lamp-1"
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(mosquitto(tmp_path))
        served = asyncio.create_task(lamp.serve(f"mqtt://127.0.0.1:{port}", prefix=prefix))
        peer = await connect(Peer(f"mqtt://127.0.0.1:{port}"))
        await peer.subscribe(f"{topic}/#")
        await peer.wait_for(is_state(prefix, "ready"))
        await peer.publish(f"{topic}/cmd/me", {"id": "a1", "command": "work"})
        await asyncio.wait_for(began.wait(), 5)
    go_on.set()  # no broker any more
    await until(lambda: journal.undelivered())
    lamp.stop()
    assert await served
    async with mosquitto(tmp_path) as port:
        peer = await connect(Peer(f"mqtt://127.0.0.1:{port}"))
        await peer.subscribe(f"{topic}/result/me")
        async with serving(lamp, f"mqtt://127.0.0.1:{port}", prefix):
            answer = await peer.wait_for_topic(f"{topic}/result/me")
    assert (answer.json()["id"], answer.json()["value"]) == ("a1", "finished")


async def test_chatty_job_holds_up_neither_a_ping_nor_its_own_result(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    lamp = Device("lamp-1", initial="ready")

    @lamp.command
    def chatter(job: Job) -> int:
        for n in range(20_000):
            job.report(n / 20_000, "word " * 20)
        job.print("x" * 300_000, end="")
        job.report(text="\udcff")
        return 20_000

    topic = f"{prefix}/devices/lamp-1"
    peer = await connect(Peer(broker.address_for("5")))
    await peer.subscribe(f"{topic}/state", f"{topic}/result/#")
    async with serving(lamp, broker.address, prefix):
        await peer.wait_for(is_state(prefix, "ready"))
        await peer.publish(f"{topic}/cmd/me", {"id": "a1", "command": "chatter"})
        await peer.publish(f"{topic}/cmd/me", {"id": "a2", "command": "ping"})
        ping = await peer.wait_for_topic(f"{topic}/result/me", 10)
        assert ping.json()["id"] == "a2"
        done = await peer.wait_for(lambda message: b'"id":"a1"' in message.payload, 30)
        assert (done.json()["status"], done.json()["value"]) == ("done", 20_000)
