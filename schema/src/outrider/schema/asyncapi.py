"""The contract, and what the devices of a fleet can do, as an AsyncAPI 3 document.

Channels are topics, operations say which side publishes and which reads. Both sides are there: `side` leaves one, since
AsyncAPI means one application by a document. The commands of devices stand on channels of their own, whose topics are
those of the contract, for the devices that have them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from msgspec import Struct, json

from .contract import JSON, MESSAGES, MSGPACK, PARAMETERS, Side, channels, message_schemas
from .dialect import Schemas, free_name, key_of
from .messages import About, CommandAbout, State
from .topics import ALL, Topics

_PARAMETER: Final = re.compile(r"{(\w+)}")


class Server(NamedTuple):
    """A broker: `host` with its port, AsyncAPI's word for the protocol, a WebSocket's path.

    `security` is what it asks for; no name, password or key is ever in it.
    """

    host: str
    protocol: Literal["mqtt", "secure-mqtt", "ws", "wss"]
    path: str = ""
    security: tuple[Literal["userPassword", "X509"], ...] = ()


class Kind(Struct, frozen=True):
    """Devices that can do the same, and what they can do. It is called as the first of them."""

    devices: tuple[State, ...]
    about: About

    @property
    def name(self) -> str:
        """What stands before all that is this kind's in the document."""
        return self.devices[0].device


def kinds_of(states: Iterable[State], abouts: Mapping[str, About]) -> list[Kind]:
    """The devices by what they can do, in order of their ids; those without an about are left out."""
    kinds: dict[bytes, tuple[About, list[State]]] = {}
    for state in sorted(states, key=lambda state: state.device):
        if about := abouts.get(state.device):
            kinds.setdefault(json.encode(about, order="sorted"), (about, []))[1].append(state)
    return [Kind(tuple(alike), about) for about, alike in kinds.values()]


def document(
    topics: Topics,
    *,
    version: str,
    servers: Sequence[Server] = (),
    common: Mapping[str, CommandAbout] | None = None,
    kinds: Sequence[Kind] = (),
    side: Side | None = None,
) -> dict[str, object]:
    """The document, of plain dicts, lists, text and numbers.

    :param version: of outrider.
    :param common: the commands that every device has; a kind's own are those that differ.
    :param side: whose operations it has; by default both sides'.
    """
    common = common or {}
    writing = _Document(topics, side)
    writing.contract()
    if common:
        writing.commands(ALL, common, "every device")
    for kind in kinds:
        own = {name: about for name, about in kind.about.commands.items() if common.get(name) != about}
        if own:
            writing.parameters[f"{kind.name}.device"] = {
                "description": f"The id of {_devices(kind)}.",
                "enum": [state.device for state in kind.devices],
            }
            writing.commands(kind.name, own, _devices(kind))
    groups = sorted({group for kind in kinds for state in kind.devices for group in state.groups})
    writing.parameters["group"]["examples"] = [ALL, *groups]
    security = {scheme: {"type": scheme} for server in servers for scheme in server.security}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "outrider",
            "version": version,
            "description": "\n\n".join((_ABOUT_THIS, *_about_fleet(kinds, common))),
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": JSON,
        "servers": {
            f"broker{number if number > 1 else ''}": _server(server) for number, server in enumerate(servers, 1)
        },
        "channels": writing.channels,
        "operations": writing.operations,
        "components": {
            "messages": writing.messages,
            "schemas": writing.schemas.components,
            "parameters": writing.parameters,
            "operationBindings": {
                name: {"mqtt": {"qos": 1, "retain": retained, "bindingVersion": "0.2.0"}}
                for name, retained in (("live", False), ("retained", True))
            },
            "correlationIds": {"id": {"description": "The command's id.", "location": "$message.payload#/id"}},
            **({"securitySchemes": security} if security else {}),
        },
    }


_ABOUT_THIS: Final = """\
Typed commands for fleets of devices over MQTT.

A requester publishes a command and its id; the device answers with progress and one final result under the same id. All
is QoS 1. Operations say `send` for who publishes and `receive` for who subscribes, and are tagged with the side:
`requester` or `device`.

A payload is JSON or MessagePack, and its first byte tells which. A device answers in the encoding it was asked in. The
schemas are the same; commands of devices are shown in JSON. Unknown keys of a message are ignored, unknown arguments of
a command are an error. All times are Unix seconds, all durations are seconds."""


