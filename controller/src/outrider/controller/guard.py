"""Run one program for as long as whoever started it lives.

    python guard.py PROGRAM ARGUMENTS…

Prints the program's process id, passes SIGTERM and SIGINT on to it, and ends it when standard input closes: a pipe's
other end closes with its owner however that one died, `kill -9` too. Linux's parent-death signal would not do: it is
lost when the program changes its user, as Mosquitto does when root starts it. Runs by its path with `python -I -S`, so
nothing but the standard library is imported here.
"""

import os
import signal
import subprocess
import sys
import threading
from types import FrameType
from typing import Final

TERMINATE_LIMIT: Final = 2.0
"""Seconds a program has after SIGTERM before it is killed."""


def end_with_input(program: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of standard input, then end `program`."""
    # Not sys.stdin: a thread that holds its lock at exit is a fatal error in Python.
    while os.read(0, 1024):
        pass
    program.terminate()
    try:
        program.wait(TERMINATE_LIMIT)
    except subprocess.TimeoutExpired:
        program.kill()


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code, 128 + n where signal n ended it."""
    program = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=sys.stderr)

    # Functions, since an ignored signal would stay ignored in the program as well.
    def pass_on(number: int, _frame: FrameType | None) -> None:
        program.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    os.write(1, b"%d\n" % program.pid)
    threading.Thread(target=end_with_input, args=(program,), name="end with input", daemon=True).start()
    code = program.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
