"""What a shell is told when someone presses Tab: subcommands, options, and what is live on the broker.

The tree of subcommands is Typer's. What an argument is, its metavar says: TARGET, COMMAND, ARGS, ID, FILE, DIR,
SCRIPT, FILE|TARGET. A broker that does not answer soon, or anything else that goes wrong, leaves nothing to choose
from, silently.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import shorten
from typing import Final, NamedTuple

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from outrider.controller import Fleet
from outrider.controller.results import jobs, last_results
from outrider.device import RESERVED
from outrider.schema import CommandAbout, OutriderError

from . import shell_words
from .candidates import Candidate, argument_candidates, candidates
from .options import open_fleet
from .shell_words import Word
from .shells import Shell
from .terminal import printable

PATIENCE: Final = 0.8
"""Seconds that the broker, and devices, have for all that they are asked."""

_ABOUTS: Final = 20
"""Kinds of devices whose commands are asked for."""

_ASKED: Final = 100
"""Devices that are asked what runs; where there are more, Tab does not ask."""

_HELP: Final = 80
"""Characters of help that stand beside a choice."""

_COMPLETION_OPTIONS: Final = ("--install-completion", "--show-completion")


class Line(NamedTuple):
    """What stands before the word at the cursor, after the subcommand.

    :ivar options: values of options, by the parameter's name.
    :ivar awaiting: the option whose value stands at the cursor.
    :ivar only_arguments: `--` came before.
    """

    arguments: Sequence[str]
    options: Mapping[str, str]
    awaiting: TyperOption | None
    only_arguments: bool


class Choice(NamedTuple):
    """A whole word that may stand at the cursor; more has to follow it where it is not `final`."""

    text: str
    help: str = ""
    final: bool = True


class _Files(Exception):
    """Here stands the name of a file, which the shell knows best."""


def answer(program: typer.Typer, shell: Shell, words: Sequence[str]) -> str:
    """What a shell's script reads: a line for each choice.

    :param words: for bash the line up to the cursor, and the part of the word at it that is to be replaced; for zsh and
        fish the words up to the cursor, of which fish leaves the last one as it is typed.
    """
    line, word = _typed(shell, words)
    group = typer.main.get_command(program)
    assert isinstance(group, TyperGroup)
    try:
        found = asyncio.run(_choices(group, line, word.text))
    except _Files:
        return "files\n"
    fitting = [each for each in found if each.text.startswith(word.text) and each.text.isprintable()]
    if shell is not Shell.BASH:
        return "".join(f"{_described(shell, each)}\n" for each in fitting)
    kept = len(word.raw.removesuffix(words[1]))
    kind = "whole" if all(each.final for each in fitting) else "more"
    return "".join(f"{each}\n" for each in (kind, *(word.completed(each.text)[kept:] for each in fitting)))


def _typed(shell: Shell, words: Sequence[str]) -> tuple[Sequence[str], Word]:
    """The words after the program's name and before the cursor, and the one at it."""
    if shell is Shell.BASH:
        before, word = shell_words.split(words[0])
        return before[1:], word
    *before, last = words or ("",)
    return before, Word(last, last) if shell is Shell.ZSH else shell_words.split(last)[1]


def _described(shell: Shell, choice: Choice) -> str:
    help = printable(shorten(choice.help.strip().partition("\n")[0], _HELP, placeholder=" …"))
    kind = "" if shell is Shell.FISH else "whole\t" if choice.final else "more\t"
    return f"{kind}{choice.text}\t{help}"


async def _choices(group: TyperGroup, before: Sequence[str], beginning: str) -> list[Choice]:
    match before:
        case ():
            return [*_subcommands(group), *_options(group, (), beginning)]
        case (option,) if option in _COMPLETION_OPTIONS:
            return [Choice(shell) for shell in Shell]
        case (name, *given) if isinstance(command := group.commands.get(name), TyperCommand):
            return await _of_subcommand(command, given, beginning)
        case _:
            return []


def _subcommands(group: TyperGroup) -> Iterator[Choice]:
    for name, command in group.commands.items():
        if not command.hidden:
            yield Choice(name, command.get_short_help_str(_HELP))


def _options(command: TyperCommand | TyperGroup, given: Iterable[str], beginning: str) -> Iterator[Choice]:
    """Options, once one begins with a dash."""
    if not beginning.startswith("-"):
        return
    context = command.make_context(command.name, [], resilient_parsing=True)
    for option in command.get_params(context):
        if isinstance(option, TyperOption) and not option.hidden and (option.multiple or option.name not in given):
            help = (option.help or "").strip()
            yield from (Choice(name, help) for name in option.opts if name.startswith("--") or beginning == "-")


async def _of_subcommand(command: TyperCommand, given: Sequence[str], beginning: str) -> list[Choice]:
    line = _read(command, given)
    if line.awaiting is not None:
        return await _values(command, line.awaiting, line, beginning)
    name, equals, value = beginning.partition("=")
    if equals and not line.only_arguments and (option := _option(command, name)) is not None:
        found = await _values(command, option, line, value)
        return [each._replace(text=f"{name}={each.text}") for each in found]
    if beginning.startswith("-") and not line.only_arguments:
        return list(_options(command, line.options, beginning))
    arguments = [each for each in command.params if isinstance(each, TyperArgument)]
    place = len(line.arguments)
    if place >= len(arguments) and not (arguments and arguments[-1].nargs == -1):
        return []
    return await _values(command, arguments[min(place, len(arguments) - 1)], line, beginning)


