"""Writing to terminals: the consoles, text that no terminal acts upon, and devices counted and named in a sentence.

What comes from devices is shown with its control characters written out, so that no device can move the cursor,
change colours or pose as another one's line.
"""

import codecs
import io
import json
import os
import signal
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final, TextIO

from rich.console import Console, RenderableType
from rich.text import Text

_ESCAPED: Final = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_JOINERS: Final = "\u200c\u200d"  # harmless, and scripts and emoji need them
_MENTIONED: Final = 5
"""Devices named in one sentence."""

_UNLIMITED: Final = 10_000
"""Columns where the output is no terminal: a line that another program reads is not folded."""


def guard_output() -> None:
    """Have standard output and error write what their encoding lacks as JSON would escape it, instead of failing.

    Where standard output cannot be written, as on a full disk, the program ends with `OutputFailed`; without standard
    error it goes on.
    """
    codecs.register_error("escape-as-json", _escape_unwritable)
    sys.stdout = _guarded(sys.stdout, _Output)
    sys.stderr = _guarded(sys.stderr, _Guarded)


def _guarded(stream: TextIO, kind: "type[_Guarded]") -> TextIO:
    whole = stream
    if not isinstance(stream, io.TextIOWrapper):  # there is none, or something of a test's
        return whole
    return kind(
        whole.buffer,
        encoding=stream.encoding,
        errors="escape-as-json",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _escape_unwritable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_escape, error.object[error.start : error.end])), error.end


class OutputLost(SystemExit):
    """What was asked for cannot be written to standard output any more: the program ends."""


class OutputClosed(OutputLost):
    """Nobody reads standard output any more, as after `| head -1`: the program ends as if by SIGPIPE."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGPIPE)


class OutputFailed(OutputLost):
    """Standard output cannot be written, as where its disk is full: the program ends with exit code 1 and says so."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"error: standard output cannot be written: {error.strerror or error}")


class _Guarded(io.TextIOWrapper):
    """A standard stream. After a write that failed nothing more is written."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            raise
        except OSError as error:
            self._failed(error)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        _to_nowhere(self)


class _Output(_Guarded):
    def _failed(self, error: OSError) -> None:
        super()._failed(error)
        raise OutputFailed(error) from None


def _to_nowhere(output: IO[str]) -> None:
    """Let go what is still written to it, also by the interpreter at its end."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), output.fileno())


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """End where standard output is closed; go on in silence where it is standard error.

        :raises OutputClosed: standard output is closed.
        """
        self.quiet = True
        _to_nowhere(self.file)
        if not self.stderr:
            raise OutputClosed


def results_console() -> Console:
    """Standard output, for what was asked for."""
    console = _Console(highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else _Console(highlight=False, markup=False, emoji=False, width=_UNLIMITED)


def messages_console() -> Console:
    """Standard error, for words to people."""
    return _Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def printable(text: str, *, keep: str = "") -> str:
    """`text` with control and direction characters as JSON would escape them, except those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char in keep or not _is_control(char) else _escape(char) for char in text)


def json_text(value: object, *, indent: int | None = None) -> str:
    """A value as JSON, in one line unless indented, that a terminal does not act upon either."""
    return printable(json.dumps(value, ensure_ascii=False, indent=indent), keep="\n" if indent is not None else "")


def counted(number: int) -> str:
    """As `1 device`, `2 devices`."""
    return f"{number} device{'' if number == 1 else 's'}"


def named(devices: Sequence[str]) -> str:
    """Some devices for a sentence: the first few, and how many more."""
    more = f" and {len(devices) - _MENTIONED} more" if len(devices) > _MENTIONED else ""
    return ", ".join(map(printable, devices[:_MENTIONED])) + more


def _is_control(char: str) -> bool:
    return unicodedata.category(char) in _ESCAPED and char not in _JOINERS


def _escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def show(console: Console, shown: RenderableType) -> None:
    """Print text as long as it is, so that a terminal folds it, and tables as wide as there is room."""
    console.print(shown, soft_wrap=isinstance(shown, Text))
