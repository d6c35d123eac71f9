"""The players of examples/pong in containers."""

import re
import time
from collections.abc import Callable

import pytest

from .conftest import ComposeSet

pytestmark = [pytest.mark.compose, pytest.mark.timeout(600)]


def _pong(players: ComposeSet, *arguments: str) -> str:
    done = players.compose("exec", "-T", "pong-first", "pong", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _until(players: ComposeSet, condition: Callable[[str], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition(log := players.compose("exec", "-T", "pong-first", "cat", "first.log").stdout):
        assert time.monotonic() < deadline, log
        time.sleep(0.5)


def test_players_in_containers_play_on_after_one_was_killed(running: ComposeSet) -> None:
    up = running.compose("--profile", "pong", "up", "--build", "--detach", "--wait", "pong-first", "pong-second")
    assert up.returncode == 0, f"{up.stdout}{up.stderr}{running.compose('logs', 'pong-first').stdout}"
    assert "first: pong with second is running, 200 ms" in _pong(running, "start", "200")
    _until(running, lambda log: "ping 4 from second: pong" in log)
    running.compose("kill", "pong-second")
    _until(running, lambda log: "waits for second: " in log)
    running.compose("start", "pong-second")
    _until(running, lambda log: re.search(r"second is back\n.*\n.* ping \d+ ", log))
    assert "is stopped" in _pong(running, "stop")
