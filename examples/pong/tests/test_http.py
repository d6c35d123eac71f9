"""Players over HTTP, beside a broker and without one."""

import httpx

from .conftest import Stage, free_port, until


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
