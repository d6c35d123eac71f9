"""`outrider` as people and scripts meet it: real processes on a real broker, their output and exit codes."""

import asyncio
import re
import secrets
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from msgspec import json, msgpack

from outrider.controller import Fleet
from tests.brokers import BrokerUnderTest
from tests.peers import Connect, Peer
from tests.processes import Processes, Spawned, script
from tests.terminals import CTRL_C, open_terminal

OUTRIDER, DEVICE = script("outrider"), script("outrider-device")

OVEN = '''
from typing import Annotated, Literal

from msgspec import Meta
from outrider.device import Device, Job

oven = Device("oven-1", groups=["kitchen", "warm"], tags={"room": "[red]kitchen\\x1b[31m"}, initial="ready")


@oven.command(idempotent=True, timeout=600)
def heat(
    degrees: Annotated[int, Meta(ge=30, le=250, description="what the dial says")],
    mode: Literal["top", "fan"] = "fan",
) -> float:
    """Heat [bold]up\\x1b[2J.

    Takes its time.
    """
    return degrees / 2


@oven.command
def calculate(x: str, msg: str) -> str:
    """Another calculate than the lamps'."""
    return msg + x


@oven.command
def shout() -> str:
    return "\\x1b[2J[bold]loud[/]\\u202e\\nlamp-1  done"


@oven.command
def crash() -> None:
    raise ValueError("no \\x1b[2J[gas]")


@oven.command
def tell(job: Job) -> list[int]:
    job.print("half way\\x1b[2J")
    return [1, 2]
'''


USAGE_ERRORS = {
    "negative": (["lamp-1", "calculate", "-5", "hi"], "argument 'x': -5 is less than the minimum"),
    "negative fraction": (["lamp-1", "calculate", "-0.5", "hi"], "argument 'x': -0.5 is less"),
    "negative exponent": (["lamp-1", "calculate", "-1e3", "hi"], "argument 'x': -1000.0 is less"),
    "ill-typed": (["lamp-1", "calculate", "five", "hi"], "argument 'x': 'five' is not"),
    "missing": (["lamp-1", "calculate", "5"], "argument 'msg' is missing"),
    "unknown argument": (["lamp-1", "calculate", "y=5"], "unknown argument 'y'"),
    "too many": (["@lamps", "calculate", "1", "2", "3"], "too many"),
    "out of range": (["oven-1", "heat", "300"], "argument 'degrees': 300 is greater"),
    "unknown device": (["lmap-1", "ping"], "did you mean lamp-1"),
    "unknown group": (["@lmaps", "ping"], "did you mean @lamps"),
    "empty target": (["", "ping"], "the target is empty"),
    "malformed target": (["lamp/1", "ping"], "not well formed"),
    "no command": (["lamp-1"], "COMMAND"),
    "misspelt option": (["lamp-1", "ping", "--wiat", "5"], "--wiat"),
    "ill-typed option": (["lamp-1", "ping", "--wait", "soon"], "--wait"),
    "option out of range": (["lamp-1", "ping", "--wait", "0"], "--wait"),
    "endless wait": (["lamp-1", "ping", "--wait", "inf"], "'inf' is not a duration"),
    "a wait that is no number": (["lamp-1", "ping", "--wait", "nan"], "'nan' is not a duration"),
    "a timeout over what a message can say": (
        ["lamp-1", "ping", "--timeout", "9999999999"],
        "9999999999 is not in the range",
    ),
    "endless timeout": (["lamp-1", "ping", "--timeout", "inf"], "'inf' is not a duration"),
    "a timeout that is no number": (["lamp-1", "ping", "--timeout", "nan"], "'nan' is not a duration"),
    "empty command": (["lamp-1", ""], "the command's name has 0 characters"),
    "command too long": (["lamp-1", "x" * 129], "has no command xxx"),
    "by position behind by name": (["lamp-1", "calculate", "msg=hi", "5"], "'5' has no name"),
    "by position and by name": (["lamp-1", "calculate", "5", "x=5"], "argument 'x' is given twice"),
    "malformed requester": (["lamp-1", "ping", "--as", "a/b"], "'a/b' is not well formed"),
    "malformed prefix": (["lamp-1", "ping", "--prefix", "a b"], "'a b' is not well formed"),
    "malformed broker": (["lamp-1", "ping", "--broker", "nonsense:"], "nonsense:"),
}


