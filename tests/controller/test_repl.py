"""The REPL: a terminal loop, driven on a pseudo-terminal, and scripts from a pipe; against real devices."""

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from outrider.controller import Fleet
from outrider.controller.broker import BrokerProcess
from outrider.controller.cli.completion import LineCompleter
from outrider.controller.cli.exits import exit_code
from outrider.controller.cli.line import Line, read
from outrider.controller.cli.session import OWN_WORDS, Session
from outrider.schema import InvalidArguments, LocalError
from tests.brokers import BrokerUnderTest
from tests.processes import Processes, Spawned, script
from tests.terminals import CTRL_C, CTRL_D, CTRL_U, ENTER, TAB, UP, Terminal, open_terminal

GEAR = '''
import asyncio
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from outrider.device import Device, Job

gear = Device("gear-1", groups=["yard"], initial="ready")


@gear.command
def turn(direction: Literal["left", "right"], speed: Annotated[int, Meta(ge=0, le=9)] = 1, fast: bool = False) -> str:
    """Turn the gear."""
    return f"{direction} {speed} {fast}"


@gear.command
def use(name: str, options: dict[str, int] = {}) -> str:
    """A command that is called like a word of the REPL."""
    return f"used {name} {options}"


@gear.command
async def tell(job: Job) -> str:
    """Tell what would move the cursor."""
    job.print("one\\x1b[2J\\ntwo")
    return "\\x1b[31mred"


@gear.command
async def hold(path: str) -> str:
    """Return when the file is there."""
    while not Path(path).exists():
        await asyncio.sleep(0.01)
    return "held"


@gear.command
def fail() -> None:
    """Raise."""
    raise ValueError("no grease")
'''


@dataclass(frozen=True)
class Setting:
    """A broker with three devices: lamp-1 and lamp-2 in the group kitchen, gear-1 in the group yard."""

    address: str
    prefix: str
    processes: Processes

    def environment(self, state: Path) -> dict[str, str]:
        """What a REPL needs."""
        return {
            "OUTRIDER_BROKER": self.address,
            "OUTRIDER_PREFIX": self.prefix,
            "OUTRIDER_NAME": "tester",
            "XDG_STATE_HOME": str(state),
            "XDG_CONFIG_HOME": str(state),
        }

    @contextlib.asynccontextmanager
    async def fleet(self) -> AsyncGenerator[Fleet]:
        """See and command the same devices as the REPL, as another requester."""
        async with Fleet(self.address, requester="other", prefix=self.prefix) as fleet:
            yield fleet


async def _until_ready(setting: Setting, devices: Sequence[str]) -> None:
    changed = asyncio.Event()
    async with asyncio.timeout(10), setting.fleet() as fleet:
        with fleet.roster.watch(lambda _: changed.set()):
            while not all(
                (state := fleet.roster.states.get(id)) is not None and state.status == "ready" for id in devices
            ):
                changed.clear()
                await changed.wait()


def _write_gear(directory: Path) -> None:
    (directory / "gear.py").write_text(GEAR)


def _start_devices(setting: Setting, directory: Path) -> dict[str, Spawned]:
    _write_gear(directory)
    at = ("--broker", setting.address, "--prefix", setting.prefix)
    run = (script("outrider-device"), "run", *at)
    started = {id: setting.processes(*run, "--id", id, "--ready", "--group", "kitchen") for id in ("lamp-1", "lamp-2")}
    started["gear-1"] = setting.processes(*run, "gear:gear", cwd=directory)
    return started


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def setting(broker: BrokerUnderTest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Setting]:
    directory = tmp_path_factory.mktemp("repl")
    processes = Processes(directory)
    try:
        setting = Setting(broker.address, "test-repl-" + directory.name.replace("_", "-"), processes)
        _start_devices(setting, directory)
        await _until_ready(setting, ("lamp-1", "lamp-2", "gear-1"))
        yield setting
    finally:
        processes.close()


Open = Callable[[], AbstractAsyncContextManager[Terminal]]


