"""A device's own documentation for people: its commands, their arguments in words, a line to try."""

import re
import shlex
from typing import Final

from msgspec import UnsetType
from rich.table import Table
from rich.text import Text

from outrider.device import RESERVED
from outrider.schema import About, CommandAbout

from . import schemas
from .schemas import Schema
from .terminal import json_text, printable

_PLAIN: Final = re.compile(r"[A-Za-z0-9_@%+:,./-]+")


def about_table(about: About) -> Table:
    """All commands, one line each: how to call it and what it does. Those of every device come last."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    own = sorted(about.commands.keys() - set(RESERVED))
    controls = [name for name in RESERVED if name in about.commands]
    for name in own:
        table.add_row(_usage(name, about.commands[name]), _first_line(about.commands[name]))
    if own and controls:
        table.add_row()
    for name in controls:
        table.add_row(_usage(name, about.commands[name]), _first_line(about.commands[name]))
    return table


def about_text(about: About, command: str, *, device: str) -> Text:
    """One command: its help, arguments, result and a line to try.

    :param device: the target of the line to try.
    :raises KeyError: there is no such command.
    """
    spec = about.commands[command]
    text = Text.assemble(_usage(command, spec))
    for line in printable(spec.help.strip(), keep="\n\t").split("\n") if spec.help.strip() else ():
        text.append(f"\n  {line}")
    properties, required = _arguments(spec)
    width = max((len(printable(name)) for name in properties), default=0)
    if properties:
        text.append("\n")
    for name, schema in properties.items():
        text.append(f"\n  {printable(name):{width}}  ", style="cyan").append(schemas.words(schema))
        if not isinstance(schema.default, UnsetType):
            text.append(f", default {json_text(schema.default)}")
        elif name not in required:
            text.append(", may be left out")
        if schema.description:
            text.append(f": {printable(schema.description)}")
    text.append(f"\n\n  gives {schemas.words(schemas.read(spec.result))}")
    if spec.idempotent:
        text.append("; may be repeated without harm")
    if spec.timeout is not None:
        text.append(f"; ends after {spec.timeout:g} s at the latest")
    if spec.max_parallel is not None:
        text.append(f"; at most {spec.max_parallel} at once")
    text.append(f"\n\n  outrider send {device} {example(command, spec)}", style="dim")
    return text


def example(name: str, spec: CommandAbout) -> str:
    """The command with the arguments that it needs, as words for a shell."""
    properties, required = _arguments(spec)
    values = {each: schemas.example(schema) for each, schema in properties.items() if each in required}
    # By position as long as those that may be left out come last, and a word alone would not be taken for all of them.
    if list(values) == list(properties)[: len(values)] and not any(isinstance(v, list | dict) for v in values.values()):
        return " ".join((name, *(_word(value) for value in values.values())))
    return f"{name} {shlex.quote(json_text(values))}"


def _usage(name: str, spec: CommandAbout) -> Text:
    properties, required = _arguments(spec)
    text = Text.assemble((printable(name), "bold"))
    for each in properties:
        text.append(f" {printable(each)}" if each in required else f" [{printable(each)}]", style="cyan")
    return text


def _first_line(spec: CommandAbout) -> Text:
    return Text(printable(spec.help.strip().partition("\n")[0]))


def _arguments(spec: CommandAbout) -> tuple[dict[str, Schema], frozenset[str]]:
    """The arguments in order, and the names of those that must be given."""
    schema = schemas.read(spec.arguments) or Schema()
    return schema.properties, frozenset(schema.required)


def _word(value: object) -> str:
    text = printable(value) if isinstance(value, str) else json_text(value)
    return text if _PLAIN.fullmatch(text) else shlex.quote(text)
