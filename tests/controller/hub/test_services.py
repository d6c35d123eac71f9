"""Functions of plugins, called by devices through a broker and by callers in the hub's process."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta, Raw

from outrider.controller import Fleet
from outrider.controller.hub import Context, Plugin, PluginError
from outrider.controller.hub.records import CommandQuery
from outrider.controller.hub.services import Services
from outrider.controller.hub.store import Store
from outrider.controller.hub.telling import Telling
from outrider.controller.hub.writer import Writer
from outrider.device import Device, Job, MemoryJournal
from outrider.schema import (
    BrokerUnreachable,
    CommandCancelled,
    CommandFailed,
    CommandRejected,
    CommandTimedOut,
    JournalError,
    NoAnswer,
    NoMember,
)
from tests.brokers import BrokerUnderTest
from tests.processes import until


@contextlib.asynccontextmanager
async def hub(
    broker: BrokerUnderTest, prefix: str, folder: Path, *plugins: Plugin, name: str = "hub", database: str = ""
) -> AsyncGenerator[Services]:
    url = f"sqlite:///{folder / (database or name)}.sqlite"
    with Store.open(url) as store:
        async with Fleet(broker.address, requester=name, prefix=prefix) as fleet, Writer(store) as writer:
            journal = folder / f"{name}-services.sqlite"
            context = Context(name, fleet, store, Telling(name, writer), url, folder)
            async with Services(plugins, context, broker=broker.address, prefix=prefix, journal=journal) as services:
                await until(lambda: any(each.device == name and each.status == "ready" for each in fleet.devices()), 10)
                yield services


@contextlib.asynccontextmanager
async def calling(broker: BrokerUnderTest, prefix: str, *hubs: str) -> AsyncGenerator[Device]:
    """A device that calls the hub, once all hubs are there."""
    device = Device("lamp-1", initial="ready", journal=MemoryJournal())
    served = asyncio.create_task(device.serve(broker.address, prefix=prefix))
    async with Fleet(broker.address, requester="looking", prefix=prefix) as fleet:
        await until(
            lambda: {"lamp-1", *hubs} <= {each.device for each in fleet.devices() if each.status == "ready"}, 10
        )
    try:
        yield device
    finally:
        device.stop()
        assert await served


def words() -> Plugin:
    plugin = Plugin("words")

    @plugin.function(idempotent=True)
    async def count_words(text: Annotated[str, Meta(max_length=1000)]) -> int:
        """Count the words of a text."""
        return len(text.split())

    @plugin.function
    def who(job: Job, hub: Context) -> list[str]:
        return [hub.name, job.requester, job.behalf]

    @plugin.function(max_parallel=1)
    async def slowly(hub: Context, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return hub.name

    @plugin.function
    def burn() -> None:
        raise ValueError("burnt out")

    return plugin


async def test_device_calls_a_function_of_the_hub(broker: BrokerUnderTest, prefix: str, tmp_path: Path) -> None:
    async with hub(broker, prefix, tmp_path, words()), calling(broker, prefix, "hub") as device:
        assert await device.call("any:hub", "count_words", "two words", type=int) == 2
        assert await device.call("any:hub", "who") == ["hub", "lamp-1", ""]
        with pytest.raises(CommandFailed, match=r"hub: burn failed.*burnt out"):
            await device.call("any:hub", "burn")
        with pytest.raises(CommandRejected) as rejected:
            await device.call("any:hub", "count_words", 7)
        assert rejected.value.details == {"argument": "text"}


async def test_same_functions_are_called_in_the_process(broker: BrokerUnderTest, prefix: str, tmp_path: Path) -> None:
    async with hub(broker, prefix, tmp_path, words()) as services:
        functions = services.functions
        assert functions.names() == ["burn", "count_words", "slowly", "who"]
        assert functions.about("count_words").help == "Count the words of a text."
        assert functions.about("count_words").idempotent
        assert await functions.call("count_words", {"text": "one two three"}, caller="ann") == 3
        assert await functions.call("count_words", Raw(b'["one two"]'), caller="ann") == 2
        assert await functions.call("who", [], caller="ann") == ["hub", "hub", "ann"]
        with pytest.raises(CommandFailed, match="burnt out"):
            await functions.call("burn", [], caller="ann")
        with pytest.raises(CommandTimedOut):
            await functions.call("slowly", [60], caller="ann", timeout=0.05)


@pytest.mark.parametrize(
    ("name", "args", "code", "argument"),
    [
        ("count_words", {"text": 7}, "invalid-arguments", "text"),
        ("count_words", {}, "invalid-arguments", "text"),
        ("count_words", Raw(b"7"), "invalid-arguments", None),
        ("count_words", Raw(b"{"), "invalid-arguments", None),
        ("count_words", Raw(b"[" * 100 + b"]" * 100), "invalid-arguments", None),
        ("count_words", ["x" * 300_000], "invalid-arguments", None),
        ("slowly", [float("nan")], "invalid-arguments", "1"),
        ("count_words", [object()], "invalid-arguments", None),
        ("terminate", [], "unknown-command", None),
        ("ping", [], "unknown-command", None),
    ],
)
async def test_call_that_does_not_fit_is_rejected_as_by_a_device(
    broker: BrokerUnderTest, prefix: str, tmp_path: Path, name: str, args: list[object], code: str, argument: str | None
) -> None:
    async with hub(broker, prefix, tmp_path, words()) as services:
        with pytest.raises(CommandRejected) as rejected:
            await services.functions.call(name, args, caller="ann")
        assert rejected.value.code == code
        assert rejected.value.details.get("argument") == argument


async def test_bounds_are_shared_by_both_ways_in(broker: BrokerUnderTest, prefix: str, tmp_path: Path) -> None:
    async with hub(broker, prefix, tmp_path, words()) as services, calling(broker, prefix, "hub") as device:
        slow = asyncio.create_task(services.functions.call("slowly", [60], caller="ann"))
        async with asyncio.timeout(5):
            while not await device.call("hub", "jobs", type=list[object]):
                pass
        with pytest.raises(CommandRejected) as rejected:
            await device.call("any:hub", "slowly", 1)
        assert rejected.value.code == "busy"
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert await device.call("any:hub", "slowly", 0) == "hub"


async def test_two_hubs_share_the_load_and_one_goes_on_alone(
    broker: BrokerUnderTest, prefix: str, tmp_path: Path
) -> None:
    plugin = Plugin("words")
    begun: list[str] = []

    @plugin.function(idempotent=True)
    async def slowly(hub: Context, seconds: float) -> str:
        begun.append(hub.name)
        await asyncio.sleep(seconds)
        return hub.name

    async with (
        hub(broker, prefix, tmp_path, plugin, name="hub-1"),
        calling(broker, prefix, "hub-1") as device,
    ):
        async with hub(broker, prefix, tmp_path, plugin, name="hub-2"):
            async with asyncio.timeout(10):
                while await device.call("any:hub", "slowly", 0) != "hub-2":
                    pass
            answers = await asyncio.gather(*(device.call("any:hub", "slowly", 0.3, type=str) for _ in range(20)))
            assert sorted(answers) == ["hub-1"] * 10 + ["hub-2"] * 10
            begun.clear()
            calls = [asyncio.create_task(device.call("any:hub", "slowly", 1, type=str)) for _ in range(6)]
            await until(lambda: len(begun) == 6)
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert [each for each in ended if isinstance(each, str)] == ["hub-1"] * 3
        assert [type(each) for each in ended if not isinstance(each, str)] == [CommandCancelled] * 3
        assert [await device.call("any:hub", "slowly", 0) for _ in range(5)] == ["hub-1"] * 5


async def test_plugin_commands_the_fleet_and_reads_the_store(
    broker: BrokerUnderTest, prefix: str, tmp_path: Path
) -> None:
    plugin = Plugin("house")

    @plugin.function
    async def ping_all(hub: Context) -> list[str]:
        return sorted([outcome.device async for outcome in hub.fleet.send("all", "ping") if outcome.done])

    @plugin.function
    def remembered(hub: Context) -> int:
        return len(hub.store.commands(CommandQuery()).items)

    async with hub(broker, prefix, tmp_path, plugin), calling(broker, prefix, "hub") as device:
        assert await device.call("any:hub", "ping_all") == ["hub", "lamp-1"]
        assert await device.call("any:hub", "remembered") == 0


async def test_context_of_a_plugin_is_open_while_it_serves(
    broker: BrokerUnderTest, prefix: str, tmp_path: Path
) -> None:
    said: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(context: Context) -> AsyncGenerator[None]:
        said.append(f"opened by {context.name}")
        try:
            yield
        finally:
            said.append("closed")

    plugin = Plugin("words", lifespan=lifespan)

    @plugin.function
    async def note() -> None:
        said.append("called")

    async with hub(broker, prefix, tmp_path, plugin) as services:
        await services.functions.call("note", [], caller="ann")
    assert said == ["opened by hub", "called", "closed"]
    with pytest.raises(BrokerUnreachable, match="hub has ended"):
        await services.functions.call("note", [], caller="ann")


async def test_plugin_that_cannot_start_is_named_and_the_others_are_closed(
    broker: BrokerUnderTest, prefix: str, tmp_path: Path
) -> None:
    said: list[str] = []

    @contextlib.asynccontextmanager
    async def good(_: Context) -> AsyncGenerator[None]:
        yield
        said.append("closed")

    @contextlib.asynccontextmanager
    async def bad(_: Context) -> AsyncGenerator[None]:
        raise OSError("no such database")
        yield

    plugins = (Plugin("first", lifespan=good), Plugin("second", lifespan=bad))
    with pytest.raises(PluginError, match="plugin second could not start: OSError: no such database"):
        async with hub(broker, prefix, tmp_path, *plugins):
            pass
    assert said == ["closed"]


async def test_two_hubs_of_one_name_on_one_journal_are_refused(
    broker: BrokerUnderTest, prefix: str, tmp_path: Path
) -> None:
    async with hub(broker, prefix, tmp_path, words()), hub(broker, prefix, tmp_path, name="other"):
        with pytest.raises(JournalError):
            async with hub(broker, prefix, tmp_path, name="hub", database="second"):
                pass


async def test_terminate_ends_the_functions_and_leaves_the_pool(
    broker: BrokerUnderTest, prefix: str, tmp_path: Path
) -> None:
    async with hub(broker, prefix, tmp_path, words()) as services, calling(broker, prefix, "hub") as device:
        assert await device.call("any:hub", "count_words", "a") == 1
        assert await device.call("hub", "terminate") == "terminated"
        assert await asyncio.wait_for(services.ended(), 5)
        with pytest.raises(BrokerUnreachable):
            await services.functions.call("count_words", ["a"], caller="ann")

        async def gone() -> bool:
            try:
                await device.call("any:hub", "count_words", "a", wait=0.5)
            except NoMember:
                return True
            except (CommandRejected, NoAnswer):  # its state has not come yet
                return False
            return False

        async with asyncio.timeout(10):
            while not await gone():
                pass
