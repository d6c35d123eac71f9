"""The fixtures for users' tests, in a pytest of its own: what a user writes, and what having it installed costs."""

import re
from pathlib import Path

import pytest

from tests.brokers import BrokerUnderTest
from tests.processes import Processes

PAGE = Path(__file__).parents[3] / "docs" / "faults.md"

ASYNC = """
import asyncio

from outrider.controller.faults import FaultProxies
from outrider.device import Address, Connection


def test_command_is_sent_again(fault_proxy: FaultProxies) -> None:
    asyncio.run(scenario(fault_proxy))


async def scenario(fault_proxy: FaultProxies) -> None:
    proxy = fault_proxy("BROKER")
    async with Connection(Address.parse(proxy.address), client_id="PREFIX", receive=lambda _: None) as connection:
        await connection.wait_connected(timeout=10)
        proxy.do("drop PUBACK 1")
        future = connection.publish("PREFIX/t", b"x")
        await asyncio.to_thread(proxy.seen, "PUBACK", action="dropped")
        proxy.do("cut")
        await asyncio.wait_for(future, 10)
        assert len(await asyncio.to_thread(proxy.seen, "PUBLISH", count=2)) == 2
        assert proxy.counts["dropped", "PUBACK"] == 1
        EXTRA
"""

NOBODY = """
def test_acknowledgement_comes(fault_proxy) -> None:
    fault_proxy("BROKER").seen("PUBACK", timeout=0.1)
"""

PLAIN = """
def test_nothing() -> None:
    import sys

    assert "pytest_outrider" in sys.modules
    assert not any(name.startswith("outrider.") for name in sys.modules)
"""


def example() -> str:
    """The example on the page."""
    (text,) = (each for each in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    return str(text)


async def run(spawn: Processes, folder: Path, text: str, **replaced: str) -> tuple[int, str]:
    """Run a user's test file in a folder that has nothing else."""
    for name, value in replaced.items():
        text = text.replace(name, value)
    (folder / "test_user.py").write_text(text)
    words = (
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        "-W",
        "error",
        "--rootdir",
        folder,
        folder,
    )
    process = spawn.python(*words, cwd=folder, env={"PYTEST_ADDOPTS": None})
    code = await process.wait(40)
    return code, process.output + process.errors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "user"
    folder.mkdir()
    return folder


async def test_users_test_passes(spawn: Processes, folder: Path, broker: BrokerUnderTest, prefix: str) -> None:
    code, output = await run(spawn, folder, ASYNC, BROKER=broker.address, PREFIX=prefix, EXTRA="")
    assert code == 0, output


async def test_failure_shows_what_the_proxy_saw(
    spawn: Processes, folder: Path, broker: BrokerUnderTest, prefix: str
) -> None:
    code, output = await run(spawn, folder, ASYNC, BROKER=broker.address, PREFIX=prefix, EXTRA='proxy.do("cut at 5s")')
    assert code == 1, output
    assert "ScriptSyntax: column 5: 'at' does not fit" in output
    assert re.search(r"^-+ fault proxy mqtt://127\.0\.0\.1:\d+ -+$", output, re.MULTILINE)
    assert re.search(r"^ +0\.\d{3}  passed +\S+  PUBLISH  1  \S+/t  to broker  x$", output, re.MULTILINE), output
    assert re.search(r"^ +0\.\d{3}  dropped +\S+  PUBACK  1  to client$", output, re.MULTILINE), output


async def test_what_never_came_is_said_where_no_client_did(
    spawn: Processes, folder: Path, broker: BrokerUnderTest
) -> None:
    code, output = await run(spawn, folder, NOBODY, BROKER=broker.address)
    assert code == 1, output
    assert "1 passed of PUBACK expected within 0.1 s, 0 seen. No client has come to mqtt://127.0.0.1:" in output


async def test_nothing_is_imported_for_who_only_has_it_installed(spawn: Processes, folder: Path) -> None:
    code, output = await run(spawn, folder, PLAIN)
    assert code == 0, output


async def test_example_of_the_page_passes(spawn: Processes, folder: Path, broker: BrokerUnderTest, prefix: str) -> None:
    code, output = await run(spawn, folder, example(), **{"mqtt://localhost": broker.address})
    assert code == 0, output