@dataclass(frozen=True)
class Ended:
    """What a process left behind."""

    code: int
    output: str
    errors: str

    @property
    def json(self) -> list[dict[str, Any]]:
        return [json.decode(line, type=dict[str, Any]) for line in self.output.splitlines()]


Cli = Callable[..., Awaitable[Ended]]


class Stage:
    """Two lamps, one lamp that is unready, and an oven, on a broker under a prefix of their own."""

    def __init__(self, broker: BrokerUnderTest, prefix: str, spawn: Processes, folder: Path) -> None:
        self.broker = broker
        self.prefix = prefix
        self.env = {
            "OUTRIDER_BROKER": broker.address,
            "OUTRIDER_PREFIX": prefix,
            "OUTRIDER_NAME": "tester",
            "XDG_CONFIG_HOME": str(folder / "empty"),
        }
        self._spawn = spawn
        self._folder = folder

    def fleet(self) -> Fleet:
        return Fleet(self.broker.address, requester="tester", prefix=self.prefix)

    async def device(self, id: str, *options: str) -> Spawned:
        """Start a device and wait until it is there."""
        process = self._spawn(DEVICE, "run", *options, env=self.env, cwd=self._folder)
        changed = asyncio.Event()
        async with self.fleet() as fleet, asyncio.timeout(20):
            with fleet.roster.watch(lambda state: changed.set()):
                while id not in fleet.roster.states:
                    changed.clear()
                    await changed.wait()
        return process

    def start(self, *words: str, **env: str | None) -> Spawned:
        return self._spawn(OUTRIDER, *words, env={**self.env, **env})

    async def __call__(self, *words: str, **env: str | None) -> Ended:
        process = self.start(*words, **env)
        code = await process.wait(30)
        return Ended(code, process.output, process.errors)


