"""What the hub remembers, and how it is asked for: data that recorder, store, API and command line share.

Every record has a `seq`, which grows in the order of storing and is never used again; 0 until it is stored. `received`
is the hub's clock, all other times are of who said it. All are Unix seconds. Values are JSON, however they were sent.
"""

from typing import Generic, TypeVar

from msgspec import Raw, Struct

from outrider.schema import Status

T = TypeVar("T")


class CommandRecord(Struct, frozen=True, kw_only=True, tag="command"):
    """A command as it was seen on the broker, whoever sent it: the audit log.

    Exactly one of `device` and `group` says whom it was addressed to. The same command to the same address again is a
    repeat and not recorded: the key is (requester, behalf, id, device or group). One without an id is never a repeat.
    """

    seq: int = 0
    id: str = ""
    requester: str = ""
    behalf: str = ""
    device: str | None = None
    group: str | None = None
    command: str
    args: Raw | None = None
    issued: float | None = None
    expires: float | None = None
    timeout: float | None = None
    trace: str | None = None
    received: float


class ProgressRecord(Struct, frozen=True, kw_only=True, tag="progress"):
    """What happened to a command meanwhile. The key is (requester, id, device, number)."""

    seq: int = 0
    id: str
    requester: str = ""
    device: str
    number: int
    accepted: bool = False
    fraction: float | None = None
    text: str | None = None
    stream: str | None = None
    data: str | None = None
    received: float


class ResultRecord(Struct, frozen=True, kw_only=True, tag="result"):
    """A device's final answer. The key is (requester, id, device); the first one stays."""

    seq: int = 0
    id: str
    requester: str = ""
    device: str
    command: str
    status: Status
    value: Raw | None = None
    error: Raw | None = None
    started: float | None = None
    finished: float | None = None
    received: float


class StateRecord(Struct, frozen=True, kw_only=True, tag="state"):
    """A device's state as it changed. The key is (device, session, status, since)."""

    seq: int = 0
    device: str
    status: str
    session: int
    since: float
    groups: list[str] = []
    pools: list[str] = []
    tags: dict[str, str | int | float | bool] = {}
    about: str = ""
    received: float


class EventRecord(Struct, frozen=True, kw_only=True, tag="event", gc=False):
    """A fact that a device told. The key is (device, id).

    An event with a key and a subject opens that subject; one with a subject and no key is a follow-up of every event
    that opened it, whichever came first.
    """

    seq: int = 0
    id: str
    device: str
    name: str
    key: str | None = None
    subject: str | None = None
    time: float
    data: Raw | None = None
    received: float


Record = CommandRecord | ProgressRecord | ResultRecord | StateRecord | EventRecord


class Page(Struct, Generic[T], frozen=True):
    """Some of what was asked for. `next` is the cursor of the page that follows, None on the last one."""

    items: list[T]
    next: int | None = None


class CommandQuery(Struct, frozen=True, kw_only=True):
    """Which commands, newest first. `device` also finds those to groups that it has answered.

    :ivar but: leave out those whose id begins so.
    """

    id: str | None = None
    requester: str | None = None
    behalf: str | None = None
    device: str | None = None
    command: str | None = None
    but: str | None = None
    since: float | None = None
    until: float | None = None
    cursor: int | None = None
    limit: int = 100


class ResultQuery(Struct, frozen=True, kw_only=True):
    """Which results, newest first. `behalf` finds those of commands that were sent on its behalf.

    :ivar but: leave out those whose id begins so.
    """

    id: str | None = None
    requester: str | None = None
    behalf: str | None = None
    device: str | None = None
    status: Status | None = None
    but: str | None = None
    since: float | None = None
    until: float | None = None
    cursor: int | None = None
    limit: int = 100


class EventQuery(Struct, frozen=True, kw_only=True):
    """Which events; `since` is inclusive and `until` exclusive, both of the event's own time.

    Newest stored first; with `after`, those stored later than that `seq`, oldest first, to follow what comes.
    """

    device: str | None = None
    name: str | None = None
    key: str | None = None
    subject: str | None = None
    since: float | None = None
    until: float | None = None
    after: int | None = None
    cursor: int | None = None
    limit: int = 100


class Summary(Struct, frozen=True, kw_only=True):
    """The events of one name and key in a range of time: how many, the first and last of their times, and follow-ups.

    `followups` counts, by name, the events whose subject was opened by one of these events, whenever they came; each
    once, however often its subject was opened.
    """

    name: str
    key: str | None
    count: int
    earliest: float | None
    latest: float | None
    followups: dict[str, int]


class Bucket(Struct, frozen=True, kw_only=True):
    """One bar of a chart: the events of a name and key whose time is in [time, time + step)."""

    key: str | None
    time: float
    count: int
