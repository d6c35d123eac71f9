"""Traces: the W3C trace context goes from who asks to who runs, with spans where OpenTelemetry is set up.

OpenTelemetry is never imported here before somebody else has: without it, or without a tracer provider, nothing is
measured, and what came with a command goes on with the calls that the command makes.
"""

import importlib.metadata
import re
import sys
from collections.abc import Collection, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from outrider.schema import Error, Result, Status

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer, TracerProvider
    from opentelemetry.util.types import AttributeValue

FAULTLESS: Final = frozenset({Status.DONE, Status.CANCELLED})
"""How a command may end without its span being marked as an error."""

_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_came: ContextVar[str | None] = ContextVar("outrider_trace", default=None)
"""The trace of the command, or the request, that is being worked on."""

_tracers: "list[Tracer]" = []
"""The one tracer, once there is a provider, which can be set only once."""


def came_with(trace: str | None) -> None:
    """Note which trace the work of this task belongs to; one that is not well formed is none."""
    _came.set(trace if trace is None or _TRACEPARENT.fullmatch(trace) else None)


def came() -> str | None:
    """The traceparent that came with the work of this task."""
    return _came.get()


def current() -> str | None:
    """The traceparent for what is asked now: of the span that is current, else what came with the work of this task."""
    if tracer() is not None:
        from opentelemetry.trace import get_current_span

        if traceparent := traceparent_of(get_current_span()):
            return traceparent
    return _came.get()


def tracer() -> "Tracer | None":
    """Ours, where somebody has set a tracer provider."""
    if _tracers:
        return _tracers[0]
    module: Any = sys.modules.get("opentelemetry.trace")
    # It is missing as long as another thread imports that. An import here would take 1 µs each time.
    if not hasattr(module, "get_tracer_provider"):
        return None
    provider: TracerProvider = module.get_tracer_provider()
    if isinstance(provider, module.ProxyTracerProvider):  # nobody has
        return None
    _tracers.append(provider.get_tracer("outrider", importlib.metadata.version("outrider-device")))
    return _tracers[0]


def traceparent_of(span: "Span") -> str | None:
    """A span as others know it; None for one that is not traced at all."""
    from opentelemetry.trace.propagation import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, set_span_in_context(span))
    return carrier.get("traceparent")


def parent_of(trace: str | None) -> "Context":
    """Where a span begins that goes on with `trace`; it is a root without one, or where that is not well formed."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({} if trace is None else {"traceparent": trace}, Context())


class Sending:
    """The span of a command on its way, until its answers are there.

    :ivar traceparent: what the command carries.
    """

    __slots__ = ("_ended", "_span", "traceparent")

    def __init__(self, span: "Span") -> None:
        self.traceparent = traceparent_of(span)
        self._span = span
        self._ended = False

    def addressed(self, topic: str, devices: Collection[str]) -> None:
        """Note where it goes; of several topics the first one, as an example of all."""
        self._span.set_attribute("messaging.destination.name", topic)
        if len(devices) == 1:
            self._span.set_attribute("outrider.device", next(iter(devices)))

    def end(self, results: Collection[Result], unanswered: Mapping[str, Status] | None = None) -> None:
        """End it, with what has come and what has not.

        :param unanswered: by device, the requester's word.
        """
        if self._ended:
            return
        self._ended = True
        ends = [(result.status, result.error) for result in results]
        ends += [(status, None) for status in (unanswered or {}).values()]
        if len(ends) == 1:
            _mark(self._span, *ends[0])
        else:
            done = sum(status is Status.DONE for status, _ in ends)
            self._span.set_attributes({"outrider.devices": len(ends), "outrider.done": done})
            for status, error in ends:
                if status not in FAULTLESS:
                    _mark(self._span, status, error, f"{len(ends) - done} of {len(ends)} not done")
                    break
        self._span.end()


class Running:
    """The span of a command that a device runs."""

    __slots__ = ("_span",)

    def __init__(self, span: "Span") -> None:
        self._span = span

    def enter(self) -> None:
        """Make it the current span of this task, and of the threads that it starts, to the task's end."""
        from opentelemetry.context import attach
        from opentelemetry.trace.propagation import set_span_in_context

        attach(set_span_in_context(self._span))

    def end(self, status: Status, error: Error | None, raised: BaseException | None) -> None:
        """End it as the command has."""
        if raised is not None:
            self._span.record_exception(raised)
        _mark(self._span, status, error)
        self._span.end()


def sending(command: str, id: str, requester: str) -> Sending | None:
    """Begin the span of a command that is sent; None where nothing is traced."""
    if (ours := tracer()) is None:
        return None
    from opentelemetry.trace import SpanKind, get_current_span

    # Where something came that no span of this process goes on with, this one does.
    context = None if get_current_span().get_span_context().is_valid else parent_of(_came.get())
    attributes = _attributes("send", "send", command, id, requester)
    return Sending(ours.start_span(f"send {command}", context, SpanKind.PRODUCER, attributes))


def running(command: str, id: str, requester: str, *, device: str, topic: str, trace: str | None) -> Running | None:
    """Begin the span of a command that runs, as a part of the trace that came with it; None where nothing is traced."""
    if (ours := tracer()) is None:
        return None
    from opentelemetry.trace import SpanKind

    attributes = _attributes("run", "process", command, id, requester)
    attributes["outrider.device"] = device
    if topic:
        attributes["messaging.destination.name"] = topic
    return Running(ours.start_span(f"run {command}", parent_of(trace), SpanKind.CONSUMER, attributes))


def _attributes(name: str, kind: str, command: str, id: str, requester: str) -> "dict[str, AttributeValue]":
    """As OpenTelemetry's semantic conventions for messaging have them, and ours."""
    return {
        "messaging.system": "mqtt",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.message.id": id,
        "outrider.command": command,
        "outrider.requester": requester,
    }


def _mark(span: "Span", status: Status, error: Error | None, words: str = "") -> None:
    from opentelemetry.trace import StatusCode

    span.set_attribute("outrider.status", status.value)
    if status in FAULTLESS:
        return
    said = f"{status}: {error.message}" if error is not None and error.message else str(status)
    span.set_attribute("error.type", (error.code if error is not None else "") or status.value)
    span.set_status(StatusCode.ERROR, words or said)
