"""`make run`: two players, a broker where there is none, and an end to all of it."""

import re
import signal
import socket

import httpx
import pytest

from .conftest import Stage, answers, free_port, until


def test_run_starts_two_players_and_ctrl_c_ends_them(stage: Stage) -> None:
    stage.broker()
    port = free_port(2)
    running = stage.spawn(
        "pong", "run", "--http", f"127.0.0.1:{port}", "--broker", stage.environment["OUTRIDER_BROKER"]
    )
    stage.all_there("first", "second")
    for number in (port, port + 1):
        assert httpx.get(f"http://127.0.0.1:{number}/ping", trust_env=False).text == "pong"
    assert re.search(r"pong start 1000 --broker mqtt://", stage.output)
    stage.pong("start", "30")
    stage.until_pinged("second", "first")
    running.send_signal(signal.SIGINT)
    assert running.wait(15) == 0
    assert not answers(port)
    assert not answers(port + 1)
    assert "no player is there" in stage.pong("status", fails=True)


def test_run_starts_a_killed_player_again(stage: Stage) -> None:
    stage.broker()
    stage.spawn("pong", "run", "--broker", stage.environment["OUTRIDER_BROKER"])
    stage.all_there("first", "second")
    stage.pong("start", "100")
    stage.until_pinged("second", "first")
    stage.kill_player("second")
    stage.until_logged("first", "waits for second")
    until(lambda: "is started again" in stage.output, stage.output)
    stage.until_logged("first", "second is back")
    stage.until_pinged("first", "second")


@pytest.mark.parametrize("command", [("run",), ("player", "first")])
def test_address_that_is_none_is_refused(stage: Stage, command: tuple[str, ...]) -> None:
    assert stage.spawn("pong", *command, "--http", "8000").wait(15) == 1
    assert "pong: '8000' is no address to listen on" in stage.output


def test_address_that_is_taken_is_named(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert stage.spawn("pong", "player", "first", "--transport", "http", "--http", address).wait(15) == 1
    assert f"pong: cannot listen on {address}: Address already in use" in stage.output
