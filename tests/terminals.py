"""A terminal for tests: a program runs on a pseudo-terminal, and what it draws is on a screen to be read."""

import asyncio
import contextlib
import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final

import pyte
from pyte.screens import Char

ENTER: Final = "\r"
TAB: Final = "\t"
UP: Final = "\x1b[A"
CTRL_C: Final = "\x03"
CTRL_D: Final = "\x04"
CTRL_U: Final = "\x15"

# In the child: make the terminal its own, so that Ctrl-C reaches it as a signal as well.
_LAUNCH: Final = "import os, sys; os.login_tty(0); os.execv(sys.argv[1], sys.argv[1:])"


_ALTERNATE: Final = 1049
"""The mode in which a program has a screen of its own, and leaves the other as it was."""


class _Screen(pyte.Screen):
    """A screen that answers when it is asked where the cursor is, and has an alternate one."""

    def __init__(self, columns: int, lines: int, master: int) -> None:
        super().__init__(columns, lines)
        self._master = master
        self._covered: tuple[list[dict[int, Char]], int, int] | None = None

    def set_mode(self, *modes: int, **options: bool) -> None:
        super().set_mode(*modes, **options)
        if options.get("private") and _ALTERNATE in modes and self._covered is None:
            rows = [dict(self.buffer[row]) for row in range(self.lines)]
            self._covered = rows, self.cursor.x, self.cursor.y
            self.erase_in_display(2)

    def reset_mode(self, *modes: int, **options: bool) -> None:
        super().reset_mode(*modes, **options)
        if options.get("private") and _ALTERNATE in modes and self._covered is not None:
            rows, self.cursor.x, self.cursor.y = self._covered
            self._covered = None
            self.erase_in_display(2)
            for row, cells in enumerate(rows):
                self.buffer[row].update(cells)

    def write_process_input(self, data: str) -> None:
        os.write(self._master, data.encode())


class Terminal:
    """One program on a terminal; `open_terminal` makes it."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int, columns: int, lines: int) -> None:
        self.process = process
        self.echoed = False
        """Whether the terminal was seen to echo keys when it had something to read; to be set back by who asks."""
        self.screen = _Screen(columns, lines, master)
        self._master = master
        self._stream = pyte.ByteStream(self.screen)
        self._changed = asyncio.Event()
        self._open = True

    @property
    def text(self) -> str:
        """What stands on the screen, without the blanks at the end of lines and the empty lines at the end."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def line(self) -> str:
        """The line that the cursor is in."""
        return self.screen.display[self.screen.cursor.y].rstrip()

    @property
    def as_found(self) -> bool:
        """Whether the terminal is as a shell wants it: keys are echoed, lines are edited, the cursor is seen."""
        return self._echoes and not self.screen.cursor.hidden

    def type(self, text: str) -> None:
        """Type this."""
        os.write(self._master, text.encode())

    async def wait_for(self, pattern: str, timeout: float = 10.0) -> re.Match[str]:
        """Wait until the regular expression is found on the screen and return the match; `^` and `$` are line ends."""
        deadline = time.monotonic() + timeout
        while True:
            if match := re.search(pattern, self.text, re.MULTILINE):
                return match
            await self._change(deadline, f"{pattern!r} did not appear")

    async def wait_for_line(self, pattern: str, timeout: float = 10.0) -> None:
        """Wait until the whole line that the cursor is in matches."""
        deadline = time.monotonic() + timeout
        while not re.fullmatch(pattern, self.line):
            await self._change(deadline, f"the cursor's line, {self.line!r}, is not {pattern!r}")

    async def wait(self, timeout: float = 10.0) -> int:
        """Wait until the program has ended and return its exit code."""
        deadline = time.monotonic() + timeout
        while self._open:
            await self._change(deadline, "the program still runs")
        return await asyncio.to_thread(self.process.wait, 5)

    @property
    def _echoes(self) -> bool:
        modes: int = termios.tcgetattr(self._master)[3]
        return bool(modes & termios.ECHO and modes & termios.ICANON)

    def read(self) -> None:
        """Take what the program has written. The event loop calls it."""
        self.echoed |= self._echoes
        try:
            data = os.read(self._master, 65536)
        except OSError:  # on Linux the end of a terminal whose last user is gone
            data = b""
        if data:
            self._stream.feed(data)
        else:
            self.close()
        self._changed.set()

    def close(self) -> None:
        """Read no more."""
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._master)

    async def _change(self, deadline: float, what: str) -> None:
        self._changed.clear()
        ended = not self._open
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0.0)):
                await self._changed.wait()
        except TimeoutError:
            why = "the program has ended" if ended else "the time is over"
            raise AssertionError(f"{what}; {why}\n--- screen\n{self.text}\n---") from None


@contextlib.asynccontextmanager
async def open_terminal(
    *arguments: str,
    env: Mapping[str, str],
    columns: int = 100,
    lines: int = 40,
) -> AsyncGenerator[Terminal]:
    """Run a program, given by its path, on a terminal; it is ended with the context.

    `env` is put over this process's environment, out of which every OUTRIDER_ variable was taken.
    """
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OUTRIDER_")}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        inherited.pop(name, None)
    process = _start(arguments, slave, {**inherited, "TERM": "xterm-256color", **env})
    os.close(slave)
    terminal = Terminal(process, master, columns, lines)
    asyncio.get_running_loop().add_reader(master, terminal.read)
    try:
        yield terminal
    finally:
        terminal.close()
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(master)


def _start(arguments: Sequence[str], slave: int, env: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _LAUNCH, *arguments], stdin=slave, stdout=slave, stderr=slave, env=env
    )
