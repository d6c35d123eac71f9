"""Commands that somebody published retained: refused, or ignored; never run again."""

from pathlib import Path

import pytest

from tests.brokers import BrokerUnderTest
from tests.peers import Connect, Peer
from tests.system.conftest import WORKBENCH, Launch, Meet
from tests.system.outsider import Outsider, RunningDevice


async def serving(meet: Meet, device: RunningDevice) -> Outsider:
    outsider = await meet(device)
    await outsider.state("ready", timeout=10)
    return outsider


@pytest.fixture
async def shown(broker: BrokerUnderTest, prefix: str, connect: Connect) -> bool:
    """Whether this broker shows that a live message is retained, as Retain As Published asks: rumqttd does not."""
    peer = await connect(Peer(broker.address))
    await peer.subscribe(f"{prefix}/shown", retain_as_published=True)
    await peer.publish(f"{prefix}/shown", b"x", retain=True)
    shown = (await peer.wait_for_topic(f"{prefix}/shown")).retain
    await peer.publish(f"{prefix}/shown", b"", retain=True)
    return shown


async def settled(outsider: Outsider) -> None:
    """Return when the device has had what was sent to it before."""
    assert (await outsider.ask("ping"))["status"] == "done"
    await outsider.peer.round_trip()


async def test_retained_command_to_a_live_device_is_rejected(
    launch: Launch, meet: Meet, shown: bool, tmp_path: Path
) -> None:
    outsider = await serving(meet, launch(WORKBENCH))
    marks = tmp_path / "marks"
    await outsider.send({"id": "kept", "command": "mark", "args": [str(marks)]}, retain=True)
    result = await outsider.result("kept")
    await settled(outsider)
    assert len(outsider.states()) == 1
    if shown:
        assert (result["status"], result["error"]["code"]) == ("rejected", "invalid-message")
        assert outsider.cmd in result["error"]["message"]
        assert not marks.exists()
    else:
        assert result["status"] == "done"
        assert marks.read_text() == "ran\n"


async def test_retained_command_without_an_id_is_dropped(
    launch: Launch, meet: Meet, shown: bool, tmp_path: Path
) -> None:
    outsider = await serving(meet, launch(WORKBENCH))
    marks = tmp_path / "marks"
    for topic in (outsider.cmd, outsider.device.group("all", "cmd")):
        await outsider.send({"command": "mark", "args": [str(marks)]}, topic=topic, retain=True)
    await outsider.send(b"not even a message", retain=True)
    dropped = {"retained": 2, "invalid-message": 1} if shown else {"invalid-message": 1}
    await outsider.dropped(dropped)
    await settled(outsider)
    assert (marks.read_text() if marks.exists() else "") == ("" if shown else "ran\nran\n")


async def test_clearing_a_retained_command_is_nothing_to_count(launch: Launch, meet: Meet, shown: bool) -> None:
    outsider = await serving(meet, launch(WORKBENCH))
    await outsider.send(b"", retain=True)
    # Where the broker does not show it, this is an empty message like any other.
    await outsider.dropped({} if shown else {"invalid-message": 1})
    await settled(outsider)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("named", [True, False])
async def test_command_stored_before_the_device_subscribed_does_not_run(
    launch: Launch, meet: Meet, tmp_path: Path, version: str, named: bool
) -> None:
    first = await serving(meet, launch(WORKBENCH, version=version))
    await first.ask("terminate")
    assert await first.device.process.wait() == 0
    marks = tmp_path / "marks"
    message = {"command": "mark", "args": [str(marks)], **({"id": "kept"} if named else {})}
    for topic in (first.cmd, first.device.topic("cmd"), first.device.group("all", "cmd")):
        await first.send(message, topic=topic, retain=True)
    count = len(first.peer.messages)
    launch(WORKBENCH, id=first.device.id, version=version)
    await first.state("ready", after=count, timeout=10)
    await settled(first)
    assert {each["status"] for each in first.results("kept", after=count)} <= {"rejected"}
    assert not marks.exists()


async def test_retained_command_to_a_device_on_3_1_1_runs_once(launch: Launch, meet: Meet, tmp_path: Path) -> None:
    outsider = await serving(meet, launch(WORKBENCH, version="3.1.1"))
    marks = tmp_path / "marks"
    await outsider.send({"id": "kept", "command": "mark", "args": [str(marks)]}, retain=True)
    assert (await outsider.result("kept"))["status"] in ("done", "rejected")
    before = marks.read_text() if marks.exists() else ""
    assert before in ("", "ran\n")
    outsider.device.process.kill()
    await outsider.state("lost")
    count = len(outsider.peer.messages)
    launch(WORKBENCH, id=outsider.device.id, version="3.1.1")
    await outsider.state("ready", after=count, timeout=10)
    await settled(outsider)
    assert (marks.read_text() if marks.exists() else "") == before, "the stored copy is ignored"
