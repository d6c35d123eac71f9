"""What the REPL completes: its own words, targets, the commands of devices, argument names and values, ids."""

import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from typing import Final

from msgspec import UnsetType
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from outrider.schema import CommandAbout, LocalError

from . import schemas
from .candidates import candidates
from .schemas import Schema
from .session import Session
from .terminal import json_text, printable
from .typed import Place, Typed, typed
from .words import OWN_WORDS

NAMED: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*=\s*")
"""The beginning of an argument that is given by name."""

_PLAIN: Final = re.compile(r"[^\s\"'\\,()\[\]{}#=]+")


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
        for completion in await self._completions(typed(document.text_before_cursor)):
            yield completion

    async def _completions(self, at: Typed) -> list[Completion]:
        match at.place:
            case Place.WORD:
                return await self._words(at.beginning)
            case Place.COMMAND if at.word == "help":
                return await self._words(at.beginning)
            case Place.TARGET:
                return self._targets(at)
            case Place.COMMAND:
                return _commands(at.beginning, await self._known(at.target))
            case Place.ARGUMENT if not at.quote:
                commands = await self._known(at.target or self._session.target)
                return self._arguments(at, commands.get(at.command))
            case Place.ID:
                return _matching(at.beginning, await self._ids(at))
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
        if known := self._session.catalogue.known(target):
            return known
        try:
            return await self._session.catalogue.commands(target)
        except LocalError:
            return {}

    def _targets(self, at: Typed) -> list[Completion]:
        states = self._session.fleet.devices()
        found = [
            Completion(each.text, start_position=each.begin - len(at.beginning), display_meta=printable(each.help))
            for each in candidates(states, at.beginning)
            if not at.quote or at.quote not in each.text
        ]
        if found or not at.quote:
            return found
        text = at.quote + at.beginning  # a name in quotes, within the target
        return [
            Completion(each.text, start_position=each.begin - len(text), display_meta=printable(each.help))
            for each in candidates(states, text)
        ]

    async def _ids(self, at: Typed) -> dict[str, str]:
        """Tags of what is in flight here, and the ids of what runs anywhere."""
        tags = {str(tag): f"{sent.target} {sent.text}" for tag, sent in self._session.in_flight.items()}
        if at.beginning.isdigit() and any(tag.startswith(at.beginning) for tag in tags):
            return tags
        ours = {sent.dispatch.id for sent in self._session.in_flight.values()}
        running = await self._session.running()
        return {**tags, **{id: words for id, words in running.items() if id not in ours}}

    def _arguments(self, at: Typed, command: CommandAbout | None) -> list[Completion]:
        """Names that are still free, or the values of the argument at the cursor where these can be listed."""
        parameters = parameters_of(command)
        if name := NAMED.match(at.beginning):
            return self._values(at.beginning[name.end() :], name[1], parameters.get(name[1]))
        names = [name[1] for each in at.given if (name := NAMED.match(each))]
        rest = list(parameters.items())[len(at.given) - len(names) :]  # those before are given by position
        free = {f"{name}=": schemas.words(schema) for name, schema in rest if name not in names}
        values = self._values(at.beginning, *rest[0]) if rest and not names else []
        return [*values, *_matching(at.beginning, free)]

    def _values(self, beginning: str, name: str, schema: Schema | None) -> list[Completion]:
        if schema is None:
            return []
        default = None if isinstance(schema.default, UnsetType) else _as_typed(schema.default)
        values = {value: "default" if value == default else "" for value in listed(schema)}
        return _matching(beginning, values or self._named(name, schema))

    def _named(self, name: str, schema: Schema) -> dict[str, str]:
        """The values of a parameter whose name says what it takes."""
        if not schemas.takes_text(schema):
            return {}
        states = self._session.fleet.roster.states.values()
        match name:
            case "device" | "device_id":
                return {state.device: state.status for state in sorted(states, key=lambda state: state.device)}
            case "group":
                return dict.fromkeys(sorted({group for state in states for group in state.groups}), "group")
            case "pool":
                return dict.fromkeys(sorted({pool for state in states for pool in state.pools}), "pool")
            case "id":  # as cancel and result have it
                ids = {sent.dispatch.id: f"[{sent.tag}] {sent.text}" for sent in self._session.in_flight.values()}
                return {**self._session.jobs, **ids}
            case _:
                return {}


def parameters_of(command: CommandAbout | None) -> Mapping[str, Schema]:
    """The parameters of a command, in their order; none where its schema cannot be read."""
    schema = schemas.read(command.arguments) if command else None
    return schema.properties if schema else {}


def listed(schema: Schema) -> Iterator[str]:
    """The values of an enumeration or a boolean, as they are typed, and examples where there are such."""
    for part in (schema, *schema.any_of, *schema.one_of):
        if not isinstance(part.const, UnsetType):
            yield _as_typed(part.const)
        for value in part.enum or part.examples:
            yield _as_typed(value)
        if part.type == "boolean":
            yield from ("true", "false")


def _as_typed(value: object) -> str:
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else json_text(value)


def _matching(beginning: str, words: Mapping[str, str]) -> list[Completion]:
    return [
        Completion(word, start_position=-len(beginning), display_meta=printable(meta))
        for word, meta in words.items()
        if word.startswith(beginning)
    ]


def _commands(beginning: str, commands: Mapping[str, CommandAbout]) -> list[Completion]:
    known = {name: _first_line(command.help) for name, command in sorted(commands.items())}
    return _matching(beginning, {name: help for name, help in known.items() if name.isprintable()})


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
