"""Commands that somebody published retained: refused, or ignored; never run again."""

from pathlib import Path

import pytest

from tests.brokers import BrokerUnderTest
from tests.system.conftest import WORKBENCH, Launch, Meet
from tests.system.outsider import Outsider, RunningDevice


async def serving(meet: Meet, device: RunningDevice) -> Outsider:
    outsider = await meet(device)
    await outsider.state("ready", timeout=10)
    return outsider


async def settled(outsider: Outsider) -> None:
    """Return when the device has had what was sent to it before."""
    assert (await outsider.ask("ping"))["status"] == "done"
    await outsider.peer.round_trip()


async def test_retained_command_to_a_live_device_is_rejected(
    launch: Launch, meet: Meet, broker: BrokerUnderTest, tmp_path: Path
) -> None:
    outsider = await serving(meet, launch(WORKBENCH))
    marks = tmp_path / "marks"
    await outsider.send({"id": "kept", "command": "mark", "args": [str(marks)]}, retain=True)
    result = await outsider.result("kept")
    assert (result["status"], result["error"]["code"]) == ("rejected", "invalid-message")
    assert outsider.cmd in result["error"]["message"]
    await settled(outsider)
    assert not marks.exists()
    assert len(outsider.states()) == 1


async def test_retained_command_without_an_id_is_dropped(launch: Launch, meet: Meet, tmp_path: Path) -> None:
    outsider = await serving(meet, launch(WORKBENCH))
    marks = tmp_path / "marks"
    for topic in (outsider.cmd, outsider.device.group("all", "cmd")):
        await outsider.send({"command": "mark", "args": [str(marks)]}, topic=topic, retain=True)
    await outsider.send(b"not even a message", retain=True)
    while (await outsider.stats())["dropped"] != {"retained": 2, "invalid-message": 1}:
        pass
    await outsider.send(b"", retain=True)
    await settled(outsider)
    assert (await outsider.stats())["dropped"] == {"retained": 2, "invalid-message": 1}
    assert not marks.exists()


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
