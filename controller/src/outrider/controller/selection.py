"""What a target says: sets of devices, and the conditions on them. Pure; `grammar` reads them, `targets` resolves them.

Every part is a set of devices. Patterns (globs, groups, tag queries, `all`) leave out devices that ended with
`terminate`, unless the target asks for these with `is:terminated`; an id stands for its device in any case. `not` is
everything else, and `room!=kitchen` is `not room=kitchen`: devices without the tag are among them. `<`, `<=`, `>` and
`>=` are false for a device without the tag.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final, Literal

from packaging.version import InvalidVersion, Version

from outrider.schema import State

Tag = str | int | float | bool
Operator = Literal["=", "!=", "<", "<=", ">", ">="]
Condition = Literal["ready", "unready", "lost", "terminated"]

_PLAIN: Final = re.compile(r"(?!(?:and|or|not|in|all)\Z)(?!-\Z)[^\s,()=!<>\"'@\[\]*?][^\s,()=!<>\"'\[\]*?]*")
_GLOB: Final = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a target is looked up in.

    :ivar states: every device ever seen, by id.
    :ivar universe: those of them that patterns may match.
    """

    states: Mapping[str, State]
    universe: Set[str]


@dataclass(frozen=True, slots=True)
class Id:
    """One device, whether it was ever seen or not."""

    id: str

    def devices(self, scope: Scope) -> Set[str]:
        """The device."""
        return {self.id}

    def __str__(self) -> str:
        """As it is typed."""
        return word(self.id)


@dataclass(frozen=True, slots=True)
class Glob:
    """Devices whose id matches `lamp-*`, `lamp-?` or `lamp-[1-3]`."""

    pattern: str

    def devices(self, scope: Scope) -> Set[str]:
        """Those that match."""
        matches = _matcher(self.pattern)
        return {device for device in scope.universe if matches(device)}

    def __str__(self) -> str:
        """As it is typed."""
        return self.pattern


@dataclass(frozen=True, slots=True)
class Group:
    """The members of a group."""

    name: str

    def devices(self, scope: Scope) -> Set[str]:
        """Its members."""
        return {device for device in scope.universe if self.name in scope.states[device].groups}

    def __str__(self) -> str:
        """As it is typed."""
        return f"@{self.name}"


@dataclass(frozen=True, slots=True)
class All:
    """Every device."""

    def devices(self, scope: Scope) -> Set[str]:
        """All."""
        return scope.universe

    def __str__(self) -> str:
        """As it is typed."""
        return "all"


@dataclass(frozen=True, slots=True)
class Is:
    """Devices with a status."""

    status: Condition

    def devices(self, scope: Scope) -> Set[str]:
        """Those that have it."""
        return {device for device in scope.universe if scope.states[device].status == self.status}

    def __str__(self) -> str:
        """As it is typed."""
        return f"is:{self.status}"


@dataclass(frozen=True, slots=True)
class Compare:
    """Devices whose tag compares so with a value: as numbers, as versions, else as text; `=` takes globs."""

    key: str
    operator: Operator
    value: str

    def devices(self, scope: Scope) -> Set[str]:
        """Those for which it is true."""
        negative = self.operator == "!="
        return {device for device in scope.universe if self._holds(scope.states[device].tags) is not negative}

    def _holds(self, tags: Mapping[str, Tag]) -> bool:
        tag = tags.get(self.key)
        if tag is None:
            return False
        if self.operator in ("=", "!="):
            return equals(tag, self.value)
        order = compare(tag, self.value)
        match self.operator:
            case "<":
                return order < 0
            case "<=":
                return order <= 0
            case ">":
                return order > 0
            case _:
                return order >= 0

    def __str__(self) -> str:
        """As it is typed."""
        return f"{word(self.key)}{self.operator}{value_word(self.value)}"


@dataclass(frozen=True, slots=True)
class In:
    """Devices whose tag is one of some values."""

    key: str
    values: tuple[str, ...]

    def devices(self, scope: Scope) -> Set[str]:
        """Those for which it is true."""
        found: set[str] = set()
        for device in scope.universe:
            tag = scope.states[device].tags.get(self.key)
            if tag is not None and any(equals(tag, value) for value in self.values):
                found.add(device)
        return found

    def __str__(self) -> str:
        """As it is typed."""
        return f"{word(self.key)} in ({', '.join(map(value_word, self.values))})"


@dataclass(frozen=True, slots=True)
class Not:
    """Everything else."""

    part: "Selection"

    def devices(self, scope: Scope) -> Set[str]:
        """What is left."""
        return scope.universe - self.part.devices(scope)

    def __str__(self) -> str:
        """As it is typed."""
        return f"not {nested(self.part, Union, Difference, And, Or)}"


