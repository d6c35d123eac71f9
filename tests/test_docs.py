"""The documents say what is so: their commands and examples run, their tables are those of the code."""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from docs import generate
from outrider.controller.cli.words import OWN_WORDS
from outrider.controller.hub.metrics import Metrics
from outrider.device import RESERVED
from outrider.device.journal import CLOCK_TOLERANCE
from outrider.schema import CONDITIONS, MAX_DEPTH, MAX_SIZE, Command, Kind, Progress, Result, State, Status, Topics
from tests.peers import Connect, Peer
from tests.processes import Processes, Spawned

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PROTOCOL = ROOT / "docs" / "protocol.md"
EVENTS = ROOT / "docs" / "events.md"
METRICS = ROOT / "docs" / "metrics.md"
TRACING = ROOT / "docs" / "tracing.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*/README.md")))

ELSEWHERE = {
    "export PATH=$PWD/.venv/bin:$PATH": ("tests/test_docs.py", '"PATH": f"{Path(sys.executable).parent}'),
    "make demo": ("tests/controller/test_demo.py", '"demo"'),
    "make test": ("pyproject.toml", 'testpaths = ["tests"]'),
    "make dist": ("tests/test_distributions.py", '"build", "--quiet", "--no-config", "--all-packages"'),
    "pip install --find-links dist outrider-device": ("tests/test_distributions.py", '"--find-links"'),
    "docker compose up --build --detach --wait": ("tests/compose/conftest.py", '"up"'),
    "docker compose run --rm controller": ("tests/compose/test_compose.py", '"run", "--rm", "-T", "controller"'),
    "docker compose down": ("tests/compose/conftest.py", '"down"'),
}
"""Commands that are too large for here, and where they run."""


def commands(page: Path) -> list[str]:
    """What the page's console blocks tell to type, without what a test of its own types."""
    text = page.read_text()
    if generate.has_block(text, "transcript"):
        text = text.replace(generate.block(text, "transcript"), "")
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def examples(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def first_column(page: str, heading: str) -> list[str]:
    """The names in backquotes in the first column of the tables of a section."""
    section = re.split(r"^##+ ", page.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall("`([^`]+)`", cell)]


class Shell:
    """Types commands as the documents show them, in a folder with lamp.py."""

    def __init__(self, spawn: Processes, folder: Path) -> None:
        self._spawn = spawn
        self._folder = folder
        self._environment: dict[str, str | None] = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "XDG_CONFIG_HOME": str(folder),
            "XDG_STATE_HOME": str(folder),
        }
        self.address = ""

    async def broker(self, line: str = "outrider broker") -> None:
        """Run a broker on a free port; what is typed later finds it without options."""
        process = self._spawn("bash", "-c", f"exec {line} --port 0", env=self._environment)
        self.address = (await process.wait_for(r"export OUTRIDER_BROKER=(\S+)"))[1]
        self._environment["OUTRIDER_BROKER"] = self.address
        host, port = re.findall(r"mosquitto_pub .*-h (\S+) -p (\d+)", process.output)[-1]
        for client in ("mosquitto_pub", "mosquitto_sub"):
            (self._folder / client).write_text(f"-h {host}\n-p {port}\n")

    async def type(self, line: str) -> Spawned:
        """Type a line. One that goes on for ever runs in the background, once it is ready."""
        words = line.removesuffix(" &").replace("mqtt://localhost", self.address)
        if words.startswith("outrider broker"):
            await self.broker(words)
        process = self._spawn("bash", "-c", f"exec {words}", env=self._environment, cwd=self._folder)
        if words.startswith("outrider-device run"):
            await process.wait_for("is connected", errors=True)
        elif words.startswith("mosquitto_sub"):
            await process.wait_for("state ")
        else:
            assert await process.wait(20) == 0, process
        return process


@pytest.fixture
def shell(spawn: Processes, tmp_path: Path) -> Shell:
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "lamp.py").write_text(examples(README)[0])
    return Shell(spawn, folder)


def here(page: Path) -> list[str]:
    return [line for line in commands(page) if line not in ELSEWHERE]


def need_clients(lines: Iterable[str]) -> None:
    if any(line.startswith("mosquitto_") for line in lines) and shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub is not installed: apt install mosquitto-clients")


