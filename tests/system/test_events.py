"""Events of a device that is killed in the middle: none is missing whose `emit` had returned."""

import itertools
from pathlib import Path

import pytest

from tests.brokers import BrokerUnderTest
from tests.peers import Connect, Peer
from tests.processes import Processes, Spawned, until
from tests.system.conftest import Launch, Meet, at_ready, run_device

TELLER = "tests.system.teller:teller"
LIMIT = 30.0
NOBODY = "mqtt://127.0.0.1:1"
KILLS = (300, 700, 1100)
COUNT = 1500


def told(path: Path) -> list[str]:
    """The ids of which the device knew that they are kept. A kill may cut the last line."""
    return [line for line in path.read_text().splitlines() if "-" in line] if path.exists() else []


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "told"
    monkeypatch.setenv("TELLER_FILE", str(path))
    monkeypatch.setenv("TELLER_COUNT", str(COUNT))
    return path


async def killed(process: Spawned) -> None:
    process.kill()
    await process.wait()


def check(peer: Peer, file: Path) -> None:
    """Each event that is known to be kept has come, in order, and under one id with one content."""
    contents = dict[str, bytes]()
    for message in peer.messages:
        assert contents.setdefault(message.json()["id"], message.payload) == message.payload
    ids = list(contents)
    assert [id for id in ids if id in set(told(file))] == told(file)
    lives = [life for life, _ in itertools.groupby(id.split("-")[0] for id in ids)]
    assert len(lives) == len(set(lives))
    for life in lives:
        numbers = [int(id.split("-")[1]) for id in ids if id.startswith(life)]
        assert numbers == sorted(numbers)


async def test_no_kept_event_is_missing_after_kills_in_the_middle(
    broker: BrokerUnderTest, prefix: str, connect: Connect, spawn: Processes, file: Path
) -> None:
    peer = await connect(Peer(broker.address))
    await peer.subscribe(f"{prefix}/devices/teller/event/#")
    for count in KILLS:
        process = run_device(spawn, TELLER, address=broker.address, prefix=prefix)
        await until(lambda count=count: len(told(file)) >= count, LIMIT)  # type: ignore[misc]  # it is bound
        await killed(process)
    run_device(spawn, TELLER, address=broker.address, prefix=prefix)
    await until(lambda: len(told(file)) >= COUNT, LIMIT)
    last = told(file)[-1]
    await peer.wait_for(lambda message: message.json()["id"] == last, LIMIT)
    check(peer, file)


async def test_events_kept_while_the_broker_is_away_survive_a_kill(
    broker: BrokerUnderTest, prefix: str, connect: Connect, spawn: Processes, file: Path
) -> None:
    peer = await connect(Peer(broker.address))
    await peer.subscribe(f"{prefix}/devices/teller/event/#")
    process = run_device(spawn, TELLER, address=NOBODY, prefix=prefix)
    await until(lambda: len(told(file)) == 500, LIMIT)  # as many as it keeps
    await killed(process)
    run_device(spawn, TELLER, address=broker.address, prefix=prefix)
    await until(lambda: len(told(file)) == COUNT, LIMIT)
    last = told(file)[-1]
    await peer.wait_for(lambda message: message.json()["id"] == last, LIMIT)
    check(peer, file)


async def test_clean_end_sends_the_rest_with_the_next_start(launch: Launch, meet: Meet, file: Path) -> None:
    device = launch(TELLER, id="teller")
    ann = await at_ready(meet(device))
    await until(lambda: len(told(file)) >= 300, LIMIT)
    device.process.terminate()
    assert await device.process.wait() == 0
    launch(TELLER, id="teller")
    await until(lambda: len(told(file)) == COUNT, LIMIT)
    last = told(file)[-1]
    await ann.peer.wait_for(lambda message: b'"%b"' % last.encode() in message.payload, LIMIT)
    heard = [message.json()["id"] for message in ann.peer.messages if "/event/" in message.topic]
    assert [id for id in dict.fromkeys(heard) if id in set(told(file))] == told(file)
