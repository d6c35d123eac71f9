"""The terminal's keys for the REPL's prompt: none is lost or echoed by the terminal itself, whatever goes on meanwhile.

A terminal that edits lines by itself shows what is typed a second time, and takes Ctrl-U or Ctrl-D for its own. So it
does so at no time while the REPL runs: neither while an answer is printed above the prompt, for which prompt_toolkit
would let it, nor between two prompts.
"""

import contextlib
import sys
import termios
from collections.abc import Generator

from prompt_toolkit.input.vt100 import Vt100Input

_ATTRIBUTES_OF_INPUT, _LOCAL_MODES = 0, 3


class Keyboard(Vt100Input):
    """Standard input, a terminal that is left as it is while something is printed."""

    def cooked_mode(self) -> contextlib.AbstractContextManager[None]:
        """Change nothing: what is printed meanwhile reads no keys."""
        return contextlib.nullcontext()


@contextlib.contextmanager
def keys_kept() -> Generator[Keyboard]:
    """The keyboard for all prompts; what is typed between two of them waits for the next, but Ctrl-C interrupts."""
    found = termios.tcgetattr(sys.stdin)
    modes = termios.tcgetattr(sys.stdin)
    modes[_ATTRIBUTES_OF_INPUT] &= ~termios.ICRNL
    modes[_LOCAL_MODES] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
    termios.tcsetattr(sys.stdin, termios.TCSANOW, modes)
    try:
        yield Keyboard(sys.stdin)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, found)
