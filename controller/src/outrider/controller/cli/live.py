"""What goes on meanwhile, at the foot of a terminal: how many targets have answered, and how far the others are."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

import rich.live
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from outrider.device import Reply
from outrider.schema import Progress, Result, Status

from .output import counts_text, printable

LINES: Final = 8
"""Devices shown at once."""

BAR: Final = 20
"""Columns of a bar."""

NAME: Final = 24
"""Columns of a device's name at most."""


class Live:
    """A context in which the lines stand below what is printed to `console`; nothing does where it is no terminal.

    :param shown: whether anything is to stand there at all.
    """

    def __init__(self, console: Console, targets: Sequence[str], *, shown: bool = True) -> None:
        self._targets = len(targets)
        self._missing = set(targets)
        self._running: dict[str, Progress] = {}
        self._counts: dict[Status, int] = {}
        self._note: str | Callable[[], str] = ""
        self._paused = False
        shown = shown and console.is_terminal and not console.is_dumb_terminal
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
            self._note = ""
            self._live.stop()

    def take(self, reply: Reply) -> None:
        """Note what a device said."""
        message = reply.message
        if isinstance(message, Result):
            self._running.pop(reply.device, None)
            if reply.device in self._missing:
                self._missing.discard(reply.device)
                self._counts[message.status] = self._counts.get(message.status, 0) + 1
        elif reply.device in self._missing and message.stream is None:
            self._running[reply.device] = message

    def pause(self) -> None:
        """Show nothing for a while: something else has the terminal."""
        if self._live is not None:
            self._paused = True
            self._live.refresh()
            self._live.stop()

    def resume(self) -> None:
        """Go on after `pause`."""
        if self._live is not None:
            self._paused = False
            self._live.start(refresh=True)

    def note(self, words: str | Callable[[], str]) -> None:
        """Say something below the bars, instead of what was said before.

        :param words: or what says them as of now, which is called from another thread.
        """
        self._note = words

    def lines(self) -> RenderableType:
        """What stands at the foot now."""
        if self._paused:
            return Text()
        running = list(self._running.items())  # a copy: rich asks from its own thread
        parts: list[RenderableType] = []
        if running:
            table = Table.grid(padding=(0, 2, 0, 0))
            table.add_column(no_wrap=True, max_width=NAME, style="bold")
            table.add_column(width=BAR)
            table.add_column(justify="right", no_wrap=True)
            table.add_column(no_wrap=True, overflow="ellipsis", style="cyan")
            for device, progress in running[:LINES]:
                table.add_row(printable(device), *_job(progress))
            parts.append(table)
        if len(running) > LINES:
            parts.append(Text(f"… and {len(running) - LINES} more", style="dim"))
        if self._targets > 1 and self._missing:
            answered = self._targets - len(self._missing)
            total = Table.grid(padding=(0, 2, 0, 0))
            words = Text(f"{answered} of {self._targets} answered", style="dim")
            if self._counts:
                words.append_text(Text(": ").append_text(counts_text(self._counts)))
            total.add_row(ProgressBar(total=self._targets, completed=answered, width=BAR), words)
            parts.append(total)
        if note := self._note if isinstance(self._note, str) else self._note():
            parts.append(Text(note, style="dim"))
        return Group(*parts)


def _job(progress: Progress) -> tuple[RenderableType, RenderableType, RenderableType]:
    """A job's bar, its percents, and what it says."""
    words = Text(printable(progress.text or ""))
    if progress.fraction is None:
        return Text("accepted" if progress.accepted else "", style="cyan"), Text(), words
    return ProgressBar(total=1.0, completed=progress.fraction, width=BAR), Text(f"{progress.fraction:.0%}"), words