async def until_jobs(fleet: Fleet, device: str, *, run: bool) -> None:
    """Wait until the device has jobs, or has none."""
    while True:
        if bool(await fleet.call(device, "jobs")) is run:
            return
        await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def module_spawn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    processes = Processes(tmp_path_factory.mktemp("processes"))
    yield processes
    processes.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(
    broker: BrokerUnderTest, module_spawn: Processes, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    (folder / "oven.py").write_text(OVEN)
    stage = Stage(broker, f"test-{secrets.token_hex(5)}", module_spawn, folder)
    async with asyncio.TaskGroup() as tasks:
        for number in (1, 2):
            tasks.create_task(stage.device(f"lamp-{number}", "--id", f"lamp-{number}", "--ready", "--group", "lamps"))
        tasks.create_task(stage.device("lamp-3", "--id", "lamp-3", "--group", "lamps", "--group", "unlit"))
        tasks.create_task(stage.device("oven-1", "oven:oven"))
    yield stage


@pytest.fixture
def cli(stage: Stage) -> Cli:
    return stage


@pytest.fixture
def unused_url() -> Iterator[str]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"mqtt://127.0.0.1:{held.getsockname()[1]}"


async def test_help_lists_the_subcommands(cli: Cli) -> None:
    ended = await cli("--help")
    assert ended.code == 0
    for name in ("broker", "devices", "about", "send", "results", "jobs", "cancel", "repl", "demo"):
        assert name in ended.output


async def test_no_subcommand_shows_the_help_and_is_a_usage_error(cli: Cli) -> None:
    ended = await cli()
    assert ended.code == 2
    assert "devices" in ended.output


async def test_version_is_printed(cli: Cli) -> None:
    ended = await cli("--version")
    assert (ended.code, ended.output.split()[0]) == (0, "outrider")


async def test_the_module_runs_as_well(cli: Cli, stage: Stage, spawn: Processes) -> None:
    process = spawn.python("-m", "outrider.controller.cli.main", "--version")
    assert await process.wait(20) == 0
    assert process.output.startswith("outrider ")


async def test_devices_are_listed_with_what_is_known_of_them(cli: Cli) -> None:
    ended = await cli("devices")
    assert (ended.code, ended.errors) == (0, "")
    header, *rows = ended.output.splitlines()
    assert header.split() == ["DEVICE", "STATUS", "SINCE", "GROUPS", "TAGS", "COMMANDS", "VERSIONS"]
    assert [row.split()[:2] for row in rows] == [
        ["lamp-1", "ready"],
        ["lamp-2", "ready"],
        ["lamp-3", "unready"],
        ["oven-1", "ready"],
    ]
    assert "calculate ping" in rows[0]
    assert "lamps unlit" in rows[2]
    assert "room=[red]kitchen\\u001b[31m" in rows[3]


async def test_devices_as_json_are_one_object_a_line(cli: Cli) -> None:
    ended = await cli("devices", "@lamps", "--json")
    assert ended.code == 0
    assert [each["device"] for each in ended.json] == ["lamp-1", "lamp-2", "lamp-3"]
    assert ended.json[2]["status"] == "unready"
    assert ended.json[2]["groups"] == ["lamps", "unlit"]
    assert "calculate" in ended.json[0]["commands"]
    assert "outrider" in ended.json[0]["versions"]


async def test_no_devices_says_how_to_start_one(cli: Cli, prefix: str) -> None:
    ended = await cli("devices", "--prefix", prefix)
    assert (ended.code, ended.output) == (0, "")
    assert "outrider-device run --id" in ended.errors


async def test_about_lists_the_commands(cli: Cli) -> None:
    ended = await cli("about", "oven-1")
    assert (ended.code, ended.errors) == (0, "")
    assert "heat degrees [mode]" in ended.output
    assert "Heat [bold]up\\u001b[2J." in ended.output
    assert "terminate" in ended.output


async def test_about_a_command_tells_its_arguments_and_a_line_to_try(cli: Cli) -> None:
    ended = await cli("about", "oven-1", "heat")
    assert ended.code == 0
    assert "Takes its time." in ended.output
    assert "degrees  integer, 30 to 250: what the dial says" in ended.output
    assert '"fan" or "top", default "fan"' in ended.output
    assert "gives number; may be repeated without harm; ends after 600 s at the latest" in ended.output
    example = ended.output.splitlines()[-1].strip()
    assert example == "outrider send oven-1 heat 30"
    assert (await cli(*shlex.split(example)[1:])).code == 0


async def test_about_a_group_has_a_section_for_each_kind(cli: Cli) -> None:
    ended = await cli("about", "all", "calculate")
    assert ended.code == 0
    lines = ended.output.splitlines()
    assert lines[0].startswith("lamp-1, lamp-2, lamp-3  ")
    assert any(line.startswith("oven-1  ") for line in lines)


async def test_about_as_json_is_one_object_for_each_kind(cli: Cli) -> None:
    ended = await cli("about", "all", "calculate", "--json")
    assert ended.code == 0
    assert [each["devices"] for each in ended.json] == [["lamp-1", "lamp-2", "lamp-3"], ["oven-1"]]
    assert ended.json[0]["command"] == "calculate"
    assert ended.json[0]["arguments"]["properties"]["x"] == {"type": "number", "minimum": 0}
    whole = await cli("about", "lamp-1", "--json")
    assert set(whole.json[0]) == {"devices", "versions", "commands"}


async def test_about_a_command_that_only_some_have_names_the_others(cli: Cli) -> None:
    ended = await cli("about", "all", "heat")
    assert ended.code == 0
    assert ended.output.startswith("oven-1")
    assert "lamp-1, lamp-2, lamp-3: no command 'heat'" in ended.errors


async def test_about_a_command_that_nobody_has_names_the_nearest(cli: Cli) -> None:
    ended = await cli("about", "lamp-1", "calcluate")
    assert (ended.code, ended.output) == (2, "")
    assert "did you mean calculate" in ended.errors


async def test_a_command_to_one_device_prints_one_line(cli: Cli) -> None:
    ended = await cli("send", "lamp-1", "calculate", "0", "two words")
    assert (ended.code, ended.errors) == (0, "")
    assert ended.output.startswith("lamp-1  done  two words  (")
    assert ended.output.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["x=0", "msg=two words"], id="by name"),
        pytest.param(["0", "msg=two words"], id="by position, then by name"),
        pytest.param(['{"x": 0, "msg": "two words"}'], id="a JSON object"),
        pytest.param(['[0, "two words"]'], id="a JSON array"),
        pytest.param(["-0", "two words"], id="a number with a sign"),
        pytest.param(["-0.0", "--", "two words"], id="after a double dash"),
    ],
)
async def test_arguments_come_in_every_form(cli: Cli, words: list[str]) -> None:
    ended = await cli("send", "--ndjson", "lamp-1", "calculate", *words)
    assert (ended.code, ended.errors) == (0, "")
    assert ended.json[0]["value"] == "two words"


