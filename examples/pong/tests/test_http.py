"""Players over HTTP, beside a broker and without one."""

import contextlib
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import httpx

from .conftest import Stage, free_port, until


class _Answers(BaseHTTPRequestHandler):
    """Answers every request in the same way."""

    content_type: ClassVar[str] = ""
    body: ClassVar[bytes] = b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        if self.content_type:
            self.send_header("Content-Type", self.content_type)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def _answering(content_type: str, body: bytes, port: int = 0) -> Generator[int]:
    """A server that answers everything so, and its port."""
    handler = type("_AnswersSo", (_Answers,), {"content_type": content_type, "body": body})
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _there(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ping", trust_env=False).text == "pong"
    except httpx.HTTPError:
        return False


def _without_broker(stage: Stage) -> tuple[str, str, tuple[str, ...]]:
    port = free_port(2)
    urls = [f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"]
    options = ("--transport", "http", "--at", f"first={urls[0]}", "--at", f"second={urls[1]}")
    for name, number in (("first", port), ("second", port + 1)):
        stage.player(name, "--http", f"127.0.0.1:{number}", *options)
    until(lambda: all(map(_there, urls)), f"both answer\n{stage.output}")
    return urls[0], urls[1], options


def test_ping_over_http_is_answered_with_pong(stage: Stage) -> None:
    stage.broker()
    url = f"http://127.0.0.1:{free_port()}"
    stage.player("first", "--http", url.removeprefix("http://"))
    until(lambda: _there(url), f"it answers\n{stage.output}")
    for answer in (httpx.get(f"{url}/ping", trust_env=False), httpx.post(f"{url}/ping", trust_env=False)):
        assert (answer.status_code, answer.text) == (200, "pong")


def test_same_game_is_played_over_http_without_a_broker(stage: Stage) -> None:
    _, _, options = _without_broker(stage)
    assert "first: pong with second is running, 20 ms" in stage.pong("start", "20", *options)
    stage.until_pinged("first", "second", 20)
    stage.until_pinged("second", "first", 20)
    assert "is paused" in stage.pong("pause", *options)
    stage.until_logged("second", "paused by first")
    assert "is paused, not running" in stage.pong("pause", *options, fails=True)
    assert "second: pong with first is paused, 20 ms" in stage.pong("status", *options)
    assert "is running, 20 ms" in stage.pong("resume", *options)
    stage.until_pinged("first", "second")
    assert "is stopped" in stage.pong("stop", *options)
    assert "Traceback" not in stage.output


def test_killed_player_over_http_is_waited_for(stage: Stage) -> None:
    port = free_port(2)
    options = ["--transport", "http", "--at", f"first=http://127.0.0.1:{port}"]
    options += ["--at", f"second=http://127.0.0.1:{port + 1}"]
    stage.player("first", "--http", f"127.0.0.1:{port}", *options)
    second = stage.player("second", "--http", f"127.0.0.1:{port + 1}", *options)
    until(lambda: _there(f"http://127.0.0.1:{port}") and _there(f"http://127.0.0.1:{port + 1}"), "both answer")
    stage.pong("start", "100", *options)
    stage.until_pinged("second", "first")
    second.kill()
    second.wait()
    stage.until_logged("first", "waits for second: ")
    assert "waits for second" in stage.pong("start", "5", "--game", "other", *options)
    stage.player("second", "--http", f"127.0.0.1:{port + 1}", *options)
    stage.until_logged("first", "second is back")
    stage.until_pinged("first", "second")
    stage.until_pinged("first", "second", game="other")


def test_bad_request_gets_its_status_and_changes_nothing(stage: Stage) -> None:
    first, _, options = _without_broker(stage)
    with httpx.Client(base_url=first, trust_env=False) as client:
        answers = {
            "not playing": client.post("/pause", json={"opponent": "second"}),
            "missing": client.post("/pause", json={}),
            "out of range": client.post("/play", json={"opponent": "second", "pong_time_ms": 0}),
            "a bad name": client.post("/play", json={"opponent": "../second", "pong_time_ms": 5}),
            "no JSON": client.post("/play", content=b"{", headers={"Content-Type": "application/json"}),
            "a form": client.post("/pause", data={"opponent": "second"}),
            "no command": client.post("/run", json={}),
        }
    codes = {name: answer.status_code for name, answer in answers.items()}
    expected = (409, 400, 400, 400, 400, 415, 404)
    assert list(codes.values()) == list(expected), {name: answer.text for name, answer in answers.items()}
    assert "not being played" in answers["not playing"].text
    assert stage.pong("status", *options) == "nobody plays\n"


def test_opponents_that_answer_nonsense_are_waited_for(stage: Stage) -> None:
    port = free_port()
    nonsense = {
        "second": ("", b"hello", "answers ping with 'hello'"),
        "third": ("application/json", b"{", "answered with broken JSON"),
        "fourth": ("text/html", b"<html>Welcome</html>", "answers ping with '<html>Welcome</html>'"),
        "fifth": ("application/json", b"[" * 100_000, "RecursionError"),
    }
    options = ("--transport", "http", "--at", f"first=http://127.0.0.1:{port}")
    with contextlib.ExitStack() as servers:
        places = {
            name: servers.enter_context(_answering(content_type, body))
            for name, (content_type, body, _) in nonsense.items()
        }
        at = [part for name, place in places.items() for part in ("--at", f"{name}=http://127.0.0.1:{place}")]
        stage.player("first", "--http", f"127.0.0.1:{port}", *options, *at)
        until(lambda: _there(f"http://127.0.0.1:{port}"), f"it answers\n{stage.output}")
        with ThreadPoolExecutor() as threads:  # each answers when it has waited for the opponent
            answers = list(threads.map(partial(_play, port), nonsense))
        for name, (_, _, why) in nonsense.items():
            stage.until_logged("first", f"waits for {name}: ")
            assert why in stage.log("first")
            assert f"first: pong with {name} is running" in stage.pong("status", *options)
        assert all(answer["waits_for"] for answer in answers)
    with contextlib.ExitStack() as servers:
        for place in places.values():
            servers.enter_context(_answering("text/plain", b"pong", place))
        for name in nonsense:
            stage.until_logged("first", f"{name} is back")
    assert stage.log("first").count("Traceback") == 1, "a fault is told once, with where it was"


def _play(port: int, opponent: str) -> dict[str, object]:
    """Start a game by a request of its own, and return how it stands."""
    body = {"opponent": opponent, "pong_time_ms": 86_400_000}
    return dict(httpx.post(f"http://127.0.0.1:{port}/play", json=body, trust_env=False).json())


def test_command_line_says_that_no_player_answers(stage: Stage) -> None:
    with _answering("text/html", b"<html>") as port:
        said = stage.pong("status", "--transport", "http", "--at", f"first=http://127.0.0.1:{port}", fails=True)
    assert said.startswith("pong: ")
    said = stage.pong("status", "--transport", "http", fails=True)
    assert said.startswith("pong: nobody has said where the players are: --at ")


def test_status_shows_the_others_where_one_is_away(stage: Stage) -> None:
    _, _, options = _without_broker(stage)
    stage.pong("start", "86400000", *options)
    nowhere = free_port()
    with _answering("text/html", b"<html>") as elsewhere:
        away = ("--at", f"third=http://127.0.0.1:{nowhere}", "--at", f"fourth=http://127.0.0.1:{elsewhere}")
        done = stage.ask("status", *away, *options)
    assert done.exit_code == 1
    assert [line.partition(",")[0] for line in done.stdout.splitlines()] == [
        "first: pong with second is running",
        "second: pong with first is running",
    ]
    third, fourth = sorted(done.stderr.splitlines(), reverse=True)
    assert third.startswith(f"pong: third: http://127.0.0.1:{nowhere} does not answer: ")
    assert fourth.startswith("pong: fourth: ")


def test_player_on_a_broker_plays_one_that_is_on_none(stage: Stage) -> None:
    stage.broker()
    port = free_port(2)
    urls = [f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"]
    stage.player("first", "--http", f"127.0.0.1:{port}", "--at", f"third={urls[1]}")
    stage.player("second")
    stage.player("third", "--transport", "http", "--http", f"127.0.0.1:{port + 1}", "--at", f"first={urls[0]}")
    stage.all_there("first", "second")
    until(lambda: all(map(_there, urls)), f"both answer\n{stage.output}")
    stage.pong("start", "20", "--between", "first", "third")
    stage.pong("start", "20", "--between", "first", "second")  # at the same time over MQTT
    for name, opponent in (("first", "third"), ("third", "first"), ("first", "second"), ("second", "first")):
        stage.until_pinged(name, opponent, 10)
    over_http = ("--transport", "http", "--at", f"third={urls[1]}")
    assert "third: pong with first is paused" in stage.pong("pause", "--between", "third", "first", *over_http)
    stage.until_logged("first", "pong between first and third: paused by third")
    assert "is running" in stage.pong("resume", "--between", "first", "third")
    stage.until_pinged("third", "first")
    assert "waits for" not in stage.log("first")
