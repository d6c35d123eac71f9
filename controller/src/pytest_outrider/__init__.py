"""Fixtures of outrider for pytest, found by it wherever outrider-controller is installed.

Nothing of outrider is imported until a test asks for one: who only has it installed does not wait for it.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from outrider.controller.faults.background import FaultProxies

_LOG = pytest.StashKey["FaultProxies"]()


@pytest.fixture
def fault_proxy(request: pytest.FixtureRequest) -> "Generator[FaultProxies]":
    """What starts a fault proxy in front of a broker, given its URL; it ends with the test.

    Each runs in a thread of its own, so a test may be a plain function, or a coroutine under any plugin. What passed is
    shown where the test fails.
    """
    from outrider.controller.faults.background import FaultProxies

    with FaultProxies() as proxies:
        request.node.stash[_LOG] = proxies
        yield proxies


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report of a test that failed what its proxies saw."""
    report = yield
    proxies = item.stash.get(_LOG, None)
    if proxies is not None and report.failed and call.when == "call":
        report.sections.extend(proxies.sections())
    return report
