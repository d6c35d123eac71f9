"""`outrider asyncapi` on a real broker: what devices told, as a document, and what it says where it cannot."""

import json
from pathlib import Path
from typing import Any

import pytest

from outrider.controller import Fleet
from outrider.device import common_commands
from tests.brokers import BrokerUnderTest
from tests.peers import Connect, Peer
from tests.processes import Processes, Spawned, script

LAMP = '''
import enum
from typing import Annotated, Literal

from msgspec import Meta, Struct
from outrider.device import Device


class Colour(enum.Enum):
    RED = "red"


class Scene(Struct):
    """What a lamp shows."""

    name: Annotated[str, Meta(min_length=1)]
    colour: Colour = Colour.RED


lamp = Device("lamp-1", groups=["kitchen"], initial="ready")


@lamp.command(idempotent=True, timeout=60, max_parallel=1)
def show(
    scenes: list[Scene],
    level: Annotated[int, Meta(ge=0, le=100)],
    mode: Literal["soft", "hard"] = "soft",
    then: Scene | None = None,
) -> Scene:
    """Show scenes.

    One after the other.
    """
    return scenes[-1]
'''

OVEN = '''
import enum

from outrider.device import Device


class Colour(enum.Enum):
    GREEN = "green"


oven = Device("oven-1", initial="ready")


@oven.command
def paint(colour: Colour) -> None:
    """Paint it."""
'''


async def start(spawn: Processes, broker: BrokerUnderTest, prefix: str, folder: Path, *sources: str) -> None:
    """Run the devices that these modules define, each in a process of its own."""
    for source in sources:
        name = "lamp" if source is LAMP else "oven"
        (folder / f"{name}.py").write_text(source)
        words = ("run", f"{name}:{name}", "--broker", broker.address, "--prefix", prefix)
        device = spawn(script("outrider-device"), *words, cwd=folder)
        await device.wait_for("is connected", errors=True)


def run(spawn: Processes, broker: BrokerUnderTest, prefix: str, *words: str | Path) -> Spawned:
    return spawn(script("outrider"), "asyncapi", *words, "--broker", broker.address, "--prefix", prefix)


async def printed(spawn: Processes, broker: BrokerUnderTest, prefix: str, *words: str) -> dict[str, Any]:
    process = run(spawn, broker, prefix, *words)
    assert await process.wait(20) == 0, process
    document: dict[str, Any] = json.loads(process.output)
    return document


async def test_document_has_the_commands_of_the_devices_that_are_there(
    broker: BrokerUnderTest, prefix: str, spawn: Processes, tmp_path: Path
) -> None:
    await start(spawn, broker, prefix, tmp_path, LAMP, OVEN)
    document = await printed(spawn, broker, prefix)
    assert document["servers"]["broker"]["protocol"] == "mqtt"
    commands = document["channels"]["lamp-1.commands"]
    assert commands["address"] == f"{prefix}/devices/{{device}}/cmd/{{requester}}"
    assert list(commands["messages"]) == ["show"]
    arguments = commands["messages"]["show"]["payload"]["allOf"][1]["properties"]["args"]
    assert arguments["required"] == ["scenes", "level"]
    assert arguments["properties"]["scenes"]["items"] == {"$ref": "#/components/schemas/lamp-1.Scene"}
    assert arguments["properties"]["then"]["anyOf"][0] == {"$ref": "#/components/schemas/lamp-1.Scene"}
    schemas = document["components"]["schemas"]
    assert (schemas["lamp-1.Colour"]["enum"], schemas["oven-1.Colour"]["enum"]) == (["red"], ["green"])
    operation = document["operations"]["lamp-1.show.send"]
    assert operation["summary"] == "Show scenes."
    assert operation["description"] == (
        "One after the other.\n\n"
        "It may be repeated without harm. It ends after 60 s at the latest. At most 1 of it run at once."
    )
    assert sorted(document["channels"]["all.commands"]["messages"]) == sorted(common_commands())
    async with Fleet(broker.address, requester="tester", prefix=prefix) as fleet:
        told = (await fleet.about("lamp-1")).commands
    assert {name: about for name, about in told.items() if name != "show"} == common_commands()


async def test_target_leaves_the_other_devices_out(
    broker: BrokerUnderTest, prefix: str, spawn: Processes, tmp_path: Path
) -> None:
    await start(spawn, broker, prefix, tmp_path, LAMP, OVEN)
    document = await printed(spawn, broker, prefix, "oven-1", "--side", "requester")
    assert [id for id in document["channels"] if "." in id] == [
        *("all.commands", "all.results", "oven-1.commands", "oven-1.results")
    ]
    assert "oven-1.paint.send" in document["operations"]
    assert {tag["name"] for each in document["operations"].values() for tag in each["tags"]} == {"requester"}


