"""In CI a skipped test fails: a suite that ran without its broker, browser or engine has shown nothing.

A test that is inherently for another platform says so by beginning its reason with ``platform:`` and may skip anywhere.
"""

import os
from collections import Counter
from collections.abc import Generator

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse a test whose own limit would never be reached, for the whole run would be ended before."""
    limit = float(config.getini("faulthandler_timeout"))
    for item in items:
        marker = item.get_closest_marker("timeout")
        if marker is not None and marker.args[0] >= limit:
            raise pytest.UsageError(f"{item.nodeid} may take {marker.args[0]} s, and faulthandler_timeout is {limit:g}")


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure that names the skip's reason."""
    if not os.environ.get("CI") or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = _reason(report)
    if not reason.startswith("platform:"):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} skipped, and in CI nothing may: {reason}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was missing for those that were skipped."""
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", ()))
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} skipped: {reason}")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    words = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return words.removeprefix("Skipped: ")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    # Workers send reports as UTF-8, and some tests log text that has none.
    report.sections = [(name, text.encode(errors="replace").decode()) for name, text in report.sections]
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report
