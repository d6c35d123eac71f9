import asyncio
import math
from collections.abc import AsyncIterator, Iterator

import pytest

from outrider import device
from outrider.device import Address, Device, calculate
from outrider.schema import InvalidCommand, InvalidDefinition, InvalidName
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


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "2"])
def test_max_parallel_that_is_no_whole_number_from_1_on_is_refused(limit: object) -> None:
    with pytest.raises(InvalidCommand, match=f"'mine' cannot have max_parallel {limit!r}: give 1 or more"):
        Device("lamp-1").command(name="mine", max_parallel=limit)(calculate)  # type: ignore[call-overload]  # tested


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_jobs", 0),
        ("max_jobs", -1),
        ("max_jobs", 2.5),
        ("max_jobs", True),
        ("max_threads", 0),
        ("max_events", 0),
        ("max_size", 0),
        ("max_size", 4095),
        ("max_size", 16 * 1024 * 1024 + 1),
        ("versions", {"firmware": 1}),
        ("versions", {"": "1"}),
        ("versions", {2: "1"}),
        ("versions", {"firmware": "\udcff"}),
        ("tags", {"": "kitchen"}),
        ("tags", {1: "kitchen"}),
        ("tags", {"room": None}),
        ("tags", {"room": ["kitchen"]}),
        ("tags", {"room": b"kitchen"}),
        ("tags", {"room": "\udcff"}),
        ("tags", {"\udcff": "kitchen"}),
        ("tags", {"floor": math.nan}),
        ("tags", {"floor": -math.inf}),
        ("tags", {"floor": 2**64}),
    ],
)
def test_definition_that_cannot_be_is_refused(name: str, value: object) -> None:
    options: dict[str, object] = {name: value}
    with pytest.raises(InvalidDefinition, match=name.removesuffix("s")):
        Device("lamp-1", **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # on purpose


def test_definition_at_its_bounds_is_taken() -> None:
    tags: dict[str, str | int | float | bool] = {"room": "", "floor": -(2**63), "height": 0.5, "lit": False}
    lamp = Device(
        "lamp-1", max_jobs=1, max_threads=1, max_events=1, max_size=4096, tags=tags, versions={"firmware": ""}
    )
    assert (lamp.max_jobs, lamp.max_threads, lamp.max_events, lamp.max_size) == (1, 1, 1, 4096)
    assert (lamp.tags, lamp.versions) == (tags, {"firmware": ""})


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf])
def test_timeout_that_never_or_at_once_ends_a_command_is_refused(timeout: float) -> None:
    with pytest.raises(InvalidCommand, match="'dim' cannot have the timeout"):

        @Device("lamp-1").command(timeout=timeout)
        def dim() -> None: ...


def test_generator_is_no_command() -> None:
    lamp = Device("lamp-1")

    async def slowly() -> AsyncIterator[int]:
        yield 1

    def quickly() -> Iterator[int]:
        yield 1

    for function in (slowly, quickly):
        with pytest.raises(InvalidCommand, match=f"'{function.__name__}' is a generator.*Job.report"):
            lamp.command(function)
    assert set(lamp.commands) == {"ping"}


def test_public_names_of_the_package() -> None:
    assert sorted(device.__all__) == sorted(
        [
            "DEFAULT_WAIT",
            "MIN_EXPIRY",
            "PACE",
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
            "JournalFile",
            "KeptEvent",
            "Key",
            "ManualClock",
            "MemoryJournal",
            "Message",
            "Pace",
            "Reply",
            "RunningJob",
            "SqliteJournal",
            "Stage",
            "Stats",
            "Subscription",
            "Track",
            "Usage",
            "Will",
            "calculate",
            "common_commands",
            "error_of",
            "ping",
            "run_in_daemon_thread",
            "value_of",
        ]
    )
    assert all(hasattr(device, name) for name in device.__all__)


async def test_stop_before_serving_has_begun_ends_it_at_once(broker: BrokerUnderTest, prefix: str) -> None:
    lamp = Device("lamp-1")
    lamp.stop()
    assert await asyncio.wait_for(lamp.serve(broker.address, prefix=prefix), 5)


async def test_what_must_be_ready_before_serving_hears_of_broker_and_prefix() -> None:
    device = Device("lamp-1")
    heard: list[tuple[str, str]] = []

    def refuse(address: Address, prefix: str) -> None:
        heard.append((address.host, prefix))
        raise RuntimeError("not on this one")

    device.before_serving(refuse)
    with pytest.raises(RuntimeError, match="not on this one"):
        await device.serve("mqtt://broker.example", prefix="site1")
    assert heard == [("broker.example", "site1")]
