"""Which Python runs scripts: the first that the user whom scripts get can run at all."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import DecodeError, Struct, json

from .refusals import NoInterpreter

PATIENCE: Final = 20.0
"""Seconds in which an interpreter must say what it is."""

_SYSTEM: Final = ("/usr/bin/python3", "/usr/local/bin/python3")
_ASK: Final = """
import json, platform, sys, sysconfig
print(json.dumps({
    "version": platform.python_version(), "platform": sysconfig.get_platform(),
    "tag": sys.implementation.cache_tag, "prefixes": sorted({sys.prefix, sys.base_prefix}),
}))
"""


class Interpreter(Struct, frozen=True):
    """A Python that runs scripts.

    :ivar path: of the program.
    :ivar version: as `3.11.7`.
    :ivar platform: as `linux-x86_64`.
    :ivar tag: what it calls its compiled files, as `cpython-311`.
    :ivar prefixes: the folders that it is installed in: that of a virtual environment, and that of its Python.
    """

    path: str
    version: str
    platform: str
    tag: str
    prefixes: list[str]

    @property
    def folders(self) -> tuple[Path, ...]:
        """What a script must be able to read for it to run, beside the system's own folders."""
        prefixes = [Path(prefix) for prefix in self.prefixes]
        return tuple(prefix for prefix in prefixes if not prefix.is_relative_to("/usr"))


def find_interpreter(wanted: str | None, user: int | None) -> Interpreter:
    """The Python that scripts get: `wanted`, else that of this process, else the system's.

    :param user: who must be able to run it; None for whoever this process is.
    :raises NoInterpreter: there is none, or not the one that is wanted.
    """
    base = getattr(sys, "_base_executable", sys.executable)
    candidates = (wanted,) if wanted else (os.path.realpath(base), *_SYSTEM)
    reasons: list[str] = []
    for candidate in dict.fromkeys(candidates):
        found = _asked(candidate, user)
        if isinstance(found, Interpreter):
            return found
        reasons.append(f"{candidate}: {found}")
    whom = "this user" if user is None else f"the unprivileged user {user}, whom scripts get"
    raise NoInterpreter(
        f"no Python here can be run by {whom} ({'; '.join(reasons)}): install the system's python3, or name one that "
        "everybody may read with --script-python PATH"
    )


def check_folders(interpreter: Interpreter, private: Iterable[Path]) -> None:
    """See that scripts, which may read all that the interpreter is installed in, find nothing else there.

    :param private: folders of the device.
    :raises NoInterpreter: they are below one that is needed for the interpreter.
    """
    for folder in interpreter.folders:
        for kept in (*private, Path.home(), Path("/etc")):
            if kept.is_relative_to(folder):
                raise NoInterpreter(
                    f"the Python {interpreter.path} is installed in {folder}, and so is {kept}, which scripts could "
                    "read then: name another one with --script-python PATH"
                )


def _asked(path: str, user: int | None) -> Interpreter | str:
    """What an interpreter says of itself, or why it cannot be asked."""
    try:
        done = subprocess.run(
            (path, "-I", "-S", "-c", _ASK),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={"LC_ALL": "C.UTF-8"},
            cwd="/",
            timeout=PATIENCE,
            check=False,
            user=user,
            group=user,
            extra_groups=None if user is None else (),
        )
    except subprocess.TimeoutExpired:
        return f"it said nothing within {PATIENCE:g} s"
    except OSError as error:
        return error.strerror or str(error)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return said[-1] if said else f"it ended with exit code {done.returncode}"
    try:
        return json.decode(b'{"path":' + json.encode(path) + b"," + done.stdout.strip().lstrip(b"{"), type=Interpreter)
    except DecodeError:
        return "it is no Python"
