"""What /metrics says, beside traffic that is known to the message."""

import asyncio
import json
import re
import time
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from outrider.controller.broker import BrokerProcess
from outrider.controller.hub.metrics import REMEMBERED, Metrics
from outrider.controller.hub.records import CommandRecord, EventRecord, Record, ResultRecord
from outrider.controller.hub.tokens import Scope
from outrider.schema import Status
from tests.brokers import BrokerUnderTest, started
from tests.controller.hub.running import RunningHub, sse
from tests.peers import Connect, Peer
from tests.processes import Processes

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse(text: str) -> Values:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Scrape:
    """What stood in /metrics at some time."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.values = parse(text)

    def __call__(self, name: str, **labels: str) -> float:
        return self.values[name, frozenset(labels.items())]

    def all(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of a metric that are not 0, by the values of its labels in the order of their names."""
        return {
            tuple(value for _, value in sorted(labels)): number
            for (found, labels), number in self.values.items()
            if found == name and number
        }


async def scrape(client: httpx.AsyncClient) -> Scrape:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Scrape(answer.text)


async def when(client: httpx.AsyncClient, name: str, number: float, **labels: str) -> Scrape:
    """The first scrape in which a value is so much."""
    found = await scrape(client)
    for _ in range(1000):
        if found(name, **labels) == number:
            return found
        await asyncio.sleep(0.02)
        found = await scrape(client)
    raise AssertionError(f"{name} {labels} is not {number}\n{found.text}")


async def test_known_traffic_is_counted_exactly(
    broker: BrokerUnderTest, prefix: str, tmp_path: Path, spawn: Processes, connect: Connect
) -> None:
    hub = RunningHub(broker, prefix, tmp_path, spawn)
    began = time.time()
    await hub.start()
    await hub.start_device("lamp-1")
    away = await hub.start_device("lamp-2")
    peer = await connect(Peer(broker.address))
    async with hub.client() as client:
        for target, command, args in (
            ("@kitchen", "dim", [40]),
            ("lamp-1", "dim", [50]),
            ("lamp-1", "fail", []),
            ("lamp-1", "tell", ["initial", "e"]),
        ):
            body = {"target": target, "command": command, "args": args, "wait": 20}
            assert (await client.post("/api/v1/commands", json=body)).status_code == 200
        assert (await client.get("/api/v1/devices/nobody")).status_code == 404
        assert (await client.get("/nowhere")).status_code == 404
        assert (await client.post("/api/v1/commands", content=b"{", headers={"Host": "elsewhere"})).status_code == 421
        assert (await client.request("PROPFIND", "/api/v1/devices")).status_code == 405
        # What is no command, and a result that is said again.
        await peer.publish(f"{prefix}/devices/lamp-1/cmd/hub", b"{")
        body = {"id": "r1", "device": "lamp-1", "command": "ping", "status": "done", "value": 1}
        for _ in range(2):
            await peer.publish(f"{prefix}/devices/lamp-1/result/peer", json.dumps(body).encode())
        away.kill()
        await hub.until_status("lamp-2", "lost")
        stream = await sse(client, ["event"])
        await when(client, "outrider_record_repeats_total", 1)
        now = await when(client, "outrider_records_total", 6, kind="result")
        await stream.close()
    assert now.all("outrider_commands_total") == {("done",): 5, ("failed",): 1}
    assert now("outrider_commands_total", status="timed_out") == 0
    assert now("outrider_command_duration_seconds_count", status="done") == 4  # nobody has heard who asked for a ping
    assert now("outrider_command_duration_seconds_count", status="failed") == 1
    assert 0 < now("outrider_command_duration_seconds_sum", status="done") < 40
    # The group's command is one; lamp-2 was ready, and then lost.
    assert now.all("outrider_records_total") == {("command",): 4, ("event",): 1, ("result",): 6, ("state",): 3}
    assert now.all("outrider_messages_dropped_total") == {("invalid-message",): 1}
    assert now.all("outrider_devices") == {("ready",): 1, ("lost",): 1}
    assert now("outrider_devices", state="terminated") == 0
    assert now("outrider_live_followers") == 1
    assert now("outrider_commands_open") == 0
    assert now.all("outrider_queue_depth") == {}
    assert {("outrider_queue_depth", frozenset({("queue", each)})) for each in QUEUES} <= set(now.values)
    assert now.all("outrider_broker_up") == {("fleet",): 1, ("recorder",): 1}
    assert now("outrider_database_up") == 1
    assert began < now("outrider_database_last_write_timestamp_seconds") <= time.time()
    requests = now.all("outrider_http_requests_total")
    assert requests["POST", "/api/v1/commands", "200"] == 4
    assert requests["GET", "none", "404"] == 1
    assert requests["POST", "none", "421"] == 1
    assert requests["other", "none", "405"] == 1
    assert requests["GET", "/api/v1/devices/{device}", "404"] >= 1
    assert now("outrider_http_request_duration_seconds_count", route="/api/v1/commands", method="POST") == 4
    (build,) = [dict(labels) for name, labels in now.values if name == "outrider_build_info"]
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", build["version"])
    assert now("process_start_time_seconds") > 0
    assert "lamp-" not in now.text


