"""A script as it is sent: read and checked here before anything goes out, and put into what `run_script` takes."""

import ast
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from msgspec import DecodeError, Struct

from outrider.device import value_of
from outrider.device.scripts.contract import Limits, ScriptResult
from outrider.device.scripts.names import sent_parts_of
from outrider.device.scripts.refusals import ScriptRefused
from outrider.schema import MAX_SIZE, Encoding, LocalError, Result, Status, encode

RUN: Final = "run_script"
FETCH: Final = "fetch_file"

ALLOWING: Final = "outrider-device run --allow-scripts"
"""What starts a device that runs scripts."""

ENVELOPE: Final = 4 * 1024
"""Bytes of a command's message that are not its arguments, at most."""

ROOM: Final = MAX_SIZE - ENVELOPE
"""Bytes of arguments that one message holds."""

FROM_STDIN: Final = "-"

SUFFIX: Final = ".py"
"""What the name of a script ends with; which other files it takes the device says."""


class InvalidScript(LocalError, ValueError):
    """A script that cannot be sent."""


class Program(Struct, frozen=True):
    """A script and the files that go along.

    :ivar files: their texts by name, that of the script first.
    """

    files: dict[str, str]

    @property
    def main(self) -> str:
        """The script's name."""
        return next(iter(self.files))

    def arguments(
        self,
        *,
        args: Sequence[str] = (),
        stdin: str = "",
        requirements: Sequence[str] = (),
        infer: bool = False,
        limits: Mapping[str, int | float] | None = None,
    ) -> dict[str, object]:
        """What `run_script` takes; what is as the device has it by itself is left out.

        :raises InvalidScript: one message does not hold all that, or something in it is no UTF-8.
        """
        code: dict[str, object]
        if len(self.files) > 1:
            code = {"files": self.files, "main": self.main}
        elif _is_name(self.main):
            code = {"source": self.files[self.main], "main": self.main}
        else:
            code = {"source": self.files[self.main]}
        more = {
            "args": list(args),
            "stdin": stdin,
            "requirements": list(requirements),
            "infer_requirements": infer,
            "limits": dict(limits or {}),
        }
        arguments = code | {name: value for name, value in more.items() if value}
        size = encoded_size(arguments)
        if size > ROOM:
            raise InvalidScript(
                f"{self} with arguments and input would be {size:,} bytes in a message, which holds {ROOM:,}: "
                "leave something out, or let the script fetch its data"
            )
        return arguments

    def __str__(self) -> str:
        more = len(self.files) - 1
        return f"{self.main} and {more} more file{'' if more == 1 else 's'}" if more else self.main


def read(paths: Sequence[str], standard_input: BinaryIO) -> Program:
    """Read a script and the files that go along.

    What lies in a folder below the script's is in one on the device too; what lies elsewhere is beside the script.

    :param paths: the script first; `-` is standard input.
    :raises InvalidScript: one cannot be read, is no UTF-8 or is too large, or two have the same name.
    """
    files: dict[str, str] = {}
    first = paths[0]
    folder = Path.cwd() if first == FROM_STDIN else Path(first).absolute().parent
    for path in paths:
        name = "script.py" if path == FROM_STDIN else _name(path, folder)
        if len(paths) > 1:
            _check_name(name, main=not files)
        if name in files:
            raise InvalidScript(f"{path}: there is another {name} already, where this one would be on the device")
        files[name] = text(path, standard_input)
    return Program(files)


def _check_name(name: str, *, main: bool) -> None:
    """See that a device can have a file of this name.

    :raises InvalidScript: it cannot.
    """
    try:
        sent_parts_of(name)
    except ScriptRefused as error:
        raise InvalidScript(str(error)) from None
    if main and not name.endswith(SUFFIX):
        raise InvalidScript(f"{name}: a script with other files is called NAME{SUFFIX}")


def _is_name(name: str) -> bool:
    """Whether a device can have a script of this name."""
    try:
        _check_name(name, main=True)
    except InvalidScript:
        return False
    return True


def _name(path: str, folder: Path) -> str:
    """What a file is called beside the script: with its folders where it lies below."""
    whole = Path(os.path.normpath(Path(path).absolute()))
    below = Path(os.path.normpath(folder))
    return whole.relative_to(below).as_posix() if whole.is_relative_to(below) else whole.name


def text(path: str, standard_input: BinaryIO) -> str:
    """What a file that goes into one message says.

    :param path: `-` is standard input.
    :raises InvalidScript: it cannot be read, is no UTF-8 or is too large.
    """
    try:
        if path == FROM_STDIN:
            data = standard_input.read(ROOM + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(ROOM + 1)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidScript(f"{_called(path)} cannot be read: {said}") from None
    if len(data) > ROOM:
        raise InvalidScript(f"{_called(path)} has more than {ROOM:,} bytes, which is what a message holds")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidScript(f"{_called(path)} is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}") from None


def doubts(program: Program) -> list[str]:
    """What Python here cannot make of the files; another version may."""
    found: list[str] = []
    for name, source in program.files.items():
        if name != program.main and not name.endswith(".py"):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # As bytes, so that an encoding which the file declares is looked at.
                compile(source.encode(), name, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
        except SyntaxError as error:
            found.append(f"{name}, line {error.lineno}: {error.msg}" if error.lineno else f"{name}: {error.msg}")
        except (ValueError, RecursionError, MemoryError) as error:
            found.append(f"{name}: {error or 'nested too deep'}")
    return found


def answer(result: Result) -> ScriptResult | None:
    """How the script ended; None where the command was not done, or the device answers something else."""
    if result.status is not Status.DONE:
        return None
    try:
        return value_of(result, ScriptResult)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None


def succeeded(result: Result) -> bool:
    """Whether the script has run and ended with exit code 0."""
    said = answer(result)
    return said is not None and said.exit_code == 0


def killed(cause: str, limits: Limits) -> str:
    """In words what ended a script.

    :param limits: those that it ran with.
    """
    match cause:
        case "memory":
            return f"over its memory of {size_words(limits.memory)}"
        case "cpu":
            return f"over its {limits.cpu:g} s of processor time"
        case "processes":
            return f"over its {limits.processes} processes"
        case "workspace":
            return "over the quota of its workspace"
        case _:
            return cause


def size_words(size: int) -> str:
    """Bytes for people, as `256 MiB`, `1.5 GiB`, `100 bytes`."""
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if size >= unit:
            return f"{round(size / unit, 1):g} {name}"
    return f"{size} byte{'' if size == 1 else 's'}"


def _called(path: str) -> str:
    return "standard input" if path == FROM_STDIN else path


def encoded_size(value: object) -> int:
    """Bytes that it has in a message.

    :raises InvalidScript: something in it is no UTF-8.
    """
    try:
        return len(encode(value, Encoding.JSON))
    except UnicodeEncodeError as error:
        raise InvalidScript(f"{ascii(error.object)[:80]} is not UTF-8") from None
