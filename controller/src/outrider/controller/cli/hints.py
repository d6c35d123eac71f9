"""Help as one types: how the command at the cursor is used, and what its argument takes or is wrong with."""

from collections.abc import Mapping
from typing import Final

from msgspec import UnsetType
from prompt_toolkit.formatted_text import StyleAndTextTuples

from outrider.controller.arguments import parse
from outrider.controller.targets import TargetSyntax, resolve
from outrider.schema import CommandAbout, InvalidArguments, State, UnknownTarget

from . import schemas
from .completion import NAMED, arguments_at, parameter_at, parameters_of
from .schemas import Schema
from .terminal import counted, json_text, named, printable
from .typed import Place, Typed
from .words import OWN_WORDS, TERMINATE

LONGEST: Final = 10_000
"""Characters of arguments that are checked while they are typed."""

_UNFINISHED: Final = ("", "-", "+", ".", "-.")

Lines = list[StyleAndTextTuples]


def hint(at: Typed, commands: Mapping[str, CommandAbout], states: Mapping[str, State]) -> Lines:
    """Up to two lines of help.

    :param commands: those of the target that the line is for, as far as they are known.
    """
    match at.place:
        case Place.WORD if at.beginning:
            return _word(at.beginning, commands)
        case Place.COMMAND:
            known = _of_command(at.beginning, commands) if at.beginning else []
            return known or _of_own_word(at.word)
        case Place.TARGET:
            return [*_of_own_word(at.word), *_of_target(at.beginning, states)]
        case Place.ARGUMENT:
            return _of_argument(at, commands.get(at.command))
        case _:
            return _of_own_word(at.word)


def _word(beginning: str, commands: Mapping[str, CommandAbout]) -> Lines:
    """The first word of a line: told where only one can be meant."""
    if beginning in OWN_WORDS:
        return _of_own_word(beginning)
    meant = [word for word in (*OWN_WORDS, *(set(commands) - set(OWN_WORDS))) if word.startswith(beginning)]
    if len(meant) == 1 and meant[0] in OWN_WORDS:
        return _of_own_word(meant[0])
    return _of_command(meant[0] if len(meant) == 1 else beginning, commands)


def _of_own_word(word: str) -> Lines:
    own = OWN_WORDS.get(word)
    return [[("class:usage", own.usage), ("", "  "), ("class:help", own.help)]] if own else []


def _of_command(name: str, commands: Mapping[str, CommandAbout]) -> Lines:
    if name not in commands:
        meant = [each for each in commands if each.startswith(name)]
        if len(meant) != 1:
            return []
        (name,) = meant
    lines = [_usage(name, commands[name])]
    if name == TERMINATE:
        lines.append([("class:warning", "ends the devices in use; to leave the REPL: quit")])
    return lines


def _of_target(text: str, states: Mapping[str, State]) -> Lines:
    if not text.strip():
        return []
    try:
        targets = resolve(text, states)
    except TargetSyntax as error:
        if error.column > len(text.rstrip()):
            return []  # it goes on
        return [[("class:fault", printable(str(error).partition("\n")[0]))]]
    except UnknownTarget:
        return [[("class:help", "stands for no device")]]
    seen = [device for device in targets.devices if device not in targets.unseen]
    if len(seen) < len(targets.devices):
        return [[("class:help", f"no device {named(sorted(targets.unseen))} has been seen")]]
    if len(seen) == 1:
        return [[("class:help", f"{seen[0]}, {states[seen[0]].status}")]]
    number = f"one of {len(seen)}" if targets.pool is not None else counted(len(seen))
    return [[("class:help", f"{number}: {named(seen)}")]]


def _of_argument(at: Typed, command: CommandAbout | None) -> Lines:
    if command is None:
        return []
    parameters = parameters_of(command)
    current = parameter_at(at, parameters)
    lines = [_usage(at.command, command, current)]
    if fault := _fault(at, command):
        lines.append([("class:fault", printable(fault))])
    elif current is not None:
        lines.append(_parameter(current, parameters[current]))
    return lines


def _usage(name: str, command: CommandAbout, current: str | None = None) -> StyleAndTextTuples:
    schema = schemas.read(command.arguments)
    line: StyleAndTextTuples = [("class:usage", printable(name))]
    for each in schema.properties if schema else ():
        word = printable(each) if schema and each in schema.required else f"[{printable(each)}]"
        line += [("", " "), ("class:current" if each == current else "class:parameter", word)]
    return [*line, ("", "  "), ("class:help", printable(command.help.strip().partition("\n")[0]))]


def _parameter(name: str, schema: Schema) -> StyleAndTextTuples:
    default = "" if isinstance(schema.default, UnsetType) else f", default {json_text(schema.default)}"
    about = f": {printable(schema.description)}" if schema.description else ""
    return [("class:current", printable(name)), ("", f"  {schemas.words(schema)}{default}"), ("class:help", about)]


def _fault(at: Typed, command: CommandAbout) -> str:
    """What is wrong with the arguments so far; nothing of one that may become right."""
    if sum(map(len, at.given)) + len(at.beginning) > LONGEST:
        return ""
    name = NAMED.match(at.beginning)
    value = at.beginning[name.end() :] if name else at.beginning
    unfinished = bool(at.quote) or value in _UNFINISHED or bool(arguments_at(at, command)[1])
    try:
        parse(at.words() if unfinished else at.words(at.beginning), command, at.command, partial=True)
    except InvalidArguments as error:
        return str(error).partition("\n")[0]
    return ""
