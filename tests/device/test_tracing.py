"""What becomes of a command's trace on a device, and of the spans of who sends: spans in processes of their own."""

import asyncio
import json
from pathlib import Path

import pytest

from outrider.device import Device, Job, MemoryJournal
from tests.brokers import BrokerUnderTest
from tests.device.test_calls import device, lamp, town
from tests.peers import Connect, Peer
from tests.processes import Processes, script, until

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

OTHERS = [f"00-{number:032x}-{number:016x}-00" for number in range(1, 21)]


def relay() -> Device:
    made = Device("relay", initial="ready", journal=MemoryJournal())

    @made.command(name="dim")
    async def dim(job: Job, level: int) -> int:
        await asyncio.sleep(0)
        return await job.call("lamp-2", "dim", level, type=int)

    @made.command
    def dim_in_thread(job: Job, level: int) -> int:
        return job.call_blocking("lamp-2", "dim", level, type=int)

    return made


async def asked_of_lamp(
    broker: BrokerUnderTest, prefix: str, connect: Connect, *commands: dict[str, object]
) -> dict[int, object]:
    """What each command for the relay, with a level of its own, makes it ask of lamp-2: the trace by level."""
    async with town(broker.address, prefix) as served:
        await served.serve(relay(), lamp())
        peer = await connect(Peer(broker.address))
        await peer.subscribe(f"{prefix}/devices/lamp-2/cmd/relay", f"{prefix}/devices/relay/result/peer")
        for number, command in enumerate(commands):
            message = {"id": f"c{number}", "args": [number], **command}
            await peer.publish(f"{prefix}/devices/relay/cmd/peer", json.dumps(message).encode())
        messages = await peer.wait_for_count(2 * len(commands))
    results = [message.json() for message in messages if "/result/" in message.topic]
    assert {result["status"] for result in results} == {"done"}, results
    asked = [message.json() for message in messages if "/cmd/" in message.topic]
    return {each["args"][0]: each.get("trace") for each in asked}


@pytest.mark.parametrize("command", ["dim", "dim_in_thread"])
async def test_without_opentelemetry_the_trace_goes_on_unharmed(
    broker: BrokerUnderTest, prefix: str, connect: Connect, command: str
) -> None:
    assert await asked_of_lamp(broker, prefix, connect, {"command": command, "trace": TRACE}) == {0: TRACE}


@pytest.mark.parametrize(
    "trace",
    [
        "",
        "nonsense",
        TRACE.upper(),
        TRACE + "\n",
        TRACE.replace("00-0a", "ff-0a"),
        "00-" + 32 * "0" + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + 16 * "0" + "-01",
        TRACE[:-1],
        "\u0660" * 2 + TRACE[2:],
    ],
)
async def test_trace_that_is_no_traceparent_is_ignored(
    broker: BrokerUnderTest, prefix: str, connect: Connect, trace: str
) -> None:
    assert await asked_of_lamp(broker, prefix, connect, {"command": "dim", "trace": trace}) == {0: None}


