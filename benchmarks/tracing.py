"""What traces cost a command where there are none: `python -m benchmarks.tracing`."""

import sys
import timeit
from collections.abc import Callable

from outrider.device import tracing

CALLS = 100_000
ROUNDS = 7


def send() -> None:
    """What sending a command does for its trace."""
    if (span := tracing.sending("dim", "c1", "ada")) is None:
        tracing.came()
    else:
        span.end(())


def run() -> None:
    """What running one does."""
    tracing.came_with(None)
    tracing.running("dim", "c1", "ada", device="lamp-1", topic="devices/lamp-1/cmd/ada", trace=None)


def microseconds(function: Callable[[], None], calls: int = CALLS) -> float:
    """One call, in the best of several rounds."""
    return min(timeit.repeat(function, number=calls, repeat=ROUNDS)) / calls * 1e6


def main() -> None:
    """Measure without OpenTelemetry, then with it and no provider, then with a provider and no exporter."""
    assert "opentelemetry.trace" not in sys.modules
    print(f"not imported            send {microseconds(send):6.2f} µs   run {microseconds(run):6.2f} µs")
    from opentelemetry import trace

    print(f"imported, no provider   send {microseconds(send):6.2f} µs   run {microseconds(run):6.2f} µs")
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())
    few = CALLS // 20
    print(f"provider, no exporter   send {microseconds(send, few):6.2f} µs   run {microseconds(run, few):6.2f} µs")


if __name__ == "__main__":
    main()
