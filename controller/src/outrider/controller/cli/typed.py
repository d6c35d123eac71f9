"""A line of the REPL that is still being typed: what stands at the cursor. Pure; `line.py` reads whole lines."""

import re
from enum import Enum, auto
from typing import Final, NamedTuple

from . import line
from .line import WITH_TARGET, WITH_TARGET_AND_COMMAND, split_target
from .words import OWN_WORDS

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_CLOSED: Final = re.compile(r""""(?:\\.|[^"\\])*"|'[^']*'""", re.DOTALL)
_JOINING: Final = re.compile("and|or|not|in")
_NAMED: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\s*=\s*")


class Place(Enum):
    """What kind of thing stands at the cursor."""

    WORD = auto()
    """The first word of the line: one of the REPL's own, or a command of the target in use."""
    TARGET = auto()
    COMMAND = auto()
    ARGUMENT = auto()
    ID = auto()
    """The tag or id of a command."""
    NOTHING = auto()


class Typed(NamedTuple):
    """What stands before the cursor.

    :ivar beginning: of what stands at it: the line ends with this.
    :ivar word: the word of the REPL that begins the line, if it is one.
    :ivar target: whom the command is for, where the line says; None: the target in use.
    :ivar command: the command whose argument stands at the cursor.
    :ivar given: the arguments before that one, as they were typed.
    :ivar in_call: whether they stand behind a `(`, with commas between them.
    :ivar quote: the one before `beginning` that has not closed; for an argument, that one is open in it.
    """

    place: Place
    beginning: str = ""
    word: str = ""
    target: str | None = None
    command: str = ""
    given: tuple[str, ...] = ()
    in_call: bool = False
    quote: str = ""

    def words(self, *more: str) -> tuple[str, ...]:
        """The arguments before the cursor, and more, as the command would be given them.

        :raises InvalidArguments: quotes or brackets do not close.
        """
        pieces = (*self.given, *more)
        text = f"{self.command}({', '.join(pieces)})" if self.in_call else " ".join((self.command, *pieces))
        return line.command(text).arguments


NOWHERE: Final = Typed(Place.NOTHING)


def typed(text: str) -> Typed:
    """Read the text before the cursor."""
    if line.code(text) != text:
        return NOWHERE  # in a comment
    text = text.lstrip()
    first = _NAME.match(text)
    if first is None:
        return NOWHERE if text else Typed(Place.WORD)
    word, behind = first[0], text[first.end() :]
    if not behind:
        return Typed(Place.WORD, word)
    if word not in OWN_WORDS:
        return _arguments(Typed(Place.ARGUMENT, command=word), behind)
    rest = behind.lstrip()
    if word in WITH_TARGET:
        return _target(word, rest[1:] if behind.startswith("(") else rest)
    if behind.startswith("("):
        return NOWHERE
    if word in WITH_TARGET_AND_COMMAND:
        return _target_and_command(word, rest)
    before, blank, last = rest.partition(" ")
    match word:
        case "cancel" if blank and before:
            return _target(word, last.lstrip())
        case "cancel" | "results" if not blank:
            return Typed(Place.ID, rest, word)
        case "help" if not blank:
            return Typed(Place.COMMAND, rest, word)
        case _:
            return NOWHERE


def _target(word: str, text: str) -> Typed:
    """A target that the cursor stands in; the quotes around all of it are not part of it."""
    quote = text[:1]
    if quote and quote in "\"'" and not _CLOSED.match(text):
        return Typed(Place.TARGET, text[1:], word, quote=quote)
    return Typed(Place.TARGET, text, word)


def _target_and_command(word: str, text: str) -> Typed:
    in_target = _target(word, text)
    if not text or in_target.quote:
        return in_target
    target, rest, fault = split_target(text)
    goes_on = fault is not None and not (_JOINING.fullmatch(rest) and text.endswith(rest))
    if goes_on or (not rest and not text[-1].isspace()):
        return in_target
    closed = _CLOSED.match(text)
    behind = text[closed.end() if closed and line.unquoted(closed[0]) == target else len(target) :].lstrip()
    command = _NAME.match(behind)
    if not behind or (command and command.end() == len(behind)):
        return Typed(Place.COMMAND, behind, word, target)
    if command is None or word == "about":
        return NOWHERE
    return _arguments(Typed(Place.ARGUMENT, word=word, target=target, command=command[0]), behind[command.end() :])


def _arguments(known: Typed, text: str) -> Typed:
    """The arguments of a command, up to the cursor, in either form."""
    in_call = text.lstrip().startswith("(")
    if not in_call and not text[:1].isspace():
        return NOWHERE
    text = text.lstrip()[1:] if in_call else text
    given: list[str] = []
    piece, quote, depth, at = "", "", 0, 0
    while at < len(text):
        char = text[at]
        if quote and char == "\\" and quote == '"':
            piece += char
            at += 1
            char = text[at : at + 1]
        elif quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "([{" and (in_call or depth or _begins_json(piece, char)):
            depth += 1
        elif char in ")]}" and (in_call or depth):
            if depth == 0:
                return NOWHERE  # behind the call
            depth -= 1
        elif depth == 0 and (char == "," if in_call else char.isspace()):
            if in_call or piece:
                given.append(piece.strip())
            piece, char = "", ""
        piece += char
        at += 1
    beginning = piece.lstrip()
    return known._replace(
        beginning=beginning, given=tuple(given), in_call=in_call, quote=quote or ("{" if depth else "")
    )


def _begins_json(piece: str, char: str) -> bool:
    """Whether a bracket begins an object or array, which may hold blanks, and is not a part of a word."""
    return char in "[{" and (not piece or bool(_NAMED.fullmatch(piece)))
