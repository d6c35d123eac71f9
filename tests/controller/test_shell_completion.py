"""Completion in shells: what the scripts are told, from a real broker and device, and real shells on a terminal."""

import asyncio
import os
import re
import shutil
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from outrider.controller.broker import start_broker
from outrider.controller.cli.main import app
from outrider.controller.cli.shell_words import Word, split
from outrider.controller.cli.shells import SCRIPTS, Shell, UnknownShell, current_shell, install
from outrider.controller.cli.tab import answer
from tests.processes import Processes, script
from tests.terminals import CTRL_U, TAB, Terminal, open_terminal

LAMP = '''
import asyncio
from typing import Annotated, Literal

from msgspec import Meta

from outrider.device import Device, Job

lamp = Device(
    "lamp-1",
    groups=["kitchen"],
    pools=["words"],
    tags={"room": "kitchen", "fw": "2.1", "owner": "Ann's two $"},
    initial="ready",
)


@lamp.command
def dim(
    level: Annotated[int, Meta(ge=0, le=100)],
    mode: Literal["slow", "fast", "by hand"] = "fast",
    wait: bool = False,
) -> int:
    """Set the brightness in percent.

    It takes a while.
    """
    return level


@lamp.command
async def glow(job: Job) -> None:
    """Glow until cancelled."""
    async for _ in job.track(range(6_000)):
        await asyncio.sleep(0.01)
'''