def _read(command: TyperCommand, given: Sequence[str]) -> Line:
    """Tell options, their values and arguments apart. Unlike Typer's parser this gets over what is missing yet."""
    arguments: list[str] = []
    options: dict[str, str] = {}
    words = iter(given)
    for word in words:
        if word == "--":
            return Line([*arguments, *words], options, None, only_arguments=True)
        name, equals, value = word.partition("=")
        option = _option(command, name)
        if option is None:
            arguments += [] if word.startswith("--") else [word]
        elif option.is_flag or equals:
            options[str(option.name)] = value
        elif (following := next(words, None)) is None:
            return Line(arguments, options, option, only_arguments=False)
        else:
            options[str(option.name)] = following
    return Line(arguments, options, None, only_arguments=False)


def _option(command: TyperCommand, name: str) -> TyperOption | None:
    return next((each for each in command.params if isinstance(each, TyperOption) and name in each.opts), None)


async def _values(
    command: TyperCommand, parameter: TyperArgument | TyperOption, line: Line, beginning: str
) -> list[Choice]:
    """What a parameter may be: of an enumeration by Typer, else by its metavar."""
    context = command.make_context(command.name, [], resilient_parsing=True)
    if listed := parameter.shell_complete(context, beginning):
        return [Choice(str(item.value), item.help or "") for item in listed if item.type == "plain"]
    match (parameter.metavar or "").strip("[]"):
        case "FILE" | "SCRIPT" | "DIR":
            raise _Files
        case "FILE|TARGET":
            # A file that is there may begin like a device: then the devices come first.
            if "on" in line.options or not (found := await _live("TARGET", command, line, beginning)):
                raise _Files
            return found
        case "TARGET" | "COMMAND" | "ARGS" | "ID" as kind:
            return await _live(kind, command, line, beginning)
        case _:
            return []


async def _live(kind: str, command: TyperCommand, line: Line, beginning: str) -> list[Choice]:
    """What the broker and devices tell within `PATIENCE`."""
    options = line.options
    try:
        async with (
            asyncio.timeout(PATIENCE),
            open_fleet(options.get("broker"), options.get("prefix"), options.get("name")) as fleet,
        ):
            match kind:
                case "TARGET":
                    return _targets(fleet, beginning)
                case "COMMAND":
                    return [
                        Choice(name, each.help) for name, each in (await _commands(fleet, line.arguments[0])).items()
                    ]
                case "ARGS":
                    target, name, *given = line.arguments
                    return await _arguments(fleet, target, name, given, beginning)
                case _:
                    return await _ids(fleet, running=command.name == "cancel")
    except (OutriderError, OSError, TimeoutError):
        return []


def _targets(fleet: Fleet, beginning: str) -> list[Choice]:
    found = _whole(beginning, candidates(fleet.devices(), beginning))
    if len(found) == 1 and not found[0].final:  # then what follows it is the choice
        text = found[0].text
        text += " " if re.search(r"[\w-]\Z", text) else ""
        return _whole(text, candidates(fleet.devices(), text)) or found
    return found


async def _commands(fleet: Fleet, target: str) -> Mapping[str, CommandAbout]:
    """What the devices of a target can do, their own commands before those that every device has."""
    alike: dict[str, str] = {}
    for device in fleet.resolve(target, unseen=True).devices:
        if (state := fleet.roster.states.get(device)) is not None and state.status != "terminated":
            alike.setdefault(state.about, device)
    abouts = await fleet.abouts(list(alike.values())[:_ABOUTS], wait=PATIENCE / 2)
    commands = {name: command for about in abouts.values() for name, command in about.commands.items()}
    return {name: commands[name] for name in sorted(commands, key=lambda name: (name in RESERVED, name))}


async def _arguments(fleet: Fleet, target: str, name: str, given: Sequence[str], beginning: str) -> list[Choice]:
    command = (await _commands(fleet, target)).get(name)
    if command is None:
        return []
    found = _whole(beginning, argument_candidates(command, given, beginning))
    if len(found) == 1 and not found[0].final:
        return _whole(found[0].text, argument_candidates(command, given, found[0].text)) or found
    return found


async def _ids(fleet: Fleet, *, running: bool) -> list[Choice]:
    """Ids of commands of this requester: those that run, or those whose results stand."""
    if running:
        there = sum(state.status in ("ready", "unready") for state in fleet.devices())
        found = (await jobs(fleet)).running if 0 < there <= _ASKED else ()
        own = (each for each in found if each.job.requester == fleet.requester)
        return _distinct((each.job.id, each.job.command, each.device) for each in own)
    standing = [each.result for each in await last_results(fleet)]
    return _distinct((each.id, each.command, each.device) for each in standing)


def _distinct(commands: Iterable[tuple[str, str, str]]) -> list[Choice]:
    found: dict[str, Choice] = {}
    for id, command, device in commands:
        found.setdefault(id, Choice(id, f"{command} on {device}"))
    return list(found.values())


def _whole(beginning: str, found: Iterable[Candidate]) -> list[Choice]:
    return [Choice(beginning[: each.begin] + each.text, each.help, each.final) for each in found]
