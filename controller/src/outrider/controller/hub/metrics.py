"""What Prometheus is told of a hub. No label has more values than this file and the routes say; no device is named."""

import platform
import time
from collections import Counter as Count
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from outrider.schema import Status

from .records import CommandRecord, EventRecord, ProgressRecord, Record, ResultRecord, StateRecord

if TYPE_CHECKING:
    from .parts import Parts  # which the metrics are one of

REMEMBERED: Final = 50_000
"""Commands whose time is remembered until their results come; older ones are left out of the latencies."""

LATENCIES: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Upper bounds of the buckets of commands, in seconds: a rollout's devices may have slept."""

DURATIONS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Upper bounds of the buckets of requests, in seconds: one may wait for its outcomes for a minute."""

STATES: Final = ("ready", "unready", "lost", "terminated")

KINDS: Final[Mapping[type[Record], str]] = {
    CommandRecord: "command",
    ProgressRecord: "progress",
    ResultRecord: "result",
    StateRecord: "state",
    EventRecord: "event",
}


class _Asked(NamedTuple):
    """What tells a command from others."""

    requester: str
    id: str


class Metrics:
    """The metrics of one hub, in a registry of its own: two hubs in one process do not mix theirs.

    `stored` may be called by any thread; `text` belongs to the event loop of the parts that it watches.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Info("outrider_build", "What runs here.", registry=self.registry).info(
            {"version": version("outrider-controller"), "python": platform.python_version()}
        )
        self._records = Counter(
            "outrider_records", "Records that were new and are in the database.", ["kind"], registry=self.registry
        )
        self._commands = Counter(
            "outrider_commands",
            "Final answers: one for each command and device, whoever sent it.",
            ["status"],
            registry=self.registry,
        )
        latencies = Histogram(
            "outrider_command_duration_seconds",
            "From a command's issued, by its requester's clock, until the hub heard the final answer, by its own.",
            ["status"],
            buckets=LATENCIES,
            registry=self.registry,
        )
        self._written = Gauge(
            "outrider_database_last_write_timestamp_seconds",
            "When the database last took records, in Unix seconds; 0: not yet.",
            registry=self.registry,
        )
        self._requests = Counter(
            "outrider_http_requests", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self._durations = Histogram(
            "outrider_http_request_duration_seconds",
            "From a request's headers to the end of its answer; without streams.",
            ["route", "method"],
            buckets=DURATIONS,
            registry=self.registry,
        )
        for kind in KINDS.values():
            self._records.labels(kind)
        for status in Status:
            if status.final:
                self._commands.labels(status)
        self._took = {status: latencies.labels(status) for status in Status if status.final}
        """By status: `labels` looks for them anew each time."""
        self._issued: dict[_Asked, float] = {}

    def watch(self, parts: "Parts") -> None:
        """Tell of these parts, from now on."""
        self.registry.register(_Snapshot(parts))

    def stored(self, records: Sequence[Record]) -> None:
        """Count what is new in the database. The thread that has written calls it."""
        self._written.set(time.time())
        for kind, count in Count(map(type, records)).items():
            self._records.labels(KINDS[kind]).inc(count)
        results: list[ResultRecord] = []
        for record in records:
            if isinstance(record, CommandRecord):
                self._remember(record)
            elif isinstance(record, ResultRecord) and record.status.final:  # anybody can publish another
                results.append(record)
        for result in results:  # a command may stand after its answer in a batch
            issued = self._issued.get(_Asked(result.requester, result.id))
            if issued is not None:
                self._took[result.status].observe(max(result.received - issued, 0.0))
        for status, count in Count(result.status for result in results).items():
            self._commands.labels(status).inc(count)

    def answered(self, route: str, method: str, status: str, seconds: float | None) -> None:
        """Count an answered request.

        :param route: the template of its path, as `/api/v1/devices/{id}`; not what the client wrote.
        :param seconds: how long it took; None where that says nothing, as of a stream.
        """
        self._requests.labels(route, method, status).inc()
        if seconds is not None:
            self._durations.labels(route, method).observe(seconds)

    def text(self, accept: str) -> tuple[bytes, str]:
        """All of it, and its media type: OpenMetrics for who accepts that, else Prometheus's text format."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type

    def _remember(self, command: CommandRecord) -> None:
        if not command.id:
            return
        self._issued.setdefault(
            _Asked(command.requester, command.id), command.received if command.issued is None else command.issued
        )
        if len(self._issued) > REMEMBERED:
            del self._issued[next(iter(self._issued))]


class _Snapshot(Collector):
    """What the parts say of themselves when they are asked."""

    def __init__(self, parts: "Parts") -> None:
        self._parts = parts

    def collect(self) -> Iterable[Metric]:
        """Ask them."""
        fleet, writer, recorder, live = self._parts.fleet, self._parts.writer, self._parts.recorder, self._parts.live
        count = Count(state.status for state in fleet.roster.states.values())
        yield _gauges("outrider_devices", "Devices ever seen.", "state", {each: count[each] for each in STATES})
        yield _gauges(
            "outrider_queue_depth",
            "What waits: records for the database, records for the slowest of who follows live, messages for the "
            "broker's acknowledgement, commands for room among those.",
            "queue",
            {
                "writer": writer.waiting,
                "live": live.waiting,
                "connection": fleet.connection.pending,
                "held_back": fleet.held,
            },
        )
        yield GaugeMetricFamily("outrider_live_followers", "Clients that follow what is recorded.", live.followers)
        yield GaugeMetricFamily(
            "outrider_commands_open", "Commands of clients that have not ended.", self._parts.submissions.open
        )
        yield _gauges(
            "outrider_broker_up",
            "Whether the connection to the broker stands: 1 or 0.",
            "connection",
            {"fleet": int(fleet.connection.connected), "recorder": int(recorder.connected)},
        )
        yield GaugeMetricFamily(
            "outrider_database_up", "Whether the last attempt to write worked: 1 or 0.", int(writer.error is None)
        )
        yield CounterMetricFamily(
            "outrider_database_failures", "Attempts to write that failed; each is made again.", writer.failures
        )
        yield CounterMetricFamily("outrider_record_repeats", "Records that the database had already.", writer.repeats)
        yield CounterMetricFamily("outrider_messages", "Messages heard to be recorded.", recorder.received)
        dropped = CounterMetricFamily(
            "outrider_messages_dropped", "Messages that were not recorded, by why.", labels=["reason"]
        )
        for reason, number in {**recorder.dropped, "refused-by-database": writer.refused}.items():
            dropped.add_metric([reason], number)
        yield dropped


def _gauges(name: str, help: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, help, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