class _Document:
    """A document that is being written."""

    def __init__(self, topics: Topics, side: Side | None) -> None:
        self.channels: dict[str, object] = {}
        self.operations: dict[str, object] = {}
        self.messages: dict[str, object] = {}
        self.schemas = Schemas()
        self.parameters: dict[str, dict[str, object]] = {
            name: {"description": says} for name, says in PARAMETERS.items()
        }
        self._topics = topics
        self._side = side

    def contract(self) -> None:
        """Write all topics and messages of the protocol, and who sends what."""
        schemas = message_schemas()
        for name, message in MESSAGES.items():
            payload = self.schemas.add({"$ref": f"#/$defs/{message.type.__name__}", "$defs": schemas})
            for encoding in message.encodings:
                self.messages[_message_key(name, encoding)] = {
                    "name": message.type.__name__,
                    "title": message.type.__name__ + (" in MessagePack" if encoding == MSGPACK else ""),
                    "contentType": encoding,
                    "payload": payload,
                    **({"correlationId": {"$ref": "#/components/correlationIds/id"}} if message.of_command else {}),
                    **({"examples": [{"payload": message.example}]} if encoding == JSON else {}),
                }
        topics = {channel.id: channel for channel in channels(self._topics)}
        for channel in topics.values():
            keys = _message_keys(channel.message)
            self._channel(
                channel.id,
                channel.address,
                {key: {"$ref": f"#/components/messages/{key}"} for key in keys},
                {"title": channel.title, **({"description": channel.says} if channel.says else {})},
            )
            self._operations(
                channel.id,
                channel.sender,
                channel.id,
                keys,
                (channel.reply, _message_keys(topics[channel.reply].message) if channel.reply else ()),
                {"title": channel.title},
                retained=channel.retained,
            )

    def commands(self, kind: str, commands: Mapping[str, CommandAbout], who: str) -> None:
        """Write the commands of some devices: what is sent to them and what they answer."""
        asked: dict[str, object] = {}
        answered: dict[str, object] = {}
        requests, results = f"{kind}.commands", f"{kind}.results"
        for name, about in commands.items():
            key = free_name(key_of(name), asked)
            says, more = _help(about)
            asked[key] = _command_message(name, about, self.schemas.add(about.arguments, kind), says)
            answered[key] = _result_message(name, self.schemas.add(about.result, kind))
            self._operations(
                f"{kind}.{key}",
                "requester",
                requests,
                [key],
                (results, [key]),
                {"title": name, **({"summary": says} if says else {}), **({"description": more} if more else {})},
                retained=False,
            )
        own = {} if kind == ALL else {"device": f"#/components/parameters/{kind}.device"}
        address, reply = self._topics.command("{device}", "{requester}"), self._topics.result("{device}", "{requester}")
        self._channel(requests, address, asked, {"title": f"Commands of {who}"}, own)
        self._channel(results, reply, answered, {"title": f"What {who} answered"}, own)

    def _channel(
        self,
        id: str,
        address: str,
        messages: dict[str, object],
        words: Mapping[str, object],
        own: Mapping[str, str] | None = None,
    ) -> None:
        parameters = _PARAMETER.findall(address)
        self.channels[id] = {
            "address": address,
            **words,
            "parameters": {
                name: {"$ref": (own or {}).get(name, f"#/components/parameters/{name}")} for name in parameters
            },
            "messages": messages,
        }

    def _operations(
        self,
        id: str,
        sender: Side,
        channel: str,
        messages: Sequence[str],
        reply: tuple[str, Sequence[str]],
        words: Mapping[str, object],
        *,
        retained: bool,
    ) -> None:
        receiver: Side = "device" if sender == "requester" else "requester"
        for action, side in (("send", sender), ("receive", receiver)):
            if self._side in (None, side):
                self.operations[f"{id}.{action}"] = {
                    "action": action,
                    **words,
                    "channel": {"$ref": f"#/channels/{channel}"},
                    "messages": _references(channel, messages),
                    **(
                        {"reply": {"channel": {"$ref": f"#/channels/{reply[0]}"}, "messages": _references(*reply)}}
                        if reply[0]
                        else {}
                    ),
                    "tags": [{"name": side}],
                    "bindings": {"$ref": f"#/components/operationBindings/{'retained' if retained else 'live'}"},
                }