async def test_target_that_nobody_has_seen_is_a_usage_error(
    broker: BrokerUnderTest, prefix: str, spawn: Processes
) -> None:
    process = run(spawn, broker, prefix, "lamp-1")
    assert await process.wait(20) == 2
    assert "no device" in process.errors
    assert process.output == ""


async def test_without_devices_it_is_the_protocol_alone(broker: BrokerUnderTest, prefix: str, spawn: Processes) -> None:
    process = run(spawn, broker, prefix)
    assert await process.wait(20) == 0
    assert "this is the protocol alone" in process.errors
    assert json.loads(process.output)["channels"]["state"]["address"] == f"{prefix}/devices/{{device}}/state"


async def test_devices_that_ended_are_left_out_unless_they_are_named(
    broker: BrokerUnderTest, prefix: str, spawn: Processes, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    command: dict[str, object] = {"help": "", "arguments": {}, "result": {}}
    about = {"versions": {}, "commands": {"paint": command}}
    for device, status in (("gone", "terminated"), ("away", "lost")):
        root = f"{prefix}/devices/{device}"
        await peer.publish(f"{root}/about", about, retain=True)
        await peer.publish(f"{root}/state", {"device": device, "status": status, "session": 1, "since": 0}, retain=True)
    found = (await printed(spawn, broker, prefix))["components"]["parameters"]
    assert found["away.device"]["enum"] == ["away"]
    found = (await printed(spawn, broker, prefix, "gone"))["components"]["parameters"]
    assert found["gone.device"]["enum"] == ["gone"]


async def test_schema_that_is_none_is_left_open_and_said(
    broker: BrokerUnderTest, prefix: str, spawn: Processes, connect: Connect
) -> None:
    peer = await connect(Peer(broker.address))
    commands = {
        "odd": {"help": "", "arguments": {"type": 5}, "result": {"minimum": "much"}},
        "even": {"help": "", "arguments": {"type": "object"}, "result": {}},
    }
    await peer.publish(f"{prefix}/devices/odd-1/about", {"versions": {}, "commands": commands}, retain=True)
    await peer.publish(
        f"{prefix}/devices/odd-1/state",
        {"device": "odd-1", "status": "ready", "session": 1, "since": 0},
        retain=True,
    )
    process = run(spawn, broker, prefix)
    assert await process.wait(20) == 0
    assert process.errors == "odd-1: a schema of odd cannot be read; it is left open\n"
    messages = json.loads(process.output)["channels"]["odd-1.commands"]["messages"]
    args = {name: each["payload"]["allOf"][1]["properties"]["args"] for name, each in messages.items()}
    assert args == {"odd": {}, "even": {"type": "object"}}


async def test_contract_needs_no_broker_and_shows_no_password(spawn: Processes, tmp_path: Path) -> None:
    file = tmp_path / "contract.json"
    words = ("--contract", "--broker", "mqtts://ann:secret@nowhere.invalid,[::1]:1", "--prefix", "site1", "-o", file)
    process = spawn(script("outrider"), "asyncapi", *words)
    assert await process.wait(20) == 0, process
    assert process.output == ""
    text = file.read_text()
    assert "secret" not in text
    assert "ann@" not in text
    document = json.loads(text)
    assert [server["host"] for server in document["servers"].values()] == ["nowhere.invalid:8883", "[::1]:1"]
    assert document["servers"]["broker"]["security"] == [{"$ref": "#/components/securitySchemes/userPassword"}]
    assert document["channels"]["all.commands"]["address"] == "site1/devices/{device}/cmd/{requester}"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--contract", "lamp-1"], 2, "leave out one of them"),
        (["--contract", "--prefix", "a b"], 2, "not well formed"),
        (["--contract", "--side", "both"], 2, "--side"),
        (["--contract", "--output", "/nowhere/file.json"], 2, "/nowhere/file.json cannot be written"),
        (["--broker", "mqtt://127.0.0.1:1"], 3, "nothing listens there"),
    ],
)
async def test_error_has_its_exit_code_and_says_why(spawn: Processes, words: list[str], code: int, said: str) -> None:
    process = spawn(script("outrider"), "asyncapi", *words)
    assert await process.wait(20) == code
    assert said in process.errors
    assert process.output == ""


async def test_unix_socket_is_no_server(spawn: Processes) -> None:
    process = spawn(script("outrider"), "asyncapi", "--contract", "--broker", "unix:///run/mosquitto.sock")
    assert await process.wait(20) == 0
    assert json.loads(process.output)["servers"] == {}