async def test_jobs_at_the_same_time_keep_their_traces_apart(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    commands: list[dict[str, object]] = [
        {"command": ("dim", "dim_in_thread")[number % 2], "trace": each} for number, each in enumerate(OTHERS)
    ]
    untraced: list[dict[str, object]] = [{"command": "dim"}, {"command": "dim_in_thread"}]
    asked = await asked_of_lamp(broker, prefix, connect, *commands, *untraced)
    assert asked == {**dict(enumerate(OTHERS)), len(OTHERS): None, len(OTHERS) + 1: None}


RELAY = """
import asyncio
from pathlib import Path

from outrider.device import Device, Job

relay = Device("relay", initial="ready")


@relay.command(idempotent=True)
async def dim(job: Job, level: int) -> int:
    began = Path("began")
    if not began.exists():
        began.touch()
        await asyncio.Event().wait()
    return await job.call("lamp-2", "dim", level, type=int)
"""


async def test_command_that_runs_again_after_a_crash_keeps_its_trace(
    broker: BrokerUnderTest, prefix: str, connect: Connect, spawn: Processes, tmp_path: Path
) -> None:
    (tmp_path / "relay.py").write_text(RELAY)
    run = (script("outrider-device"), "run", "relay:relay", "--broker", broker.address, "--prefix", prefix)
    async with town(broker.address, prefix) as served:
        await served.serve(lamp())
        first = spawn(*run, cwd=tmp_path)
        await first.wait_for("is connected", errors=True)
        peer = await connect(Peer(broker.address))
        await peer.subscribe(f"{prefix}/devices/lamp-2/cmd/relay")
        command = json.dumps({"id": "c1", "command": "dim", "args": [40], "trace": TRACE})
        await peer.publish(f"{prefix}/devices/relay/cmd/peer", command.encode())
        await until((tmp_path / "began").exists, 10)
        first.kill()
        await first.wait()
        spawn(*run, cwd=tmp_path)
        (asked,) = await peer.wait_for_count(1, timeout=20)
    assert asked.json()["trace"] == TRACE


async def test_what_is_asked_outside_of_a_command_has_no_trace(
    broker: BrokerUnderTest, prefix: str, connect: Connect
) -> None:
    async with town(broker.address, prefix) as served:
        caller = device("caller")
        await served.serve(caller, lamp())
        peer = await connect(Peer(broker.address))
        await peer.subscribe(f"{prefix}/devices/lamp-2/cmd/caller")
        await caller.call("lamp-2", "dim", 40)
        (asked,) = await peer.wait_for_count(1)
    assert "trace" not in asked.json()


async def test_outrider_does_not_import_opentelemetry(spawn: Processes) -> None:
    program = (
        "import sys, outrider.device.main, outrider.controller.cli.main, outrider.controller.hub.hub\n"
        "from outrider.device import tracing\n"
        "assert tracing.tracer() is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    process = spawn.python("-c", program)
    assert await process.wait(30) == 0, process
    assert process.output == "[]\n"


SENDER = """
import asyncio, sys

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from outrider.controller import Fleet
from outrider.device import Device, MemoryJournal
from outrider.schema import CommandFailed, CommandRejected

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

lamp = Device("lamp-1", initial="ready", journal=MemoryJournal())


@lamp.command
async def hold() -> None:
    await asyncio.sleep(60)


@lamp.command
def fail() -> None:
    raise ValueError("no bulb")


async def main(broker: str, prefix: str) -> None:
    served = asyncio.create_task(lamp.serve(broker, prefix=prefix))
    async with Fleet(broker, requester="test", prefix=prefix) as fleet:
        while not fleet.devices():
            await asyncio.sleep(0.01)
        with trace.get_tracer("test").start_as_current_span("root"):
            await fleet.call("lamp-1", "ping")
            for command, error in (("fail", CommandFailed), ("nothing", CommandRejected)):
                try:
                    await fleet.call("lamp-1", command)
                except error:
                    pass
        dispatch = fleet.dispatch("lamp-1", "hold", wait=0.5)
        async for _ in dispatch:
            pass
        dispatch = fleet.dispatch("lamp-1", "hold", wait=30)
        async for device, message in dispatch:
            dispatch.cancel()
        lamp.stop()
        await served
    known = {span.context.span_id: span.name for span in exporter.get_finished_spans()}
    for span in exporter.get_finished_spans():
        above = known.get(span.parent.span_id, "?") if span.parent else "nobody"
        words = span.status.description or ""
        events = ",".join(event.name for event in span.events)
        print(span.name, "|", above, "|", span.attributes.get("outrider.status"), "|", span.status.status_code.name,
              "|", span.attributes.get("error.type", ""), "|", words, "|", events)


asyncio.run(main(*sys.argv[1:]))
"""


async def test_spans_end_as_their_commands_do(broker: BrokerUnderTest, prefix: str, spawn: Processes) -> None:
    process = spawn.python("-c", SENDER, broker.address, prefix)
    assert await process.wait(40) == 0, process
    spans = sorted(tuple(part.strip() for part in line.split("|")) for line in process.output.splitlines())
    no_bulb = "failed: ValueError: no bulb"
    names = "about, cancel, fail, hold, jobs, ping, result, start, stats, stop, terminate"
    known = f"lamp-1 has no command 'nothing'; it has {names}"
    assert spans == [
        ("root", "nobody", "None", "UNSET", "", "", ""),
        ("run cancel", "send cancel", "done", "UNSET", "", "", ""),
        ("run fail", "send fail", "failed", "ERROR", "error", no_bulb, "exception"),
        ("run hold", "send hold", "cancelled", "UNSET", "", "", ""),
        ("run hold", "send hold", "cancelled", "UNSET", "", "", ""),
        ("run ping", "send ping", "done", "UNSET", "", "", ""),
        ("send cancel", "nobody", "done", "UNSET", "", "", ""),
        ("send fail", "root", "failed", "ERROR", "error", no_bulb, ""),
        ("send hold", "nobody", "cancelled", "UNSET", "", "", ""),
        ("send hold", "nobody", "running", "ERROR", "running", "running", ""),
        ("send nothing", "root", "rejected", "ERROR", "unknown-command", f"rejected: {known}", ""),
        ("send ping", "root", "done", "UNSET", "", "", ""),
    ]
