"""The general tests once more, against the broker image that compose.yaml names, in a container of its own."""

import os
import re
import subprocess
import sys

import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from .conftest import ROOT

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]


def test_general_tests_pass_against_the_broker_in_a_container() -> None:
    container = (
        DockerContainer("eclipse-mosquitto:2")
        .with_volume_mapping(str(ROOT / "mosquitto" / "compose.conf"), "/mosquitto/config/mosquitto.conf", "ro")
        .with_exposed_ports(1883)
        .waiting_for(LogMessageWaitStrategy("running"))
    )
    with container as broker:
        url = f"mqtt://{broker.get_container_host_ip()}:{broker.get_exposed_port(1883)}"
        # Tests that need a broker to stop and restart start their own; only those of the shared one are `external`.
        # Devices that allow scripts refuse a broker that is not on loopback, as this one.
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "3", "--dist", "loadfile", "-k", "external and not script"],
            cwd=ROOT,
            env={**os.environ, "OUTRIDER_TEST_BROKER": url},
            capture_output=True,
            text=True,
            timeout=840,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[1-9]\d* passed", done.stdout), done.stdout
    assert "skipped" not in done.stdout