async def test_options_may_follow_the_arguments(cli: Cli) -> None:
    ended = await cli("send", "lamp-1", "ping", "--wait", "5", "--ndjson")
    assert ended.code == 0
    assert isinstance(ended.json[0]["value"], int)


async def test_a_wait_longer_than_a_command_may_be_good_is_taken(cli: Cli) -> None:
    ended = await cli("send", "lamp-1", "ping", "--wait", "1000000")
    assert (ended.code, ended.errors) == (0, "")


async def test_after_a_double_dash_everything_is_an_argument(cli: Cli) -> None:
    ended = await cli("send", "lamp-1", "calculate", "0", "--", "--json")
    assert ended.code == 0
    assert ended.output.startswith("lamp-1  done  --json  (")


async def test_a_group_prints_every_outcome_and_counts_that_add_up(cli: Cli) -> None:
    ended = await cli("send", "@lamps", "calculate", "0", "hi")
    assert ended.code == 1
    *lines, summary = ended.output.splitlines()
    assert sorted(line.split()[:2] for line in lines) == [
        ["lamp-1", "done"],
        ["lamp-2", "done"],
        ["lamp-3", "rejected"],
    ]
    assert "not-ready: lamp-3 is unready" in ended.output
    assert summary == "3 targets: 2 done, 1 rejected"


async def test_all_reaches_every_device(cli: Cli) -> None:
    ended = await cli("send", "all", "jobs", "--ndjson")
    assert ended.code == 0
    assert sorted(each["device"] for each in ended.json) == ["lamp-1", "lamp-2", "lamp-3", "oven-1"]
    assert {each["status"] for each in ended.json} == {"done"}


async def test_ndjson_has_the_fields_of_a_result(cli: Cli) -> None:
    ended = await cli("send", "lamp-1", "calculate", "0", "hi", "--ndjson")
    (result,) = ended.json
    assert set(result) == {"id", "device", "command", "status", "value", "started", "finished"}
    assert (result["command"], result["status"], result["value"]) == ("calculate", "done", "hi")
    rejected = (await cli("send", "lamp-3", "ping", "--ndjson")).json[0]
    assert rejected["status"] == "rejected"
    assert rejected["error"]["code"] == "not-ready"


async def test_a_stored_result_is_fetched_by_its_id(cli: Cli) -> None:
    (first,) = (await cli("send", "lamp-1", "calculate", "0", "hi", "--ndjson")).json
    (again,) = (await cli("send", "lamp-1", "result", first["id"], "--ndjson")).json
    assert again["value"]["value"] == "hi"


async def test_values_and_errors_of_devices_cannot_act_on_the_terminal(cli: Cli) -> None:
    shouted = await cli("send", "oven-1", "shout")
    assert shouted.code == 0
    assert shouted.output.splitlines()[1:] == ["    \\u001b[2J[bold]loud[/]\\u202e", "    lamp-1  done"]
    crashed = await cli("send", "oven-1", "crash")
    assert crashed.code == 1
    assert "oven-1  failed  error: ValueError: no \\u001b[2J[gas]" in crashed.output
    for ended in (shouted, crashed):
        assert "\x1b" not in ended.output + ended.errors


async def test_what_a_device_prints_meanwhile_is_shown_beside_the_results(cli: Cli) -> None:
    ended = await cli("send", "oven-1", "tell")
    assert ended.code == 0
    assert ended.errors == "oven-1  | half way\\u001b[2J\n"
    assert ended.output.startswith("oven-1  done  [1, 2]  (")


async def test_a_command_that_no_target_has_is_a_usage_error_that_names_the_nearest(cli: Cli) -> None:
    ended = await cli("send", "lamp-1", "pnig")
    assert (ended.code, ended.output) == (2, "")
    assert "lamp-1 has no command pnig; did you mean ping?" in ended.errors
    many = await cli("send", "all", "pnig")
    assert (many.code, many.output) == (2, "")
    assert "none of the 4 devices has a command pnig; did you mean ping?" in many.errors