class Setting(NamedTuple):
    """A broker with the device lamp-1 under a prefix, and a home for shells."""

    address: str
    prefix: str
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a shell and `outrider` need: nobody's own configuration, and the programs of these tests."""
        return {
            "PATH": f"{Path(script('outrider')).parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "ZDOTDIR": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_DATA_HOME": str(self.home / ".local"),
            "OUTRIDER_BROKER": self.address,
            "OUTRIDER_PREFIX": self.prefix,
            "OUTRIDER_NAME": "tester",
        }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lamp(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Setting]:
    """One broker of any kind and one device for all tests here: what shells make of answers does not depend on them."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "lamp.py").write_text(LAMP)
    processes = Processes(folder)
    async with start_broker() as broker:
        try:
            setting = Setting(broker.address, "site", folder)
            words = ("run", "lamp:lamp", "--broker", broker.address, "--prefix", setting.prefix)
            process = processes(script("outrider-device"), *words, cwd=folder)
            await process.wait_for("is connected", 20, errors=True)
            yield setting
        finally:
            processes.close()


@pytest.fixture
def setting(lamp: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    setting = lamp._replace(home=tmp_path)
    for name, value in setting.environment.items():
        monkeypatch.setenv(name, value)
    return setting


def command_lines(cases: str) -> list[tuple[str, str]]:
    """Pairs of what is typed and what stands there after Tab."""
    return [(typed, after) for typed, _, after in (line.partition(" => ") for line in cases.strip().splitlines())]


async def told(shell: Shell, *words: str, timeout: float = 15.0) -> list[str]:
    """The choices that a script would read, asked again as long as there is none: a machine under load is slow."""
    deadline = time.monotonic() + timeout
    while not (lines := (await asyncio.to_thread(answer, app, shell, words)).splitlines()):
        assert time.monotonic() < deadline, f"no choice for {words}"
    return lines


@pytest.mark.parametrize(
    ("line", "before", "word"),
    [
        ("", [], Word()),
        ("outrider send ", ["outrider", "send"], Word()),
        ("outrider send la", ["outrider", "send"], Word("la", "la")),
        ("outrider send any:w", ["outrider", "send"], Word("any:w", "any:w")),
        ("send 'room=kitchen and ", ["send"], Word("'room=kitchen and ", "room=kitchen and ", "'")),
        ('send "a \\"b', ["send"], Word('"a \\"b', 'a "b', '"')),
        ("send room='kit", ["send"], Word("room='kit", "room=kit", "'")),
        ("send 'a'b\"c\"d", ["send"], Word("'a'b\"c\"d", "abcd")),
        ("send a\\ b", ["send"], Word("a\\ b", "a b")),
        ("send 'two words' x", ["send", "two words"], Word("x", "x")),
        ("send '' x", ["send", ""], Word("x", "x")),
    ],
)
def test_line_is_split_as_a_shell_would(line: str, before: list[str], word: Word) -> None:
    assert split(line) == (before, word)


@pytest.mark.parametrize("typed", ["", "roo", "'roo", '"roo', "'r'oo", "r\\oo"])
def test_completed_word_is_the_text_for_a_shell(typed: str) -> None:
    text = 'room="Ann\'s $two" <b> *(!c)\\'
    word = split(typed)[1]
    line = word.completed(text)
    done = split(line + word.quote)[1]
    assert (done.text, done.quote) == (text, "")


async def test_targets_come_from_the_broker_with_help(setting: Setting) -> None:
    found = await told(Shell.ZSH, "send", "")
    assert "whole\tlamp-1\tready" in found
    assert "whole\t@kitchen\tgroup of 1 device" in found
    assert "whole\tany:words\tany one of 1" in found
    assert "more\troom=\ttag of 1 device" in found


async def test_broker_and_prefix_on_the_line_are_honoured(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_BROKER", "mqtt://localhost:1")
    monkeypatch.delenv("OUTRIDER_PREFIX")
    assert await asyncio.to_thread(answer, app, Shell.FISH, ("send", "la")) == ""
    before = ("send", "--broker", setting.address, f"--prefix={setting.prefix}")
    assert await told(Shell.FISH, *before, "la") == ["lamp-1\tready"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("send", "room="), ["room=kitchen\t1 device"]),
        (("send", "ro"), ["room=kitchen\t1 device"]),
        (("send", "'@kitchen - "), ["@kitchen - lamp-1\tready", "@kitchen - @kitchen\tgroup of 1 device"]),
        (("send", "lamp-1", "di"), ["dim\tSet the brightness in percent."]),
        (("send", "--wait", "5s", "lamp-1", "--json", "di"), ["dim\tSet the brightness in percent."]),
        (("about", "any:words", "gl"), ["glow\tGlow until cancelled."]),
        (("send", "@kitchen", "dim", ""), ["level=\tinteger, 0 to 100", 'mode=\t"by hand" or "fast" or "slow"']),
        (("send", "@kitchen", "dim", "5", "f"), ["fast\tdefault"]),
        (("send", "@kitchen", "dim", "level=5", "mode="), ["mode=by hand\t", "mode=fast\tdefault", "mode=slow\t"]),
        (("send", "@kitchen", "dim", "--", "5", "mode=s"), ["mode=slow\t"]),
        (("send", "@kitchen", "dim", "wait=t"), ["wait=true\t"]),
        (("results", "--target", "@"), ["@kitchen\tgroup of 1 device"]),
        (("forget", "lam"), ["lamp-1\tready"]),
    ],
)
async def test_words_of_the_fleet_complete(setting: Setting, words: Sequence[str], expected: list[str]) -> None:
    found = await told(Shell.FISH, *words)
    assert found[: len(expected)] == expected


async def test_ids_of_running_jobs_and_of_results_complete(setting: Setting, spawn: Processes) -> None:
    glow = spawn(script("outrider"), "send", "lamp-1", "glow", "--no-wait", env=setting.environment)
    assert await glow.wait() == 0
    [running] = await told(Shell.FISH, "cancel", "")
    id, help = running.split("\t")
    assert help == "glow on lamp-1"
    assert id in glow.output
    cancel = spawn(script("outrider"), "cancel", id, env=setting.environment)
    assert await cancel.wait() == 0
    assert await told(Shell.FISH, "results", id[:4]) == [f"{id}\tglow on lamp-1"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("de",), ["devices", "demo"]),
        (("send", "--if"), ["--if-offline"]),
        (("send", "--if-offline", ""), ["queue", "fail"]),
        (("broker", "--kind", "mo"), ["mosquitto"]),
        (("broker", "--kind=mo"), ["--kind=mosquitto"]),
        (("devices", "--as"), ["--as"]),
        (("--show-completion", "z"), ["zsh"]),
        (("--ver",), ["--version"]),
        (("devices", "lamp-1", ""), []),
        (("no-such", ""), []),
        (("simulate", "5", "--log", ""), ["files"]),
        (("script", ""), ["files"]),
        (("script", "main.py", "--on", "lamp-1", ""), ["files"]),
        (("script", "main.py", "--map", ""), ["files"]),
        (("script", "main.py", "--save"), ["--save-output"]),
    ],
)
def test_options_need_no_broker(words: Sequence[str], expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        monkeypatch.setenv("OUTRIDER_BROKER", f"mqtt://127.0.0.1:{listener.getsockname()[1]}")
        found = answer(app, Shell.FISH, words)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert [line.partition("\t")[0] for line in found.splitlines()] == expected


def test_given_options_are_not_told_again() -> None:
    found = answer(app, Shell.FISH, ("send", "--wait", "5s", "--json", "--"))
    names = [line.partition("\t")[0] for line in found.splitlines()]
    assert "--timeout" in names
    assert not {"--wait", "--json", "-q"} & set(names)


@pytest.mark.parametrize("shell", list(Shell))
async def test_broker_that_does_not_answer_leaves_silence_within_a_second(shell: Shell, spawn: Processes) -> None:
    words = ("outrider send ", "") if shell is Shell.BASH else ("send", "")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = {"OUTRIDER_BROKER": f"mqtt://127.0.0.1:{silent.getsockname()[1]}", "_OUTRIDER_COMPLETE": shell}
        began = time.monotonic()
        process = spawn(script("outrider"), *words, env=env)
        assert await process.wait(30) == 0
        took = time.monotonic() - began
    began = time.monotonic()
    assert await spawn(script("outrider"), "--version").wait(30) == 0
    assert took < 3 * (time.monotonic() - began) + 1.2
    assert (process.output.removeprefix("whole\n"), process.errors) == ("", "")


@pytest.mark.parametrize(
    "env",
    [
        {"OUTRIDER_BROKER": "nonsense://"},
        {"OUTRIDER_BROKER": "mqtt://localhost:1"},
        {"OUTRIDER_BROKER": "mqtt://localhost:1", "OUTRIDER_PREFIX": "a/#/b"},
        {"_OUTRIDER_COMPLETE": "tcsh"},
    ],
)
async def test_nothing_that_goes_wrong_is_shown(env: dict[str, str], spawn: Processes) -> None:
    process = spawn(script("outrider"), "send", "la", "", env={"_OUTRIDER_COMPLETE": "fish", **env})
    assert await process.wait(30) == 0
    assert (process.output, process.errors) == ("", "")


SHELLS = {
    Shell.BASH: ("bash", "--noprofile", "-i"),
    Shell.ZSH: ("zsh", "-i"),
    Shell.FISH: ("fish", "--private"),
}
PROMPTS = {
    Shell.BASH: ".bashrc",
    Shell.ZSH: ".zshrc",
    Shell.FISH: ".config/fish/config.fish",
}
PLAIN = {
    Shell.BASH: "PS1='> '\nHISTFILE=\n",
    Shell.ZSH: "PROMPT='> '\nunset RPS1\nsetopt no_beep\n",
    Shell.FISH: "function fish_prompt; echo -n '> '; end\nfunction fish_right_prompt; end\nset fish_greeting\n"
    "set fish_autosuggestion_enabled 0\n",
}


@asynccontextmanager
async def completing(shell: Shell, setting: Setting, spawn: Processes) -> AsyncGenerator[Terminal]:
    """A real shell, new, after `outrider --install-completion`."""
    program, *options = SHELLS[shell]
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed: apt install {program}")
    file = setting.home / PROMPTS[shell]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(PLAIN[shell])
    done = spawn(script("outrider"), "--install-completion", shell, env=setting.environment)
    assert await done.wait() == 0, done
    async with open_terminal(path, *options, env=setting.environment, columns=120) as terminal:
        await terminal.wait_for("^> ?$", 20)
        yield terminal


async def press_tab(terminal: Terminal, typed: str, expected: str) -> None:
    """Type on an empty line, press Tab and wait for the line to be as expected; press it again where nothing came.

    A blank at the end, which shells put after a whole word, counts where it is expected.
    """
    terminal.type(typed)
    await terminal.wait_for_line(re.escape(f"> {typed}".rstrip()))
    for patience in (6.0, 12.0):
        terminal.type(TAB)
        try:
            await terminal.wait_for_line(re.escape(f"> {expected}".rstrip()), patience)
            break
        except AssertionError:
            if terminal.line != f"> {typed}".rstrip() or patience > 6.0:
                raise
    assert terminal.screen.cursor.x == len(f"> {expected}")
    terminal.type(CTRL_U)
    await terminal.wait_for_line(">")


TYPED = {
    Shell.BASH: """
