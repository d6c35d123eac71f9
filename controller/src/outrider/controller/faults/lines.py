"""Faults in words: one line is one step of a script, or a command typed while the proxy runs.

    drop PUBACK to client 50%
    at 10s cut
    every 3s..8s half-open for 2s
    at 20s heal

It is read by hand, word by word: what follows the first word may stand in any order, which a grammar says badly.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from .commands import Command, CutNow, HalfOpenNow, Heal, NewConnections, Release, Throttle
from .packets import Kind
from .rules import Cut, Delay, Drop, Duplicate, HalfOpen, Hold, InvalidFault, Reorder, Rule, is_filter
from .script import Span, Step

LARGEST: Final = 1_000_000
"""Characters of a script at most."""

SHORTEST: Final = 0.001
"""Seconds of a pause of `every` at least."""

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_SIZES: Final = {"": 1, "b": 1, "kb": 1000, "kib": 1024, "mb": 1_000_000, "mib": 1_048_576}
_DURATION: Final = re.compile(rf"(\d{{1,9}}(?:\.\d{{1,9}})?|\.\d{{1,9}})({'|'.join(_UNITS)})", re.IGNORECASE)
_RATE: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(b|kb|kib|mb|mib|)(?:/s)?", re.IGNORECASE)
_WORD: Final = re.compile(r"""(?P<quote>["'])(?P<quoted>.*?)(?P=quote)|[^\s"'#]\S*""")

_MATCH: Final = ("PACKET", "to", "topic", "client", "contains")
_RULE: Final = (*_MATCH, "N", "skip", "P%")
_RULES: Final[Mapping[str, type[Rule]]] = {
    "drop": Drop,
    "delay": Delay,
    "duplicate": Duplicate,
    "hold": Hold,
    "reorder": Reorder,
    "cut": Cut,
    "half-open": HalfOpen,
}
OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "drop": (*_RULE, "for"),
    "delay": (*_RULE, "for"),
    "duplicate": (*_RULE, "new", "for"),
    "hold": (*_RULE, "for"),
    "reorder": (*_RULE, "by", "for"),
    "release": (),
    "cut": (*_RULE, "after", "fin"),
    "half-open": (*_RULE, "for"),
    "throttle": ("to", "for"),
    "blackhole": ("for",),
    "unanswered": ("for",),
    "refuse": ("for",),
    "heal": (),
}
"""What may follow each verb, in any order."""

_CHOOSES: Final = frozenset(("packet", "topic", "contains", "count", "skip", "chance"))
"""Fields that speak of packets: with one of them `cut` and `half-open` wait for such a packet."""


class ScriptSyntax(InvalidFault):
    """A line that cannot be read. `line` and `column` count from 1; the text shows the place."""

    def __init__(self, words: str, text: str, column: int, line: int | None = None) -> None:
        begin = max(0, column - 60)
        shown = "".join(c if c.isprintable() else " " for c in text[begin : column + 60])
        where = f"column {column}" if line is None else f"line {line}, column {column}"
        super().__init__(f"{where}: {words}\n  {shown}\n  {' ' * (column - 1 - begin)}^")
        self.words = words
        self.line = line or 1
        self.column = column


def read_script(text: str) -> tuple[Step, ...]:
    """The steps of a script. Empty lines say nothing, nor does what follows a #.

    :raises ScriptSyntax: a line cannot be read; it names line and column.
    """
    if len(text) > LARGEST:
        raise InvalidFault(f"the script has {len(text)} characters; {LARGEST} are the most")
    steps: list[Step] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            step = read_line(line)
        except ScriptSyntax as error:
            raise ScriptSyntax(error.words, line, error.column, number) from None
        if step is not None:
            steps.append(step)
    return tuple(steps)


def read_line(line: str) -> Step | None:
    """What one line says, None where it says nothing.

    :raises ScriptSyntax: it cannot be read; it names the column.
    """
    words = _Words(line)
    if words.ended:
        return None
    at, every = 0.0, None
    if words.take("at"):
        at = words.duration()
    elif words.take("every"):
        place = words.place
        every = words.span()
        if every.least < SHORTEST:
            raise words.error("a pause of every is 1 ms at least", place)
    verb_at = words.place
    verb = words.take(*OPTIONS)
    if not verb:
        raise words.error(_no_verb(words.next))
    given = _given(verb, words)
    lasts = given.pop("for", None)
    try:
        command = _command(verb, given)
    except (msgspec.ValidationError, InvalidFault) as error:
        raise words.error(str(error), verb_at) from None
    return Step(
        command=command,
        at=at,
        every=every,
        lasts=lasts if isinstance(lasts, float) else None,
        text=line[verb_at : words.end],
    )


def _command(verb: str, given: dict[str, object]) -> Command:
    chooses = bool(_CHOOSES & given.keys())
    match verb:
        case "cut" if not chooses and not given.keys() & {"direction", "after"}:
            return msgspec.convert(given, CutNow)
        case "half-open" if not chooses:
            return msgspec.convert({"ways": given.pop("direction", None), **given}, HalfOpenNow)
        case "cut" | "half-open":
            return msgspec.convert({"count": 1, **given}, _RULES[verb])
        case "throttle":
            return msgspec.convert({"ways": given.pop("direction", None), **given}, Throttle)
        case "release":
            return Release()
        case "heal":
            return Heal()
        case "blackhole" | "unanswered" | "refuse":
            return NewConnections(door=verb)
        case _:
            return msgspec.convert(given, _RULES[verb])


def _given(verb: str, words: "_Words") -> dict[str, object]:
    """What follows a verb, by the names of fields."""
    given: dict[str, object] = {}
    if verb == "delay":
        span = words.span()
        given |= {"seconds": span.least} if span.least == span.most else {"seconds": span.least, "most": span.most}
    elif verb == "throttle":
        given["rate"] = words.rate()
    while not words.ended:
        place, word = words.place, words.next
        option = _option(word)
        if option not in OPTIONS[verb]:
            raise words.error(_misfit(verb, word), place)
        field, value = _value(option, words)
        if field in given:
            raise words.error(f"{word!r} is one too many", place)
        given[field] = value
    return given


def _option(word: str) -> str:
    """What kind of option a word is or begins."""
    if word.upper() in Kind.__members__:
        return "PACKET"
    if re.fullmatch(r"\d+", word):
        return "N"
    return "P%" if word.endswith("%") else word.lower()


def _value(option: str, words: "_Words") -> tuple[str, object]:
    """Take an option; the field that it sets, and to what."""
    place, word = words.place, words.text("a word")
    match option:
        case "PACKET":
            return "packet", word.upper()
        case "N":
            return "count", _number(word, words, place, least=1)
        case "P%":
            if not re.fullmatch(r"\d{1,3}(\.\d{1,9})?%", word) or not 0 < float(word[:-1]) <= 100:
                raise words.error(f"{word!r} is no part of the packets: write 50%", place)
            return "chance", float(word[:-1]) / 100
        case "to":
            place, side = words.place, words.take("client", "broker")
            if not side:
                raise words.error("expected client or broker", place)
            return "direction", f"to_{side}"
        case "topic":
            place, topic = words.place, words.text("a topic filter, as devices/+/cmd")
            if not is_filter(topic):
                raise words.error(
                    f"{topic!r} is no topic filter: + and # stand for whole levels, # for the last", place
                )
            return "topic", topic
        case "client":
            return "client", words.text("a client id, as lamp-1 or lamp-*")
        case "contains":
            return "contains", words.text("what the payload has in it, in quotes").encode()
        case "skip" | "by":
            place = words.place
            return option, _number(words.text(f"how many, as in {option} 2"), words, place, least=option == "by")
        case "for":
            return "for", words.duration()
        case "fin":
            return "reset", False
        case "new":
            return "as_new", True
        case _:
            return option, True


def _number(word: str, words: "_Words", place: int, *, least: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", word) or int(word) < least:
        raise words.error(f"{word!r} is no number from {int(least)} to 999999999", place)
    return int(word)


def _no_verb(word: str) -> str:
    verbs = ", ".join(OPTIONS)
    return f"{word!r} is no fault: there are {verbs}" if word else f"the line ends; expected one of {verbs}"


def _misfit(verb: str, word: str) -> str:
    if not OPTIONS[verb]:
        return f"nothing follows {verb}, but there is {word!r}"
    shown = {"PACKET": "a packet as PUBACK", "to": "to client|broker", "N": "a number", "P%": "a part as 50%"}
    return f"{word!r} does not fit; {verb} takes " + ", ".join(shown.get(each, each) for each in OPTIONS[verb])


class _Words:
    """The words of a line, one after the other."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._found = tuple(_words(line))
        self._at = 0

    @property
    def ended(self) -> bool:
        return self._at == len(self._found)

    @property
    def end(self) -> int:
        """Where the last word ends."""
        return self._found[-1].end() if self._found else 0

    @property
    def place(self) -> int:
        """Where the next word is, or behind the last one."""
        return self.end if self.ended else self._found[self._at].start()

    @property
    def next(self) -> str:
        """The next word as it is written, without taking it; empty at the end."""
        return "" if self.ended else self._found[self._at][0]

    def take(self, *words: str) -> str:
        """Take the next word if it is one of these, in any case, and return it in lower case; else empty."""
        word = self.next.lower()
        if word not in words:
            return ""
        self._at += 1
        return word

    def text(self, what: str) -> str:
        """Take the next word, without its quotes."""
        if self.ended:
            raise self.error(f"the line ends; expected {what}")
        match = self._found[self._at]
        self._at += 1
        return match[0] if match["quoted"] is None else match["quoted"]

    def duration(self) -> float:
        place, word = self.place, self.text("a time, as 5s or 200ms")
        match = _DURATION.fullmatch(word)
        if match is None:
            raise self.error(f"{word!r} is no time: write 200ms, 5s, 2m or 1h", place)
        return float(match[1]) * _UNITS[match[2].lower()]

    def span(self) -> Span:
        place, word = self.place, self.text("a time, as 5s or 3s..8s")
        least, dots, most = word.partition("..")
        ends = [_DURATION.fullmatch(least), _DURATION.fullmatch(most if dots else least)]
        seconds = [float(end[1]) * _UNITS[end[2].lower()] for end in ends if end]
        if len(seconds) < 2:
            raise self.error(f"{word!r} is no time: write 200ms, 5s, or 3s..8s", place)
        if seconds[0] > seconds[1]:
            raise self.error(f"{word} ends before it begins", place)
        return Span(*seconds)

    def rate(self) -> float:
        place, word = self.place, self.text("bytes a second, as 1000 or 64kB/s")
        match = _RATE.fullmatch(word)
        if match is None or (rate := float(match[1]) * _SIZES[match[2].lower()]) < 1:
            raise self.error(f"{word!r} is no rate: write 1000, 500B/s or 64kB/s", place)
        return rate

    def error(self, words: str, place: int | None = None) -> ScriptSyntax:
        return ScriptSyntax(words, self._line, (self.place if place is None else place) + 1)


def _words(line: str) -> Iterator["re.Match[str]"]:
    at = 0
    while at < len(line) and line[at] != "#":
        if line[at].isspace():
            at += 1
            continue
        match = _WORD.match(line, at)
        if match is None:
            raise ScriptSyntax("a quote does not close", line, at + 1)
        yield match
        at = match.end()
