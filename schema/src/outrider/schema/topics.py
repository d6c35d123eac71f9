"""Topics: build, parse, validate.

| topic                           | built by          | parsed as                              |
|---------------------------------|-------------------|----------------------------------------|
| devices/<id>/cmd[/<requester>]  | `Topics.command`  | `Topic(CMD, device=…, requester=…)`    |
| groups/<group>/cmd[/<requester>]| `Topics.group`    | `Topic(CMD, group=…, requester=…)`     |
| devices/<id>/state              | `Topics.state`    | `Topic(STATE, device=…)`               |
| devices/<id>/about              | `Topics.about`    | `Topic(ABOUT, device=…)`               |
| devices/<id>/progress/<req>     | `Topics.progress` | `Topic(PROGRESS, device=…, requester=…)` |
| devices/<id>/result[/<req>]     | `Topics.result`   | `Topic(RESULT, device=…, requester=…)` |
| devices/<id>/event/<name>       | `Topics.event`    | `Topic(EVENT, device=…, name=…)`       |
| pools/<pool>/<id>               | `Topics.member`   | `Topic(POOL, device=…, pool=…)`        |
"""

import re
from enum import StrEnum
from typing import Final, NamedTuple

from .errors import InvalidName

ALL: Final = "all"
"""The group that every device is in; reserved, so no device, group, pool or requester may be called so."""

ANY: Final = "+"
"""The MQTT wildcard for one level, for use as a device id in subscriptions."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_OTHER = re.compile(r"[^A-Za-z0-9_-]+", re.ASCII)


class Kind(StrEnum):
    """The level of a topic that says what it carries: the last fixed one."""

    CMD = "cmd"
    STATE = "state"
    ABOUT = "about"
    PROGRESS = "progress"
    RESULT = "result"
    EVENT = "event"
    POOL = "pools"


class Topic(NamedTuple):
    """A parsed topic. Exactly one of `device` and `group` is set."""

    kind: Kind
    device: str | None = None
    group: str | None = None
    requester: str | None = None
    name: str | None = None
    pool: str | None = None


def is_name(text: str) -> bool:
    """Whether `text` can be a device id, group, pool, requester or event name (`all` is reserved)."""
    return _NAME.fullmatch(text) is not None and text != ALL


def check_name(text: str, what: str) -> str:
    """Return `text`, or raise `InvalidName` saying that this `what` ("device id", "group", …) is not well formed."""
    if text == ALL:
        raise InvalidName(f"{what} {ALL!r} is reserved for the group of every device; choose another name")
    if _NAME.fullmatch(text) is None:
        raise InvalidName(f"{what} {text!r} is not well formed: 1 to 64 of the characters A-Z a-z 0-9 _ -")
    return text


def to_name(text: str) -> str:
    """The nearest well-formed name: other characters become `-`, cut at 64; `InvalidName` when nothing is left."""
    return check_name(_OTHER.sub("-", text)[:64], "name")


class Topics:
    """The topics under one prefix.

    `prefix` is empty or one or more levels (`site1`, `acme/site1`) which stand before every topic.
    """

    def __init__(self, prefix: str = "") -> None:
        prefix = prefix.strip("/")
        for level in prefix.split("/") if prefix else ():
            if _NAME.fullmatch(level) is None:
                raise InvalidName(f"topic prefix {prefix!r} is not well formed: levels of A-Z a-z 0-9 _ - joined by /")
        self.prefix = prefix
        self._root = f"{prefix}/" if prefix else ""

    def command(self, device: str, requester: str | None = None) -> str:
        """Where to send a command for one device."""
        return self._with(f"{self._root}devices/{device}/cmd", requester)

    def group(self, group: str, requester: str | None = None) -> str:
        """Where to send a command for every member of a group."""
        return self._with(f"{self._root}groups/{group}/cmd", requester)

    def commands_to_device(self, device: str) -> str:
        """The filter for every command to one device, with and without requester."""
        return f"{self._root}devices/{device}/cmd/#"

    def commands_to_group(self, group: str) -> str:
        """The filter for every command to one group, with and without requester."""
        return f"{self._root}groups/{group}/cmd/#"

    def state(self, device: str) -> str:
        """Where a device's `State` stands, retained."""
        return f"{self._root}devices/{device}/state"

    def about(self, device: str) -> str:
        """Where a device's `About` stands, retained."""
        return f"{self._root}devices/{device}/about"

    def of_device(self, device: str) -> str:
        """The filter for everything of one device: its commands, state, about, progress, results and events."""
        return f"{self._root}devices/{device}/#"

    def progress(self, device: str, requester: str) -> str:
        """Where a device tells a requester what happens to its command."""
        return f"{self._root}devices/{device}/progress/{requester}"

    def result(self, device: str, requester: str | None = None) -> str:
        """Where a device gives a requester its final answer, retained."""
        return self._with(f"{self._root}devices/{device}/result", requester)

    def event(self, device: str, name: str) -> str:
        """Where a device publishes an event."""
        return f"{self._root}devices/{device}/event/{name}"

    def member(self, pool: str, device: str) -> str:
        """Where a device says, retained, that it is in a pool; with `ANY` the filter for all that are."""
        return f"{self._root}pools/{pool}/{device}"

    def parse(self, topic: str) -> Topic | None:
        """What a topic means, or None if it is none of this protocol's under this prefix."""
        if not topic.startswith(self._root):
            return None
        match topic[len(self._root) :].split("/"):
            case ["devices", device, "cmd"] if is_name(device):
                return Topic(Kind.CMD, device=device)
            case ["devices", device, "cmd", requester] if is_name(device) and is_name(requester):
                return Topic(Kind.CMD, device=device, requester=requester)
            case ["groups", group, "cmd"] if is_name(group) or group == ALL:
                return Topic(Kind.CMD, group=group)
            case ["groups", group, "cmd", requester] if (is_name(group) or group == ALL) and is_name(requester):
                return Topic(Kind.CMD, group=group, requester=requester)
            case ["devices", device, ("state" | "about" | "result") as kind] if is_name(device):
                return Topic(Kind(kind), device=device)
            case ["devices", device, ("progress" | "result") as kind, requester] if is_name(device) and is_name(
                requester
            ):
                return Topic(Kind(kind), device=device, requester=requester)
            case ["devices", device, "event", name] if is_name(device) and is_name(name):
                return Topic(Kind.EVENT, device=device, name=name)
            case ["pools", pool, device] if is_name(pool) and is_name(device):
                return Topic(Kind.POOL, device=device, pool=pool)
            case _:
                return None

    @staticmethod
    def _with(topic: str, requester: str | None) -> str:
        return f"{topic}/{requester}" if requester else topic
