"""The one grammar of targets: text to `Selection`.

    lamp-1   lamp-1,lamp-2   lamp-*   @kitchen   all   any:words   @kitchen - lamp-3
    room=kitchen and fw<2.1   (room in (kitchen, hall) or not is:ready) - lamp-3

From the one that binds closest: parentheses, `not`, `and`, `or`; a list `a,b` beside them, which does not mix with them
without parentheses; and ` - ` last, which takes away from everything before it.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from outrider.schema import ALL, InvalidName, LocalError, check_name

from .selection import All, And, Compare, Difference, Glob, Group, Id, In, Is, Not, Or, Pool, Selection, Union

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

LONGEST: Final = 1_000_000
"""Characters of a target at most: a list of tens of thousands of ids fits."""

DEEPEST: Final = 50
"""Parentheses and `not` within each other at most."""

GRAMMAR: Final = r"""
start: difference
difference: operand (MINUS operand)*
?operand: list | or
list: atom ("," atom)+
or: and (OR and)*
and: not (AND not)*
?not: NOT not -> negation | atom
?atom: "(" difference ")" -> enclosed
     | WORD -> word | STRING -> quoted | GROUP -> group | ALL -> all | IS -> status | ANY -> pool
     | key OP value -> compare
     | key IN "(" value ("," value)* ")" -> member
     | key NOT IN "(" value ("," value)* ")" -> no_member
key: WORD | STRING
value: WORD | STRING

