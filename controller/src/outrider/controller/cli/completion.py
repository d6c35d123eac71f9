"""What the REPL completes: its own words, targets, the commands of devices, argument names and values, ids."""

import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Final

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from outrider.schema import CommandAbout, InvalidArguments, LocalError

from . import schemas
from .candidates import Candidate, argument_candidates, candidates
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
        if command is None:
            return []
        text, found = arguments_at(at, command)
        values = [each for each in found if each.final]
        if not values and (name := parameter_at(at, parameters := parameters_of(command))) is not None:
            begin = text.find("=") + 1 if NAMED.match(text) else 0
            named = self._named(name, parameters[name])
            values = [Candidate(id, begin, help) for id, help in named.items() if id.startswith(text[begin:])]
        return [
            Completion(
                _quoted(each.text) if each.final else each.text,
                start_position=each.begin - len(text),
                display_meta=printable(each.help),
            )
            for each in (*values, *(each for each in found if not each.final))
        ]

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


def parameter_at(at: Typed, parameters: Mapping[str, Schema]) -> str | None:
    """The parameter whose value stands at the cursor, as far as that can be told."""
    if name := NAMED.match(at.beginning):
        return name[1] if name[1] in parameters else None
    by_name = any(NAMED.match(each) for each in at.given)
    place = len(at.given)
    return [*parameters][place] if not by_name and place < len(parameters) else None


def arguments_at(at: Typed, command: CommandAbout) -> tuple[str, list[Candidate]]:
    """What may stand at the cursor, and the beginning that it takes the place of."""
    text = NAMED.sub(lambda name: f"{name[1]}=", at.beginning, count=1) if NAMED.match(at.beginning) else at.beginning
    try:
        given: Sequence[str] = at.words()
    except InvalidArguments:
        given = at.given
    return text, argument_candidates(command, given, text)


def _quoted(value: str) -> str:
    """A value as the REPL reads it."""
    return value if value[:1] in ("{", "[") or _PLAIN.fullmatch(value) else json_text(value)


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
