"""The brokers that tests run against: those the project starts itself, or one that the environment names."""

import asyncio
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import pytest

from outrider.controller.broker import BrokerKind, BrokerProcess, find_mosquitto, has_embedded, start_broker

EXTERNAL: Final = os.environ.get("OUTRIDER_TEST_BROKER", "")
"""URL of a running broker that takes the place of all others; both protocol versions on its one port."""

STARTED: Final = ("mosquitto", "embedded")
SHARED: Final = ("external",) if EXTERNAL else STARTED
"""What the `broker` fixture is parametrized over."""

ONE: Final = SHARED[0] if EXTERNAL or find_mosquitto() is not None else "embedded"
"""The one that is enough for tests of what lies above MQTT: `parametrize("broker", [ONE], indirect=True)`."""


@dataclass(frozen=True, slots=True)
class BrokerUnderTest:
    """A running broker. `ports` maps the protocol version, `"5"` or `"3.1.1"`, to its port."""

    kind: str
    host: str
    ports: Mapping[str, int]
    address: str
    addresses: Mapping[str, str]

    def address_for(self, version: str) -> str:
        """Return the URL at which the version is spoken; `address` is the one of MQTT 5."""
        return self.addresses[version]


def started(process: BrokerProcess) -> BrokerUnderTest:
    """Describe a broker that we started."""
    addresses = {version: process.address_for(version) for version in process.ports}
    return BrokerUnderTest(process.kind.value, process.host, process.ports, process.address, addresses)


def external() -> BrokerUnderTest:
    """Describe the broker that OUTRIDER_TEST_BROKER names."""
    parts = urlsplit(EXTERNAL)
    host, port = parts.hostname or "127.0.0.1", parts.port or (8883 if parts.scheme == "mqtts" else 1883)
    versions = ("5", "3.1.1")
    return BrokerUnderTest("external", host, dict.fromkeys(versions, port), EXTERNAL, dict.fromkeys(versions, EXTERNAL))


def kind_or_skip(name: str) -> BrokerKind:
    """Return the kind to start, or skip the test because it is not on this machine."""
    if name == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    if name == "embedded" and not has_embedded():
        pytest.skip("the embedded broker is not installed: pip install 'outrider-controller[broker]'")
    return BrokerKind(name)


class SharedBroker:
    """The broker of a whole session, in an event loop of its own that runs only while it is started, healed or ended.

    rumqttd may stop taking connections for good when a client id is taken over (a panic of its own): `heal`, after a
    test has failed, starts it again, so that one failure is not followed by all the others.
    """

    def __init__(self, process: BrokerProcess, runner: asyncio.Runner) -> None:
        self._process = process
        self._runner = runner

    @classmethod
    @contextmanager
    def run(cls, kind: BrokerKind) -> Generator[tuple["SharedBroker", BrokerUnderTest]]:
        """Start one; it ends with the context."""
        with asyncio.Runner() as runner:
            context = start_broker(kind=kind)
            process = runner.run(context.__aenter__())
            try:
                yield cls(process, runner), started(process)
            finally:
                runner.run(context.__aexit__(None, None, None))

    def heal(self) -> None:
        """Start it again, on the same ports, if it takes no more connections."""
        if self._runner.run(self._process.deaf()):
            self._runner.run(self._process.restart())
