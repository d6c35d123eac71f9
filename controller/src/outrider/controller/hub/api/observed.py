"""What is seen of each request from outside the application: counted for Prometheus, and traced where that is set up.

Litestar's own middlewares for both are not used: that for Prometheus has one registry for all of a process, that for
OpenTelemetry needs two more packages, and neither sees what the gate refuses.
"""

from http import HTTPMethod
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from outrider.controller.hub.metrics import Metrics
from outrider.device import tracing

if TYPE_CHECKING:
    from opentelemetry.trace import Span

UNTRACED: Final = frozenset({"/health", "/ready", "/metrics"})
"""What is asked every few seconds by machines."""

_METHODS: Final = frozenset(HTTPMethod)


class Observed:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let it answer, and note how."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send)
        began = perf_counter()
        try:
            with _Traced(scope, answer):
                await self._app(scope, receive, answer)
        finally:
            seconds = None if answer.streams else perf_counter() - began
            self._metrics.answered(answer.route, answer.method, str(answer.status or "none"), seconds)


class _Answer:
    """Sends, and sees what.

    :ivar status: 0 until the answer has begun.
    """

    def __init__(self, scope: HTTPScope, send: Send) -> None:
        self.status = 0
        self.streams = False
        self.method = scope["method"] if scope["method"] in _METHODS else "other"
        self._scope = scope
        self._send = send

    @property
    def route(self) -> str:
        """The template of the path; `none` where there is no such route, or the gate refused it before."""
        if "path_template" not in self._scope:
            return "none"
        return self._scope["path_template"] or "/"

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = dict(message["headers"])
            self.streams = headers.get(b"content-type", b"").startswith(b"text/event-stream")
        await self._send(message)


class _Traced:
    """Where a request is answered: a span, or else the trace that came with it, for what it asks of devices."""

    def __init__(self, scope: HTTPScope, answer: _Answer) -> None:
        self._scope = scope
        self._answer = answer
        self._span: Span | None = None
        self._token: object = None

    def __enter__(self) -> Self:
        trace = next((value for name, value in self._scope["headers"] if name == b"traceparent"), None)
        came = None if trace is None else trace.decode("latin-1")
        tracing.came_with(came)
        if (tracer := tracing.tracer()) is None or self._scope["path"] in UNTRACED:
            return self
        from opentelemetry.context import attach
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation import set_span_in_context

        attributes = {
            "http.request.method": self._answer.method,
            "url.path": self._scope["path"],
            "url.scheme": self._scope["scheme"],
        }
        self._span = tracer.start_span(self._answer.method, tracing.parent_of(came), SpanKind.SERVER, attributes)
        attach(set_span_in_context(self._span))  # in the request's own task, and to its end
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._span is None:
            return
        from opentelemetry.trace import StatusCode

        answer, span = self._answer, self._span
        if answer.route != "none":
            span.update_name(f"{answer.method} {answer.route}")
            span.set_attribute("http.route", answer.route)
        if answer.status:
            span.set_attribute("http.response.status_code", answer.status)
        if error is not None or answer.status >= 500:
            span.set_attribute("error.type", str(answer.status) if error is None else type(error).__qualname__)
            span.set_status(StatusCode.ERROR)
        span.end()
