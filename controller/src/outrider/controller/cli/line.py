"""A line of the REPL, read: its first word and the words behind it, in either form.

calculate 5 "two words"          words, as in a shell
calculate(5, "two words")        a call
send lamp-1 calculate(5, "hi")   a call for another target
ping                  # and a comment
"""

import re
from typing import Final, NamedTuple

from outrider.controller.arguments import split, split_call

# Everything before a comment: a # at the beginning, or after a blank and outside quotes. A quote that does not close
# takes the rest, so that reading its words says so.
_CODE: Final = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|(?<=\S)\#|[^\#"'\\]|["'\\].*)*""", re.DOTALL)
_SEND: Final = re.compile(r"""\s*send\s+((?:"[^"]*"|'[^']*'|[^\s"'(])+)\s+(\S.*)""", re.DOTALL)


class Line(NamedTuple):
    """The first word of a line and the words behind it. After `send TARGET` the command's own words are read apart."""

    word: str
    arguments: tuple[str, ...]


def read(text: str) -> Line | None:
    """Return the line's words, None where it is empty or a comment.

    :raises InvalidArguments: quotes or brackets do not close.
    """
    code = _CODE.match(text)
    text = (code[0] if code else text).strip()
    if not text:
        return None
    if send := _SEND.fullmatch(text):
        command = read(send[2])
        behind = (command.word, *command.arguments) if command else ()
        return Line("send", (*split(send[1]), *behind))
    word, arguments = split_call(text) or _words(text)
    return Line(word, tuple(arguments))


def _words(text: str) -> tuple[str, list[str]]:
    words = split(text)
    return words[0], words[1:]
