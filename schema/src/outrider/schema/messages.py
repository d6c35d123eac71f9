"""The messages of the protocol, each a frozen Struct whose field names are the keys on the wire.

All times are Unix seconds, durations are seconds, fractions allowed. Unknown keys are ignored, so that newer peers
may add some. The topic says which of these a payload is.
"""

from hashlib import sha256
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, json

from .errors import Status

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
Requester = Annotated[str, Meta(pattern=r"^(?!all\Z)[A-Za-z0-9_-]{1,64}\Z")]
"""A name that can stand in a topic, where `all` is reserved."""
LATEST = 1e11
"""Unix seconds that a message may speak of at most."""
Time = Annotated[float, Meta(ge=0, le=LATEST)]
Duration = Annotated[float, Meta(gt=0, le=1e9)]
# MessagePack has numbers that are none, which equal everything when they are compared.
Finite = Annotated[float, Meta(ge=-1e308, le=1e308)]
LONGEST_KEY = 256
"""Characters that the key and the subject of an event may have."""

EventKey = Annotated[str, Meta(min_length=1, max_length=LONGEST_KEY)]
Values = dict[str, str | int | Finite | bool]

DEFAULT_EXPIRY = 300.0
"""Seconds a command without `expires` stays good after its receipt."""

MAX_EXPIRY = 7 * 86400.0
"""Seconds that `expires` may lie after `issued`."""

MAX_SESSION = 2**53 - 1
"""The greatest session number: the last that every JSON reader takes exactly. The clock reaches it in 2255."""


UNKNOWN = "unknown"
"""The key in an error's `details` of an `expired` result whose command the device had not had before."""


class Command(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"from_": "from"}):
    """What a requester asks a device to do. Only `command` is required, so that a person can type one.

    `args` stays undecoded (an object, named, or a list, positional) until the device knows the command's types.
    `to` is the device's id or a group it is in. `trace` is a W3C traceparent.
    """

    id: Name | None = None
    command: Annotated[str, Meta(min_length=1, max_length=128)]
    args: Raw | UnsetType = UNSET
    from_: Requester | None = None
    behalf: Requester | None = None
    to: Annotated[str, Meta(max_length=64)] | None = None
    issued: Time | None = None
    expires: Time | None = None
    timeout: Duration | None = None
    trace: Annotated[str, Meta(max_length=128)] | None = None


class Progress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happens to a command meanwhile: one of `accepted`, `fraction` with `text`, `stream` with `data`.

    `seq` counts from 0 within the job, so that repeats and gaps show. `fraction` is between 0 and 1.
    """

    id: Name
    device: Name
    seq: Annotated[int, Meta(ge=0)]
    accepted: bool = False
    fraction: Annotated[float, Meta(ge=0, le=1)] | None = None
    text: str | None = None
    stream: Literal["stdout", "stderr"] | None = None
    data: str | None = None


class Error(Struct, frozen=True, omit_defaults=True):
    """Why a result is not `done`: a code of the table in `outrider.schema.errors`, words for people, facts."""

    code: str
    message: str
    details: dict[str, object] | None = None


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a command on one device: its final answer, or the requester's word when its waiting ended.

    `value` is set where the status is `done`, still undecoded. `started` and `finished` are the device's clock;
    a command that never started has no `started`, one without a final answer has no `finished`.
    """

    id: Name
    device: Name
    command: str
    status: Status
    value: Raw | UnsetType = UNSET
    error: Error | None = None
    started: Time | None = None
    finished: Time | None = None


class State(Struct, frozen=True, kw_only=True):
    """A device's retained state, and its last will (`lost`).

    `session` grows with each connect; of two states the one with the higher session is right. `since` is when
    `status` began, by the device's clock. `about` is the digest of the device's `About`.
    """

    device: Name
    status: Literal["unready", "ready", "terminated", "lost"]
    session: Annotated[int, Meta(ge=0, le=MAX_SESSION)]
    since: Time
    groups: list[Name] = []
    pools: list[Name] = []
    tags: Values = {}
    about: str = ""


class Member(Struct, frozen=True, kw_only=True):
    """What stands, retained, where a device says that it is in a pool: whom to look at, not how it is.

    A device is a member while its `State` lists the pool. `idempotent` names its commands that may run again, so that
    who calls them knows whether another member may be asked.
    """

    device: Name
    idempotent: list[Annotated[str, Meta(max_length=128)]] = []


class CommandAbout(Struct, frozen=True, omit_defaults=True):
    """One command in an `About`: its help, JSON Schemas of its arguments (an object) and its result.

    `timeout` is in seconds; `max_parallel` is how many of it run at the same time, none said where there is no limit.
    """

    help: str
    arguments: dict[str, object]
    result: dict[str, object]
    idempotent: bool = False
    timeout: float | None = None
    max_parallel: int | None = None


class About(Struct, frozen=True):
    """What a device can do. Nothing of one device alone stands in it, so like devices share a digest."""

    versions: dict[str, str]
    commands: dict[str, CommandAbout]


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact that a device tells of its own accord. Consumers drop repeats by (device, id).

    `subject` is what it is about, so that later events can refer to it; `key` is what events of a name are counted by.
    """

    id: Name
    device: Name
    name: Name
    key: EventKey | None = None
    subject: EventKey | None = None
    time: Time
    data: Raw | UnsetType = UNSET


_SORTED = json.Encoder(order="sorted")

Message = Command | Progress | Result | State | About | Event | Member


def digest_of(about: About) -> str:
    """What a State's `about` holds: 16 hex digits, the same for devices that can do the same."""
    return sha256(_SORTED.encode(about)).hexdigest()[:16]