def _command_message(name: str, about: CommandAbout, arguments: dict[str, object], says: str) -> dict[str, object]:
    needed = ["command", "args"] if about.arguments.get("required") else ["command"]
    return {
        "name": name,
        "title": name,
        **({"summary": says} if says else {}),
        "contentType": JSON,
        "correlationId": {"$ref": "#/components/correlationIds/id"},
        "payload": {
            "allOf": [
                {"$ref": "#/components/schemas/Command"},
                {"type": "object", "properties": {"command": {"const": name}, "args": arguments}, "required": needed},
            ]
        },
    }


def _result_message(name: str, value: dict[str, object]) -> dict[str, object]:
    return {
        "name": name,
        "title": f"Result of {name}",
        "contentType": JSON,
        "correlationId": {"$ref": "#/components/correlationIds/id"},
        "payload": {
            "allOf": [
                {"$ref": "#/components/schemas/Result"},
                {"type": "object", "properties": {"command": {"const": name}, "value": value}},
            ]
        },
    }


def _help(about: CommandAbout) -> tuple[str, str]:
    """The first line of a command's help, and the rest with what else is known of the command."""
    first, _, rest = about.help.strip().partition("\n")
    facts = [
        "It may be repeated without harm." if about.idempotent else "",
        f"It ends after {about.timeout:g} s at the latest." if about.timeout is not None else "",
        f"At most {about.max_parallel} of it run at once." if about.max_parallel is not None else "",
    ]
    return first, "\n\n".join(filter(None, (rest.strip(), " ".join(filter(None, facts)))))


def _about_fleet(kinds: Sequence[Kind], common: Mapping[str, CommandAbout]) -> list[str]:
    if not kinds:
        return []
    lines = ["| devices | commands of their own | groups | pools | versions |", "|---|---|---|---|---|"]
    for kind in kinds:
        own = (name for name, about in kind.about.commands.items() if common.get(name) != about)
        groups = {group for state in kind.devices for group in state.groups}
        pools = {pool for state in kind.devices for pool in state.pools}
        versions = (f"{name} {version}" for name, version in sorted(kind.about.versions.items()))
        cells = (_devices(kind), ", ".join(own), ", ".join(sorted(groups)), ", ".join(sorted(pools)))
        lines.append(f"| {' | '.join(_cell(cell) for cell in (*cells, ', '.join(versions)))} |")
    return ["\n".join(lines)]


def _devices(kind: Kind) -> str:
    """A kind's devices in words: `lamp-1`, `lamp-1 and lamp-2`, `lamp-1 and 199 more`."""
    first, *others = (state.device for state in kind.devices)
    if not others:
        return first
    return f"{first} and {others[0] if len(others) == 1 else f'{len(others)} more'}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _server(server: Server) -> dict[str, object]:
    inside = "MQTT in WebSocket frames, subprotocol `mqtt`. " if server.protocol in ("ws", "wss") else ""
    return {
        "host": server.host,
        "protocol": server.protocol,
        **({"pathname": server.path} if server.path else {}),
        "description": f"{inside}MQTT 5, or 3.1.1.",
        **(
            {"security": [{"$ref": f"#/components/securitySchemes/{scheme}"} for scheme in server.security]}
            if server.security
            else {}
        ),
    }


def _message_key(name: str, encoding: str) -> str:
    return name if encoding == JSON else f"{name}.msgpack"


def _message_keys(name: str) -> list[str]:
    return [_message_key(name, encoding) for encoding in MESSAGES[name].encodings]


def _references(channel: str, messages: Iterable[str]) -> list[dict[str, str]]:
    return [{"$ref": f"#/channels/{channel}/messages/{message}"} for message in messages]