async def test_json_is_one_document_with_every_outcome_and_counts_that_add_up(cli: Cli) -> None:
    ended = await cli("send", "@lamps", "calculate", "0", "hi", "--json")
    document = json.decode(ended.output, type=dict[str, Any])
    assert (ended.code, ended.errors) == (1, "")
    assert (document["target"], document["command"], document["targets"]) == ("@lamps", "calculate", 3)
    assert document["counts"] == {"done": 2, "rejected": 1}
    assert [each["device"] for each in document["outcomes"]] == ["lamp-1", "lamp-2", "lamp-3"]
    assert {each["id"] for each in document["outcomes"]} == {document["id"]}


async def test_quiet_prints_nothing_and_the_exit_code_tells(cli: Cli) -> None:
    good, bad = await cli("send", "lamp-1", "ping", "--quiet"), await cli("send", "lamp-3", "ping", "-q")
    assert (good.code, good.output, good.errors) == (0, "", "")
    assert (bad.code, bad.output, bad.errors) == (1, "", "")


async def test_no_wait_prints_the_id_and_the_command_goes_on_without_the_sender(cli: Cli) -> None:
    ended = await cli("send", "lamp-1", "calculate", "0.3", "later", "--no-wait")
    assert ended.code == 0
    (id,) = ended.output.split()
    async with asyncio.timeout(15):
        while True:
            (again,) = (await cli("send", "lamp-1", "result", id, "--ndjson")).json
            if again.get("value"):
                break
    assert again["value"]["value"] == "later"


async def test_a_group_where_some_lack_the_command_has_every_outcome(cli: Cli) -> None:
    ended = await cli("send", "all", "heat", "40")
    assert ended.code == 1
    assert ended.output.splitlines()[-1] == "4 targets: 1 done, 3 rejected"


async def test_a_group_whose_devices_take_arguments_differently_is_a_usage_error(cli: Cli) -> None:
    ended = await cli("send", "all", "calculate", "0", "hi")
    assert (ended.code, ended.output) == (2, "")
    assert "lamp-1 and oven-1 take the arguments of calculate differently" in ended.errors


async def test_what_cannot_be_sent_is_a_usage_error(cli: Cli) -> None:
    few = asyncio.Semaphore(4)

    async def send(words: list[str]) -> Ended:
        async with few:
            return await cli("send", *words)

    all_ended = await asyncio.gather(*(send(words) for words, _ in USAGE_ERRORS.values()))
    for (name, (_, said)), ended in zip(USAGE_ERRORS.items(), all_ended, strict=True):
        assert (ended.code, ended.output) == (2, ""), name
        assert said in ended.errors, name
        assert "Traceback" not in ended.errors, name


@pytest.mark.parametrize("words", [["devices"], ["about", "lamp-1"], ["send", "lamp-1", "ping"]])
async def test_no_broker_exits_with_3_and_one_clear_message(cli: Cli, words: list[str], unused_url: str) -> None:
    ended = await cli(*words, "--broker", unused_url)
    assert (ended.code, ended.output) == (3, "")
    assert ended.errors.startswith("error: ")
    assert ended.errors.count("\n") == 2
    assert unused_url.removeprefix("mqtt://") in ended.errors.splitlines()[0]
    assert "outrider broker" in ended.errors.splitlines()[1]


async def test_the_broker_comes_from_the_configuration_file_where_nothing_else_names_it(
    cli: Cli, stage: Stage, tmp_path: Path
) -> None:
    folder = tmp_path / "outrider"
    folder.mkdir()
    (folder / "config.toml").write_text(f'broker = "{stage.broker.address}"\nprefix = "{stage.prefix}"\n')
    found = await cli("devices", OUTRIDER_BROKER=None, OUTRIDER_PREFIX=None, XDG_CONFIG_HOME=str(tmp_path))
    assert found.code == 0
    assert "lamp-1" in found.output
    (folder / "config.toml").write_text("broker = 5\n")
    refused = await cli("devices", OUTRIDER_BROKER=None, XDG_CONFIG_HOME=str(tmp_path))
    assert refused.code == 2
    assert str(folder / "config.toml") in refused.errors