QUEUES = ("writer", "live", "connection", "held_back")


async def test_lost_broker_is_told(
    restartable_broker: BrokerProcess, prefix: str, tmp_path: Path, spawn: Processes
) -> None:
    hub = RunningHub(started(restartable_broker), prefix, tmp_path, spawn)
    await hub.start()
    async with hub.client() as client:
        assert (await scrape(client)).all("outrider_broker_up") == {("fleet",): 1, ("recorder",): 1}
        await restartable_broker.stop()
        await when(client, "outrider_broker_up", 0, connection="fleet")
        await when(client, "outrider_broker_up", 0, connection="recorder")


async def test_openmetrics_is_spoken_to_who_accepts_it(
    broker: BrokerUnderTest, prefix: str, tmp_path: Path, spawn: Processes
) -> None:
    hub = RunningHub(broker, prefix, tmp_path, spawn)
    await hub.start()
    async with hub.client() as client:
        answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_token_is_not_asked_for(broker: BrokerUnderTest, prefix: str, tmp_path: Path, spawn: Processes) -> None:
    hub = RunningHub(broker, prefix, tmp_path, spawn)
    (tmp_path / "state" / "outrider").mkdir(parents=True)
    hub.token("ci", Scope.READ)
    await hub.start()
    async with hub.client() as client:
        assert (await client.get("/api/v1/me")).status_code == 401
        assert (await client.get("/metrics")).status_code == 200


def command(id: str, issued: float | None = 100.0) -> CommandRecord:
    return CommandRecord(id=id, requester="hub", device="lamp-1", command="dim", issued=issued, received=101.0)


def result(id: str, received: float, status: Status = Status.DONE) -> ResultRecord:
    return ResultRecord(id=id, requester="hub", device="lamp-1", command="dim", status=status, received=received)


def counted(*batches: list[Record]) -> Scrape:
    metrics = Metrics()
    for batch in batches:
        metrics.stored(batch)
    text, _ = metrics.text("")
    return Scrape(text.decode())


def test_latency_is_from_issued_to_the_result() -> None:
    now = counted([command("a"), command("b", None)], [result("a", 103.0), result("b", 103.0)])
    assert now("outrider_command_duration_seconds_sum", status="done") == 5
    assert now("outrider_command_duration_seconds_count", status="done") == 2


def test_result_that_stands_before_its_command_in_a_batch_has_its_latency() -> None:
    now = counted([result("a", 103.0), command("a")])
    assert now("outrider_command_duration_seconds_sum", status="done") == 3


def test_clock_that_goes_back_makes_no_negative_latency() -> None:
    now = counted([command("a"), result("a", 90.0)])
    assert now("outrider_command_duration_seconds_sum", status="done") == 0


def test_command_whose_time_is_forgotten_is_counted_without_a_latency() -> None:
    first: list[Record] = [command("a")]
    others: list[Record] = [command(f"b{number}") for number in range(REMEMBERED)]
    now = counted(first, others, [result("a", 103.0, Status.FAILED)])
    assert now("outrider_commands_total", status="failed") == 1
    assert now.all("outrider_command_duration_seconds_count") == {}


def test_result_that_is_none_by_its_status_is_a_record_and_no_answer() -> None:
    now = counted([command("a"), result("a", 103.0, Status.QUEUED)])
    assert now.all("outrider_commands_total") == {}
    assert now("outrider_records_total", kind="result") == 1


def test_metrics_of_two_hubs_in_one_process_are_apart() -> None:
    event = EventRecord(id="1", device="lamp-1", name="initial", time=1.0, received=1.0)
    assert counted([event])("outrider_records_total", kind="event") == 1
    assert counted([event])("outrider_records_total", kind="event") == 1