@pytest.fixture
def open_repl(setting: Setting, tmp_path: Path) -> Open:
    """Open the REPL on a terminal, at its first prompt."""

    @contextlib.asynccontextmanager
    async def open_() -> AsyncGenerator[Terminal]:
        async with open_terminal(script("outrider"), "repl", env=setting.environment(tmp_path)) as terminal:
            await terminal.wait_for_line("outrider> ?")
            yield terminal

    return open_


@pytest.fixture
def run_script(setting: Setting, spawn: Processes, tmp_path: Path) -> Callable[..., Spawned]:
    """Start the REPL with these lines in the pipe; the pipe stays open if they are None."""

    def run(lines: str | bytes | None, *options: str) -> Spawned:
        repl = spawn(script("outrider"), "repl", *options, env=setting.environment(tmp_path), stdin=True)
        if lines is not None:
            assert repl.process.stdin is not None
            repl.process.stdin.write(lines.encode() if isinstance(lines, str) else lines)
            repl.close_input()
        return repl

    return run


# Scripts


async def test_script_runs_its_lines_in_order_and_prints_only_what_comes_back(
    run_script: Callable[..., Spawned],
) -> None:
    repl = run_script(
        "# two ways to write the same\n"
        "use lamp-1   # the lamp in the kitchen\n"
        "\n"
        'calculate 0.3 "one # two"\n'
        'calculate(0, "three")\r\n'
        "send gear-1 turn direction=left speed=2\n"
        'send gear-1 use("x", {"a": 1})\n'
        'send gear-1 use x {"a": 1}'
    )
    assert await repl.wait() == 0, repl
    assert [re.sub(r"  \([^)]*s\)$", "", line) for line in repl.output.splitlines()] == [
        "lamp-1  done  one # two",
        "lamp-1  done  three",
        "gear-1  done  left 2 False",
        "gear-1  done  used x {'a': 1}",
        "gear-1  done  used x {'a': 1}",
    ]
    assert repl.errors == ""


async def test_script_goes_on_after_what_was_not_done_and_exits_with_1(run_script: Callable[..., Spawned]) -> None:
    repl = run_script("send gear-1 fail\nsend lamp-1 ping\n")
    assert await repl.wait() == 1, repl
    assert re.search(r"^gear-1  failed  error: ValueError: no grease", repl.output)
    assert re.search(r"^lamp-1  done  \d+", repl.output, re.MULTILINE)


async def test_script_addresses_groups_and_all(run_script: Callable[..., Spawned]) -> None:
    repl = run_script("use @kitchen\nping\nuse all\nping\n")
    assert await repl.wait() == 0, repl
    answers = [line.split()[0] for line in repl.output.splitlines()]
    assert sorted(answers[:2]) == ["lamp-1", "lamp-2"]
    assert sorted(answers[2:]) == ["gear-1", "lamp-1", "lamp-2"]


@pytest.mark.parametrize("line", ["send lamp-1 calculate 1", b"\xff"], ids=["argument", "encoding"])
async def test_script_stops_at_a_line_it_cannot_understand_and_names_it(
    run_script: Callable[..., Spawned], line: str | bytes
) -> None:
    wrong = line if isinstance(line, bytes) else line.encode()
    repl = run_script(b"# first\n" + wrong + b"\nsend lamp-1 ping\n")
    assert await repl.wait() == 2, repl
    assert "line 2: " in repl.errors
    assert ("argument 'msg' is missing" if isinstance(line, str) else "not UTF-8") in repl.errors
    assert repl.output == ""


async def test_script_runs_each_line_as_it_comes_through_the_pipe(run_script: Callable[..., Spawned]) -> None:
    repl = run_script(None)
    repl.write("send lamp-1 calculate(0, first)\n")
    await repl.wait_for("done  first")
    repl.write("send lamp-1 calculate(0, second)\nexit\nsend lamp-1 ping\n")
    assert await repl.wait() == 0, repl
    assert len(repl.output.splitlines()) == 2


async def test_interrupted_script_exits_with_130(run_script: Callable[..., Spawned]) -> None:
    repl = run_script(None)
    repl.write("send lamp-1 calculate(0, ready)\n")
    await repl.wait_for("ready")
    repl.send_signal(signal.SIGINT)
    assert await repl.wait() == 130, repl
    assert repl.errors == ""


