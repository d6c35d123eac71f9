"""`outrider faults` as people and scripts meet it: a real process between real clients and a real broker."""

import asyncio
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from msgspec import json

from tests.brokers import BrokerUnderTest
from tests.controller.faults.through import LIMIT, Inbox, connected
from tests.processes import Processes, Spawned, script
from tests.terminals import CTRL_C, open_terminal

OUTRIDER = script("outrider")


def start(spawn: Processes, broker: BrokerUnderTest, *words: str | Path, stdin: bool = True) -> Spawned:
    return spawn(OUTRIDER, "faults", "--broker", broker.address, *words, stdin=stdin)


async def address(process: Spawned) -> str:
    return (await process.wait_for(r"export OUTRIDER_BROKER=(\S+)"))[1]


def lines(process: Spawned) -> list[dict[str, Any]]:
    return [json.decode(line, type=dict[str, Any]) for line in process.output.splitlines()]


async def test_typed_lines_act_and_are_shown(spawn: Processes, broker: BrokerUnderTest, prefix: str) -> None:
    inbox = Inbox()
    process = start(spawn, broker)
    async with connected(await address(process), prefix, f"{prefix}/#", receive=inbox) as connection:
        await process.wait_for(f"connected +{prefix}  MQTT 5")
        process.write(f"drop topic {prefix}/t 1\n")
        await process.wait_for(f"^now: drop topic {prefix}/t 1$")
        lost = connection.publish(f"{prefix}/t", b"1")
        connection.publish(f"{prefix}/t", b"2")
        assert await inbox.until(1) == [b"2"]
        await process.wait_for(rf"dropped +{prefix}  PUBLISH  \d+  {prefix}/t  to broker")
        process.write("status\ndrop PUBAK\ncut\n")
        await process.wait_for(f"^clients: {prefix}$")
        await process.wait_for(r"^passed: \d+, connected: 1, dropped PUBLISH: 1$")
        await process.wait_for("column 6: 'PUBAK' does not fit", errors=True)
        async with asyncio.timeout(LIMIT):
            await lost
        await process.wait_for(f"cut +{prefix}")
        process.write("help\n")
        await process.wait_for("end all of these", errors=True)
        process.write("quit\n")
        assert await process.wait() == 0, process


async def test_script_runs_and_says_in_json_what_happens(
    spawn: Processes, broker: BrokerUnderTest, prefix: str, tmp_path: Path
) -> None:
    file = tmp_path / "train"
    file.write_text(f"drop topic {prefix}/t skip 1 1\nevery 200ms..300ms cut for 1s\n")
    refused = start(spawn, broker, file)
    assert await refused.wait() == 2
    assert "error: line 2, column 24: 'for' does not fit" in refused.errors
    file.write_text(f"drop topic {prefix}/t skip 1 1  # the second\nevery 400ms..600ms cut client {prefix}\n")
    process = start(spawn, broker, file, "--json", "--seed", "3", stdin=False)
    listening = json.decode((await process.wait_for("^(.*)\n"))[1], type=dict[str, Any])
    assert listening["event"] == "listening"
    inbox = Inbox()
    async with connected(listening["address"], prefix, f"{prefix}/#", receive=inbox) as connection:
        for number in range(3):
            connection.publish(f"{prefix}/t", b"%d" % number)
        await process.wait_for('"event": "cut"')
        await inbox.until(3)
        await process.wait_for(f'("event": "connected"[^\n]*"{prefix}"[^\n]*\n[^$]*){{2}}')
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0, process
    found = lines(process)
    (dropped,) = (line for line in found if line["event"] == "dropped")
    assert dropped | {"time": 0, "packet_id": 0} == {
        "event": "dropped",
        "time": 0,
        "connection": dropped["connection"],
        "client": prefix,
        "direction": "to_broker",
        "packet": "PUBLISH",
        "topic": f"{prefix}/t",
        "packet_id": 0,
        "size": dropped["size"],
    }
    assert found[-1]["event"] == "status"
    assert found[-1]["door"] == "open"
    assert not process.errors


async def test_everything_is_shown_when_asked_for(spawn: Processes, broker: BrokerUnderTest, prefix: str) -> None:
    process = start(spawn, broker, "-v")
    async with connected(await address(process), prefix) as connection, asyncio.timeout(LIMIT):
        await connection.publish(f"{prefix}/t\u202e", b"x")
        await process.wait_for(rf"passed +{prefix}  PUBLISH  \d+  {prefix}/t\\u202e  to broker")
        await process.wait_for(rf"passed +{prefix}  PUBACK  \d+  to client")


async def test_script_from_a_pipe_ends_and_the_proxy_goes_on(
    spawn: Processes, broker: BrokerUnderTest, prefix: str
) -> None:
    process = start(spawn, broker, "-")
    process.write("refuse for 200ms\n")
    process.close_input()
    await process.wait_for("^undone: refuse for 200ms$")
    async with connected(await address(process), prefix):
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0, process


async def test_terminal_takes_lines_and_ctrl_c(broker: BrokerUnderTest) -> None:
    words = (OUTRIDER, "faults", "--broker", broker.address)
    async with open_terminal(*words, env={}) as terminal:
        await terminal.wait_for("Ctrl-C ends it")
        terminal.type("at 50ms throttle 1000 to client\r")
        await terminal.wait_for("^now: throttle 1000 to client$")
        terminal.type("status\r")
        await terminal.wait_for("^throttle: 1000 B/s to client$")
        terminal.type(CTRL_C)
        assert await terminal.wait() == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--broker", "nonsense"], "is not a broker's URL"),
        (["--listen", "65536"], "--listen"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
        (["/no/such/script"], "the script /no/such/script cannot be read: No such file"),
        (["--sede", "1"], "--sede"),
    ],
)
async def test_what_cannot_be_says_why(spawn: Processes, words: list[str], said: str) -> None:
    process = spawn(OUTRIDER, "faults", *words)
    assert await process.wait() == 2
    assert said in process.errors
    assert "Traceback" not in process.errors


async def test_fault_of_packets_over_tls_is_refused(spawn: Processes, tmp_path: Path) -> None:
    script = tmp_path / "faults.txt"
    script.write_text("cut\nat 5s drop PUBACK 3\n")
    refused = spawn(OUTRIDER, "faults", str(script), "--broker", "mqtts://127.0.0.1:1")
    assert await refused.wait() == 2
    assert "single packets and clients do not show over mqtts://" in " ".join(refused.errors.split())
    process = spawn(OUTRIDER, "faults", "--broker", "wss://127.0.0.1:1", stdin=True)
    await address(process)
    process.write("drop PUBACK 3\ncut client lamp-1\ncut\nstatus\n")
    await process.wait_for("clients: none")
    assert process.output.count("rule:") == 0
    assert " ".join(process.errors.split()).count("do not show over wss://") == 2


async def test_taken_port_is_said(spawn: Processes) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = spawn(OUTRIDER, "faults", "--listen", str(taken.getsockname()[1]))
        assert await process.wait() == 2
        assert "it is taken; choose another" in process.errors


async def test_broker_that_is_not_there_is_said(spawn: Processes) -> None:
    process = spawn(OUTRIDER, "faults", "--broker", "mqtt://127.0.0.1:1", stdin=True)
    found = await process.wait_for(r"mqtt://127\.0\.0\.1:(\d+)\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(found[1]))
    async with asyncio.timeout(LIMIT):
        assert await reader.read() == b""
    await process.wait_for(r"unreachable +connection 1  the broker at 127\.0\.0\.1:1: Connection refused")
    writer.close()
