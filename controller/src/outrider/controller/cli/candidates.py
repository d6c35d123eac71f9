"""What may stand at the cursor, in a target and in the arguments of a command. Pure.

Where a word of a target may stand, the grammar's own parser says, after it has read what stands before that word.
"""

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import UnsetType

from outrider.controller.grammar import LONGEST, accepted_after
from outrider.controller.selection import Id, Is, typed, value_word, word
from outrider.schema import ALL, CommandAbout, State

from . import schemas
from .schemas import Schema
from .terminal import counted, json_text

if TYPE_CHECKING:
    from lark import Token

_PIECE: Final = re.compile(
    r"""
    "(?:[^"\\]|\\.)*(?P<double>"|\Z) | '(?:[^'\\]|\\.)*(?P<single>'|\Z)
    | (?:\[[^\]\s]*\]|[^\s,()=!<>"'])+
    | [=!<>]+ | .
    """,
    re.VERBOSE | re.DOTALL,
)
_BEFORE_A_WORD: Final = frozenset((",", "(", ")", "=", "==", "!=", "<", "<=", ">", ">="))
_OPERATORS: Final = {
    "=": "is, also with a glob",
    "!=": "is not, or has none",
    "<": "before",
    "<=": "up to",
    ">": "after",
    ">=": "from",
    " in (": "is one of",
    " not in (": "is none of",
}
_STATUSES: Final = ("ready", "unready", "lost", "terminated")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A word that may stand at the cursor, in place of `text[begin:]`, which it begins with.

    :ivar help: what it is, in a few words: a device's status, a group's size.
    :ivar final: the target may end with it; else something has to follow, as a value after `room=`.
    """

    text: str
    begin: int
    help: str
    final: bool = True


class _Word(NamedTuple):
    """A candidate whose place is not known yet."""

    text: str
    help: str
    final: bool = True


def candidates(states: Iterable[State], text: str) -> list[Candidate]:
    """What may stand at the end of `text`, the beginning of a target: the nearest to hand first.

    Nothing where the text cannot be the beginning of a target, and inside a quoted name.

    :param states: the devices that were ever seen.
    """
    if len(text) > LONGEST:
        return []
    begin = _begin(text)
    before, beginning = text[:begin], text[begin:]
    known = tuple(states)
    return [
        Candidate(each.text, begin, each.help, each.final)
        for each in _words(known, before, beginning)
        if each.text.startswith(beginning) and each.text.isprintable()
    ]


def argument_candidates(command: CommandAbout, given: Sequence[str], text: str) -> list[Candidate]:
    """What may stand at the end of `text`, the beginning of an argument: free names, and values that can be listed.

    A value is as `outrider send` takes it, without quotes around blanks.

    :param given: the arguments before it, which stand by position or as `name=value`.
    """
    schema = schemas.read(command.arguments)
    parameters = schema.properties if schema else {}
    name, equals, value = text.partition("=")
    if equals and name in parameters:
        begin = len(text) - len(value)
        return [
            Candidate(typed, begin, help) for typed, help in _listed_values(parameters[name]) if typed.startswith(value)
        ]
    named = {each.partition("=")[0] for each in given} & parameters.keys()
    by_position = sum(each.partition("=")[0] not in parameters for each in given)
    rest = dict(list(parameters.items())[by_position:])  # those before are given by position
    found: list[Candidate] = []
    if rest and not named:
        found = [Candidate(typed, 0, help) for typed, help in _listed_values(next(iter(rest.values())))]
    found += [
        Candidate(f"{name}=", 0, schemas.words(each), final=False) for name, each in rest.items() if name not in named
    ]
    return [each for each in found if each.text.startswith(text) and each.text.isprintable()]


def _listed_values(schema: Schema) -> Iterator[tuple[str, str]]:
    """The values of an enumeration or a boolean as they are typed, and the default."""
    default = None if isinstance(schema.default, UnsetType) else _argument(schema.default)
    listed = dict.fromkeys(_enumerated(schema))
    if default is not None and default not in listed:
        yield default, "default"
    for value in listed:
        yield value, "default" if value == default else ""


def _enumerated(schema: Schema) -> Iterator[str]:
    for value in schema.enum or []:
        if (text := _argument(value)) is not None:
            yield text
    if not isinstance(schema.const, UnsetType) and (text := _argument(schema.const)) is not None:
        yield text
    if schema.type == "boolean":
        yield from ("true", "false")
    for each in (*schema.any_of, *schema.one_of):
        yield from _enumerated(each)


def _argument(value: object) -> str | None:
    """A plain value as it is typed; None of others, and of those that a terminal would act upon."""
    if isinstance(value, str):
        return value if value and value.isprintable() else None
    return json_text(value) if isinstance(value, bool | int | float) else None


def _begin(text: str) -> int:
    """Where the word at the end begins; the end itself after a blank, a sign or an operator."""
    last = deque(_PIECE.finditer(text), maxlen=1)
    if not last or last[0][0].isspace() or last[0][0] in _BEFORE_A_WORD:
        return len(text)
    return last[0].start()


def _words(states: Sequence[State], before: str, beginning: str) -> Iterator[_Word]:
    if not before.strip():  # the most frequent place, which needs no parser
        yield from _sets(states, beginning, frozenset(), first=True)
        return
    place = accepted_after(before)
    if place is None:
        return
    tokens, accepted = place
    if "GROUP" in accepted:
        yield from _sets(states, beginning, _listed(tokens), first=False, negation="NOT" in accepted)
    elif accepted & {"WORD", "STRING"}:
        key, given = _compared(tokens)
        yield from _values(states, key, given, beginning)
    else:
        yield from _links(states, tokens, accepted)


def _sets(
    states: Sequence[State], beginning: str, given: Set[str], *, first: bool, negation: bool = True
) -> Iterator[_Word]:
    """Whatever stands for devices."""
    there = [state for state in states if state.status != "terminated"]
    yield from (
        _Word(str(Id(state.device)), state.status)
        for state in sorted(states, key=lambda state: state.device)
        if state.device.startswith(beginning.lstrip("\"'")) and state.device not in given
    )
    groups = Counter(group for state in there for group in set(state.groups))
    yield from (
        _Word(f"@{group}", f"group of {counted(count)}")
        for group, count in sorted(groups.items())
        if f"@{group}" not in given
    )
    if there and ALL not in given:
        yield _Word(ALL, counted(len(there)))
    if first:
        here = (state for state in there if state.status in ("ready", "unready"))
        pools = Counter(pool for state in here for pool in set(state.pools))
        yield from (_Word(f"any:{pool}", f"any one of {count}") for pool, count in sorted(pools.items()))
    statuses = Counter(state.status for state in states)
    yield from (
        _Word(str(Is(status)), counted(statuses[status]))
        for status in _STATUSES
        if statuses[status] or beginning.startswith("is:")
    )
    yield from _keys(there, beginning)
    if negation and (beginning or not first):
        yield _Word("not", "everything but", final=False)


def _keys(states: Sequence[State], beginning: str) -> Iterator[_Word]:
    """Tags, each with `=`; the one that is there in full, with each comparison."""
    for key, count in sorted(Counter(key for state in states for key in state.tags).items()):
        typed_key = word(key)
        yield _Word(f"{typed_key}=", f"tag of {counted(count)}", final=False)
        if typed_key == beginning:
            yield from (
                _Word(f"{typed_key}{operator}", help, final=False)
                for operator, help in _OPERATORS.items()
                if operator != "="
            )


def _values(states: Sequence[State], key: str, given: Set[str], beginning: str) -> Iterator[_Word]:
    """The values of a tag, as they are typed."""
    there = (state for state in states if state.status != "terminated")
    counts = Counter(typed(state.tags[key]) for state in there if key in state.tags)
    quote = beginning[:1]
    for value, count in sorted(counts.items(), key=lambda item: _order(item[0])):
        if value not in given:
            yield _Word(_quoted(value, quote) if quote in ("'", '"') else value_word(value), counted(count))


def _links(states: Sequence[State], tokens: "Sequence[Token]", accepted: frozenset[str]) -> Iterator[_Word]:
    """What may follow something complete, after a blank."""
    last = tokens[-1]
    if last.type == "ANY":  # stands alone, which is not in the grammar
        return
    if last.type == "NOT" and "IN" in accepted:
        yield _Word("in (", "is none of", final=False)
        return
    if "OP" in accepted and any(_plain(last) in state.tags for state in states):
        yield from (_Word(operator.strip(), help, final=False) for operator, help in _OPERATORS.items())
        if not any(_plain(last) == state.device for state in states):
            return
    if "LPAR" in accepted:  # after `in`
        yield _Word("(", "values, with commas between them", final=False)
    if "AND" in accepted:
        yield _Word("and", "both", final=False)
    if "OR" in accepted:
        yield _Word("or", "one of the two, or both", final=False)
    if "MINUS" in accepted:
        yield _Word("-", "without", final=False)
    if "RPAR" in accepted:
        yield _Word(")", "ends what ( began", final=False)


def _listed(tokens: "Sequence[Token]") -> set[str]:
    """What stands in the list that the cursor is in, where it is the next item."""
    given: set[str] = set()
    for comma, item in zip(tokens[-1::-2], tokens[-2::-2], strict=False):
        if comma.type != "COMMA" or item.type not in ("WORD", "STRING", "GROUP", "ALL"):
            break
        given.add(_plain(item))
    return given


def _compared(tokens: "Sequence[Token]") -> tuple[str, set[str]]:
    """The tag that a value at the end is compared with, and the values that are given already."""
    for place in range(len(tokens) - 1, 0, -1):
        if tokens[place].type == "OP":
            return _plain(tokens[place - 1]), set()
        if tokens[place].type == "IN":
            key = tokens[place - 2] if tokens[place - 1].type == "NOT" else tokens[place - 1]
            return _plain(key), {_plain(token) for token in tokens[place + 2 :: 2]}
    return "", set()


def _plain(token: "Token") -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL) if token.type == "STRING" else str(token)


def _quoted(text: str, quote: str) -> str:
    return quote + text.replace("\\", "\\\\").replace(quote, f"\\{quote}") + quote


def _order(value: str) -> tuple[bool, float, str]:
    """Numbers by size, before the rest."""
    number = float(value) if re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?", value) else None
    return (number is None, number or 0.0, value)