async def test_commands_of_the_readme_run_as_they_are_shown(shell: Shell) -> None:
    lines = here(README)
    need_clients(lines)
    typed: dict[str, Spawned] = {}
    for line in lines:
        if line == "outrider broker &":
            await shell.broker()
        else:
            typed[line] = await shell.type(line)
    assert typed["outrider send lamp-1 dim 40"].output.startswith("lamp-1  done  40")
    assert '"description"' not in typed["outrider about lamp-1 dim"].output
    assert "0 to 100" in typed["outrider about lamp-1 dim"].output
    seen = next(process for line, process in typed.items() if line.startswith("mosquitto_sub"))
    await seen.wait_for(r'devices/lamp-1/result .*"command":"ping","status":"done"')
    await seen.wait_for(r'devices/lamp-1/result .*"command":"dim","status":"done","value":40')
    await seen.wait_for(r'devices/lamp-1/result .*"command":"dim","status":"done","value":60')


async def test_device_of_the_events_page_tells_what_the_page_shows(
    shell: Shell, connect: Connect, tmp_path: Path
) -> None:
    device, weigh, *_ = examples(EVENTS)
    (tmp_path / "checkout" / "oven.py").write_text(f"{device}\n\n{weigh}")
    await shell.broker()
    peer = await connect(Peer(shell.address))
    await peer.subscribe("devices/+/event/#")
    await shell.type("outrider-device run oven:oven &")
    await shell.type("outrider send oven-1 bake 40")
    await shell.type("outrider send oven-1 weigh")
    told = [message.json() for message in await peer.wait_for_count(3)]
    assert [event["name"] for event in told] == ["started", "finished", "weighed"]
    shown = re.findall(r"^devices/oven-1/event/\w+ (\{.*\})$", EVENTS.read_text(), re.MULTILINE)
    assert [list(json.loads(line)) for line in shown] == [list(event) for event in told[:2]]


async def test_example_of_the_tracing_page_makes_the_trace_that_it_shows(
    shell: Shell, spawn: Processes, tmp_path: Path
) -> None:
    folder = tmp_path / "checkout"
    traces, lamp, evening = examples(TRACING)
    (folder / "traces.py").write_text(traces)
    (folder / "lamp.py").write_text(lamp)
    await shell.broker()
    (folder / "evening.py").write_text(evening.replace("mqtt://localhost", shell.address))
    device = await shell.type("outrider-device run lamp:lamp &")
    program = await shell.type("python evening.py")
    await device.wait_for('"run dim"')
    spans = {
        span["context"]["span_id"]: span
        for span in map(json.loads, (device.output + program.output).splitlines())
        if span["name"] != "run ping"
    }
    (chain,) = re.findall(r"^(evening .*?)^```", TRACING.read_text(), re.MULTILINE | re.DOTALL)
    shown = [tuple(line.strip(" └").rsplit(maxsplit=1)) for line in chain.splitlines()]
    assert [(name.strip(), kind) for name, kind in shown] == [
        (span["name"], span["kind"].removeprefix("SpanKind.")) for span in _from_the_root(spans)
    ]
    assert len({span["context"]["trace_id"] for span in spans.values()}) == 1


def _from_the_root(spans: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    children = {span["parent_id"]: span for span in spans.values()}
    chain = [children[None]]
    while (last := chain[-1]["context"]["span_id"]) in children:
        chain.append(children[last])
    return chain


def test_table_of_metrics_is_that_of_the_code() -> None:
    shown = {name for name in first_column(METRICS.read_text(), "Metrics") if name.startswith("outrider_")}
    text, _ = Metrics().text("")
    of_the_registry = {family.name: family.type for family in text_string_to_metric_families(text.decode())}
    names = {
        f"{name}_total" if kind == "counter" else name
        for name, kind in of_the_registry.items()
        if name.startswith("outrider_") and not name.endswith("_created")
    }
    assert names <= shown
    source = (ROOT / "controller/src/outrider/controller/hub/metrics.py").read_text()
    asked = {name.removesuffix("_total") for name in re.findall(r'"(outrider_\w+)"', source)} - {"outrider_build"}
    assert asked == {name.removesuffix("_total") for name in shown} - {"outrider_build_info"}


async def test_python_example_of_the_readme_runs(shell: Shell, spawn: Processes, tmp_path: Path) -> None:
    await shell.broker()
    await shell.type("outrider-device run lamp:lamp &")
    example = tmp_path / "example.py"
    example.write_text(examples(README)[1].replace("mqtt://localhost", shell.address))
    process = spawn.python(example)
    assert await process.wait() == 0, process
    assert process.output == "40\nlamp-1 done 60\n"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != README and here(page)], ids=lambda page: str(page.relative_to(ROOT))
)
async def test_commands_of_other_pages_run(shell: Shell, spawn: Processes, page: Path, tmp_path: Path) -> None:
    lines = here(page)
    need_clients(lines)
    await shell.broker()
    if found := examples(page):
        (tmp_path / "checkout" / "lamp.py").write_text(found[0])
    if not any(line.startswith("outrider-device run") for line in lines):
        await shell.type("outrider-device run lamp:lamp &")
    for line in lines:
        await shell.type(line)


