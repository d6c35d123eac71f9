"""`outrider asyncapi`: the protocol, and what the devices of a fleet can do, as an AsyncAPI document."""

import importlib.metadata
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from msgspec.structs import replace

from outrider.controller import Fleet
from outrider.controller.settings import load
from outrider.device import Address, common_commands
from outrider.schema import About, CommandAbout, LocalError, State, Topics
from outrider.schema.asyncapi import Kind, Server, document, kinds_of

from .exits import run
from .options import TARGET_HELP, BrokerOption, NameOption, PrefixOption, open_fleet
from .output import json_text, messages_console, printable
from .terminal import counted

ABOUT_WAIT: Final = 5.0
"""Seconds for what devices say of themselves, which stands on the broker."""

_REFERENCE: Final = re.compile(r'\{\n *("\$ref": "[^"\n]*")\n *\}')
"""An object that is a reference and nothing else: in one line the document is half as long."""

Side = Literal["requester", "device"]


class ContractOfNobody(LocalError):
    """A target, and the contract alone: one of them is too much."""


class NotWritten(LocalError):
    """The file cannot be written."""


def asyncapi(
    target: Annotated[str | None, typer.Argument(metavar="[TARGET]", help=TARGET_HELP, show_default=False)] = None,
    contract: Annotated[
        bool, typer.Option("--contract", help="The protocol alone, and no device's commands. Needs no broker.")
    ] = False,
    side: Annotated[
        Side | None,
        typer.Option(help="Only what this side does, for tools that take a document as one application; else both."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write a file instead of standard output.")
    ] = None,
    broker: BrokerOption = None,
    prefix: PrefixOption = None,
    name: NameOption = None,
) -> None:
    """Print an AsyncAPI 3 document: the protocol, and the commands of the devices that are there, or of a target.

    For example:

    outrider asyncapi lamp-1 --output lamp.json

    outrider asyncapi --contract
    """
    if contract and target is not None:
        raise ContractOfNobody(f"--contract is the protocol alone, without {target}: leave out one of them")
    settings = load(broker=broker, prefix=prefix, requester=name)
    topics = Topics(settings.prefix)
    kinds = [] if contract else run(_kinds(open_fleet(broker, prefix, name), target))
    written = document(
        topics,
        version=importlib.metadata.version("outrider-schema"),
        servers=_servers(Address.parse(settings.broker)),
        common=common_commands(),
        kinds=kinds,
        side=side,
    )
    text = _REFERENCE.sub(r"{\1}", json_text(written, indent=2))
    if output is None:
        typer.echo(text)
        return
    try:
        output.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise NotWritten(f"{output} cannot be written: {error.strerror}") from error
    messages_console().print(f"wrote {output}: {_counts(kinds)}")


async def _kinds(fleet: Fleet, target: str | None) -> list[Kind]:
    messages = messages_console()
    async with fleet:
        states = fleet.devices(target)
        if target is None:
            states = [state for state in states if state.status != "terminated"]
        abouts = await fleet.abouts([state.device for state in states], wait=ABOUT_WAIT)
    if not states:
        messages.print(f"no device is on {fleet.connection.address}: this is the protocol alone")
    if silent := [state.device for state in states if state.device not in abouts]:
        messages.print(f"not told by {', '.join(silent)}: nothing stands on the broker; restart them")
    return [_readable(kind) for kind in kinds_of(states, abouts)]


def _readable(kind: Kind) -> Kind:
    """The kind with anything in place of each schema that is none: it comes from the device."""
    commands = {name: _checked(name, about, kind.devices) for name, about in kind.about.commands.items()}
    return replace(kind, about=About(versions=kind.about.versions, commands=commands))


def _checked(name: str, about: CommandAbout, devices: Sequence[State]) -> CommandAbout:
    if _is_schema(about.arguments) and _is_schema(about.result):
        return about
    messages_console().print(f"{devices[0].device}: a schema of {printable(name)} cannot be read; it is left open")
    return replace(
        about,
        arguments=about.arguments if _is_schema(about.arguments) else {},
        result=about.result if _is_schema(about.result) else {},
    )


def _is_schema(schema: dict[str, object]) -> bool:
    # Imported here: it takes as long as all of a subcommand that needs it not.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except (SchemaError, RecursionError):
        return False
    return True


def _servers(address: Address) -> list[Server]:
    """The broker as AsyncAPI names it; a Unix socket is no host, and so is left out."""
    security: tuple[Literal["userPassword", "X509"], ...] = (
        *(("userPassword",) if address.user else ()),
        *(("X509",) if address.cert else ()),
    )
    match address.kind:
        case "tcp":
            protocol: Literal["mqtt", "secure-mqtt", "ws", "wss"] = "secure-mqtt" if address.tls else "mqtt"
        case "websocket":
            protocol = "wss" if address.tls else "ws"
        case "unix":
            return []
    return [Server(each.place, protocol, each.path, security) for each in address.each]


def _counts(kinds: Iterable[Kind]) -> str:
    devices = [len(kind.devices) for kind in kinds]
    if not devices:
        return "the protocol"
    return f"the protocol and {counted(sum(devices))} of {len(devices)} kind" + ("" if len(devices) == 1 else "s")
