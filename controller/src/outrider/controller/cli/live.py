"""What goes on meanwhile, at the foot of a terminal: how many targets have answered, and how far the others are."""

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import rich.live
from rich.console import Console
from rich.text import Text

from outrider.device import Reply
from outrider.schema import Progress

from .output import reply_line

LINES: Final = 8
"""Devices shown at once."""


class Live:
    """A context in which the lines stand below what is printed to `console`; nothing does where it is no terminal."""

    def __init__(self, console: Console, targets: Sequence[str]) -> None:
        self._targets = frozenset(targets)
        self._missing = set(targets)
        self._running: dict[str, Text] = {}
        shown = console.is_terminal and not console.is_dumb_terminal
        self._live = (
            rich.live.Live(
                console=console,
                get_renderable=self.lines,
                transient=True,
                refresh_per_second=10,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            if shown
            else None
        )

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave no trace on the terminal."""
        if self._live is not None:
            self._running.clear()
            self._missing.clear()
            self._live.stop()

    def take(self, reply: Reply) -> None:
        """Note what a device said."""
        if not isinstance(reply.message, Progress):
            self._running.pop(reply.device, None)
            self._missing.discard(reply.device)
        elif reply.device in self._missing and reply.message.stream is None:
            line = reply_line(reply, show_device=True)
            if line is not None:
                self._running[reply.device] = line

    def lines(self) -> Text:
        """What stands at the foot now."""
        running = list(self._running.values())  # a copy: rich asks from its own thread
        lines = running[:LINES]
        if len(running) > LINES:
            lines.append(Text(f"… and {len(running) - LINES} more", style="dim"))
        if len(self._targets) > 1 and self._missing:
            answered = len(self._targets) - len(self._missing)
            lines.append(Text(f"{answered} of {len(self._targets)} answered", style="dim"))
        return Text("\n").join(lines)
