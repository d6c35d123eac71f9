"""Fixtures that every test may use: brokers, names of one's own, processes, hand-written peers."""

import contextlib
import os
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio

from outrider.controller.broker import BrokerProcess, start_broker
from tests.brokers import SHARED, STARTED, BrokerUnderTest, SharedBroker, external, kind_or_skip
from tests.peers import Connect
from tests.processes import Processes


def pytest_configure() -> None:
    """Take SIGINT and SIGHUP: where tests run in the background these are ignored, as what they start would do."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # under nohup
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # How long an example takes, the machine decides: a shared one may stand still for longer than any deadline.
    hypothesis.settings.register_profile("shared", deadline=None)
    hypothesis.settings.load_profile("shared")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what failed on the embedded broker once more.

    rumqttd gives a new connection the number of one that is just ending, and then may end the new one with it. A device
    reconnects; a hand-written peer has lost what it sent. On Mosquitto a failure counts at once.
    """
    for item in items:
        if "[embedded" in item.name or (isinstance(item, pytest.Function) and "embedded" in item.fixturenames):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note that something failed: the shared broker may be the one to blame."""
    if report.outcome in ("failed", "rerun"):
        _after_failure.extend(_shared)


def pytest_runtest_setup() -> None:
    """See after a failure that the shared brokers still take connections, before the next test or the next try."""
    while _after_failure:
        _after_failure.pop().heal()


_shared: list[SharedBroker] = []
_after_failure: list[SharedBroker] = []


@pytest.fixture(scope="session", params=SHARED)
def broker(request: pytest.FixtureRequest) -> Iterator[BrokerUnderTest]:
    """A running broker, the same one for all tests of a session: keep to the topics under `prefix`."""
    if request.param == "external":
        yield external()
        return
    with SharedBroker.run(kind_or_skip(request.param)) as (shared, described):
        _shared.append(shared)
        yield described
        _shared.remove(shared)


@pytest_asyncio.fixture(params=STARTED)
async def restartable_broker(request: pytest.FixtureRequest) -> AsyncIterator[BrokerProcess]:
    """A broker of the test's own, to stop, restart and kill; ours also where OUTRIDER_TEST_BROKER names another."""
    async with start_broker(kind=kind_or_skip(request.param)) as process:
        yield process


@pytest.fixture(scope="session", autouse=True)
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what a whole module starts out of the user's own folders, and apart from what other workers start."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            environment.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        # As root scripts run as another user, who cannot enter pytest's folders.
        with tempfile.TemporaryDirectory(prefix="outrider-scripts-", ignore_cleanup_errors=True) as folder:
            Path(folder).chmod(0o711)
            environment.setenv("OUTRIDER_SCRIPTS", folder)
            yield


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's devices keep their journals: two tests may have a device of the same id."""
    folder = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    monkeypatch.setenv("OUTRIDER_SCRIPTS", str(Path(os.environ["OUTRIDER_SCRIPTS"], secrets.token_hex(8))))
    return folder


@pytest.fixture
def script_folder(state_home: Path) -> Path:
    """Where this test's devices keep workspaces and packages of scripts."""
    return Path(os.environ["OUTRIDER_SCRIPTS"])


@pytest.fixture
def unique() -> str:
    """Letters and digits that no other test has, for ids, groups and requesters."""
    return secrets.token_hex(5)


@pytest.fixture
def prefix(unique: str) -> str:
    """A topic prefix (`--prefix`) that no other test has: what tests on one broker are kept apart by."""
    return f"test-{unique}"


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Processes]:
    """Start real processes: `spawn("program", …)` or `spawn.python("-m", …)`. They end with the test."""
    directory = tmp_path / "processes"
    directory.mkdir()
    processes = Processes(directory)
    yield processes
    processes.close()


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connect a hand-written peer: `peer = await connect(Peer(broker.address))`. It is closed with the test."""
    async with contextlib.AsyncExitStack() as stack:
        yield stack.enter_async_context
