"""Which packages a script needs, told by what it imports."""

import pytest

from outrider.device.scripts.inference import packages_of


def needs(text: str, **files: str) -> list[str]:
    texts = {"main.py": text} | {name.replace("__", "/") + ".py": content for name, content in files.items()}
    return [package.lower() for package in packages_of(texts)]


def test_standard_library_and_own_files_are_no_packages() -> None:
    text = "import os.path, json\nfrom __future__ import annotations\nimport tools\nfrom lib.deep import x\nimport main"
    assert needs(text, tools="import sys", lib__deep="x = 1") == []


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
def test_import_becomes_the_package_that_has_it(text: str, package: str) -> None:
    assert needs(text) == [package]


def test_what_is_in_the_workspace_is_no_package() -> None:
    text = "import earlier, lib.deep, six"
    assert packages_of({"main.py": text}, ["earlier.py", "lib/deep.py", "notes.txt"]) == ["six"]


def test_imports_of_all_files_count() -> None:
    assert needs("import tools, six", tools="import yaml") == ["pyyaml", "six"]


@pytest.mark.parametrize("text", ["print(", "\0", "from . import x", "from .y import x", "import _x_", "(" * 5000])
def test_what_cannot_be_told_is_left_to_the_interpreter(text: str) -> None:
    assert needs(text) == []