async def test_script_waits_no_longer_than_told(run_script: Callable[..., Spawned]) -> None:
    repl = run_script("send lamp-1 calculate 30 late\n", "--wait", "0.5")
    assert await repl.wait() == 1, repl
    assert repl.output.startswith("lamp-1  running  ")


@pytest.mark.parametrize("wait", ["nan", "inf", "0", "1e10", "soon"])
async def test_a_wait_that_is_no_duration_is_a_usage_error(run_script: Callable[..., Spawned], wait: str) -> None:
    repl = run_script("send lamp-1 ping\n", "--wait", wait)
    assert await repl.wait() == 2, repl
    assert repl.output == ""
    assert wait in repl.errors


async def test_help_devices_and_about_answer_in_a_script(run_script: Callable[..., Spawned]) -> None:
    repl = run_script("help\ndevices\nabout gear-1 turn\nuse lamp-1\nhelp\nhelp calculate\nhelp use\nabout\n")
    assert await repl.wait() == 0, repl
    assert all(word.usage in repl.output for word in OWN_WORDS.values())
    assert re.search(r"^lamp-1 +ready .*kitchen", repl.output, re.MULTILINE)
    assert re.search(r"^turn direction", repl.output, re.MULTILINE)
    assert re.search(r"Take x seconds", repl.output)


@pytest.mark.parametrize("piped", [True, False], ids=["script", "terminal"])
async def test_without_broker_it_exits_with_3_and_says_where_and_what_to_do(spawn: Processes, piped: bool) -> None:
    options = (script("outrider"), "repl", "--broker", "mqtt://127.0.0.1:1")
    if piped:
        repl = spawn(*options)
        assert await repl.wait() == 3, repl
        said = repl.errors
    else:
        async with open_terminal(*options, env={}) as terminal:
            assert await terminal.wait() == 3
            said = terminal.text
    assert len(re.findall(r"127\.0\.0\.1:1\b", said)) <= 2
    assert "No connection to the broker at 127.0.0.1:1" in said
    assert "Check that it runs" in said.replace("\n", "")


# The terminal


