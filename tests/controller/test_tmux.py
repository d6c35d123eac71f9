"""The REPL and `outrider watch` in tmux, as a person runs them in one window of many."""

import asyncio
import contextlib
import os
import re
import secrets
import shlex
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.brokers import BrokerUnderTest
from tests.processes import Processes, script

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed: apt install tmux")


_INHERITED = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "TMUX")}
"""The environment without the size of another terminal, which pytest's workers tell."""


class Window:
    """A tmux server of its own with one window."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def tmux(self, *words: str, **environment: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *("tmux", "-S", str(self._socket), "-f", "/dev/null", *words),
            stdout=asyncio.subprocess.PIPE,
            env={**_INHERITED, "LC_ALL": "C.UTF-8", **environment},
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, words
        return output.decode()

    async def type(self, *keys: str) -> None:
        """Press keys by tmux's names; a longer word is typed as it is."""
        await self.tmux("send-keys", *keys)

    async def wait_for(self, pattern: str, timeout: float = 30.0) -> str:
        """The screen, once the regular expression is on it."""
        screen = ""
        try:
            async with asyncio.timeout(timeout):
                while not re.search(pattern, screen, re.MULTILINE):
                    screen = await self.tmux("capture-pane", "-p")
        except TimeoutError:
            raise AssertionError(f"{pattern!r} did not appear:\n{screen}") from None
        return screen


@contextlib.asynccontextmanager
async def tmux(folder: Path, *command: str, columns: int, **environment: str) -> AsyncGenerator[Window]:
    window = Window(folder / f"tmux-{secrets.token_hex(4)}")
    size = ("-x", str(columns), "-y", "30")
    await window.tmux("new-session", "-d", *size, f"{shlex.join(command)}; sleep 60", **environment)
    try:
        yield window
    finally:
        await window.tmux("kill-server")


@pytest.fixture
async def environment(broker: BrokerUnderTest, prefix: str, spawn: Processes, tmp_path: Path) -> dict[str, str]:
    environment = {
        "OUTRIDER_BROKER": broker.address,
        "OUTRIDER_PREFIX": prefix,
        "OUTRIDER_NAME": "ann",
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "TERM": "xterm-256color",
    }
    for id in ("lamp-1", "lamp-2"):
        options = ("--id", id, "--ready", "--group", "kitchen")
        device = spawn(script("outrider-device"), "run", *options, env=environment)
        await device.wait_for("is connected", 20, errors=True)
    return environment


async def test_repl_commands_a_group_and_shows_progress_below_what_is_typed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    async with tmux(tmp_path, script("outrider"), "repl", columns=100, **environment) as window:
        await window.wait_for("^outrider>")
        await window.type("use @kitchen", "Enter")
        await window.wait_for(r"^@kitchen \[2 of 2 ready\]>")
        await window.type("calculate 20 'hello tmux'", "Enter")
        await window.type("pin")
        screen = await window.wait_for(r"^\[1\] @kitchen calculate 20 'hello tmux' .*[1-9]%")
        assert re.search(r"^@kitchen \[2 of 2 ready\]> pin$", screen, re.MULTILINE), screen
        await window.type("g", "Enter")
        await window.wait_for(r"^\[2\] 2 targets: 2 done")
        await window.type("cancel 1", "Enter")
        await window.wait_for(r"^\[1\] 2 targets: 2 cancelled")
        await window.type("C-d")


@pytest.mark.parametrize("columns", [80, 200])
async def test_watch_shows_states_and_fits_the_window(
    environment: dict[str, str], tmp_path: Path, columns: int
) -> None:
    async with tmux(tmp_path, script("outrider"), "watch", columns=columns, **environment) as window:
        await window.wait_for("^lamp-2 +ready")
        screen = await window.wait_for("^q quit")
        assert len(screen.splitlines()) <= 30
        assert max(map(len, screen.splitlines())) <= columns
        assert ("GROUPS" in screen) == (columns == 200)
        await window.type("q")
        await window.wait_for(r"\A\s*\Z")  # it has left its screen as it found it
