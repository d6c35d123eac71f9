"""The profile `words` of compose.yaml: a hub with the job queue, and workers that are scaled."""

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .conftest import ComposeSet

pytestmark = [pytest.mark.compose, pytest.mark.timeout(600)]


def test_queue_is_served_by_scaled_workers(
    compose_set: Callable[[], ComposeSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("WORDS_HTTP_PORT", str(port))
    monkeypatch.setenv("ALLOW_PRIVATE", "1")
    words = compose_set()
    token = ("outrider", "hub", "token", "add", "me", "--scope", "send")
    added = words.compose("run", "--build", "--rm", "-T", "words", *token)
    assert added.returncode == 0, added.stdout + added.stderr
    scaled = ("--scale", "words-worker=3", "words", "words-worker")
    up = words.compose("--profile", "words", "up", "--detach", "--wait", *scaled)
    assert up.returncode == 0, f"{up.stdout}{up.stderr}{words.compose('logs').stdout}"
    headers = {"Authorization": f"Bearer {added.stdout.strip()}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
        devices = client.get("/api/v1/devices", params={"target": "words-*"}).json()["items"]
        assert [each["status"] for each in devices] == ["ready"] * 3, devices
        # The queue's own page, within the network of the set.
        jobs = [_ended(client, "http://words:8420/words") for _ in range(3)]
    assert [(job["status"], job["result"]["count"]) for job in jobs] == [("COMPLETE", 1)] * 3, json.dumps(jobs)


def _ended(client: httpx.Client, url: str) -> dict[str, Any]:
    id = client.post("/word-count", json={"url": url}).json()["data"]["job_id"]
    deadline = time.monotonic() + 30
    while True:
        job: dict[str, Any] = client.get("/word-count", params={"job_id": id}).json()["data"]
        if job["status"] != "IN_PROGRESS":
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