@pytest.mark.parametrize("command", ELSEWHERE)
def test_commands_that_run_elsewhere_do(command: str) -> None:
    file, words = ELSEWHERE[command]
    text = re.sub(r"\s+", " ", (ROOT / file).read_text())
    assert words in text, f"{file} does not run `{command}` any more"
    if command.startswith("make "):
        target = command.removeprefix("make ")
        assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_words_of_the_repl_are_those_that_its_page_tells() -> None:
    table = re.findall(r"^\| `(.+?)` \| ", (ROOT / "docs" / "repl.md").read_text(), re.MULTILINE)
    assert [usage.replace("\\|", "|") for usage in table] == [word.usage for word in OWN_WORDS.values()]


def test_links_and_pictures_are_there() -> None:
    for page in (*PAGES, ROOT / "CHANGELOG.md"):
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_files_that_pages_name_are_there() -> None:
    sources = [str(file) for part in ("schema", "device", "controller") for file in (ROOT / part / "src").rglob("*.py")]
    for page in PAGES:
        for name in re.findall(r"`([\w/]+\.py)`", page.read_text()):
            written_here = name in ("lamp.py", "traces.py")
            assert written_here or (ROOT / name).exists() or any(each.endswith(f"/{name}") for each in sources), name


def test_anchors_of_the_protocol_are_there() -> None:
    page = PROTOCOL.read_text()
    titles = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= anchors


def test_table_of_conditions_is_that_of_the_code() -> None:
    table = generate.block(PROTOCOL.read_text(), "conditions")
    assert table == generate.conditions(), "run: python -m docs.generate"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    shown = [(row[0], row[1].strip("`"), row[2].strip("`"), row[3].strip("`")) for row in rows]
    assert shown == [(row.condition, row.status, row.code or "", row.exception.__name__) for row in CONDITIONS]


def test_scenarios_of_the_page_are_those_that_are_tried() -> None:
    table = generate.block(generate.RELIABILITY.read_text(), "scenarios")
    assert table == generate.scenarios(), "run: python -m docs.generate"


def test_every_status_is_explained() -> None:
    assert {f"`{status}`" for status in Status} <= set(re.findall("`[a-z_]+`", PROTOCOL.read_text()))


def test_table_of_topics_is_that_of_the_code() -> None:
    shown = first_column(PROTOCOL.read_text(), "Topics")
    named = [re.sub("<[a-z]+>", "x", topic) for topic in shown]
    parsed = [Topics().parse(topic) for topic in named]
    assert None not in parsed, shown
    assert {topic.kind for topic in parsed if topic} == set(Kind)
    built = Topics()
    assert set(named) == {
        *(built.command("x"), built.command("x", "x"), built.group("x"), built.group("x", "x"), built.state("x")),
        *(built.about("x"), built.progress("x", "x"), built.result("x"), built.result("x", "x"), built.event("x", "x")),
        built.member("x", "x"),
    }


@pytest.mark.parametrize("message", [Command, Progress, Result, State])
def test_tables_of_keys_are_those_of_the_messages(message: type[Command | Progress | Result | State]) -> None:
    keys = first_column(PROTOCOL.read_text(), message.__name__)
    assert sorted(keys) == sorted(message.__struct_encode_fields__)


def test_limits_and_control_commands_are_those_of_the_code() -> None:
    page = PROTOCOL.read_text()
    assert f"{MAX_SIZE:,} bytes" in page
    assert f"{MAX_DEPTH} levels" in page
    assert f"Clocks may differ by {CLOCK_TOLERANCE:g} s" in page
    assert {name.partition("(")[0] for name in first_column(page, "Life of a device")} == set(RESERVED)


def test_picture_of_the_demo_shows_its_steps() -> None:
    picture = (ROOT / "docs" / "pictures" / "demo.svg").read_text().replace("&#160;", " ")
    for words in ("outrider send all calculate ", "not-ready", "The fleet is yours"):
        assert words in picture
    assert "url(" not in picture.replace("url(#", ""), "a picture must not need anything from elsewhere"


def test_license_is_apache() -> None:
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()
