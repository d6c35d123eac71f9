"""What the REPL completes: its own words, targets, the commands of devices, argument names and values."""

import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from outrider.schema import ALL, CommandAbout, LocalError, State

from . import schemas
from .schemas import Schema
from .session import OWN_WORDS, Session
from .terminal import json_text, printable

_WORD: Final = re.compile(r"""(?:"[^"]*"|'[^']*'|[^\s"'])+""")
_CALL: Final = re.compile(r"([A-Za-z0-9_-]+)\s*\(([^)]*)$")
_NAME: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*=")


class _Position(NamedTuple):
    """Where the cursor stands: the words before it, the beginning of the one at it, and whether a call's ( is open."""

    before: tuple[str, ...]
    beginning: str
    in_call: bool = False


class LineCompleter(Completer):
    """Completes a line for a session. Devices are asked for their commands when these are needed first."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Nothing: devices are asked asynchronously."""
        return ()

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        """What may stand at the cursor."""
        position = _position(document.text_before_cursor)
        if position is None:
            return
        for completion in await self._completions(position):
            yield completion

    async def _completions(self, position: _Position) -> list[Completion]:
        beginning = position.beginning
        match position.before:
            case ():
                return await self._words(beginning)
            case ("use" | "devices",) | ("about",) | ("send",) if not position.in_call:
                return self._targets(beginning)
            case ("help",):
                return await self._words(beginning)
            case ("cancel",) if self._session.in_flight:
                return _matching(beginning, {str(tag): sent.text for tag, sent in self._session.in_flight.items()})
            case ("about" | "send", target):
                return _commands(beginning, await self._known(target))
            case ("send", target, command, *given):
                return _arguments(beginning, given, (await self._known(target)).get(command))
            case (word, *_) if word in OWN_WORDS and word != "cancel":
                return []
            case (command, *given):
                return _arguments(beginning, given, (await self._known(self._session.target)).get(command))
            case _:
                return []

    async def _words(self, beginning: str) -> list[Completion]:
        """Commands of the target in use, and the REPL's own words."""
        commands = dict(await self._known(self._session.target))
        for word in OWN_WORDS:
            commands.pop(word, None)
        return [
            *_commands(beginning, commands),
            *_matching(beginning, {word: own.help for word, own in OWN_WORDS.items()}),
        ]

    async def _known(self, target: str | None) -> Mapping[str, CommandAbout]:
        if target is None:
            return {}
        try:
            return await self._session.commands(target)
        except LocalError:
            return {}

    def _targets(self, beginning: str) -> list[Completion]:
        states = self._session.fleet.devices()
        groups = sorted({group for state in states for group in state.groups})
        targets: dict[str, str] = {state.device: state.status for state in states}
        targets |= {f"@{group}": _count(states, group) for group in groups}
        targets |= {ALL: f"{len(states)} devices"} if states else {}
        return _matching(beginning, targets)


def _position(text: str) -> _Position | None:
    """Read the text before the cursor; None inside quotes, where nothing is to be completed."""
    if text.lstrip().startswith("#"):
        return None
    call = _CALL.search(text)
    if call and _open_quotes(call[2]):
        return None
    if call:
        before = _WORD.findall(text[: call.start()])
        *given, beginning = call[2].split(",")
        return _Position((*before, call[1], *(each.strip() for each in given)), beginning.strip(), in_call=True)
    words = list(_WORD.finditer(text))
    if _open_quotes(text):
        return None
    if words and words[-1].end() == len(text):
        return _Position(tuple(word[0] for word in words[:-1]), words[-1][0])
    return _Position(tuple(word[0] for word in words), "")


def _open_quotes(text: str) -> bool:
    return bool(re.search(r"""["']""", re.sub(r""""(?:\\.|[^"\\])*"|'[^']*'""", "", text)))


def _matching(beginning: str, words: Mapping[str, str]) -> list[Completion]:
    return [
        Completion(word, start_position=-len(beginning), display_meta=printable(meta))
        for word, meta in words.items()
        if word.startswith(beginning)
    ]


def _commands(beginning: str, commands: Mapping[str, CommandAbout]) -> list[Completion]:
    return _matching(beginning, {name: _first_line(command.help) for name, command in sorted(commands.items())})


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _count(states: Sequence[State], group: str) -> str:
    count = sum(group in state.groups for state in states)
    return f"group of {count} device{'' if count == 1 else 's'}"


def _arguments(beginning: str, given: Sequence[str], command: CommandAbout | None) -> list[Completion]:
    """Names that are still free, or the values of the argument at the cursor where these can be listed."""
    parameters = _parameters(command)
    if name := _NAME.match(beginning):
        return _values(beginning[name.end() :].lstrip(), parameters.get(name[1]))
    names = [name[1] for each in given if (name := _NAME.match(each))]
    rest = list(parameters.items())[len(given) - len(names) :]  # those before are given by position
    free = {f"{name}=": schemas.words(schema) for name, schema in rest if name not in names}
    values = _values(beginning, rest[0][1]) if rest and not names else []
    return [*values, *_matching(beginning, free)]


def _parameters(command: CommandAbout | None) -> Mapping[str, Schema]:
    schema = schemas.read(command.arguments) if command else None
    return schema.properties if schema else {}


def _values(beginning: str, schema: Schema | None) -> list[Completion]:
    return _matching(beginning, dict.fromkeys(_listed(schema), "")) if schema else []


def _listed(schema: Schema) -> Iterator[str]:
    """The values of an enumeration or a boolean, as they are typed."""
    for value in schema.enum or []:
        yield value if isinstance(value, str) else json_text(value)
    if schema.type == "boolean":
        yield from ("true", "false")
