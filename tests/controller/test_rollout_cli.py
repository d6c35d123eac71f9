"""Rollouts as people type them: what the options mean to `outrider send`, and what it prints."""

import pytest

from tests.brokers import BrokerUnderTest
from tests.peers import Connect, Peer
from tests.processes import Processes, script

OUTRIDER, DEVICE = script("outrider"), script("outrider-device")


async def test_rollout_that_is_typed_says_its_plan_and_aborts_at_the_device_that_refuses(
    broker: BrokerUnderTest, prefix: str, spawn: Processes, connect: Connect
) -> None:
    environment = {"OUTRIDER_BROKER": broker.address, "OUTRIDER_PREFIX": prefix, "OUTRIDER_NAME": "tester"}
    peer = await connect(Peer(broker.address))
    lost = {"device": "lamp-1", "status": "lost", "session": 1, "since": 0}
    waiting = {"device": "lamp-4", "status": "ready", "session": 1, "since": 0}
    await peer.publish(f"{prefix}/devices/lamp-1/state", lost, retain=True)
    await peer.publish(f"{prefix}/devices/lamp-4/state", waiting, retain=True)
    await peer.subscribe(f"{prefix}/devices/+/state", f"{prefix}/devices/+/cmd/#")
    spawn(DEVICE, "run", "--id", "lamp-2", "--ready", env=environment)
    spawn(DEVICE, "run", "--id", "lamp-3", env=environment)  # unready: it refuses
    await peer.wait_for(lambda message: message.topic.endswith("lamp-2/state"))
    await peer.wait_for(lambda message: message.topic.endswith("lamp-3/state"))

    options = ["--batch", "1,25%", "--pause", "0.1s", "--abort-on-failure", "1", "--cancel-on-abort", "--wait", "20s"]
    process = spawn(OUTRIDER, "send", "all", "ping", *options, env=environment)
    assert await process.wait(40) == 1, process
    assert "4 devices in 4 batches: 1, 1, 1, 1; 0.1 s between them; aborts at 1 failure and cancels" in process.errors
    assert "aborted in batch 2: 1 of 2 failed; 1 never addressed: lamp-4" in process.errors
    assert "4 targets: 1 done, 1 rejected, 1 cancelled, 1 queued" in process.output
    await peer.round_trip()
    commands = [message for message in peer.messages if "/cmd/" in message.topic]
    sent = [(message.topic.split("/")[2], message.json()["command"]) for message in commands]
    assert sent == [("lamp-1", "ping"), ("lamp-2", "ping"), ("lamp-3", "ping"), ("lamp-1", "cancel")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--batch", "0"], "write a whole number"),
        (["--batch", "1,,2"], "is no number of devices"),
        (["--batch", "5", "--abort-on-failure", "101%"], "up to 100%"),
        (["--batch", "5", "--minimum", "0"], "--minimum"),
        (["--abort-on-failure", "3"], "need --batch"),
    ],
)
async def test_plan_that_cannot_be_is_a_usage_error_before_anything_is_sent(
    spawn: Processes, options: list[str], said: str
) -> None:
    environment = {"OUTRIDER_BROKER": "mqtt://127.0.0.1:1", "COLUMNS": "200"}
    process = spawn(OUTRIDER, "send", "all", "ping", *options, env=environment)
    assert await process.wait(20) == 2, process
    assert said in process.errors
