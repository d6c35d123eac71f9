"""`outrider watch` on real terminals, against real brokers and devices."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec import json

from outrider.controller import Fleet
from outrider.controller.broker import BrokerProcess, start_broker
from outrider.schema import Encoding, State, Topics, encode
from tests.brokers import BrokerUnderTest, kind_or_skip
from tests.peers import Connect, Peer
from tests.processes import Processes, script, until
from tests.terminals import CTRL_C, CTRL_U, ENTER, Terminal, open_terminal

ESCAPE = "\x1b"
PAGE_DOWN = "\x1b[6~"
HOME = "\x1b[H"
END = "\x1b[F"


class Scene:
    """A broker, and what is on it under one prefix."""

    def __init__(self, address: str, prefix: str, spawn: Processes, folder: Path) -> None:
        self.address = address
        self.prefix = prefix
        self.spawn = spawn
        self.environment = {
            "OUTRIDER_BROKER": address,
            "OUTRIDER_PREFIX": prefix,
            "OUTRIDER_NAME": "onlooker",
            "XDG_CONFIG_HOME": str(folder),
        }

    def fleet(self, requester: str) -> Fleet:
        return Fleet(self.address, requester=requester, prefix=self.prefix)

    async def device(self, id: str, *options: str) -> None:
        words = ("run", "--broker", self.address, "--prefix", self.prefix, "--id", id, *options)
        process = self.spawn(script("outrider-device"), *words)
        await process.wait_for("is connected", 20, errors=True)

    @asynccontextmanager
    async def watching(self, *words: str, columns: int = 80, lines: int = 24) -> AsyncGenerator[Terminal]:
        async with open_terminal(
            script("outrider"), "watch", *words, env=self.environment, columns=columns, lines=lines
        ) as terminal:
            await terminal.wait_for("^q quit", 30)
            yield terminal


@pytest.fixture
def scene(broker: BrokerUnderTest, prefix: str, spawn: Processes, tmp_path: Path) -> Scene:
    return Scene(broker.address, prefix, spawn, tmp_path)


@pytest_asyncio.fixture
async def mosquitto(prefix: str, spawn: Processes, tmp_path: Path) -> AsyncIterator[Scene]:
    """One that keeps more than 100 retained messages for a subscription."""
    async with start_broker(kind=kind_or_skip("mosquitto")) as broker:
        yield Scene(broker.address, prefix, spawn, tmp_path)


async def stand(peer: Peer, prefix: str, states: Sequence[State]) -> None:
    topics = Topics(prefix)
    for state in states:
        peer.send(topics.state(state.device), encode(state, Encoding.JSON), retain=True)
    await peer.round_trip(30)


def state(id: str, status: str = "ready", session: int = 1, **tags: str | float | bool) -> State:
    assert status in ("ready", "lost")
    since = time.time() - 7200
    return State(device=id, status="lost" if status == "lost" else "ready", session=session, since=since, tags=tags)


async def begin(fleet: Fleet, target: str, command: str, *args: object) -> None:
    await fleet.dispatch(target, command, list(args)).sent()


@pytest.mark.parametrize("columns", [80, 200])
async def test_jobs_of_anybody_are_shown_with_bars_and_results(scene: Scene, columns: int) -> None:
    await scene.device("lamp-1", "--ready", "--group", "kitchen", "--tag", "room=kitchen")
    await scene.device("lamp-2", "--ready")
    async with scene.fleet("ann") as ann, scene.fleet("bob") as bob:
        await begin(ann, "lamp-1", "calculate", 20, "before the watch began")
        async with scene.watching(columns=columns) as terminal:
            await terminal.wait_for(r"^lamp-1 +ready .*calculate +[━╾─]+ +\d+%", 20)
            await terminal.wait_for(r"^2 devices: 2 ready  ━+$")
            await begin(bob, "lamp-2", "calculate", 2, "two")
            await terminal.wait_for(r"^lamp-2 +ready .*calculate +[━╾]+─+ +\d+%", 20)
            await terminal.wait_for(r"^2 jobs running +\d\S* commands/s")
            await terminal.wait_for(r"^lamp-2 +ready .*done calculate", 20)
            await terminal.wait_for(r"^1 job running .*1 done$")
            await begin(bob, "lamp-2", "calculate", -1, "wrong")
            await terminal.wait_for(r"^lamp-2 +ready .*rejected calculate", 20)
            if columns == 200:
                header = "DEVICE STATE SINCE JOB MESSAGE LAST RESULT PER MIN GROUPS TAGS VERSIONS"
                await terminal.wait_for("^" + " +".join(header.split()) + "$")
                await terminal.wait_for(r"^lamp-1 .* of 20 s .*kitchen +room=kitchen +\S+")
            terminal.type("q")
            assert await terminal.wait() == 0


async def test_a_device_that_comes_later_and_matches_joins(scene: Scene, connect: Connect) -> None:
    peer = await connect(Peer(scene.address))
    await stand(peer, scene.prefix, [state("press-1")])
    async with scene.watching("lamp-*") as terminal:
        await terminal.wait_for("^none of 1 devices matches lamp-[*] yet")
        await stand(peer, scene.prefix, [state("lamp-7", session=5), state("press-2")])
        await terminal.wait_for("^lamp-7 +ready")
        await stand(peer, scene.prefix, [state("lamp-7", "lost", session=5)])
        await terminal.wait_for("^lamp-7 +lost")
        assert "press" not in terminal.text
        peer.send(Topics(scene.prefix).state("lamp-7"), b"", retain=True)
        await terminal.wait_for("^none of 2 devices matches lamp-[*] yet")
        terminal.type(CTRL_C)
        assert await terminal.wait() == 130


async def test_a_thousand_devices_are_summed_up_scrolled_and_filtered(mosquitto: Scene, connect: Connect) -> None:
    peer = await connect(Peer(mosquitto.address))
    ids = [f"kiosk-{number}" for number in range(1000)]
    lost = ids[600:610]
    sites = ("north", "south")
    await stand(
        peer,
        mosquitto.prefix,
        [state(id, "lost" if id in lost else "ready", site=sites[at % 2]) for at, id in enumerate(ids)],
    )
    async with mosquitto.watching() as terminal:
        await terminal.wait_for("^1,000 devices: 990 ready, 10 lost  ━+$", 30)
        await terminal.wait_for("^… and 983 more: 983 ready$")
        assert [line.split()[:2] for line in terminal.text.splitlines()[5:22]] == [
            *([id, "lost"] for id in lost),
            *([id, "ready"] for id in ids[:7]),
        ]
        topics = Topics(mosquitto.prefix)
        for id in ids[900:903]:
            answer = {"id": "c1", "device": id, "seq": 0, "fraction": 0.5, "text": "half"}
            peer.send(topics.progress(id, "ann"), json.encode(answer))
        await terminal.wait_for(r"^kiosk-900 +ready .*c1 +[━╾─]+ +50%")
        await terminal.wait_for("^3 jobs running")
        assert terminal.text.splitlines()[8].split() == ["kiosk-600", "lost"]
        terminal.type(PAGE_DOWN)
        await terminal.wait_for(r"^… and 983 more \(17 above\): 973 ready, 10 lost; 3 of them busy$")
        terminal.type(END)
        await terminal.wait_for("^kiosk-999 +ready")
        terminal.type(HOME + "s")
        await terminal.wait_for("sort: device")
        await terminal.wait_for("^kiosk-0 +ready")
        terminal.type("/is:lost and site=north and")
        await terminal.wait_for("^filter: is:lost and site=north and▏")
        terminal.type(ENTER)
        await terminal.wait_for("^filter: .*▏ .*column")
        terminal.type(CTRL_U + "is:lost and site=north" + ENTER)
        await terminal.wait_for("^5 devices: 5 lost")
        assert terminal.text.splitlines()[0].startswith("outrider watch  all devices  filter is:lost and site=north")
        terminal.type(ESCAPE)
        await terminal.wait_for("^1,000 devices")
        terminal.type("q")
        assert await terminal.wait() == 0


async def test_a_flood_of_results_is_counted_and_leaves_the_keys_alive(mosquitto: Scene, connect: Connect) -> None:
    peer = await connect(Peer(mosquitto.address))
    ids = [f"kiosk-{number}" for number in range(200)]
    await stand(peer, mosquitto.prefix, [state(id) for id in ids])
    topics = Topics(mosquitto.prefix)
    async with mosquitto.watching() as terminal:
        await terminal.wait_for("^200 devices: 200 ready", 30)
        for at in range(5000):
            answer = {"id": f"c{at}", "device": ids[at % 200], "command": "dim", "status": "done", "value": at}
            peer.send(topics.result(ids[at % 200], "ann"), json.encode(answer))
        await peer.round_trip(30)
        await terminal.wait_for("5,000 done$", 30)
        terminal.type("q")
        assert await terminal.wait() == 0


async def test_a_lost_broker_is_said_and_its_return_too(
    restartable_broker: BrokerProcess, prefix: str, spawn: Processes, tmp_path: Path
) -> None:
    scene = Scene(restartable_broker.address, prefix, spawn, tmp_path)
    await scene.device("lamp-1", "--ready")
    async with scene.watching(columns=120) as terminal:
        await terminal.wait_for("^lamp-1 +ready", 20)
        await restartable_broker.stop()
        await terminal.wait_for("the broker is lost since [0-9]+ s: ", 20)
        await restartable_broker.restart()
        await terminal.wait_for("the broker is back|^$", 30)
        async with scene.fleet("ann") as ann:
            states = ann.roster.states
            await until(lambda: "lamp-1" in states and states["lamp-1"].status == "ready", 20)
            await begin(ann, "lamp-1", "ping")
            await terminal.wait_for("^lamp-1 +ready .*done ping", 20)
        assert "lost" not in terminal.text
        terminal.type("q")
        assert await terminal.wait() == 0


async def test_without_a_terminal_it_prints_once_and_ends(scene: Scene) -> None:
    await scene.device("lamp-1", "--ready", "--group", "kitchen")
    await scene.device("lamp-2")
    async with scene.fleet("ann") as ann:
        await begin(ann, "lamp-1", "calculate", 600, "long")
        await begin(ann, "lamp-2", "ping")
        looked = scene.spawn(script("outrider"), "watch", env=scene.environment)
        assert await looked.wait(30) == 0, looked
        await looked.wait_for("^2 devices: 1 ready, 1 unready")
        await looked.wait_for("^1 job running")
        await looked.wait_for(r"^lamp-1 +ready .*calculate +for \d+ s")
        await looked.wait_for("^lamp-2 +unready .*rejected ping")
        assert "\x1b" not in looked.output
        told = scene.spawn(script("outrider"), "watch", "@kitchen", "--json", env=scene.environment)
        assert await told.wait(30) == 0, told
        document = json.decode(told.output)
        assert (document["counts"], document["running"], document["target"]) == ({"ready": 1}, 1, "@kitchen")
        (lamp,) = document["devices"]
        (job,) = lamp["jobs"]
        assert (lamp["device"], job["command"], job["requester"]) == ("lamp-1", "calculate", "ann")
        wrong = scene.spawn(script("outrider"), "watch", "@kitchn", env=scene.environment)
        assert await wrong.wait(30) == 2
        assert "@kitchen" in wrong.errors
