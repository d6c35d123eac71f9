"""watch-80.svg, watch-200.svg, watch-1000.svg: `outrider watch` on terminals. Made by `python -m docs.pictures.watch`.

The first two show devices at work for two requesters; the third has a thousand states that stand on the broker, and
some of these devices work.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta

from docs.pictures.screen import svg
from outrider.controller import Fleet
from outrider.controller.broker import BrokerKind, start_broker
from outrider.device import Connection, Device, Job
from outrider.device.address import Address
from outrider.schema import Encoding, State, Topics, encode
from tests.processes import script, until
from tests.terminals import Terminal, open_terminal

FOLDER: Final = Path(__file__).parent


def machine(id: str, *groups: str, initial: str = "ready", **tags: str | float | bool) -> Device:
    """A device that has something to do."""
    device = Device(
        id,
        groups=groups,
        tags=tags,
        versions={"firmware": "2.1.0"},
        initial="ready" if initial == "ready" else "unready",
    )

    @device.command(idempotent=True)
    def dim(level: Annotated[int, Meta(ge=0, le=100)]) -> int:
        """Set the brightness in percent and return it."""
        return level

    @device.command
    async def calibrate(job: Job, rounds: int = 10, pace: float = 0.5) -> float:
        """Run calibration rounds and return the error."""
        error = 1.0
        for at in range(rounds):
            job.report(at / rounds, f"round {at + 1} of {rounds}, error {error:.3f}")
            await asyncio.sleep(pace)
            error *= 0.8
        return round(error, 4)

    @device.command
    async def update(job: Job, version: str, seconds: float = 20.0) -> str:
        """Install a version."""
        steps = ("downloading", "checking", "unpacking", "installing")
        for at in range(40):
            job.report(at / 40, f"{steps[at // 10]} {version}")
            await asyncio.sleep(seconds / 40)
        return version

    @device.command
    async def listen() -> None:
        """Go on for ever."""
        await asyncio.sleep(3600)

    @device.command
    def home() -> None:
        """Fail."""
        raise RuntimeError("the axis does not move: is the brake off?")

    return device


@asynccontextmanager
async def serving(address: str, devices: Sequence[Device]) -> AsyncGenerator[Fleet]:
    """The devices at work, and a fleet that sees them."""
    async with asyncio.TaskGroup() as tasks, Fleet(address, requester="ann") as fleet:
        served = [tasks.create_task(device.serve(address)) for device in devices]
        await until(lambda: all(device.id in fleet.roster.states for device in devices), 20)
        try:
            yield fleet
        finally:
            for device in devices:
                device.stop()
            await asyncio.wait(served)


async def send(fleet: Fleet, target: str, command: str, *args: object) -> None:
    """Send, and do not wait for the outcome."""
    sent = fleet.dispatch(target, command, list(args))
    await sent.sent()


async def stand(address: str, states: Sequence[State]) -> None:
    """Let states stand on the broker."""
    async with Connection(Address.parse(address), client_id="states", receive=lambda batch: None) as connection:
        await connection.wait_connected()
        topics = Topics()
        await asyncio.gather(
            *(
                connection.publish(topics.state(state.device), encode(state, Encoding.JSON), retain=True)
                for state in states
            )
        )


def like(id: str, status: str, **tags: str | float | bool) -> State:
    """A state."""
    return State(
        device=id,
        status="lost" if status == "lost" else "unready" if status == "unready" else "ready",
        session=1,
        since=time.time() - 9000,
        tags=tags,
    )


async def few(columns: int, lines: int, name: str) -> None:
    """A lab bench."""
    devices = [
        machine("lamp-1", "kitchen", room="kitchen", fw="2.1"),
        machine("lamp-2", "kitchen", room="kitchen", fw="2.1"),
        machine("lamp-10", "hall", room="hall", fw="2.0"),
        machine("press-1", "bench", room="lab", axes=3),
        machine("press-2", "bench", room="lab", axes=3),
        machine("kiosk-1", "shop", initial="unready", room="shop"),
    ]
    async with start_broker(kind=BrokerKind.MOSQUITTO) as broker:
        await stand(broker.address, [like("scale-1", "lost", room="lab", fw="1.9")])
        async with serving(broker.address, devices) as ann, Fleet(broker.address, requester="lab-pc") as pc:
            await send(ann, "lamp-1", "listen")
            async with watching(broker.address, columns, lines) as terminal:
                await terminal.wait_for("7 devices")
                await send(pc, "@bench", "calibrate", 60)
                await send(ann, "lamp-10", "home")
                await send(ann, "kiosk-1", "dim", 40)
                await asyncio.sleep(4)
                await send(ann, "@kitchen", "update", "2.2.0")
                await send(ann, "@kitchen", "dim", 80)
                await terminal.wait_for(r"press-1.* 2\d%", 30)
                await terminal.wait_for(r"lamp-2.* [34]\d%", 30)
                (FOLDER / name).write_text(svg(terminal.screen, "outrider watch"))
                terminal.type("q")
                await terminal.wait()


async def many() -> None:
    """A fleet of a thousand, of which most do nothing."""
    chance = random.Random(3)
    devices = [machine(f"kiosk-{number:04}", "shop", site="north") for number in (41, 97, 312, 313, 640, 801, 877)]
    working = {device.id for device in devices}
    ids = [f"kiosk-{number:04}" for number in range(1, 1001)]
    lost = set(chance.sample(ids, 10))
    states = [like(id, "lost" if id in lost else "ready", site="north") for id in ids if id not in working]
    async with start_broker(kind=BrokerKind.MOSQUITTO) as broker:
        await stand(broker.address, states)
        async with serving(broker.address, devices) as ann, watching(broker.address, 100, 30) as terminal:
            await terminal.wait_for("1,000 devices")
            for at, device in enumerate(devices[:5]):
                await send(ann, device.id, "update", "2.2.0")
                await send(ann, device.id, "dim", 10 * at)
                await asyncio.sleep(1)
            await send(ann, devices[5].id, "home")
            await send(ann, devices[6].id, "dim", 40)
            await terminal.wait_for(r"kiosk-0041.* 4\d%", 30)
            (FOLDER / "watch-1000.svg").write_text(svg(terminal.screen, "outrider watch"))
            terminal.type("q")
            await terminal.wait()


@asynccontextmanager
async def watching(address: str, columns: int, lines: int) -> AsyncGenerator[Terminal]:
    """The real program on a terminal."""
    with tempfile.TemporaryDirectory() as directory:
        environment = {"OUTRIDER_BROKER": address, "OUTRIDER_NAME": "onlooker", "XDG_CONFIG_HOME": directory}
        async with open_terminal(
            script("outrider"), "watch", env=environment, columns=columns, lines=lines
        ) as terminal:
            yield terminal


async def main() -> None:
    """Play the scenes and write the pictures."""
    await few(80, 16, "watch-80.svg")
    await few(200, 16, "watch-200.svg")
    await many()


if __name__ == "__main__":
    asyncio.run(main())