MINUS.3: /-(?=\s|$)/
AND.2: /and(?![^\s,()=!<>"'])/
OR.2: /or(?![^\s,()=!<>"'])/
NOT.2: /not(?![^\s,()=!<>"'])/
IN.2: /in(?![^\s,()=!<>"'])/
ALL.2: /all(?![^\s,()=!<>"'])/
IS.2: /is:[^\s,()=!<>"']*/
ANY.2: /any:[^\s,()=!<>"']*/
GROUP: /@[^\s,()=!<>"']*/
OP: /!=|<=|>=|==|=|<|>/
STRING: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/
WORD: /(?:\[[^\]\s]*\]|[^\s,()=!<>"'@\[])+/

%ignore /\s+/
"""

_NAMES: Final = {
    "MINUS": "' - '",
    "AND": "and",
    "OR": "or",
    "NOT": "not",
    "IN": "in",
    "LPAR": "(",
    "RPAR": ")",
    "COMMA": "a comma",
    "OP": "a comparison (= != < <= > >=)",
    "$END": "the end",
}
"""What the parser expects, for people; whatever begins a set or is a value is told in one word."""

_OF_A_SET: Final = {"WORD", "STRING", "GROUP", "ALL", "IS", "ANY", "LPAR", "NOT"}


class TargetSyntax(LocalError, ValueError):
    """A target that cannot be read. `column` counts from 1; the text shows the place."""

    def __init__(self, words: str, text: str, column: int) -> None:
        begin = max(0, column - 60)
        shown = "".join(c if c.isprintable() else " " for c in text[begin : column + 60])
        if shown.strip():
            words = f"not well formed at column {column}: {words}\n  {shown}\n  {' ' * (column - 1 - begin)}^"
        super().__init__(f"the target is {words}")
        self.column = column


@lru_cache(maxsize=64)
def read(text: str) -> Selection:
    """What a target says.

    :raises TargetSyntax: it cannot be read; names the column and what is expected there.
    """
    from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedToken

    if len(text) > LONGEST:
        raise TargetSyntax(f"it has {len(text)} characters; {LONGEST} are the most", text[:80], 1)
    if not text.strip():
        raise TargetSyntax("empty; give a device's id, a list a,b, a glob 'lamp-*', @group, a query or all", text, 1)
    _check_depth(text)
    try:
        tree = _parser().parse(text)  # pyright: ignore[reportUnknownMemberType]
    # lark leaves what its errors hold untyped.
    except UnexpectedToken as error:
        token: Token = error.token  # pyright: ignore[reportUnknownMemberType]
        raise _misfit(text, token, error.accepts or error.expected) from None
    except UnexpectedCharacters as error:
        at = int(error.pos_in_stream or 0)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        raise TargetSyntax(_unreadable(text, at), text, at + 1) from None
    except UnexpectedEOF:
        raise TargetSyntax("the target ends too early", text, len(text) + 1) from None
    return _Reader(text).selection(tree)


def accepted_after(text: str) -> "tuple[list[Token], frozenset[str]] | None":
    """The tokens of a target's beginning, and the names of those that may come next; None where it cannot be read."""
    from lark.exceptions import UnexpectedInput

    reading = _parser().parse_interactive(text)  # pyright: ignore[reportUnknownMemberType]
    try:
        tokens = list(reading.iter_parse())
    except UnexpectedInput:
        return None
    accepts: set[str] = reading.accepts()  # type: ignore[no-untyped-call]  # lark leaves it untyped
    return tokens, frozenset(accepts)


@lru_cache(maxsize=1)
def _parser() -> "Lark":
    # Here, not above: reading a grammar takes some ten milliseconds, which a program without targets need not wait for.
    from lark import Lark

    return Lark(GRAMMAR, parser="lalr", lexer="contextual", propagate_positions=True)


class _Reader:
    """Makes a selection of the parser's tree. As deep as the text's nesting, which is bounded."""

    def __init__(self, text: str) -> None:
        self._text = text

    def selection(self, tree: "Tree[Token]") -> Selection:
        match str(tree.data):
            case "start" | "enclosed":
                return self._one(tree)
            case "negation":
                return Not(self.selection(_trees(tree)[0]))
            case "difference":
                return self._several(tree, Difference)
            case "list":
                return self._several(tree, Union)
            case "or":
                return self._several(tree, Or)
            case "and":
                return self._several(tree, And)
            case _:
                return self._leaf(tree)

    def _one(self, tree: "Tree[Token]") -> Selection:
        (part,) = _trees(tree)
        return self.selection(part)

    def _several(self, tree: "Tree[Token]", kind: type[Difference | Union | Or | And]) -> Selection:
        parts = tuple(self.selection(part) for part in _trees(tree))
        return parts[0] if len(parts) == 1 else kind(parts)

    def _leaf(self, tree: "Tree[Token]") -> Selection:
        token = _tokens(tree)[0]
        match str(tree.data):
            case "word":
                return self._word(token)
            case "quoted":
                return self._id(token, _unquoted(token))
            case "group":
                return All() if token == f"@{ALL}" else Group(self._name(token, token[1:], "group"))
            case "all":
                return All()
            case "status":
                return self._status(token)
            case "pool":
                return self._pool(token)
            case "compare":
                key, value = map(_text, _trees(tree))
                operator = "=" if token == "==" else str(token)
                return Compare(key, operator, value)  # type: ignore[arg-type]  # the grammar admits no other
            case kind:
                key, *values = map(_text, _trees(tree))
                member = In(key, tuple(values))
                return Not(member) if kind == "no_member" else member

    def _word(self, token: "Token") -> Selection:
        if not re.search(r"[*?\[]", token):
            return self._id(token, str(token))
        if not re.fullmatch(r"(?:\[!?[A-Za-z0-9_-]+\]|[A-Za-z0-9_*?-])+", token):
            raise self._error(
                token, f"{str(token)!r} is no glob: letters, digits, _ and -, with * ? and [1-3] or [!1-3] among them"
            )
        return Glob(str(token))

    def _id(self, token: "Token", id: str) -> Selection:
        return Id(self._name(token, id, "device id"))

    def _name(self, token: "Token", name: str, what: str) -> str:
        try:
            check_name(name, what)
        except InvalidName as error:
            raise self._error(token, str(error)) from None
        return name

    def _status(self, token: "Token") -> Selection:
        match token.removeprefix("is:"):
            case "ready" | "unready" | "lost" | "terminated" as status:
                return Is(status)
            case _:
                raise self._error(token, f"{str(token)!r} is no status: is:ready, is:unready, is:lost or is:terminated")

    def _pool(self, token: "Token") -> Selection:
        if token != self._text.strip():
            raise self._error(
                token, f"{token} means one device of a pool, so it stands alone: no list, query or parentheses"
            )
        return Pool(self._name(token, token.removeprefix("any:"), "pool"))

    def _error(self, token: "Token", words: str) -> TargetSyntax:
        return TargetSyntax(words, self._text, (token.start_pos or 0) + 1)


def _trees(tree: "Tree[Token]") -> "list[Tree[Token]]":
    from lark import Tree

    return [child for child in tree.children if isinstance(child, Tree)]


def _tokens(tree: "Tree[Token]") -> "list[Token]":
    from lark import Token

    return [child for child in tree.children if isinstance(child, Token)]


def _text(tree: "Tree[Token]") -> str:
    """A key or value as it was meant."""
    (token,) = _tokens(tree)
    return _unquoted(token) if token.type == "STRING" else str(token)


def _unquoted(token: "Token") -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)


def _check_depth(text: str) -> None:
    """Refuse what nests too deeply before it is read."""
    depth = nots = 0
    for match in re.finditer(r"""(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|[()]|[^\s()"']+""", text):
        piece = match[0]
        nots = nots + 1 if piece == "not" else 0
        depth += (piece == "(") - (piece == ")")
        if max(depth, nots) > DEEPEST:
            raise TargetSyntax(f"more than {DEEPEST} parentheses or not within each other", text, match.start() + 1)


def _misfit(text: str, token: "Token", expected: Iterable[str]) -> TargetSyntax:
    if token.type == "$END":
        return TargetSyntax(f"the target ends; {_hint(token, expected)}", text, len(text.rstrip()) + 1)
    at = token.start_pos or 0
    within = token.type in ("GROUP", "STRING") and re.match(r"[^\s,()=!<>]", text[at - 1 : at])
    hint = "names and values with such signs go in quotes" if within else _hint(token, expected)
    return TargetSyntax(f"{str(token)!r} does not fit; {hint}", text, at + 1)


def _hint(token: "Token", expected: Iterable[str]) -> str:
    """What would fit in the place of a token, or what was probably meant."""
    names = set(expected)
    if token.type == "COMMA" and not names & _OF_A_SET:
        return "a list does not mix with and, or, not: put the list, or the query, in parentheses"
    if token.type in ("AND", "OR") and "COMMA" in names:
        return "a list does not mix with and, or, not: put the list, or the query, in parentheses"
    if token.type == "WORD" and token.startswith("-") and "MINUS" in names:
        return "to take devices away, put a blank on both sides of the minus: @kitchen - lamp-3"
    if token.type in _OF_A_SET and "COMMA" in names:
        return "commas join devices (a,b), and/or join conditions; a value with blanks in it goes in quotes"
    if names >= {"WORD", "GROUP"}:
        return "expected a device's id, a glob, @group, all, is:ready, a query as room=kitchen, or ("
    if names <= {"WORD", "STRING"}:
        return "expected a value; one with blanks or signs in it goes in quotes"
    words = [_NAMES[name] for name in _NAMES if name in names]
    return "expected " + (
        ", ".join(words[:-1]) + " or " + words[-1] if len(words) > 1 else "".join(words) or "something else"
    )


def _unreadable(text: str, position: int) -> str:
    character = text[position]
    if character in "\"'":
        return "a quote does not close"
    if character == "[":
        return "a bracket does not close"
    return f"{character!r} does not belong here; names and values with such signs go in quotes"
