"""`outrider-device`: which device it runs, and what it says where it cannot."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.brokers import BrokerUnderTest
from tests.peers import Connect, Peer
from tests.processes import Processes, Spawned, script
from tests.system.conftest import ROOT, Launch, Meet

NOWHERE = "mqtt://127.0.0.1:9"


def run(spawn: Processes, *arguments: str, cwd: Path = ROOT, env: dict[str, str | None] | None = None) -> Spawned:
    return spawn(script("outrider-device"), *arguments, cwd=cwd, env=env)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "COMMAND"),
        (("walk",), "walk"),
        (("run",), "MODULE:NAME or --id"),
        (("run", "lamp"), "MODULE:NAME"),
        (("run", ":lamp"), "MODULE:NAME"),
        (("run", "lamp:"), "MODULE:NAME"),
        (("run", "no_such_module:lamp"), "no module 'no_such_module'"),
        (("run", "tests.no_such_module:lamp"), "no module 'tests.no_such_module'"),
        (("run", "tests/system/workbench.py:bench"), "write its module and the object in it, as workbench:bench"),
        (("run", "tests.system.workbench:nothing"), "Device objects of tests.system.workbench: bench, large"),
        (("run", "tests.system.workbench:not_a_device"), "is no Device"),
        (("run", "--id", "two words"), "device id 'two words'"),
        (("run", "--id", ""), "--id"),
        (("run", "--id", "all"), "reserved"),
        (("run", "--id", "x" * 65), "1 to 64"),
        (("run", "--id", "lamp", "--group", "a/b"), "group 'a/b'"),
        (("run", "--id", "lamp", "--pool", "#"), "pool '#'"),
        (("run", "--id", "lamp", "--tag", "kitchen"), "KEY=VALUE"),
        (("run", "--id", "lamp", "--tag", "=kitchen"), "KEY=VALUE"),
        (("run", "--id", "lamp", "--tag", "room=\udcff"), "tag 'room' cannot be"),
        (("run", "--id", "lamp", "--prefix", "a//b"), "prefix"),
        (("run", "--id", "lamp", "--prefix", "+"), "prefix"),
        (("run", "--id", "lamp", "--broker", "localhost"), "mqtt://"),
        (("run", "--id", "lamp", "--broker", "http://localhost"), "Did you mean ws://localhost"),
        (("run", "--id", "lamp", "--max-jobs", "many"), "--max-jobs"),
        (("run", "--id", "lamp", "--max-jobs", "0"), "--max-jobs"),
        (("run", "--id", "lamp", "--max-jobs", "-1"), "--max-jobs"),
    ],
)
async def test_usage_error_is_said_with_exit_code_2(spawn: Processes, arguments: tuple[str, ...], says: str) -> None:
    process = run(spawn, *arguments)
    assert await process.wait() == 2
    assert says in process.errors
    assert "Traceback" not in process.errors
    assert process.output == ""


async def test_error_in_the_devices_module_is_shown_as_it_is(spawn: Processes, tmp_path: Path) -> None:
    (tmp_path / "lamp.py").write_text("import no_such_driver\n")
    process = run(spawn, "run", "lamp:lamp", cwd=tmp_path)
    assert await process.wait() == 1
    assert "no_such_driver" in process.errors
    assert "lamp.py" in process.errors


async def test_function_that_cannot_be_a_command_is_said(spawn: Processes, tmp_path: Path) -> None:
    (tmp_path / "lamp.py").write_text(
        'from outrider.device import Device\nlamp = Device("lamp")\n@lamp.command\ndef dim(level):\n    return level\n'
    )
    process = run(spawn, "run", "lamp:lamp", cwd=tmp_path)
    assert await process.wait() == 2
    assert "'dim', parameter 'level' has no annotation" in process.errors
    assert "Traceback" not in process.errors


async def test_help_shows_both_ways(spawn: Processes) -> None:
    process = run(spawn, "run", "--help")
    assert await process.wait() == 0
    for word in ("MODULE:NAME", "--id", "--ready", "--broker", "--prefix", "--group", "--pool", "--tag", "--max-jobs"):
        assert word in process.output


async def test_device_of_a_module_is_found_from_the_current_folder(
    launch: Launch, meet: Meet, spawn: Processes, tmp_path: Path, unique: str
) -> None:
    (tmp_path / "lamp.py").write_text(
        "from outrider.device import Device\n"
        f'lamp = Device("lamp-{unique}", groups=["kitchen"], tags={{"floor": 1}})\n'
        "@lamp.command\n"
        "def dim(level: int) -> int:\n"
        '    "Set the brightness."\n'
        "    return level\n"
    )
    other = await meet(launch("--ready"))
    environment: dict[str, str | None] = {
        "OUTRIDER_BROKER": other.device.broker.address,
        "OUTRIDER_PREFIX": other.device.prefix,
    }
    run(spawn, "run", "lamp:lamp", "--ready", "--group", "upstairs", "--tag", "room=k", cwd=tmp_path, env=environment)
    state = await other.state("ready", timeout=10, device=f"lamp-{unique}")
    assert state["groups"] == ["kitchen", "upstairs"]
    assert state["tags"] == {"floor": 1, "room": "k"}
    topic = f"{other.device.prefix}/devices/lamp-{unique}"
    id = await other.start("dim", [40], topic=f"{topic}/cmd/{other.name}")
    assert (await other.result(id, topic=f"{topic}/result/{other.name}"))["value"] == 40


async def test_calculate_prints_on_the_device(launch: Launch, meet: Meet) -> None:
    outsider = await meet(launch("--ready"))
    await outsider.state("ready", timeout=10)
    result = await outsider.ask("calculate", {"x": 0, "msg": "two words"})
    assert result["value"] == "two words"
    await outsider.device.process.wait_for("^two words$")


async def test_calculate_prints_control_characters_written_out(launch: Launch, meet: Meet) -> None:
    outsider = await meet(launch("--ready"))
    await outsider.state("ready", timeout=10)
    said = "one\ntwo\x1b[2J\u202e\r\x07 ë"
    assert (await outsider.ask("calculate", {"x": 0, "msg": said}))["value"] == said
    await outsider.device.process.wait_for(r"^one\ntwo\\x1b\[2J\\u202e\\r\\x07 ë$")


@pytest.mark.parametrize("reader", ["reads nothing", "is gone"])
async def test_output_that_nobody_reads_holds_up_no_other_command(
    broker: BrokerUnderTest, prefix: str, connect: Connect, reader: str
) -> None:
    peer = await connect(Peer(broker.address))
    await peer.subscribe(f"{prefix}/#")
    reading, writing = os.pipe()
    command = (script("outrider-device"), "run", "--id", "lamp-1", "--ready", "--prefix", prefix)
    process = await asyncio.create_subprocess_exec(*command, "--broker", broker.address, stdout=writing)
    os.close(writing)
    try:
        if reader == "is gone":
            os.close(reading)
        await peer.wait_for(lambda message: message.topic.endswith("/state"), 10)
        await ask(peer, prefix, "c1", "calculate", [0, "x" * 200_000])
        assert isinstance((await answer(peer, prefix, await ask(peer, prefix, "p1", "ping", [])))["value"], int)
        if reader == "is gone":
            assert (await answer(peer, prefix, "c1"))["status"] == "done"
        await ask(peer, prefix, "t1", "terminate", [])
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if reader == "reads nothing":
            os.close(reading)


async def ask(peer: Peer, prefix: str, id: str, command: str, args: list[object]) -> str:
    await peer.publish(f"{prefix}/devices/lamp-1/cmd/ann", {"id": id, "command": command, "args": args})
    return id


async def answer(peer: Peer, prefix: str, id: str) -> dict[str, object]:
    """The final answer to the command with this id."""
    topic = f"{prefix}/devices/lamp-1/result/ann"
    return (await peer.wait_for(lambda message: message.topic == topic and message.json()["id"] == id)).json()


async def test_an_empty_broker_in_the_environment_is_none(spawn: Processes) -> None:
    process = run(spawn, "run", "--id", "lamp", env={"OUTRIDER_BROKER": "", "OUTRIDER_PREFIX": ""})
    await process.wait_for(r"localhost:1883|connected", errors=True)
    process.terminate()
    assert await process.wait() == 0


async def test_result_over_the_brokers_limit_fails(launch: Launch, meet: Meet) -> None:
    outsider = await meet(launch("tests.system.workbench:large"))
    await outsider.state("ready", timeout=10)
    assert len((await outsider.ask("letters", [500_000]))["value"]) == 500_000
    if outsider.device.broker.kind != "mosquitto":
        return  # rumqttd does not tell its limit, and ends the connection
    result = await outsider.ask("letters", [2_000_000])
    assert (result["status"], result["error"]["code"]) == ("failed", "too-large")
    assert "value" not in result
    assert (await outsider.ask("ping"))["status"] == "done"
