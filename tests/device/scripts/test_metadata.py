"""What a script says that it needs."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.device.scripts.metadata import LARGEST, blocks_of, check_python, check_requirements, metadata_of, name_of
from outrider.device.scripts.refusals import ScriptRefused

BLOCK = """#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "httpx>=0.28",
#   "rich",
# ]
#
# [tool.uv]
# x = 1
# ///
print(1)
"""


@pytest.mark.parametrize("text", [BLOCK, BLOCK.replace("\n", "\r\n")])
def test_block_of_pep_723_is_read(text: str) -> None:
    metadata = metadata_of(text)
    assert metadata.dependencies == ["httpx>=0.28", "rich"]
    assert metadata.requires_python == ">=3.11"


@pytest.mark.parametrize("text", ["", "print(1)", "# /// other\n# x = 1\n# ///\n", "x = '''\n /// script\n'''"])
def test_script_without_a_block_needs_nothing(text: str) -> None:
    assert metadata_of(text).dependencies == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# /// script\n# x = \n# ///\n", "not well formed"),
        ("# /// script\n# dependencies = 'httpx'\n# ///\n", "dependencies"),
        (BLOCK + BLOCK, "several"),
    ],
)
def test_block_that_is_not_well_formed_is_refused(text: str, says: str) -> None:
    with pytest.raises(ScriptRefused, match=says):
        metadata_of(text)


REFERENCE = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
"""As PEP 723 has it."""

LINES = ["# /// script", "# /// a", "# /// a b", "# ///", "# /// ", "#", "# x = 1", "#x", "x", "", "#\t", "# \x0c"]


@given(st.lists(st.sampled_from(LINES), max_size=12).map("\n".join))
def test_blocks_are_those_that_the_pep_finds(text: str) -> None:
    found = [(type, "".join(f"{line}\n" for line in lines)) for type, lines in blocks_of(text)]
    assert found == [(block["type"], block["content"]) for block in REFERENCE.finditer(text)]


@pytest.mark.parametrize("text", ["# /// a\n" * 40_000, "# /// script\n#\n" * 20_000, "# ///\n" * 40_000])
def test_blocks_without_an_end_take_no_time(text: str) -> None:
    began = time.process_time()
    assert metadata_of(text).dependencies == []
    assert time.process_time() - began < 1


def test_block_that_takes_tomllib_too_long_is_refused() -> None:
    with pytest.raises(ScriptRefused, match="too long"):
        metadata_of(f"# /// script\n# {'a.' * LARGEST}a = 1\n# ///\n")
    with pytest.raises(ScriptRefused, match="not well formed"):
        metadata_of(f"# /// script\n# x = {'[' * 5_000}\n# ///\n")


@pytest.mark.parametrize("requires", ["", ">=3.11", ">=3.8,<4"])
def test_python_that_fits_is_taken(requires: str) -> None:
    check_python(requires, "3.11.7")


@pytest.mark.parametrize("requires", [">=3.99", "<3", "three", ">=3," * 1000])
def test_python_that_does_not_fit_is_refused(requires: str) -> None:
    with pytest.raises(ScriptRefused, match=r"requires|range"):
        check_python(requires, "3.11.7")


def test_requirements_are_written_in_one_way() -> None:
    assert check_requirements(["rich", "httpx >= 0.28", "httpx>=0.28", "rich"]) == ("httpx>=0.28", "rich")
    assert check_requirements(['uvloop[dev]; python_version < "3.13"']) == ('uvloop[dev]; python_version < "3.13"',)
    assert name_of("Flask_CORS[x]>=1") == "flask-cors"


@pytest.mark.parametrize(
    "requirement",
    [
        "--index-url=https://example.com",
        "-r /etc/passwd",
        "-e .",
        "./here",
        "/tmp/x.whl",
        "https://example.com/x.whl",
        "x @ https://example.com/x.whl",
        "x @ file:///etc/passwd",
        "git+https://example.com/x",
        "",
        "x\n--no-binary :all:",
        "x" * 400,
        "ü",
    ],
)
def test_what_is_no_plain_requirement_is_refused(requirement: str) -> None:
    with pytest.raises(ScriptRefused):
        check_requirements([requirement])


def test_too_many_requirements_are_refused() -> None:
    with pytest.raises(ScriptRefused, match="101"):
        check_requirements([f"package-{number}" for number in range(101)])