async def test_what_still_runs_at_the_end_of_the_wait_exits_with_1(cli: Cli) -> None:
    ended = await cli("send", "lamp-2", "calculate", "60", "hi", "--wait", "0.8", "--timeout", "2")
    assert ended.code == 1
    assert ended.output.startswith("lamp-2  running  ")


async def test_a_timeout_is_the_devices_answer(cli: Cli) -> None:
    ended = await cli("send", "lamp-2", "calculate", "60", "hi", "--timeout", "0.2")
    assert ended.code == 1
    assert ended.output.startswith("lamp-2  timed_out  ")


async def test_a_device_that_terminated_is_offline(stage: Stage, prefix: str, spawn: Processes, tmp_path: Path) -> None:
    own = Stage(stage.broker, prefix, spawn, tmp_path)
    device = await own.device("lamp-9", "--id", "lamp-9", "--ready")
    assert (await own("send", "lamp-9", "terminate")).code == 0
    assert await device.wait() == 0
    ended = await own("send", "lamp-9", "ping")
    assert (ended.code, ended.output) == (1, "lamp-9  offline  terminated: nothing was sent to it\n")
    listed = (await own("devices", "--json")).json
    assert listed[0]["status"] == "terminated"
    assert (await own("send", "all", "ping")).code == 2


async def test_a_device_that_was_killed_is_lost_and_the_command_queued(
    stage: Stage, prefix: str, spawn: Processes, tmp_path: Path
) -> None:
    own = Stage(stage.broker, prefix, spawn, tmp_path)
    device = await own.device("lamp-9", "--id", "lamp-9", "--ready")
    changed = asyncio.Event()
    async with own.fleet() as fleet, asyncio.timeout(10):
        with fleet.roster.watch(lambda state: changed.set()):
            device.kill()
            while fleet.roster.states["lamp-9"].status != "lost":
                changed.clear()
                await changed.wait()
    ended = await own("send", "lamp-9", "ping")
    assert ended.code == 1
    assert ended.output.startswith("lamp-9  queued  ")
    row = (await own("devices")).output.splitlines()[1]
    assert row.split()[:3] == ["lamp-9", "lost", "calculate"]


async def test_no_wait_says_who_is_away_and_whom_nothing_was_sent_to(
    stage: Stage, prefix: str, spawn: Processes, tmp_path: Path, connect: Connect
) -> None:
    own = Stage(stage.broker, prefix, spawn, tmp_path)
    peer = await connect(Peer(stage.broker.address))
    for device, status in {"lamp-7": "ready", "lamp-8": "lost", "lamp-9": "terminated"}.items():
        state = {"device": device, "status": status, "session": 1, "since": 0}
        await peer.publish(f"{prefix}/devices/{device}/state", state, retain=True)
    told = await own("send", "lamp-7,lamp-8,lamp-9", "ping", "--no-wait")
    assert told.code == 0
    assert (
        "sent to 2 devices, of which 1 is away: lamp-8; 1 device offline, nothing was sent there: lamp-9" in told.errors
    )
    (document,) = (await own("send", "lamp-7,lamp-8,lamp-9", "ping", "--no-wait", "--json", "--if-offline=fail")).json
    assert (document["devices"], document["offline"]) == (["lamp-7"], ["lamp-8", "lamp-9"])
    nowhere = await own("send", "lamp-9", "ping", "--no-wait")
    assert nowhere.code == 1
    assert "sent to 0 devices; 1 device offline, nothing was sent there: lamp-9\n" in nowhere.errors
    waited = await own("send", "lamp-8,lamp-9", "ping", "--if-offline=fail")
    assert waited.output.splitlines()[-1] == "2 targets: 2 offline"
    assert "not ended" not in waited.errors  # nothing more becomes of it