outrider dev => outrider devices |
outrider send la => outrider send lamp-1 |
outrider send @k => outrider send @kitchen |
outrider send any:w => outrider send any:words |
outrider send ro => outrider send room=kitchen |
outrider send room=k => outrider send room=kitchen |
outrider send 'room=k => outrider send 'room=kitchen' |
outrider send "@kitchen - la => outrider send "@kitchen - lamp-1" |
outrider send lamp-1 dim le => outrider send lamp-1 dim level=|
outrider send lamp-1 dim level=4 mode=f => outrider send lamp-1 dim level=4 mode=fast |
outrider send lamp-1 dim mode=b => outrider send lamp-1 dim mode=by\\ hand |
outrider broker --kind=mo => outrider broker --kind=mosquitto |
""",
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("shell", list(Shell))
async def test_shell_completes_what_is_typed(shell: Shell, setting: Setting, spawn: Processes) -> None:
    async with completing(shell, setting, spawn) as terminal:
        for typed, after in command_lines(TYPED.get(shell, TYPED[Shell.BASH])):
            await press_tab(terminal, typed, after.removesuffix("|"))


def test_completion_is_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ZDOTDIR", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / ".bashrc").write_text("alias ll='ls -l'")
    for shell in Shell:
        assert install(shell) == install(shell)
        assert install(shell).read_text() == SCRIPTS[shell]
    assert (tmp_path / ".bashrc").read_text() == (
        f"alias ll='ls -l'\nsource '{tmp_path}/.bash_completions/outrider.sh'\n"
    )
    assert (tmp_path / ".zshrc").read_text().count("\n") == 1
    assert (tmp_path / ".config/fish/completions/outrider.fish").exists()


async def test_script_is_shown(spawn: Processes) -> None:
    process = spawn(script("outrider"), "--show-completion", "fish")
    assert await process.wait() == 0
    assert process.output == SCRIPTS[Shell.FISH]


async def test_unknown_shell_is_a_usage_error(spawn: Processes) -> None:
    process = spawn(script("outrider"), "--show-completion", "tcsh")
    assert await process.wait() == 2
    assert "'bash', 'zsh', 'fish'" in process.errors


def test_shell_that_runs_this_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import shellingham  # type: ignore[import-untyped]  # it has no types  # pyright: ignore[reportMissingTypeStubs]

    def detected() -> tuple[str, str]:
        return "zsh", "/bin/zsh"

    monkeypatch.setattr(shellingham, "detect_shell", detected)
    assert current_shell() is Shell.ZSH

    def none() -> tuple[str, str]:
        raise shellingham.ShellDetectionFailure

    monkeypatch.setattr(shellingham, "detect_shell", none)
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert current_shell() is Shell.FISH
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    with pytest.raises(UnknownShell, match="no completion for tcsh: name one of bash, zsh, fish"):
        current_shell()
