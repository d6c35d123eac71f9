"""What a file in a workspace may be called."""

import pytest

from outrider.device.scripts.names import check_upload, parts_of
from outrider.device.scripts.refusals import ScriptRefused

PYTHON = ("*.py",)


@pytest.mark.parametrize("name", ["script.py", "lib/tools.py", "größe.py", "two words.py", "-c.py", "x" * 97 + ".py"])
def test_ordinary_name_is_taken_apart(name: str) -> None:
    assert check_upload(name, PYTHON) == tuple(name.split("/"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "without a name"),
        ("/etc/passwd.py", "no file's name"),
        ("../x.py", "no file's name"),
        ("a/../../x.py", "no file's name"),
        ("a/./x.py", "no file's name"),
        ("..", "no file's name"),
        ("a//x.py", "no file's name"),
        ("a/", "no file's name"),
        ("x\0.py", "cannot be printed"),
        ("x\n.py", "cannot be printed"),
        ("x\x1b[2J.py", "cannot be printed"),
        ("x\u202egnp.py", "cannot be printed"),
        ("x\udcff.py", "cannot be printed"),
        ("x" * 300 + ".py", "too long"),
        ("ü" * 101, "too long"),
        ("é" * 100, "not taken here"),
        ("/".join("abcdefghi") + ".py", "too deep"),
        (".hidden.py", "hidden"),
        (".git/x.py", "hidden"),
        ("x.so", "takes *.py"),
        ("x.py/y", "takes *.py"),
        ("x.PY", "takes *.py"),
    ],
)
def test_bad_name_is_refused_with_its_reason(name: str, says: str) -> None:
    with pytest.raises(ScriptRefused) as refused:
        check_upload(name, PYTHON)
    assert says in str(refused.value)
    assert len(str(refused.value)) < 300


def test_name_with_more_bytes_than_a_file_system_takes_is_refused() -> None:
    with pytest.raises(ScriptRefused, match="too long"):
        parts_of("\U0001f680" * 70)


def test_hidden_file_that_a_script_made_can_be_named() -> None:
    assert parts_of(".cache/x") == (".cache", "x")


def test_patterns_of_the_owner_are_kept_to() -> None:
    assert check_upload("data/x.csv", ("*.py", "*.csv")) == ("data", "x.csv")
