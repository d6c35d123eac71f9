"""One trace from a client's request through hub and broker to devices and back, each in a process of its own."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.brokers import BrokerUnderTest
from tests.controller.hub.running import RunningHub
from tests.processes import Processes, script, until

SPANS = '''
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from outrider.controller.hub import Plugin

spans = Plugin("spans")


@spans.function
async def greet(name: str) -> str:
    """Greet."""
    with tracer.start_as_current_span("greeting"):
        return f"hello {name}"


file = Path("spans.ndjson").open("a", buffering=1)
provider = TracerProvider()
exporter = ConsoleSpanExporter(out=file, formatter=lambda span: span.to_json(indent=None) + "\\n")
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("test")
'''

DEVICE = """
import asyncio

from spans import tracer
from outrider.device import Device, Job

lamp = Device("lamp-1", groups=["kitchen"], initial="ready")
other = Device("lamp-2", groups=["kitchen"], initial="ready")


@lamp.command
async def dim(job: Job, level: int) -> int:
    with tracer.start_as_current_span("driving"):
        await asyncio.sleep(0)
        return await job.call("lamp-2", "set", level, type=int)


@lamp.command(name="set")
@other.command(name="set")
def set_level(level: int) -> int:
    with tracer.start_as_current_span("setting"):
        return level


@lamp.command
def relay(job: Job, level: int) -> int:
    with tracer.start_as_current_span("relaying"):
        return job.call_blocking("lamp-2", "set", level, type=int)


@lamp.command
async def greeted(job: Job) -> str:
    return await job.call("any:hub", "greet", "lamp", type=str)


@lamp.command
@other.command
def fail() -> None:
    raise ValueError("no bulb")
"""

CALLER = "b7ad6b7169203331"
"""The span of a client, which is in no process of ours."""


@dataclass(frozen=True)
class Span:
    """A span as it was exported."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str | None
    status: str
    attributes: dict[str, Any]


