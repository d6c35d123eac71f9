"""What compose.yaml promises, on a real engine."""

import json
from collections.abc import Callable

import httpx
import pytest

from .conftest import ComposeSet, docker

pytestmark = [pytest.mark.compose, pytest.mark.timeout(600)]


def test_every_service_becomes_healthy(running: ComposeSet) -> None:
    health = {each: running.inspect(each, "{{.State.Health.Status}}") for each in ("broker", "lamp-1", "lamp-2")}
    assert health == {"broker": "healthy", "lamp-1": "healthy", "lamp-2": "healthy"}


def test_broker_is_published_on_loopback_only(running: ComposeSet) -> None:
    ports = json.loads(running.inspect("broker", "{{json .NetworkSettings.Ports}}"))
    published = [binding for bindings in ports.values() if bindings for binding in bindings]
    assert published == [{"HostIp": "127.0.0.1", "HostPort": str(running.port)}]


def test_device_image_holds_no_controller_and_runs_as_no_root(running: ComposeSet) -> None:
    installed = running.compose("exec", "-T", "lamp-1", "pip", "list", "--format", "freeze").stdout
    names = {line.partition("==")[0] for line in installed.splitlines()}
    assert "outrider-device" in names
    assert not names & {"outrider-controller", "typer", "rich", "prompt_toolkit", "iotcore", "jsonschema"}
    assert running.compose("exec", "-T", "lamp-1", "id", "-un").stdout.strip() == "outrider"
    controller = running.compose("run", "--rm", "-T", "controller", "id", "-un")
    assert controller.stdout.strip() == "outrider"


def test_command_typed_with_mosquitto_pub_is_answered(running: ComposeSet) -> None:
    result = running.ask("lamp-1", "calculate", 0.1, "two words")
    assert (result["status"], result["value"]) == ("done", "two words")


def test_controller_container_commands_a_device(running: ComposeSet) -> None:
    done = running.compose("run", "--rm", "-T", "controller", "outrider", "send", "lamp-1", "ping")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done" in done.stdout


def test_controller_container_opens_the_repl(running: ComposeSet) -> None:
    done = running.compose("run", "--rm", "-T", "controller", text='use lamp-2\ncalculate 0 "from the repl"\n')
    assert done.returncode == 0, done.stdout + done.stderr
    assert "from the repl" in done.stdout


def test_killed_device_is_lost_until_it_is_started_again(running: ComposeSet) -> None:
    before = running.session("lamp-1")
    running.compose("kill", "lamp-1")
    running.wait_for_status("lamp-1", "lost")
    running.compose("start", "lamp-1")
    running.wait_for_status("lamp-1", "ready", above=before)
    assert running.ask("lamp-1", "ping")["status"] == "done"


def test_crashed_device_comes_back_by_itself(running: ComposeSet) -> None:
    before = running.session("lamp-1")
    running.compose("exec", "-T", "lamp-1", "sh", "-c", "kill -KILL -1")
    running.wait_for_status("lamp-1", "ready", above=before)
    assert running.inspect("lamp-1", "{{.RestartCount}}") != "0"


def test_terminated_device_stays_down(running: ComposeSet) -> None:
    before = running.session("lamp-2")
    assert running.ask("lamp-2", "terminate")["status"] == "done"
    running.wait_for_status("lamp-2", "terminated")
    docker("wait", running.container("lamp-2"))
    # With a restart to come it would be `restarting`, or `running` with a count.
    assert running.inspect("lamp-2", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}") == "exited 0 0"
    running.compose("start", "lamp-2")
    running.wait_for_status("lamp-2", "ready", above=before)


def test_hub_serves_its_page_and_commands_a_device_for_who_has_a_token(running: ComposeSet) -> None:
    added = running.compose("run", "--rm", "-T", "hub", "outrider", "hub", "token", "add", "me", "--scope", "send")
    assert added.returncode == 0, added.stdout + added.stderr
    up = running.compose("--profile", "hub", "up", "--build", "--detach", "--wait", "hub")
    assert up.returncode == 0, f"{up.stdout}{up.stderr}{running.compose('logs', 'hub').stdout}"
    with httpx.Client(base_url=f"http://127.0.0.1:{running.http_port}", timeout=30) as client:
        assert client.get("/api/v1/devices").status_code == 401
        page = client.get("/")
        assert page.status_code == 200, page.text
        assert "outrider" in page.text
        client.headers["Authorization"] = f"Bearer {added.stdout.strip()}"
        sent = client.post("/api/v1/commands", json={"target": "lamp-1", "command": "ping", "wait": 20})
        assert sent.status_code == 200, sent.text
        assert sent.json()["counts"] == {"done": 1}


def test_down_leaves_nothing(compose_set: Callable[[], ComposeSet]) -> None:
    volumes_before = docker("volume", "ls", "--quiet")
    passing = compose_set()
    passing.up()
    label = f"label=com.docker.compose.project={passing.project}"
    assert docker("ps", "--all", "--quiet", "--filter", label).split()
    passing.down()
    assert docker("ps", "--all", "--quiet", "--filter", label) == ""
    assert docker("network", "ls", "--quiet", "--filter", label) == ""
    assert docker("volume", "ls", "--quiet") == volumes_before
