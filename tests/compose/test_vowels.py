"""The profile `vowels` of compose.yaml: a hub with the service, asked over its port and from a device's container."""

import socket
from collections.abc import Callable
from uuid import uuid4

import httpx
import pytest

from .conftest import ComposeSet

pytestmark = [pytest.mark.compose, pytest.mark.timeout(600)]


def test_service_answers_who_has_a_token_and_devices_and_remembers_across_containers(
    compose_set: Callable[[], ComposeSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("VOWELS_HTTP_PORT", str(port))
    vowels = compose_set()
    token = ("outrider", "hub", "token", "add", "me", "--scope", "send")
    added = vowels.compose("run", "--build", "--rm", "-T", "vowels", *token)
    assert added.returncode == 0, added.stdout + added.stderr
    up = ("--profile", "vowels", "up", "--detach", "--wait", "vowels")
    done = vowels.compose(*up)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{vowels.compose('logs').stdout}"
    headers = {"Authorization": f"Bearer {added.stdout.strip()}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
        asked = {"uuid": str(uuid4()), "symbol": "e"}
        assert client.post("/initial", params=asked, headers={"Authorization": ""}).status_code == 401
        assert client.post("/initial", params=asked).text in ("True", "False")
        script = "echo aaa > /tmp/text; python -m vowels.client /tmp/text --broker mqtt://broker --followups 1"
        played = vowels.compose("exec", "-T", "vowels", "sh", "-c", script)
        assert played.returncode == 0, played.stdout + played.stderr
        before = client.get("/dashboard/range/1970-01-01/9999-12-31").json()
    assert [(each["symbol"], each["count"], each["followups"]) for each in before] == [("a", 3, 3), ("e", 1, 0)]
    vowels.compose("--profile", "vowels", "rm", "--stop", "--force", "vowels")
    assert vowels.compose(*up).returncode == 0
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
        assert client.get("/dashboard/range/1970-01-01/9999-12-31").json() == before
