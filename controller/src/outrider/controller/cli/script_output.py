"""What a script prints on a device, as it is shown here: whole lines beside those of other devices, nothing twice."""

import hashlib
from collections.abc import Iterable
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from outrider.device.scripts.contract import STREAMS, Stream
from outrider.schema import Progress

from .terminal import printable

LONGEST_LINE: Final = 64 * 1024
"""Characters of a line after which it is shown though its end has not come."""

COLOURS: Final = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")

_ERRORS: Final = Style.parse("red")


class Verbatim:
    """Text that is written as it is, tabs too, with nothing after it."""

    def __init__(self, parts: Iterable[tuple[str, Style | None]]) -> None:
        self._parts = list(parts)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The text."""
        for text, style in self._parts:
            yield Segment(text, style)


NOTICE: Final = 200
"""Characters of a device's own words at the end of an output that it does not send on."""


class Told:
    """What one device's script has printed so far.

    :param limit: bytes of each stream that the device was asked to send: it may be one that does not keep to that.
    :ivar gaps: how many of its messages did not come.
    :ivar excessive: whether it sent more than that; the rest is dropped.
    """

    def __init__(self, limit: int) -> None:
        self._most = limit + NOTICE
        self._seq = -1
        self.excessive = False
        self._length: dict[Stream, int] = dict.fromkeys(STREAMS, 0)
        self._digest = {stream: hashlib.sha256() for stream in STREAMS}
        self.gaps = 0

    def take(self, progress: Progress) -> tuple[int, str]:
        """How many messages are missing before this one, and what it adds; nothing where it has come before."""
        if progress.seq <= self._seq:
            return 0, ""
        missing = progress.seq - self._seq - 1
        self._seq = progress.seq
        self.gaps += missing
        if progress.stream is None or not progress.data:
            return missing, ""
        room = self._most - self._length[progress.stream]
        data = progress.data[:room]
        self.excessive |= len(data) < len(progress.data)
        self._length[progress.stream] += len(data)
        self._digest[progress.stream].update(_bytes(data))
        return missing, data

    def rest(self, stream: Stream, whole: str) -> str:
        """What of the whole output, as the result has it, was not told meanwhile."""
        length = self._length[stream]
        if length == 0:
            return whole
        if self._digest[stream].digest() != hashlib.sha256(_bytes(whole[:length])).digest():
            return ""  # more was told than the result holds; or there are gaps, and nobody knows where
        return whole[length:]


class Lines:
    """Output of one device that is shown beside that of others: whole lines, each behind the device's id."""

    def __init__(self, device: str, width: int, colour: str) -> None:
        self._prefix = f"{printable(device):<{width}} | ", Style.parse(colour)
        self._open: dict[Stream, str] = dict.fromkeys(STREAMS, "")

    def add(self, stream: Stream, text: str) -> Verbatim | None:
        """What can be shown now that this has come."""
        whole, newline, rest = (self._open[stream] + text).rpartition("\n")
        if len(rest) > LONGEST_LINE:
            whole, newline, rest = whole + newline + rest, "\n", ""
        self._open[stream] = rest
        return self._lines(stream, whole) if newline else None

    def end(self, stream: Stream) -> Verbatim | None:
        """What is left of the last line."""
        rest, self._open[stream] = self._open[stream], ""
        return self._lines(stream, rest) if rest else None

    def _lines(self, stream: Stream, text: str) -> Verbatim:
        style = _ERRORS if stream == "stderr" else None
        lines = (shown(line.removesuffix("\r")) for line in text.split("\n"))
        return Verbatim(part for line in lines for part in (self._prefix, (line + "\n", style)))


def plain(text: str) -> Verbatim:
    """Output of the only device, as if it ran here."""
    return Verbatim([(shown(text), None)])


def shown(text: str) -> str:
    """Text without what a terminal would act upon, but for the ends of lines and tabs."""
    return printable(text.replace("\r\n", "\n"), keep="\n\t")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
