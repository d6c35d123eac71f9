"""What happens in scenarios, step by step. Each function makes a step; the stage plays them one after the other."""

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable
from types import ModuleType

import pytest

from outrider.controller.faults import Direction, read_line
from outrider.controller.faults.log import Action
from outrider.schema import Topics
from tests.faults import subject
from tests.faults.stage import LIMIT, Stage, Where
from tests.peers import Peer, Will
from tests.processes import until

Step = Callable[[Stage], Awaitable[None]]


def fault(where: Where, *lines: str) -> Step:
    """Make faults on one side of the broker, in the words of `outrider faults`."""
    commands = [step.command for line in lines if (step := read_line(line)) is not None]

    async def play(stage: Stage) -> None:
        for command in commands:
            stage.proxies[where].do(command)

    return play


def heal(where: Where) -> Step:
    """End the faults on one side."""
    return fault(where, "heal")


def seen(
    where: Where,
    packet: str | None,
    action: Action,
    *,
    direction: Direction | None = None,
    contains: bytes = b"",
    count: int = 1,
) -> Step:
    """Wait until the proxy of one side has done this."""

    async def play(stage: Stage) -> None:
        await stage.proxies[where].seen(packet, action=action, direction=direction, contains=contains, count=count)

    return play


def send(
    command: str = "work",
    *,
    times: int = 1,
    by: int = 0,
    wait: float = 10.0,
    expires: float | None = None,
    **args: object,
) -> Step:
    """Send a command, or several."""

    async def play(stage: Stage) -> None:
        path = {"path": str(stage.runs_file)} if command in stage.device.commands and command != "ping" else {}
        for _ in range(times):
            stage.send(command, {**path, **args}, by=by, wait=wait, expires=expires)

    return play


def send_hold() -> Step:
    """Send what keeps the device's only thread until `let_go`."""

    async def play(stage: Stage) -> None:
        stage.send("hold", {"path": str(stage.folder / "go-on")}, by=0, wait=10.0, expires=None)

    return play


async def let_go(stage: Stage) -> None:
    """End what keeps the thread."""
    (stage.folder / "go-on").touch()


def runs(count: int) -> Step:
    """Wait until so many have run."""

    async def play(stage: Stage) -> None:
        await until(lambda: stage.runs() >= count, 10.0)

    return play


async def answered(stage: Stage) -> None:
    """Wait until all that was sent has its outcome."""
    await stage.outcomes()


def replay(times: int = 1) -> Step:
    """Send the first command again, byte for byte, as a network or a broker might that had kept it."""

    async def play(stage: Stage) -> None:
        (event, *_) = await stage.proxies["requester"].seen("PUBLISH", direction="to_broker", topic="+/devices/+/cmd/#")
        assert event.packet is not None
        assert event.packet.topic is not None
        for _ in range(times):
            await stage.fleets[0].connection.publish(event.packet.topic, event.packet.payload)

    return play


async def another_requester(stage: Stage) -> None:
    """A second requester of the same name comes."""
    await stage.add_requester()


# The device


async def device_killed(stage: Stage) -> None:
    """Kill it, and wait until its will has told."""
    session = stage.session
    await stage.kill_device()
    await stage.state("lost", above=session - 1)


async def device_dies(stage: Stage) -> None:
    """Kill it."""
    await stage.kill_device()


async def device_starts(stage: Stage) -> None:
    """Start it again."""
    stage.start_device()


async def device_back(stage: Stage) -> None:
    """Start it again, and wait until it is ready."""
    session = stage.session
    stage.start_device()
    await stage.state("ready", above=session)


def state(status: str) -> Step:
    """Wait until the requester believes this of the device."""

    async def play(stage: Stage) -> None:
        await stage.state(status)

    return play


def clock(seconds: float) -> Step:
    """Set the device's clock forward, or back."""

    async def play(stage: Stage) -> None:
        stage.clock.set(stage.clock() + seconds)

    return play


def disk(size: int) -> Step:
    """Let the device write no file beyond so many bytes; -1 ends that."""

    async def play(stage: Stage) -> None:
        assert stage.process is not None
        resource.prlimit(stage.process.pid, resource.RLIMIT_FSIZE, (size, -1))

    return play


def refuses_to_start(words: str, *, journal: str = "", full: bool = False) -> Step:
    """Start the device with this journal, or on a full disk; it ends with these words."""
    # What it says must not go to a file of the same disk.
    before = ("bash", "-c", 'set -o pipefail; (ulimit -f 0; exec "$@") 2>&1 | cat', "bash") if full else ()

    async def play(stage: Stage) -> None:
        process = stage.spawn_device(journal or str(stage.journal), *before)
        assert await process.wait(LIMIT) == 1, process
        assert words in process.output + process.errors
        assert "Traceback" not in process.output + process.errors

    return play


def dropped(reason: str) -> Step:
    """Check that the device has dropped something for this reason."""

    async def play(stage: Stage) -> None:
        found = await stage.fleets[0].call(subject.ID, "stats", type=dict[str, object])
        assert isinstance(found["dropped"], dict)
        assert reason in found["dropped"]

    return play


def events_sent(count: int) -> Step:
    """Wait until the broker has acknowledged so many of the device's events, and none waits."""

    async def play(stage: Stage) -> None:
        async with asyncio.timeout(LIMIT):
            while True:
                found = await stage.fleets[0].call(subject.ID, "stats", type=dict[str, object])
                if (found["events_waiting"], found["events_sent"]) == (0, count):
                    return

    return play


def limit(module: ModuleType, name: str, value: int) -> Step:
    """Bring a limit near."""

    async def play(stage: Stage) -> None:
        stage.patch.setattr(module, name, value)

    return play


async def device_returns(stage: Stage) -> None:
    """Cut the device's connection, and wait for its next birth."""
    session = stage.session
    stage.proxies["device"].cut()
    await stage.state("ready", above=session)


# The broker


async def broker_killed(stage: Stage) -> None:
    """Kill it; it kept nothing on a disk."""
    assert stage.broker is not None
    await stage.broker.kill()


async def broker_back(stage: Stage) -> None:
    """Start it again, empty."""
    assert stage.broker is not None
    await stage.broker.start()


async def session_dropped(stage: Stage) -> None:
    """Let the broker forget the session of the device, which is away."""
    async with Peer(stage.address, client_id=f"{stage.prefix}-{subject.ID}", clean=True):
        pass


async def taken_over(stage: Stage) -> None:
    """Somebody else takes the device's session over, with a will of a later session, and dies before any word."""
    session = int(time.time() * 1e6)
    topic = Topics(stage.prefix).state(subject.ID)
    payload = f'{{"device":"{subject.ID}","status":"lost","session":{session},"since":1}}'.encode()
    thief = Peer(
        stage.address, client_id=f"{stage.prefix}-{subject.ID}", clean=False, will=Will(topic, payload, retain=True)
    )
    await thief.connect()
    await thief.drop()
    await stage.state("ready", above=session)


def told_behind(seconds: float) -> Step:
    """Ask the device by how much its clock is behind, and whether it still knows how long it runs."""

    async def play(stage: Stage) -> None:
        found = await stage.fleets[0].call(subject.ID, "stats", type=dict[str, object])
        assert found["clock_ahead"] == pytest.approx(-seconds, abs=60)
        assert found["uptime"] == pytest.approx(0, abs=60)

    return play