@dataclass(frozen=True, slots=True)
class And:
    """What is in all parts."""

    parts: tuple["Selection", ...]

    def devices(self, scope: Scope) -> Set[str]:
        """Their intersection."""
        first, *others = (part.devices(scope) for part in self.parts)
        return frozenset(first).intersection(*others)

    def __str__(self) -> str:
        """As it is typed."""
        return " and ".join(nested(part, Union, Difference, And, Or) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """What is in any part."""

    parts: tuple["Selection", ...]

    def devices(self, scope: Scope) -> Set[str]:
        """Their union."""
        return frozenset[str]().union(*(part.devices(scope) for part in self.parts))

    def __str__(self) -> str:
        """As it is typed."""
        return " or ".join(nested(part, Union, Difference, Or) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Union:
    """A list `a,b`: what is in any part."""

    parts: tuple["Selection", ...]

    def devices(self, scope: Scope) -> Set[str]:
        """Their union."""
        return frozenset[str]().union(*(part.devices(scope) for part in self.parts))

    def __str__(self) -> str:
        """As it is typed."""
        return ",".join(nested(part, Union, Difference, And, Or, Not) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Difference:
    """The first part without the others."""

    parts: tuple["Selection", ...]

    def devices(self, scope: Scope) -> Set[str]:
        """What is left of the first."""
        first, *others = (part.devices(scope) for part in self.parts)
        return frozenset(first).difference(*others)

    def __str__(self) -> str:
        """As it is typed."""
        return " - ".join(nested(part, Difference) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Pool:
    """Any one ready member of a pool. It stands alone."""

    name: str

    def devices(self, scope: Scope) -> Set[str]:
        """Its members that are there."""
        return {
            device
            for device in scope.universe
            if self.name in scope.states[device].pools and scope.states[device].status in ("ready", "unready")
        }

    def __str__(self) -> str:
        """As it is typed."""
        return f"any:{self.name}"


Selection = Id | Glob | Group | All | Is | Compare | In | Not | And | Or | Union | Difference | Pool


def parts_of(selection: Selection) -> Iterator[Selection]:
    """The selection and everything in it."""
    yield selection
    match selection:
        case Not(part):
            yield from parts_of(part)
        case And(parts) | Or(parts) | Union(parts) | Difference(parts):
            for part in parts:
                yield from parts_of(part)
        case _:
            pass


def equals(tag: Tag, value: str) -> bool:
    """Whether a tag has a value that was typed: `true` is True, 2.1 is 2.1.0, `kit*` is kitchen."""
    if isinstance(tag, bool):
        return value == ("true" if tag else "false")
    if isinstance(tag, str) and _GLOB.search(value):
        return tag == value or _matcher(value)(tag)
    return str(tag) == value or compare(tag, value) == 0


def compare(tag: Tag, value: str) -> int:
    """Below 0, 0 or above 0 as a tag is less than, like or greater than a value that was typed.

    Numbers compare as numbers, what looks like versions on both sides as versions (PEP 440), the rest as text.
    """
    if isinstance(tag, int | float) and not isinstance(tag, bool) and (number := _number(value)) is not None:
        return _order(tag, number)  # as it is: an integer may be over what a float holds
    text = typed(tag)
    one, other = _version(text), _version(value)
    if one is not None and other is not None:
        return _order(one, other)
    first, second = _number(text), _number(value)
    if first is not None and second is not None:
        return _order(first, second)
    return _order(text, value)


def typed(tag: Tag) -> str:
    """A tag's value as it is typed, but for quotes."""
    return ("true" if tag else "false") if isinstance(tag, bool) else str(tag)


def word(text: str) -> str:
    """A name as it is typed in a target: in quotes where it would be read otherwise."""
    return text if _PLAIN.fullmatch(text) and not text.startswith(("is:", "any:")) else _quoted(text)


def value_word(text: str) -> str:
    """A tag's value as it is typed in a target; globs in it stay what they are."""
    return text if re.fullmatch(r"[^\s,()=!<>\"'@\[]+", text) else _quoted(text)


def nested(part: Selection, *weaker: type) -> str:
    """A part as it is typed within another: in parentheses where that binds closer."""
    return f"({part})" if isinstance(part, weaker) else str(part)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _order(one: float | str | Version, other: float | str | Version) -> int:
    return (one > other) - (one < other)  # type: ignore[operator]  # both are of one type


@lru_cache(maxsize=1024)
def _version(text: str) -> Version | None:
    if not re.match(r"v?\d", text):
        return None
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[+-]?(\d{1,300}(\.\d{0,300})?|\.\d{1,300})(e[+-]?\d{1,3})?", text) else None


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> Callable[[str], bool]:
    return lambda text: fnmatchcase(text, pattern)
