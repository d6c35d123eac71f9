"""The terminal of `outrider watch`: a screen that is drawn as often as needed, and its keys."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable
from typing import Final

import rich.live
from prompt_toolkit.input import Input, create_input
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.keys import Keys
from rich.console import Console
from rich.text import Text

from outrider.controller.watch import Sort

from .watcher import Watcher

GAP: Final = 0.125
"""Seconds between two drawings at least."""

SHARE: Final = 10
"""A drawing is followed by a pause of so many times what it took, so that drawing takes a small part of a processor."""

TICK: Final = 1.0
"""Seconds between two drawings at most: ages grow also where nothing comes."""

ESCAPE_WAIT: Final = 0.1
"""Seconds after which an escape character is the key, and not the beginning of another one."""


class Screen:
    """A terminal that shows a watcher's board, and its keys."""

    def __init__(self, watcher: Watcher, console: Console) -> None:
        self._watcher = watcher
        self._console = console
        self._ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._key = asyncio.Event()

    async def run(self) -> bool:
        """Draw until a key ends it; True for `q`, False for Ctrl-C."""
        live = rich.live.Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        changed = self._watcher.changed
        with _resized(changed.set), _keys(self._pressed) as there, live:
            self._watcher.view.keys = there
            while not self._ended.done():
                changed.clear()
                self._key.clear()
                began = time.perf_counter()
                size = self._console.size
                lines = self._watcher.draw(size.width, size.height)
                live.update(Text("\n").join(lines), refresh=True)
                pause = min(max(GAP, SHARE * (time.perf_counter() - began)), TICK)
                with contextlib.suppress(
                    TimeoutError
                ):  # what comes meanwhile is drawn together; a key is drawn at once
                    async with asyncio.timeout(pause):
                        await self._key.wait()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK - pause):
                        await changed.wait()
        return self._ended.result()

    def _pressed(self, press: KeyPress | None) -> None:
        """Act upon a key; None: the terminal is gone."""
        view = self._watcher.view
        if press is None or press.key in (Keys.ControlC, Keys.ControlBackslash):
            self._end(by_choice=False)
        elif view.typing is not None:
            self._typed(press)
        elif press.key in ("q", "Q", Keys.ControlD):
            self._end(by_choice=True)
        elif press.key == "s":
            sorts = list(Sort)
            view.sort = sorts[(sorts.index(view.sort) + 1) % len(sorts)]
        elif press.key == "/":
            view.typing, view.wrong = view.filter, ""
        elif press.key == Keys.Escape:
            self._watcher.narrow("")
        elif (move := self._moves().get(press.key)) is not None:
            view.offset = max(view.offset + move, 0)
        self._key.set()
        self._watcher.changed.set()

    def _typed(self, press: KeyPress) -> None:
        """A key while a filter is typed."""
        view = self._watcher.view
        typed = view.typing or ""
        match press.key:
            case Keys.Enter | Keys.ControlJ:
                if self._watcher.narrow(typed):
                    view.typing = None
            case Keys.Escape:
                view.typing, view.wrong = None, ""
            case Keys.Backspace:
                view.typing, view.wrong = typed[:-1], ""
            case Keys.ControlU:
                view.typing, view.wrong = "", ""
            case Keys.BracketedPaste:
                view.typing, view.wrong = typed + "".join(press.data.split("\n")), ""
            case str(key) if len(key) == 1:
                view.typing, view.wrong = typed + key, ""
            case _:
                pass

    def _moves(self) -> dict[str, int]:
        """By how many rows which key scrolls."""
        shown = self._watcher.page
        rows, count = (len(shown.devices), shown.whole) if shown else (1, 0)
        return {
            Keys.Up: -1,
            Keys.Down: 1,
            "k": -1,
            "j": 1,
            Keys.PageUp: -rows,
            Keys.PageDown: rows,
            " ": rows,
            "b": -rows,
            Keys.Home: -count,
            Keys.End: count,
        }

    def _end(self, *, by_choice: bool) -> None:
        if not self._ended.done():
            self._ended.set_result(by_choice)


@contextlib.contextmanager
def _keys(pressed: Callable[[KeyPress | None], None]) -> Generator[bool]:
    """Read keys while the context is open; yields whether there is a keyboard."""
    if not sys.stdin or not sys.stdin.isatty():
        yield False
        return
    keyboard: Input = create_input(sys.stdin)
    loop = asyncio.get_running_loop()
    flush: asyncio.TimerHandle | None = None

    def take(presses: Iterable[KeyPress]) -> None:
        for press in presses:
            if press.key != Keys.CPRResponse:
                pressed(press)

    def readable() -> None:
        nonlocal flush
        take(keyboard.read_keys())
        if keyboard.closed:
            pressed(None)
        if flush is not None:
            flush.cancel()
        flush = loop.call_later(ESCAPE_WAIT, lambda: take(keyboard.flush_keys()))

    with keyboard.raw_mode(), keyboard.attach(readable):
        try:
            yield True
        finally:
            if flush is not None:
                flush.cancel()


@contextlib.contextmanager
def _resized(changed: Callable[[], None]) -> Generator[None]:
    """Be told of a new size, where the system tells; else the next tick sees it."""
    number = getattr(signal, "SIGWINCH", None)
    loop = asyncio.get_running_loop()
    try:
        if number is not None:
            loop.add_signal_handler(number, changed)
    except (NotImplementedError, ValueError, RuntimeError):
        number = None
    try:
        yield
    finally:
        if number is not None:
            loop.remove_signal_handler(number)
