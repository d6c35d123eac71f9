"""What holds for all applications in examples/."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/Makefile"))
PUBLIC = {
    "outrider.schema",
    "outrider.device",
    "outrider.controller",
    "outrider.controller.hub",
}


def test_examples_are_those_of_the_readme() -> None:
    shown = re.findall(r"\(examples/(\w+)/README\.md\)", (ROOT / "README.md").read_text())
    assert sorted(set(shown)) == [example.name for example in EXAMPLES]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example_uses_the_public_api_alone(example: Path) -> None:
    files = [file for file in (example / example.name).rglob("*.py") if file.is_file()]
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("outrider"):
                assert node.module in PUBLIC, f"{file}: {node.module}"
                assert not [each.name for each in node.names if each.name.startswith("_")], file
            elif isinstance(node, ast.Import):
                assert not [each.name for each in node.names if each.name.startswith("outrider")], file
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.fullmatch(r"outrider(\.\w+){2,}", node.value), f"{file}: {node.value}"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "arguments",
    [
        ("pong", "--rounds", "20"),
        ("words", "--rounds", "1", "--pages", "4"),
        ("vowels", "--events", "5000", "--rounds", "1", "--intake", "100"),
    ],
    ids=lambda arguments: str(arguments[0]),
)
def test_benchmark_of_an_example_measures(arguments: tuple[str, ...]) -> None:
    name, *options = arguments
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d", done.stdout)
    assert "Traceback" not in done.stderr
