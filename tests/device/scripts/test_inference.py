"""Which packages a script needs, told by what it imports."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from outrider.device.scripts import imports
from outrider.device.scripts.inference import packages_of
from outrider.device.scripts.refusals import ScriptRefused
from tests.processes import until


async def needs(text: str, **files: str) -> list[str]:
    texts = {"main.py": text} | {name.replace("__", "/") + ".py": content for name, content in files.items()}
    return [package.lower() for package in await packages_of(texts)]


async def test_standard_library_and_own_files_are_no_packages() -> None:
    text = "import os.path, json\nfrom __future__ import annotations\nimport tools\nfrom lib.deep import x\nimport main"
    assert await needs(text, tools="import sys", lib__deep="x = 1") == []


@pytest.mark.parametrize(
    ("text", "package"),
    [
        ("import yaml", "pyyaml"),
        ("import PIL.Image", "pillow"),
        ("from sklearn.linear_model import Ridge", "scikit-learn"),
        ("import cv2 as cv", "opencv-python"),
        ("from bs4 import BeautifulSoup", "beautifulsoup4"),
        ("def f():\n    import dateutil.tz", "python-dateutil"),
        ("from google.cloud import storage", "google-cloud-storage"),
        ("import google.protobuf.message", "protobuf"),
        ("import paho.mqtt.client", "paho-mqtt"),
        ("import zmq", "pyzmq"),
        ("import httpx", "httpx"),
        ("import no_such_module_anywhere", "no_such_module_anywhere"),
    ],
)
async def test_import_becomes_the_package_that_has_it(text: str, package: str) -> None:
    assert await needs(text) == [package]


async def test_what_is_in_the_workspace_is_no_package() -> None:
    text = "import earlier, lib.deep, six"
    assert await packages_of({"main.py": text}, ["earlier.py", "lib/deep.py", "notes.txt"]) == ["six"]


async def test_imports_of_all_files_count() -> None:
    assert await needs("import tools, six", tools="import yaml") == ["pyyaml", "six"]


@pytest.mark.parametrize("text", ["print(", "\0", "from . import x", "from .y import x", "import _x_", "(" * 5000])
async def test_what_cannot_be_told_is_left_to_the_interpreter(text: str) -> None:
    assert await needs(text) == []


HEAVY = "f'" + "{x}" * 80_000 + "'"
"""What Python reads for seconds."""


def reading() -> list[Path]:
    """The processes that read scripts."""
    found: list[Path] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if imports.__file__.encode() in path.read_bytes().split(b"\0"):
                found.append(path)
    return found


async def test_script_that_takes_too_much_to_read_is_refused() -> None:
    with pytest.raises(ScriptRefused, match="without infer_requirements"):
        await packages_of({f"{number}.py": HEAVY for number in range(20)})
    assert reading() == []


async def test_reading_ends_when_it_is_cancelled() -> None:
    task = asyncio.create_task(packages_of({f"{number}.py": HEAVY for number in range(20)}))
    await until(reading, timeout=10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reading() == []


async def test_more_imports_than_a_person_writes_are_not_all_looked_up() -> None:
    assert len(await needs("\n".join(f"import no_such_{number}" for number in range(2000)))) == imports.MOST
