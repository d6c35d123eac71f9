"""The compose set, brought up for real under a project name and a port of its own."""

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class ComposeSet:
    """What `docker compose` manages under one project name; the ports of broker and hub are published on loopback."""

    project: str
    port: int
    http_port: int

    def compose(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `docker compose`, with `text` on standard input or nothing there."""
        environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": self.project,
            "OUTRIDER_PORT": str(self.port),
            "OUTRIDER_HTTP_PORT": str(self.http_port),
        }
        return subprocess.run(
            ["docker", "compose", "--progress", "quiet", *arguments],
            cwd=ROOT,
            env=environment,
            input=text or "",
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def up(self) -> None:
        """Build the images where they are not, and return when all is healthy."""
        done = self.compose("up", "--build", "--detach", "--wait")
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{self.compose('logs').stdout}"

    def down(self) -> None:
        """Do as `make down`."""
        done = self.compose("--profile", "*", "down", "--volumes", "--remove-orphans")
        assert done.returncode == 0, done.stdout + done.stderr

    def container(self, service: str) -> str:
        """Return the id of the service's container, running or not."""
        return self.compose("ps", "--all", "--quiet", service).stdout.strip()

    def inspect(self, service: str, template: str) -> str:
        """Return what `docker inspect` says of the service's container."""
        return docker("inspect", "--format", template, self.container(service)).strip()

    def publish(self, topic: str, payload: str) -> None:
        """Publish through the published port, as a person would by hand."""
        port = str(self.port)
        subprocess.run(["mosquitto_pub", "-p", port, "-q", "1", "-t", topic, "-m", payload], timeout=10, check=True)

    def retained(self, topic: str, wait: int = 10) -> dict[str, object]:
        """Return the message that the broker holds, or gets within `wait` seconds; an empty one when there is none."""
        command = ["mosquitto_sub", "-p", str(self.port), "-t", topic, "-C", "1", "-W", str(wait)]
        done = subprocess.run(command, capture_output=True, timeout=wait + 10, check=False)
        message: dict[str, object] = json.loads(done.stdout) if done.returncode == 0 else {}
        return message

    def ask(self, device: str, command: str, *arguments: object) -> dict[str, object]:
        """Send a command with mosquitto_pub and return its result, under a requester that nobody else is."""
        requester = f"by-hand-{secrets.token_hex(4)}"
        self.publish(f"devices/{device}/cmd/{requester}", json.dumps({"command": command, "args": arguments}))
        return self.retained(f"devices/{device}/result/{requester}")

    def wait_for_status(self, device: str, status: str, *, above: int = 0) -> dict[str, object]:
        """Return the device's retained state once it has the status in a session above the given one."""
        deadline = time.monotonic() + 60
        state: dict[str, object] = {}
        while time.monotonic() < deadline:
            state = self.retained(f"devices/{device}/state", wait=2)
            session = state.get("session")
            if state.get("status") == status and isinstance(session, int) and session > above:
                return state
            time.sleep(0.2)
        pytest.fail(f"{device} is not {status} after a minute, but {state}\n{self.compose('logs', device).stdout}")

    def session(self, device: str) -> int:
        """Return the number of the device's present session."""
        session = self.retained(f"devices/{device}/state")["session"]
        assert isinstance(session, int)
        return session


def docker(*arguments: str) -> str:
    """Return what `docker` printed; fail with what it said when it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session", autouse=True)
def _engine() -> None:
    try:
        docker("compose", "version")
        docker("info")
    except (AssertionError, FileNotFoundError) as error:
        pytest.skip(f"no Docker engine with Compose answers; see tests/compose/engine. {error}")


@pytest.fixture(scope="session")
def compose_set() -> Iterator[Callable[[], ComposeSet]]:
    """Make compose sets that are gone after the session, whatever became of them."""
    made: list[ComposeSet] = []

    def make() -> ComposeSet:
        with socket.create_server(("127.0.0.1", 0)) as free, socket.create_server(("127.0.0.1", 0)) as other:
            ports = free.getsockname()[1], other.getsockname()[1]
            made.append(ComposeSet(f"outrider-test-{secrets.token_hex(4)}", *ports))
        return made[-1]

    yield make
    for each in made:
        each.down()


@pytest.fixture(scope="session")
def running(compose_set: Callable[[], ComposeSet]) -> ComposeSet:
    """A set that is up and healthy, one for all tests; each leaves the devices ready."""
    running = compose_set()
    running.up()
    return running