async def test_output_that_was_left_out_is_said_to_be(
    stage: Stage, prefix: str, spawn: Processes, tmp_path: Path, connect: Connect
) -> None:
    own = Stage(stage.broker, prefix, spawn, tmp_path)
    peer = await connect(Peer(stage.broker.address))
    await peer.subscribe(f"{prefix}/devices/+/cmd/#")
    state = {"device": "odd-1", "status": "ready", "session": 1, "since": 0}
    await peer.publish(f"{prefix}/devices/odd-1/state", state, retain=True)
    sending = own.start("send", "odd-1", "tell")
    asked = (await peer.wait_for(lambda message: message.topic.endswith("/cmd/tester"), 15)).json()
    said = {"id": asked["id"], "device": "odd-1"}
    for seq in (0, 1, 1, 1005, 1007):
        printed = {**said, "seq": seq, "stream": "stdout", "data": f"at {seq}\n"}
        await peer.publish(f"{prefix}/devices/odd-1/progress/tester", printed)
    await peer.publish(f"{prefix}/devices/odd-1/result/tester", {**said, "command": "tell", "status": "done"})
    assert await sending.wait(10) == 0
    assert sending.errors.splitlines() == [
        "odd-1  | at 0",
        "odd-1  | at 1",
        "odd-1  | at 1",
        "odd-1  … 1,003 messages left out, it says too much",
        "odd-1  | at 1005",
        "odd-1  … 1 message left out, it says too much",
        "odd-1  | at 1007",
    ]


async def test_text_that_the_outputs_encoding_lacks_is_escaped(
    stage: Stage, prefix: str, spawn: Processes, tmp_path: Path, connect: Connect
) -> None:
    own = Stage(stage.broker, prefix, spawn, tmp_path)
    peer = await connect(Peer(stage.broker.address))
    state = {"device": "lamp-9", "status": "lost", "session": 1, "since": 0, "tags": {"room": "küche 🍳"}}
    await peer.publish(f"{prefix}/devices/lamp-9/state", state, retain=True)
    listed = await own("devices", PYTHONIOENCODING="ascii")
    assert (listed.code, "room=k\\u00fcche \\ud83c\\udf73" in listed.output) == (0, True)
    listed = await own("devices", "--json", PYTHONIOENCODING="ascii")
    assert listed.output.isascii()
    assert listed.json[0]["tags"] == {"room": "küche 🍳"}
    assert (await own("watch", "--once", PYTHONIOENCODING="latin-1")).code == 0


@pytest.mark.parametrize("words", [["devices"], ["about"], ["jobs"], ["results", "--target"], ["forget"], ["watch"]])
async def test_a_pool_that_nobody_is_in_is_a_usage_error(cli: Cli, words: list[str]) -> None:
    ended = await cli(*words, "any:words")
    assert ended.code == 2
    assert "no member of any:words is ready: no device is in this pool" in ended.errors


async def test_an_answer_that_is_no_json_is_shown_as_such(
    stage: Stage, prefix: str, spawn: Processes, tmp_path: Path, connect: Connect
) -> None:
    own = Stage(stage.broker, prefix, spawn, tmp_path)
    peer = await connect(Peer(stage.broker.address))
    await peer.subscribe(f"{prefix}/devices/odd-1/cmd/#")
    state = {"device": "odd-1", "status": "ready", "session": 1, "since": 0}
    await peer.publish(f"{prefix}/devices/odd-1/state", state, retain=True)
    sending = own.start("send", "odd-1", "guess", "5", "--ndjson")
    asked = (await peer.wait_for(lambda message: message.topic.endswith("/cmd/tester"), 15)).json()
    assert asked["args"] == [5]
    # In MessagePack, although it was asked in JSON.
    answer = {"id": asked["id"], "device": "odd-1", "command": "guess", "status": "done", "value": [1]}
    packed = msgpack.encode(answer)
    await peer.publish(f"{prefix}/devices/odd-1/result/tester", packed)
    assert await sending.wait(10) == 0
    assert json.decode(sending.output)["device"] == "odd-1"
    assert "Traceback" not in sending.errors


async def test_ctrl_c_says_what_may_still_run_and_how_to_cancel_it(cli: Cli, stage: Stage) -> None:
    sending = stage.start("send", "lamp-1", "calculate", "300", "hi")
    async with stage.fleet() as fleet, asyncio.timeout(15):
        await until_jobs(fleet, "lamp-1", run=True)
        sending.send_signal(signal.SIGINT)
        assert await sending.wait() == 130
        assert "calculate may still run on lamp-1\n" in sending.errors
        assert "Traceback" not in sending.errors
        to_see, to_cancel = (line.partition(": ")[2] for line in sending.errors.splitlines()[-2:])
        seen = await cli(*shlex.split(to_see)[1:])
        assert (seen.code, seen.output.split()[:2]) == (1, ["lamp-1", "running"])
        cancelled = await cli(*shlex.split(to_cancel)[1:])
        assert (cancelled.code, cancelled.output.split()[:2]) == (0, ["lamp-1", "cancelled"])
        await until_jobs(fleet, "lamp-1", run=False)


