"""Plugins as their authors write them, and as they are found."""

import importlib
import re
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from outrider.controller.hub import Context, Plugin, PluginError
from outrider.controller.hub import plugins as found_in
from outrider.controller.hub.plugins import check_names, load, register_at
from outrider.device import Device, Job
from outrider.schema import InvalidCommand, InvalidName

SERVICES = Path(__file__).parents[3] / "docs" / "services.md"

WORDS = """
from outrider.controller.hub import Plugin

words = Plugin("words")

@words.function(idempotent=True)
async def count_words(text: str) -> int:
    return len(text.split())
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, whose modules are forgotten after the test."""
    place = tmp_path / "plugins"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield place
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("reference", ["my_words", "my_words:words"])
def test_plugin_of_a_module_is_found(folder: Path, reference: str) -> None:
    (folder / "my_words.py").write_text(WORDS)
    (plugin,) = load([reference], installed=False)
    assert plugin.name == "words"
    assert list(plugin.functions) == ["count_words"]


def test_plugin_named_twice_is_one(folder: Path) -> None:
    (folder / "my_words.py").write_text(WORDS)
    assert len(load(["my_words", "my_words:words", "my_words"], installed=False)) == 1


@pytest.mark.parametrize(
    ("reference", "content", "said"),
    [
        ("nowhere", None, "there is no module 'nowhere' in .* or among the installed"),
        ("nowhere.words", None, "there is no module 'nowhere' in"),
        ("my_words.py", WORDS, "names a file: write its module, as my_words"),
        ("my_words:", WORDS, "is not MODULE or MODULE:NAME"),
        (":words", WORDS, "is not MODULE or MODULE:NAME"),
        ("my_words:poems", WORDS, r"plugin my_words:poems is no Plugin \(those of my_words: words\)"),
        ("my_words", "x = 1", "plugin my_words has no Plugin in it"),
        ("my_words:x", "x = 1", r"is no Plugin \(those of my_words: none\)"),
        (
            "my_words",
            "import no_such_thing",
            r"my_words needs no_such_thing, which is not installed \(.*my_words.py, line 1",
        ),
        (
            "my_words",
            "\n\nraise ValueError('by its own')",
            r"cannot be imported: ValueError: by its own \(.*, line 3\)",
        ),
        ("my_words", "def (", "cannot be imported: SyntaxError"),
        (
            "my_words",
            f"{WORDS}\n@words.function\ndef f(x): ...\n",
            "InvalidCommand: command 'f', parameter 'x' has no ann",
        ),
    ],
)
def test_plugin_that_cannot_be_loaded_says_why(folder: Path, reference: str, content: str | None, said: str) -> None:
    if content is not None:
        (folder / "my_words.py").write_text(content)
    with pytest.raises(PluginError, match=said):
        load([reference], installed=False)


def test_entry_points_of_installed_packages_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "my_words.py").write_text(WORDS)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])

    def listed(value: str) -> None:
        point = EntryPoint("words", value, "outrider.hub")

        def entry_points(*, group: str) -> EntryPoints:
            return EntryPoints([point]).select(group=group)

        monkeypatch.setattr(found_in, "entry_points", entry_points)

    listed("my_words:words")
    assert [plugin.name for plugin in load()] == ["words"]
    listed("my_words:other")
    with pytest.raises(PluginError, match=r"plugin words of an installed package \(my_words:other\) is no Plugin"):
        load()


def test_names_that_clash_say_whose_they_are() -> None:
    def count() -> int:
        return 1

    words, poems = Plugin("words"), Plugin("poems")
    for plugin in (words, poems):
        plugin.function(count)
    with pytest.raises(PluginError, match="the plugins 'words' and 'poems' both have a function 'count'"):
        check_names([words, poems])
    with pytest.raises(PluginError, match="two plugins called 'words'"):
        check_names([words, Plugin("words")])
    with pytest.raises(InvalidCommand, match="words: there is a command 'count' already"):
        words.function(count)
    with pytest.raises(InvalidCommand, match="words: 'terminate' is a control command"):
        words.function(name="terminate")(count)
    with pytest.raises(InvalidName):
        Plugin("a b")


def test_context_and_job_are_no_arguments() -> None:
    def plain(first: int, hub: Context, job: Job, *, last: str = "x") -> int:
        """Help."""
        return first

    async def asynchronous(hub: Context) -> None: ...

    plugin = Plugin("words")
    for function in (plain, asynchronous):
        plugin.function(function)
    device = Device("hub")
    for offered in plugin.functions.values():
        register_at(device, offered, None)
    spec = device.commands["plain"].spec
    assert spec.parameters == ("first", "last")
    assert spec.help == "Help."
    assert list(spec.injected) == ["job"]
    assert spec.result_schema == {"type": "integer"}
    assert device.commands["asynchronous"].spec.parameters == ()


def test_examples_of_the_page_are_plugins_and_devices(folder: Path) -> None:
    switch, words, bell = re.findall(r"^```python\n(.*?)^```", SERVICES.read_text(), re.MULTILINE | re.DOTALL)
    (folder / "words.py").write_text(words)
    (folder / "switch.py").write_text(switch)
    (folder / "bell.py").write_text(bell)
    (plugin,) = load(["words"], installed=False)
    assert list(plugin.functions) == ["count_words", "dim_all"]
    (routed,) = load(["bell"], installed=False)
    assert len(routed.routes) == 2
    device = importlib.import_module("switch").switch
    assert isinstance(device, Device)
    assert {"press", "press_slowly"} <= set(device.commands)