class Spans:
    """What all processes have exported so far."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def all(self, trace: str | None = None) -> list[Span]:
        found: list[Span] = []
        for line in self._file.read_text().splitlines() if self._file.exists() else ():
            span = json.loads(line)
            found.append(
                Span(
                    span["name"],
                    span["kind"].removeprefix("SpanKind."),
                    span["context"]["trace_id"].removeprefix("0x"),
                    span["context"]["span_id"].removeprefix("0x"),
                    span["parent_id"] and span["parent_id"].removeprefix("0x"),
                    span["status"]["status_code"],
                    span["attributes"],
                )
            )
        return [span for span in found if trace in (None, span.trace)]

    async def chain(self, trace: str, last: str) -> list[Span]:
        """The spans of a trace from its root to the one with the name `last`, once these are there."""

        def found() -> list[Span]:
            spans = self.all(trace)
            chain = [span for span in spans if span.name == last]
            known = {span.id: span for span in spans}
            while chain and chain[0].parent in known:
                chain.insert(0, known[chain[0].parent or ""])
            return chain if chain and chain[0].parent == CALLER else []

        await until(found, 10)
        return found()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hub(broker: BrokerUnderTest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    folder = tmp_path_factory.mktemp("traces")
    (folder / "spans.py").write_text(SPANS)
    (folder / "lamps.py").write_text(DEVICE)
    processes = Processes(folder)
    running = RunningHub(broker, "test-" + folder.name, folder, processes, options=("--plugin", "spans"))
    try:
        await running.start()
        for device in ("lamp", "other"):
            processes(script("outrider-device"), "run", f"lamps:{device}", env=running.environment, cwd=folder)
        await running.until_status("lamp-1", "ready")
        await running.until_status("lamp-2", "ready")
        yield running
    finally:
        processes.close()


@pytest.fixture
def spans(hub: RunningHub) -> Spans:
    return Spans(hub.folder / "spans.ndjson")


@pytest.fixture
def trace() -> str:
    """The id of a trace that no other test has."""
    return secrets.token_hex(16)


async def post(
    hub: RunningHub, trace: str, target: str, command: str, *args: object, ends: str = "done"
) -> dict[str, Any]:
    body = {"target": target, "command": command, "args": args, "wait": 20}
    async with hub.client() as client:
        answer = await client.post("/api/v1/commands", json=body, headers={"traceparent": f"00-{trace}-{CALLER}-01"})
        assert answer.status_code == 200, answer.text
        assert {outcome["status"] for outcome in answer.json()["outcomes"]} == {ends}, answer.text
        return dict(answer.json())


def names(chain: list[Span]) -> list[str]:
    return [span.name for span in chain]


async def test_request_of_a_client_is_one_trace_to_the_last_device(hub: RunningHub, spans: Spans, trace: str) -> None:
    body = await post(hub, trace, "lamp-1", "dim", 40)
    chain = await spans.chain(trace, "setting")
    assert [(span.name, span.kind) for span in chain] == [
        ("POST /api/v1/commands", "SERVER"),
        ("send dim", "PRODUCER"),
        ("run dim", "CONSUMER"),
        ("driving", "INTERNAL"),
        ("send set", "PRODUCER"),
        ("run set", "CONSUMER"),
        ("setting", "INTERNAL"),
    ]
    request, sent, run, _, called, *_ = chain
    assert request.attributes["http.response.status_code"] == 200
    common = {
        "messaging.system": "mqtt",
        "messaging.message.id": body["id"],
        "messaging.destination.name": f"{hub.prefix}/devices/lamp-1/cmd/hub",
        "outrider.command": "dim",
        "outrider.device": "lamp-1",
        "outrider.requester": "hub",
        "outrider.status": "done",
    }
    assert sent.attributes == {**common, "messaging.operation.name": "send", "messaging.operation.type": "send"}
    assert run.attributes == {**common, "messaging.operation.name": "run", "messaging.operation.type": "process"}
    assert called.attributes["outrider.requester"] == "lamp-1"


async def test_plain_function_and_the_call_in_its_thread_stay_in_the_trace(
    hub: RunningHub, spans: Spans, trace: str
) -> None:
    await post(hub, trace, "lamp-1", "relay", 40)
    chain = await spans.chain(trace, "setting")
    assert names(chain)[1:] == ["send relay", "run relay", "relaying", "send set", "run set", "setting"]


async def test_call_of_the_hub_by_a_device_is_in_the_trace(hub: RunningHub, spans: Spans, trace: str) -> None:
    await post(hub, trace, "lamp-1", "greeted")
    chain = await spans.chain(trace, "greeting")
    assert names(chain)[1:] == ["send greeted", "run greeted", "send greet", "run greet", "greeting"]


async def test_function_over_http_is_in_the_trace_of_its_request(hub: RunningHub, spans: Spans, trace: str) -> None:
    async with hub.client() as client:
        headers = {"traceparent": f"00-{trace}-{CALLER}-01"}
        answer = await client.post("/api/v1/functions/greet", json=["lamp"], headers=headers)
        assert answer.status_code == 200, answer.text
    chain = await spans.chain(trace, "greeting")
    assert names(chain) == ["POST /api/v1/functions/{name}", "run greet", "greeting"]


async def test_command_for_a_group_is_one_span_that_tells_how_many_failed(
    hub: RunningHub, spans: Spans, trace: str
) -> None:
    await post(hub, trace, "@kitchen", "fail", ends="failed")
    await until(lambda: len(spans.all(trace)) == 4, 10)
    (sent,) = [span for span in spans.all(trace) if span.name == "send fail"]
    runs = [span for span in spans.all(trace) if span.name == "run fail"]
    assert {span.attributes["outrider.device"] for span in runs} == {"lamp-1", "lamp-2"}
    assert {span.parent for span in runs} == {sent.id}
    assert {(span.status, span.attributes["error.type"]) for span in (sent, *runs)} == {("ERROR", "error")}
    assert (sent.attributes["outrider.devices"], sent.attributes["outrider.done"]) == (2, 0)
    assert sent.attributes["messaging.destination.name"] == f"{hub.prefix}/groups/kitchen/cmd/hub"


async def test_requests_at_the_same_time_keep_their_traces_apart(hub: RunningHub, spans: Spans) -> None:
    traces = [secrets.token_hex(16) for _ in range(10)]
    await asyncio.gather(*(post(hub, each, "lamp-1", "set", 7) for each in traces))
    for each in traces:
        chain = await spans.chain(each, "setting")
        assert names(chain) == ["POST /api/v1/commands", "send set", "run set", "setting"]


async def test_what_machines_ask_again_and_again_is_not_traced(hub: RunningHub, spans: Spans) -> None:
    async with hub.client() as client:
        for path in ("/health", "/ready", "/metrics", "/api/v1/me"):
            assert (await client.get(path, headers={"traceparent": "nonsense"})).status_code == 200
    await until(lambda: "GET /api/v1/me" in names(spans.all()), 10)
    (me,) = [span for span in spans.all() if span.name == "GET /api/v1/me"]
    assert me.parent is None
    paths = {span.attributes.get("url.path") for span in spans.all()}
    assert paths.isdisjoint({"/health", "/ready", "/metrics"})