async def test_on_a_terminal_progress_is_shown_below_the_outcomes(stage: Stage) -> None:
    words = ("send", "@lamps", "calculate", "1.5", "hi")
    async with open_terminal(sys.executable, OUTRIDER, *words, env=stage.env) as terminal:
        await terminal.wait_for(r"^lamp-3  rejected ")
        await terminal.wait_for(r"^lamp-[12]  [━╸╺ ]+ +\d+%  \d\.\d of 1.5 s$")
        await terminal.wait_for(r"^[━╸╺ ]+  1 of 3 answered: 1 rejected$")
        assert await terminal.wait() == 1
        *outcomes, summary = terminal.text.splitlines()
        assert summary == "3 targets: 2 done, 1 rejected"
        assert len(outcomes) == 3
        rejected = terminal.screen.buffer[0]
        assert rejected[8].fg == "red"


async def test_no_color_leaves_colours_out(stage: Stage) -> None:
    env = {**stage.env, "NO_COLOR": "1"}
    async with open_terminal(sys.executable, OUTRIDER, "send", "lamp-3", "ping", env=env) as terminal:
        assert await terminal.wait() == 1
        assert terminal.screen.buffer[0][8].data == "r"
        assert {cell.fg for cell in terminal.screen.buffer[0].values()} == {"default"}


BAR = r"^lamp-2  [━╸╺ ]+ +\d+%"
QUESTION = r"Cancel it on the devices \(c\), detach and leave it running \(d\), or wait on \(w\)\?"


async def test_ctrl_c_on_a_terminal_asks_and_d_leaves_it_running(cli: Cli, stage: Stage) -> None:
    words = ("send", "lamp-2", "calculate", "30", "hi")
    async with open_terminal(sys.executable, OUTRIDER, *words, env=stage.env) as terminal:
        await terminal.wait_for(BAR)
        terminal.type(CTRL_C)
        await terminal.wait_for(QUESTION)
        terminal.type("d")
        assert await terminal.wait() == 130
        assert "%" not in terminal.text
        assert "calculate may still run on lamp-2" in terminal.text
        advice = terminal.text.splitlines()[-1].removeprefix("to cancel it: ")
    cancelled = await cli(*shlex.split(advice)[1:])
    assert cancelled.code == 0
    assert "lamp-2  cancelled" in cancelled.output


async def test_ctrl_c_on_a_terminal_and_c_cancels_it_and_shows_what_became_of_it(stage: Stage) -> None:
    words = ("send", "lamp-2", "calculate", "30", "hi")
    async with open_terminal(sys.executable, OUTRIDER, *words, env=stage.env) as terminal:
        await terminal.wait_for(BAR)
        terminal.type(CTRL_C)
        await terminal.wait_for(QUESTION)
        terminal.type("c")
        assert await terminal.wait() == 1
        assert re.search(r"^lamp-2  cancelled  cancelled", terminal.text, re.MULTILINE)
        assert "%" not in terminal.text


async def test_ctrl_c_on_a_terminal_and_w_waits_on(stage: Stage) -> None:
    words = ("send", "lamp-2", "calculate", "3", "hi")
    async with open_terminal(sys.executable, OUTRIDER, *words, env=stage.env) as terminal:
        await terminal.wait_for(BAR)
        terminal.type(CTRL_C)
        await terminal.wait_for(QUESTION)
        terminal.type("w")
        assert await terminal.wait() == 0
        assert re.search(r"^lamp-2  done  hi", terminal.text, re.MULTILINE)


async def test_ctrl_c_twice_on_a_terminal_detaches(cli: Cli, stage: Stage) -> None:
    words = ("send", "lamp-2", "calculate", "30", "hi")
    async with open_terminal(sys.executable, OUTRIDER, *words, env=stage.env) as terminal:
        await terminal.wait_for(BAR)
        terminal.type(CTRL_C)
        await terminal.wait_for(QUESTION)
        terminal.type(CTRL_C)
        assert await terminal.wait() == 130
        advice = terminal.text.splitlines()[-1].removeprefix("to cancel it: ")
    assert (await cli(*shlex.split(advice)[1:])).code == 0
