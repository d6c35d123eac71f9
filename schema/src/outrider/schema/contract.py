"""The contract as data: every topic and who publishes there, every message with its schema and an example."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, cast

import msgspec
from msgspec import Struct

from .messages import About, Command, Event, Member, Progress, Result, State
from .topics import Topics

Side = Literal["requester", "device"]

JSON: Final = "application/json"
MSGPACK: Final = "application/vnd.msgpack"
"""The media types of the two encodings, as IANA has them."""


class Channel(NamedTuple):
    """A topic: `message` and `reply` name what stands in `MESSAGES` and `channels`."""

    id: str
    address: str
    sender: Side
    message: str
    title: str
    says: str = ""
    retained: bool = False
    reply: str = ""


_UNNAMED = "Where the payload has `from`, the answer goes to the `result` and `progress` topics of that requester."
_GROUP = "Each member runs it and answers as itself. Group `all` is every device."


def channels(topics: Topics) -> tuple[Channel, ...]:
    """Every topic of `Topics`, its variable levels in braces."""
    return (
        Channel(
            "command",
            topics.command("{device}", "{requester}"),
            "requester",
            "command",
            "A command for one device",
            reply="result",
        ),
        Channel(
            "commandUnnamed",
            topics.command("{device}"),
            "requester",
            "command",
            "A command for one device, the topic naming no requester",
            _UNNAMED,
            reply="resultUnnamed",
        ),
        Channel(
            "groupCommand",
            topics.group("{group}", "{requester}"),
            "requester",
            "command",
            "A command for every member of a group",
            _GROUP,
            reply="result",
        ),
        Channel(
            "groupCommandUnnamed",
            topics.group("{group}"),
            "requester",
            "command",
            "A command for every member of a group, the topic naming no requester",
            f"{_GROUP} {_UNNAMED}",
            reply="resultUnnamed",
        ),
        Channel(
            "progress",
            topics.progress("{device}", "{requester}"),
            "device",
            "progress",
            "What happens to a command meanwhile",
            "Only where a requester was named. It is not repeated.",
        ),
        Channel(
            "result",
            topics.result("{device}", "{requester}"),
            "device",
            "result",
            "The final answer to a requester",
            "Retained, except the answers to `jobs`, `result`, `cancel`, `about` and `stats`: what stands here is the "
            "last answer that this requester got from this device.",
            retained=True,
        ),
        Channel(
            "resultUnnamed",
            topics.result("{device}"),
            "device",
            "result",
            "The final answer to a command that named no requester",
            retained=True,
        ),
        Channel(
            "state",
            topics.state("{device}"),
            "device",
            "state",
            "A device's state",
            "Also its last will, which says `lost`.",
            retained=True,
        ),
        Channel("about", topics.about("{device}"), "device", "about", "What a device can do", retained=True),
        Channel(
            "event",
            topics.event("{device}", "{name}"),
            "device",
            "event",
            "A fact that a device tells",
            "At least once, in order: consumers drop repeats by device and id.",
        ),
        Channel(
            "member",
            topics.member("{pool}", "{device}"),
            "device",
            "member",
            "That a device is in a pool",
            "For devices that call any one of the pool: whose states to look at. Cleared when the device ends.",
            retained=True,
        ),
    )


class MessageKind(NamedTuple):
    """A message. `of_command`: its `id` is that of a command."""

    type: type[Struct]
    example: dict[str, object]
    of_command: bool = True
    encodings: tuple[str, ...] = (JSON, MSGPACK)


MESSAGES: Final[Mapping[str, MessageKind]] = MappingProxyType(
    {
        "command": MessageKind(
            Command,
            {"id": "c1", "command": "calculate", "args": {"x": 0.5, "msg": "two words"}, "from": "ann"},
        ),
        "progress": MessageKind(
            Progress, {"id": "c1", "device": "lamp-1", "seq": 1, "fraction": 0.4, "text": "0.2 of 0.5 s"}
        ),
        "result": MessageKind(
            Result,
            {
                "id": "c1",
                "device": "lamp-1",
                "command": "calculate",
                "status": "done",
                "value": "two words",
                "started": 1795387232.25,
                "finished": 1795387232.75,
            },
        ),
        "state": MessageKind(
            State,
            {
                "device": "lamp-1",
                "status": "ready",
                "session": 1795387232205656,
                "since": 1795387232.5,
                "groups": ["kitchen"],
                "pools": [],
                "tags": {"room": "kitchen"},
                "about": "8951c4a7565635b8",
            },
            of_command=False,
            encodings=(JSON,),
        ),
        "about": MessageKind(
            About,
            {
                "versions": {"outrider": "0.1.0"},
                "commands": {
                    "dim": {
                        "help": "Set the brightness in percent and return it.",
                        "arguments": {
                            "type": "object",
                            "properties": {"level": {"type": "integer", "minimum": 0, "maximum": 100}},
                            "required": ["level"],
                            "additionalProperties": False,
                        },
                        "result": {"type": "integer"},
                        "idempotent": True,
                    }
                },
            },
            of_command=False,
            encodings=(JSON,),
        ),
        "event": MessageKind(
            Event,
            {
                "id": "1f0c9e6a2b7d4835-1",
                "device": "lamp-1",
                "name": "switched",
                "key": "kitchen",
                "time": 1795387232.5,
                "data": {"on": True},
            },
            of_command=False,
        ),
        "member": MessageKind(
            Member, {"device": "words-1", "idempotent": ["count_words", "ping"]}, of_command=False, encodings=(JSON,)
        ),
    }
)
"""Every message of the protocol."""

PARAMETERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "device": "A device's id: 1 to 64 of the characters A-Z a-z 0-9 _ -",
        "group": "A group's name, in the characters of an id, or `all`.",
        "pool": "A pool's name, in the characters of an id.",
        "requester": "Who asks: a stable name, in the characters of an id.",
        "name": "The event's name, in the characters of an id.",
    }
)
"""The levels of topics that are names."""


def message_schemas() -> dict[str, object]:
    """The JSON Schemas of all messages, with what a Struct's types cannot say."""
    _, schemas = msgspec.json.schema_components(
        [message.type for message in MESSAGES.values()],
        schema_hook=lambda _: {"description": "any value"},
        ref_template="#/$defs/{name}",
    )
    for schema in schemas.values():
        properties: dict[str, dict[str, object]] = schema.get("properties", {})
        for name, each in properties.items():
            properties[name] = _without_null(each)
    schemas["Command"]["properties"]["args"] = {
        "description": "Arguments by name or by position; none by default.",
        "anyOf": [{"type": "object"}, {"type": "array"}],
    }
    return dict(schemas)


def _without_null(schema: dict[str, object]) -> dict[str, object]:
    """A key that may be left out, without saying that it might as well be null: nobody sends it so."""
    if schema.get("default", ...) is not None:
        return schema
    meant = [each for each in cast("list[dict[str, object]]", schema["anyOf"]) if each != {"type": "null"}]
    return meant[0] if len(meant) == 1 else schema
