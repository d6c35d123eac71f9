"""The programs over each kind of connection: a device on one listener of the broker, people on another."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outrider.controller.broker import start_broker
from tests.brokers import kind_or_skip
from tests.device.listeners import listeners
from tests.processes import Processes, script

PATIENCE = 30.0


@pytest.fixture
async def urls(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    folder = tmp_path / "b"  # a socket's path is a short one
    folder.mkdir()
    async with listeners(folder) as found:
        yield found


async def send(spawn: Processes, url: str, *words: str) -> list[object]:
    """What came back from the lamp, in full."""
    process = spawn(script("outrider"), "send", "--ndjson", "--broker", url, "lamp-1", *words)
    assert await process.wait(PATIENCE) == 0, process
    return [json.loads(line)["value"] for line in process.output.splitlines()]


@pytest.mark.parametrize(("device", "people"), [("ws", "unix"), ("unix", "wss"), ("wss", "ws")])
async def test_command_goes_from_one_kind_of_connection_to_another(
    urls: dict[str, str], spawn: Processes, device: str, people: str
) -> None:
    lamp = spawn(script("outrider-device"), "run", "--id", "lamp-1", "--ready", "--broker", urls[device])
    await lamp.wait_for("is connected to", PATIENCE, errors=True)
    assert await send(spawn, urls[people], "calculate", "0", "two words") == ["two words"]
    assert await send(spawn, urls[people], "calculate", "0", "x" * 20_000) == ["x" * 20_000]
    assert await send(spawn, urls[people], "terminate") == ["terminated"]
    assert await lamp.wait(PATIENCE) == 0, lamp


async def test_commands_go_on_at_the_second_broker_when_the_first_is_killed(spawn: Processes) -> None:
    kind = kind_or_skip("mosquitto")
    async with start_broker(kind=kind) as one, start_broker(kind=kind) as two:
        both = f"{one.address},{two.address.removeprefix('mqtt://')}"
        lamp = spawn(script("outrider-device"), "run", "--id", "lamp-1", "--ready", "--broker", both)
        await lamp.wait_for(f"is connected to the broker at 127.0.0.1:{one.ports['5']}", PATIENCE, errors=True)
        assert await send(spawn, both, "calculate", "0", "first") == ["first"]
        await one.kill()
        await lamp.wait_for(f"is connected to the broker at 127.0.0.1:{two.ports['5']}", PATIENCE, errors=True)
        assert await send(spawn, both, "calculate", "0", "second") == ["second"]
        lamp.terminate()
        assert await lamp.wait(PATIENCE) == 0, lamp