async def test_answers_arrive_while_typing_and_each_has_its_tag(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("use lamp-1" + ENTER)
        await terminal.wait_for_line(r"lamp-1 \[ready\]> ?")
        terminal.type('calculate 1.2 "slow one"' + ENTER)
        await terminal.wait_for(r"^\[1\] lamp-1 calculate 1\.2 \"slow one\" .*accepted|%")
        terminal.type('calculate(0.4, "quick one")' + ENTER)
        await terminal.wait_for(r"^\[2\] lamp-1 calculate\(0\.4, \"quick one\"\) .* \d+%  0\.\d of 0\.4 s")
        terminal.type("pi")
        await terminal.wait_for(r"^\[2\] lamp-1  done  quick one")
        await terminal.wait_for_line(r"lamp-1 \[ready\]> pi")
        terminal.type("ng")
        await terminal.wait_for(r"^\[1\] lamp-1  done  slow one  \(1\.\d s\)")
        await terminal.wait_for_line(r"lamp-1 \[ready\]> ping")
        terminal.type(ENTER)
        await terminal.wait_for(r"^\[3\] lamp-1  done  \d+")
        assert re.findall(r"^\[\d\]", terminal.text, re.MULTILINE) == ["[2]", "[1]", "[3]"]
        terminal.type(CTRL_D)
        assert await terminal.wait() == 0


async def test_prompt_follows_the_state_while_typing(open_repl: Open, setting: Setting) -> None:
    async with open_repl() as terminal, setting.fleet() as fleet:
        terminal.type("use lamp-2" + ENTER)
        await terminal.wait_for_line(r"lamp-2 \[ready\]> ?")
        terminal.type("pin")
        await terminal.wait_for_line(r"lamp-2 \[ready\]> pin")
        await fleet.call("lamp-2", "stop")
        await terminal.wait_for_line(r"lamp-2 \[unready\]> pin")
        terminal.type(CTRL_U + "use @kitchen" + ENTER)
        await terminal.wait_for_line(r"@kitchen \[1 of 2 ready\]> ?")
        terminal.type("start" + ENTER)
        await terminal.wait_for(r"^\[1\] 2 targets: 2 done")
        await terminal.wait_for_line(r"@kitchen \[2 of 2 ready\]> ?")
        terminal.type("use" + ENTER)
        await terminal.wait_for_line("outrider> ?")


async def test_mistakes_are_explained_and_the_prompt_comes_back(open_repl: Open) -> None:
    async with open_repl() as terminal:
        for typed, said in (
            ("use lamp-9", "error: no device lamp-9"),
            ("use lamp-1", ""),
            ("clculate 1 x", "error: lamp-1 has no command clculate; did you mean calculate"),
            ("calculate fast x", "error: lamp-1: argument 'x'"),
            ("calculate(1", "error: .*"),
            ('calculate 1 "x', "error: No closing quotation"),
            ("help clculate", "did you mean calculate"),
        ):
            terminal.type(typed + ENTER)
            await terminal.wait_for(said)
            await terminal.wait_for_line(r"(outrider|lamp-1 \[ready\])> ?")
        terminal.type("exit()" + ENTER)
        assert await terminal.wait() == 0


async def test_ctrl_c_clears_the_line_and_says_how_to_leave_when_there_is_none(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("use lam")
        await terminal.wait_for_line("outrider> use lam")
        terminal.type(CTRL_C)
        await terminal.wait_for_line("outrider> ?")
        assert "Ctrl-D or exit leaves" not in terminal.text
        terminal.type(CTRL_C)
        await terminal.wait_for("Ctrl-D or exit leaves")
        await terminal.wait_for_line("outrider> ?")


async def test_tab_completes_devices_commands_arguments_and_values(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("use ge" + TAB)
        await terminal.wait_for_line("outrider> use gear-1")
        terminal.type(ENTER)
        await terminal.wait_for_line(r"gear-1 \[ready\]> ?")
        terminal.type("tu" + TAB)
        await terminal.wait_for_line(r"gear-1 \[ready\]> turn")
        terminal.type(" " + TAB)
        await terminal.wait_for("speed= +integer, 0 to 9")
        terminal.type("sp" + TAB)
        await terminal.wait_for_line(r"gear-1 \[ready\]> turn .*speed=")
        terminal.type("3 dir" + TAB)
        await terminal.wait_for_line(r"gear-1 \[ready\]> turn .*speed=3 direction=")
        terminal.type("le" + TAB)
        await terminal.wait_for_line(r"gear-1 \[ready\]> turn .*direction=left")


async def test_history_is_kept_between_sessions(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("use lamp-1" + ENTER)
        await terminal.wait_for_line(r"lamp-1 \[ready\]> ?")
        terminal.type(CTRL_D)
        assert await terminal.wait() == 0
    async with open_repl() as terminal:
        terminal.type(UP)
        await terminal.wait_for_line("outrider> use lamp-1")


async def test_cancel_takes_the_tag(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("send lamp-1 calculate 30 long" + ENTER)
        await terminal.wait_for(r"^\[1\] lamp-1 send lamp-1 calculate 30 long .*(accepted|%)")
        terminal.type("cancel 1" + ENTER)
        await terminal.wait_for(r"^\[1\] lamp-1  cancelled")
        await terminal.wait_for(r"^\[2\] lamp-1  done  true")


async def test_leaving_says_what_goes_on(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("send lamp-1 calculate 2 bye" + ENTER)
        await terminal.wait_for(r"^\[1\] .*(accepted|%)")
        terminal.type("exit" + ENTER)
        assert await terminal.wait() == 0
        assert re.search(r"^\[1\] lamp-1 .*calculate 2 bye goes on", terminal.text, re.MULTILINE)


async def test_pasted_lines_are_run_one_after_the_other(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("\x1b[200~use lamp-1\ncalculate 0.1 one\ncalculate 0 two\x1b[201~" + ENTER)
        await terminal.wait_for(r"^\[1\] lamp-1  done  one")
        await terminal.wait_for(r"^\[2\] lamp-1  done  two")


async def test_what_a_device_says_cannot_move_the_cursor(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("send gear-1 tell" + ENTER)
        await terminal.wait_for(r"^\[1\] gear-1  done  .u001b\[31mred")
        assert re.search(r"^\[1\] gear-1  \| one.u001b\[2J$", terminal.text, re.MULTILINE)
        assert "outrider> send gear-1 tell" in terminal.text


async def test_lost_broker_is_told_and_answers_come_in_when_it_is_back(
    restartable_broker: BrokerProcess, spawn: Processes, tmp_path: Path
) -> None:
    setting = Setting(restartable_broker.address, "", spawn)
    _write_gear(tmp_path)
    spawn(script("outrider-device"), "run", "gear:gear", "--broker", setting.address, cwd=tmp_path)
    await _until_ready(setting, ["gear-1"])
    go = tmp_path / "go"
    async with open_terminal(script("outrider"), "repl", env=setting.environment(tmp_path)) as terminal:
        await terminal.wait_for_line("outrider> ?")
        terminal.type("use gear-1" + ENTER)
        await terminal.wait_for_line(r"gear-1 \[ready\]> ?")
        terminal.type(f"hold {go}" + ENTER)
        await terminal.wait_for(r"^\[1\] gear-1 hold .*accepted")
        terminal.type("turn le")
        await restartable_broker.stop()
        await terminal.wait_for("lost the broker")
        await terminal.wait_for_line(r"gear-1 \[no broker\]> turn le")
        await restartable_broker.start()
        await terminal.wait_for("the broker is back", timeout=20)
        await terminal.wait_for_line(r"gear-1 \[ready\]> turn le", timeout=20)
        go.touch()
        await terminal.wait_for(r"^\[1\] gear-1  done  held")
        terminal.type("ft" + ENTER)
        await terminal.wait_for(r"^\[2\] gear-1  done  left 1 False")


async def test_device_that_is_killed_shows_as_lost(
    setting: Setting, open_repl: Open, unique: str, spawn: Processes
) -> None:
    id = f"lost-{unique}"
    lamp = spawn(
        *(script("outrider-device"), "run", "--id", id, "--ready"),
        *("--broker", setting.address, "--prefix", setting.prefix),
    )
    await _until_ready(setting, [id])
    async with open_repl() as terminal:
        terminal.type(f"use {id}" + ENTER)
        await terminal.wait_for_line(rf"{id} \[ready\]> ?")
        terminal.type("calculate 30 x" + ENTER)
        await terminal.wait_for(r"^\[1\] .*(accepted|%)")
        lamp.kill()
        await terminal.wait_for_line(rf"{id} \[lost\]> ?")
        await terminal.wait_for(rf"^\[1\] {id}  running  .* lost")


# Lines


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", None),
        ("  # nothing", None),
        ("ping", Line("ping", ())),
        ("ping # now", Line("ping", ())),
        ("ping()", Line("ping", ())),
        ("say a#b", Line("say", ("a#b",))),
        ('say "a # b" # c', Line("say", ("a # b",))),
        ("say 'a # b'", Line("say", ("a # b",))),
        (r'say "a \" # b"', Line("say", ('a " # b',))),
        ('calculate 5 "two words"', Line("calculate", ("5", "two words"))),
        ('calculate(5, "two, words") # so', Line("calculate", ("5", "two, words"))),
        ('calculate x=5 msg="two words"', Line("calculate", ("x=5", "msg=two words"))),
        ('calculate(x=5, msg="two words")', Line("calculate", ("x=5", "msg=two words"))),
        ('set {"a": [1, 2], "b": "x y"} 5', Line("set", ('{"a": [1, 2], "b": "x y"}', "5"))),
        ('set values={"a": 1}', Line("set", ('values={"a": 1}',))),
        ('calculate(5, msg="two words")', Line("calculate", ("5", "msg=two words"))),
        ('send lamp-1 calculate(5, "hello")', Line("send", ("lamp-1", "calculate", "5", "hello"))),
        ('send lamp-1 calculate 5 "hello"', Line("send", ("lamp-1", "calculate", "5", "hello"))),
        ("send 'a b' ping", Line("send", ("a b", "ping"))),
        ("send lamp-1", Line("send", ("lamp-1",))),
        ("send", Line("send", ())),
    ],
)
def test_line_is_read_as(text: str, line: Line | None) -> None:
    assert read(text) == line


@pytest.mark.parametrize("text", ['say "a', "say 'a # b", 'calculate(5, "hello)', 'send lamp-1 say "a'])
def test_line_whose_quotes_do_not_close_is_refused(text: str) -> None:
    with pytest.raises(InvalidArguments, match="quote"):
        read(text)


# Completion


@pytest_asyncio.fixture
async def session(setting: Setting) -> AsyncIterator[Session]:
    async with setting.fleet() as fleet, asyncio.TaskGroup() as tasks:
        session = Session(fleet, tasks, show=print, wait=5)
        yield session
        session.close()


@pytest.mark.parametrize(
    ("target", "text", "completions"),
    [
        (None, "de", ["devices"]),
        (None, "use lamp-", ["lamp-1", "lamp-2"]),
        (None, "use @", ["@kitchen", "@yard"]),
        (None, "use al", ["all"]),
        (None, "use lamp-1 ", []),
        (None, "send gear-1 t", ["tell", "terminate", "turn"]),
        (None, "send gear-1 turn ", ["left", "right", "direction=", "speed=", "fast="]),
        (None, "send gear-1 turn(speed=1, d", ["direction="]),
        (None, "send nobody t", []),
        (None, "pi", []),
        ("gear-1", "tu", ["turn"]),
        ("gear-1", "us", ["use"]),
        ("gear-1", "turn d", ["direction="]),
        ("gear-1", "turn direction=left ", ["speed=", "fast="]),
        ("gear-1", "turn(direction=left, f", ["fast="]),
        ("gear-1", "turn(left, 2, ", ["true", "false", "fast="]),
        ("gear-1", "turn left 2 f", ["false", "fast="]),
        ("gear-1", "turn left fast=true ", ["speed="]),
        ("gear-1", "turn left speed=2 fast=t", ["true"]),
        ("gear-1", "turn left 2 true ", []),
        ("gear-1", "turn fast=", ["true", "false"]),
        ("gear-1", 'use "le', []),
        ("gear-1", "help tu", ["turn"]),
        ("gear-1", "help us", ["use"]),
        ("gear-1", "about gear-1 tu", ["turn"]),
        ("gear-1", "# tu", []),
        ("@kitchen", "calculate ", ["x=", "msg="]),
        ("all", "t", ["tell", "terminate", "turn"]),
    ],
)
async def test_completions_at_the_end_of_a_line_are(
    session: Session, target: str | None, text: str, completions: list[str]
) -> None:
    if target:
        await session.interpret(f"use {target}")
    completer = LineCompleter(session)
    document = Document(text)
    found = [each async for each in completer.get_completions_async(document, CompleteEvent(completion_requested=True))]
    assert [each.text for each in found] == completions
    for each in found:
        assert each.text.startswith(text[len(text) + each.start_position :])


async def test_command_called_like_an_own_word_is_reached_by_send(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    await session.interpret("use gear-1")
    assert session.target == "gear-1"
    sent = await session.interpret("send gear-1 use x")
    assert sent is not None
    assert await sent.ended()
    assert "used x" in capsys.readouterr().out
    assert session.target == "gear-1"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("use lamp-9", "no device lamp-9 has been seen; did you mean lamp-"),
        ("use @kitchn", "did you mean @kitchen?"),
        ("use lamp-1 lamp-2", "write use [TARGET]"),
        ("ping", "use lamp-1"),
        ("devcies", "did you mean devices?"),
        ("send lamp-1", "send TARGET COMMAND"),
        ("send lamp-1 pong", "lamp-1 has no command pong; did you mean ping"),
        ("send lamp-1 calculate 1", "argument 'msg' is missing"),
        ("send lamp-1 calculate -1 x", "argument 'x': -1"),
        ("send lamp-1 calculate(1, 2, 3)", "too many"),
        ("send gear-1 turn up", "argument 'direction'"),
        ('send lamp-1 calculate 1 "x', "quotes must close"),
        ("about", "about lamp-1"),
        ("about lamp-1 pong", "did you mean ping"),
        ("help ping", "use lamp-1"),
        ("exit now", "too many"),
    ],
)
async def test_line_that_cannot_be_done_says_what_to_write(session: Session, line: str, said: str) -> None:
    with pytest.raises(LocalError, match=re.escape(said)) as caught:
        await session.interpret(line)
    assert exit_code(caught.value) == 2
