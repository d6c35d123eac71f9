import asyncio

import pytest

from outrider import device
from outrider.device import Device, calculate
from outrider.schema import InvalidCommand, InvalidName
from tests.brokers import BrokerUnderTest


def test_command_decorator_leaves_the_function_as_it_is() -> None:
    lamp = Device("lamp-1")

    @lamp.command
    def plain(n: int) -> int:
        return n

    @lamp.command(name="other", idempotent=True, timeout=3)
    async def longer(n: int) -> int:
        return n

    assert plain(3) == 3
    assert set(lamp.commands) == {"ping", "plain", "other"}
    assert lamp.commands["other"].idempotent
    assert lamp.commands["other"].timeout == 3


@pytest.mark.parametrize("name", ["start", "stop", "terminate", "cancel", "jobs", "result", "about", "stats"])
def test_control_command_cannot_be_redefined(name: str) -> None:
    with pytest.raises(InvalidCommand, match=f"'{name}' is a control command"):

        @Device("lamp-1").command(name=name)
        def mine() -> None: ...


def test_ping_can_be_redefined_once() -> None:
    lamp = Device("lamp-1")

    @lamp.command
    def ping() -> str:
        return "pong"

    assert lamp.commands["ping"].function is ping
    with pytest.raises(InvalidCommand, match="there is a command 'ping' already"):
        lamp.command(name="ping")(ping)


def test_calculate_is_included_by_choice() -> None:
    lamp = Device("lamp-1")
    assert "calculate" not in lamp.commands
    lamp.include(calculate)
    assert "calculate" in lamp.commands


@pytest.mark.parametrize("where", ["id", "group", "pool"])
def test_name_that_is_not_well_formed_is_refused(where: str) -> None:
    with pytest.raises(InvalidName, match=where):
        Device(
            "a b" if where == "id" else "lamp-1",
            groups=["a b"] if where == "group" else [],
            pools=["all"] if where == "pool" else [],
        )


def test_public_names_of_the_package() -> None:
    assert sorted(device.__all__) == sorted(
        [
            "DEFAULT_WAIT",
            "RESERVED",
            "Address",
            "Arguments",
            "Connection",
            "Device",
            "Entry",
            "Invocation",
            "Invoker",
            "Job",
            "Journal",
            "Key",
            "MemoryJournal",
            "Message",
            "Reply",
            "RunningJob",
            "Stage",
            "Stats",
            "Subscription",
            "Track",
            "Will",
            "calculate",
            "error_of",
            "ping",
            "run_in_daemon_thread",
        ]
    )
    assert all(hasattr(device, name) for name in device.__all__)


async def test_stop_before_serving_has_begun_ends_it_at_once(broker: BrokerUnderTest, prefix: str) -> None:
    lamp = Device("lamp-1")
    lamp.stop()
    assert await asyncio.wait_for(lamp.serve(broker.address, prefix=prefix), 5)
