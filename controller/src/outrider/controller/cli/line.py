"""A line of the REPL, read: its first word and the words behind it, in either form.

calculate 5 "two words"               words, as in a shell
calculate(5, "two words")             a call
use room=kitchen and fw<2.1           a target, with or without quotes around all of it
send room=kitchen and fw<2.1 ping     a target, which ends where it can go on no more, and a command
ping                  # and a comment
"""

import re
from typing import Final, NamedTuple

from outrider.controller.arguments import split, split_call
from outrider.controller.targets import TargetSyntax, parse

WITH_TARGET: Final = frozenset(("use", "devices", "jobs", "watch"))
"""The words of the REPL behind which a target takes the rest of the line."""

WITH_TARGET_AND_COMMAND: Final = frozenset(("send", "about"))
"""The ones behind which a command follows the target."""

# Everything before a comment: a # at the beginning, or after a blank and outside quotes. A quote that does not close
# takes the rest, so that reading its words says so.
_CODE: Final = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|(?<=\S)\#|[^\#"'\\]|["'\\].*)*""", re.DOTALL)
_FIRST: Final = re.compile(r"([A-Za-z0-9_-]+)(?:\s+(.*)|(\(.*)|)", re.DOTALL)
_ENCLOSED: Final = re.compile(r"\(([^()]*)\)", re.DOTALL)
_QUOTED: Final = re.compile(r""""((?:\\.|[^"\\])*)"|'([^']*)'""", re.DOTALL)
_WORD: Final = re.compile(r"""(?:"(?:\\.|[^"\\])*(?:"|\Z)|'(?:\\.|[^'\\])*(?:'|\Z)|[^\s"'])+""", re.DOTALL)
_GOES_ON: Final = re.compile(r"(?:and|or|not|in|-)(?=[\s(]|$)|[,=!<>]")


class Line(NamedTuple):
    """The first word of a line and the words behind it; a target is one word, whatever is in it."""

    word: str
    arguments: tuple[str, ...]


class Split(NamedTuple):
    """A target and what stands behind it.

    :ivar fault: why the target cannot end there: it is not whole, or what goes on with it is wrong.
    """

    target: str
    rest: str
    fault: TargetSyntax | None = None


def read(text: str) -> Line | None:
    """Return the line's words, None where it is empty or a comment.

    :raises InvalidArguments: quotes or brackets do not close.
    :raises TargetSyntax: a target before a command cannot be read.
    """
    text = code(text).strip()
    if not text:
        return None
    first = _FIRST.fullmatch(text)
    if first is None:
        return command(text)
    word, rest, call = first[1], (first[2] or "").strip(), first[3]
    if word in WITH_TARGET:
        if call and (enclosed := _ENCLOSED.fullmatch(call)):
            rest = enclosed[1].strip()
        elif call:
            rest = call
        return Line(word, (unquoted(rest),) if rest else ())
    if call:
        return command(text)
    if word in WITH_TARGET_AND_COMMAND and rest:
        target, behind, fault = split_target(rest)
        if fault is not None:
            raise fault
        read_on = command(behind) if behind else None
        return Line(word, (target, read_on.word, *read_on.arguments) if read_on else (target,))
    if word == "cancel" and rest:
        id, _, target = rest.partition(" ")
        return Line(word, (*split(id), *([unquoted(target.strip())] if target.strip() else [])))
    return command(text)


def code(text: str) -> str:
    """A line without its comment."""
    found = _CODE.match(text)
    return found[0] if found else text


def without_target(text: str) -> str:
    """What a `send` line sends, as it was typed."""
    first = _FIRST.fullmatch(code(text).strip())
    return split_target(first[2].strip()).rest if first and first[2] else text.strip()


def command(text: str) -> Line:
    """A device's command and its arguments.

    :raises InvalidArguments: quotes or brackets do not close.
    """
    if call := split_call(text):
        return Line(call[0], tuple(call[1]))
    word, *words = split(text) or [""]
    return Line(word, tuple(words))


def unquoted(target: str) -> str:
    """A target without the quotes around all of it; those around a name or value within it belong to it."""
    whole = _QUOTED.fullmatch(target)
    if whole is None:
        return target
    return whole[2] if whole[1] is None else re.sub(r"\\(.)", r"\1", whole[1], flags=re.DOTALL)


def split_target(text: str) -> Split:
    """The target that a text begins with: in quotes, or as many words as make a target together."""
    quoted = _QUOTED.match(text)
    if quoted and (quoted.end() == len(text) or text[quoted.end()].isspace()):
        return Split(unquoted(quoted[0]), text[quoted.end() :].strip())
    end, fault = 0, None
    for word in _WORD.finditer(text):
        fault = _fault(text[: word.end()])
        if fault is None:
            end = word.end()
        elif fault.column <= word.end():
            break
    rest = text[end:].strip()
    if not end:
        first = _WORD.match(text)
        end = first.end() if first else 0
        return Split(text[:end], text[end:].strip(), fault)
    return Split(text[:end], rest, fault if _GOES_ON.match(rest) else None)


def _fault(text: str) -> TargetSyntax | None:
    try:
        parse(text)
    except TargetSyntax as error:
        return error
    return None
