"""`make run`: two players, a broker where there is none, and an end to all of it."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from .conftest import Stage, answers, free_port, until

RUN = "import asyncio, sys; from pong.running import run; asyncio.run(run(None, None, {}, int(sys.argv[1])))"
"""`pong run` without a broker, as if the usual port were another one."""


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
    assert "no player has been seen on this broker; start two with: pong run" in stage.pong("status", fails=True)


def test_run_starts_a_broker_of_its_own_and_ends_it(stage: Stage) -> None:
    running = stage.execute(sys.executable, "-c", RUN, str(stage.port))
    stage.until_said("Ctrl-C ends both.")
    assert answers(stage.port)
    stage.all_there("first", "second")
    assert f"pong start 1000 --broker mqtt://localhost:{stage.port}\n" in stage.output
    stage.pong("start", "30")
    stage.until_pinged("second", "first")
    stage.pong("stop")
    running.send_signal(signal.SIGINT)
    assert running.wait(15) == 0
    assert not answers(stage.port)
    said = re.sub(r".*Ctrl-C ends both\.\n", "", stage.output, flags=re.DOTALL)
    assert said == "", "nothing to warn of, neither at the beginning nor at the end"


def test_broker_that_cannot_be_started_is_the_end(stage: Stage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", stage.port))  # and takes no connections
        assert stage.execute(sys.executable, "-c", RUN, str(stage.port)).wait(15) != 0
    assert "there is no broker: outrider broker ended with exit code 3" in stage.output
    assert "is started again" not in stage.output


def test_what_run_prints_names_the_broker_without_its_password(stage: Stage) -> None:
    place = f"127.0.0.1:{stage.port}"
    stage.environment["OUTRIDER_BROKER"] = f"mqtt://ann:secret@{place}"
    running = stage.spawn("pong", "run")
    stage.until_said("Ctrl-C ends both.")
    assert f"first and second are at {place}." in stage.output
    assert f"pong start 1000 --broker mqtt://ann@{place}\n" in stage.output
    running.send_signal(signal.SIGINT)
    assert running.wait(15) == 0
    assert "secret" not in stage.output


def test_make_passes_on_what_a_shell_would_take_apart() -> None:
    broker = "mqtts://ann@broker.example?ca=ca.pem&keepalive=60"
    command = ["make", "-n", "run", f"BROKER={broker}", "HTTP=[::1]:8000", "AT=third=http://a/?b&c fourth=http://d"]
    folder = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20, check=True)
    assert f"--http '[::1]:8000' --broker '{broker}'" in done.stdout
    assert "--at 'third=http://a/?b&c' --at 'fourth=http://d'" in done.stdout


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


def test_port_that_is_taken_when_a_player_is_started_again_is_the_end(stage: Stage) -> None:
    stage.broker()
    port = free_port(2)
    running = stage.spawn("pong", "run", "--http", f"127.0.0.1:{port}")
    stage.all_there("first", "second")
    stage.kill_player("second")
    taken: list[socket.socket] = []

    def taken_by_another() -> bool:
        with contextlib.suppress(OSError):
            taken.append(socket.create_server(("127.0.0.1", port + 1)))
        return bool(taken)

    until(taken_by_another, f"{port + 1} is free")
    with taken[0]:
        assert running.wait(15) == 1
    last = stage.output.splitlines()[-1]
    assert last.startswith(f"pong: cannot listen on 127.0.0.1:{port + 1}: Address already in use")
    assert "; name another address with --http" in last
    assert stage.output.count("is started again") == 1
    assert "Traceback" not in stage.output
    assert not answers(port), "the other player is ended, too"


def test_address_that_is_none_is_refused(stage: Stage) -> None:
    assert stage.spawn("pong", "player", "first", "--http", "8000").wait(15) == 1
    assert "pong: '8000' is no address to listen on" in stage.output


def test_address_that_is_taken_is_named(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert stage.spawn("pong", "player", "first", "--transport", "http", "--http", address).wait(15) == 1
    assert f"pong: cannot listen on {address}: Address already in use" in stage.output


def test_run_with_a_port_that_is_taken_ends(stage: Stage) -> None:
    port = free_port(2)
    with socket.create_server(("127.0.0.1", port + 1)):
        assert stage.spawn("pong", "run", "--http", f"127.0.0.1:{port}").wait(15) == 1
    assert f"pong: cannot listen on 127.0.0.1:{port + 1}: Address already in use" in stage.output


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("run", "--http", "8000"), "pong: '8000' is no address to listen on"),
        (("run", "--broker", "nope"), "pong: 'nope' is not a broker's URL"),
        (("run", "--http", "127.0.0.1:65535"), "pong: '127.0.0.1:65536' is no address to listen on"),
        (("run", "--http", "127.0.0.1:0"), "pong: '127.0.0.1:0' is no address to listen on"),
        (("player", "a/b"), "pong: player 'a/b' is not well formed"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_line(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(stage.folder)
    done = stage.ask(*command)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    assert not list(stage.folder.iterdir()), "nothing is left behind"
