"""The hub's tables, the same on SQLite and PostgreSQL, and what may stand in their texts.

Rows are the records of `records.py`. `seq` comes from one counter for all of them, so it says what was stored before
what, and it is never given twice. Times are Unix seconds; JSON is text.
"""

from hashlib import blake2b
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

LEVELS: Final = (1, 10, 60, 600, 3600, 86400)
"""Seconds of the time buckets that events are counted in. Each is a multiple of the one before.

A range has at most 102 buckets beside its days; without 10 and 600 it would be 282, and its summary a third slower.
"""

LONGEST: Final = 256
"""Characters of a text that an index holds. PostgreSQL's have room for 2,704 bytes."""

metadata: Final = MetaData()

_SEQ: Final = BigInteger().with_variant(Integer, "sqlite")
"""In SQLite only INTEGER is the row's own number, which needs no index."""


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> Column[float]:
    return Column(name, Double, nullable=nullable)


def _seq() -> Column[int]:
    return Column("seq", _SEQ, primary_key=True, autoincrement=False)


counter: Final = Table(
    "counter",
    metadata,
    Column("one", SmallInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
)
"""One row: the last `seq` given. Who holds it writes, so `seq` grows in the order of commits also for several hubs."""

commands: Final = Table(
    "commands",
    metadata,
    _seq(),
    _text("id"),
    _text("requester"),
    _text("behalf"),
    _text("device"),
    _text("group_name"),
    _text("command"),
    _text("args", nullable=True),
    _time("issued", nullable=True),
    _time("expires", nullable=True),
    _time("timeout", nullable=True),
    _text("trace", nullable=True),
    _time("received"),
    Index(
        "commands_key",
        "id",
        "requester",
        "behalf",
        "device",
        "group_name",
        unique=True,
        sqlite_where=text("id <> ''"),
        postgresql_where=text("id <> ''"),
    ),
    Index("commands_requester", "requester", "seq"),
    Index("commands_behalf", "behalf", "seq"),
    Index("commands_device", "device", "seq"),
    Index("commands_command", "command", "seq"),
)
"""`device` or `group_name` is empty, for whom it was not addressed to."""

progress: Final = Table(
    "progress",
    metadata,
    _seq(),
    _text("id"),
    _text("requester"),
    _text("device"),
    Column("number", BigInteger, nullable=False),
    Column("accepted", SmallInteger, nullable=False),
    _time("fraction", nullable=True),
    _text("text", nullable=True),
    _text("stream", nullable=True),
    _text("data", nullable=True),
    _time("received"),
    UniqueConstraint("id", "requester", "device", "number", name="progress_key"),
)

results: Final = Table(
    "results",
    metadata,
    _seq(),
    _text("id"),
    _text("requester"),
    _text("device"),
    _text("command"),
    _text("status"),
    _text("value", nullable=True),
    _text("error", nullable=True),
    _time("started", nullable=True),
    _time("finished", nullable=True),
    _time("received"),
    Column("behalf", Text, nullable=False, server_default=""),
    UniqueConstraint("id", "requester", "device", name="results_key"),
    Index("results_device", "device", "seq"),
    Index("results_requester", "requester", "seq"),
    Index("results_behalf", "behalf", "seq"),
    Index("results_status", "status", "seq"),
)
"""`behalf` is its command's, copied here whichever of the two is stored first."""

states: Final = Table(
    "states",
    metadata,
    _seq(),
    _text("device"),
    _text("status"),
    Column("session", BigInteger, nullable=False),
    _time("since"),
    _text("groups"),
    _text("pools"),
    _text("tags"),
    _text("about"),
    _time("received"),
    UniqueConstraint("device", "session", "status", "since", name="states_key"),
    Index("states_device", "device", "seq"),
)
"""`groups`, `pools` and `tags` are JSON."""

events: Final = Table(
    "events",
    metadata,
    _seq(),
    _text("id"),
    _text("device"),
    _text("name"),
    _text("key", nullable=True),
    _text("subject", nullable=True),
    _time("time"),
    _text("data", nullable=True),
    _time("received"),
    UniqueConstraint("device", "id", name="events_key"),
    Index("events_time", "name", "key", "time"),
    Index(
        "events_subject",
        "subject",
        "key",
        sqlite_where=text("subject IS NOT NULL"),
        postgresql_where=text("subject IS NOT NULL"),
    ),
)

event_keys: Final = Table(
    "event_keys",
    metadata,
    Column("name", Text, primary_key=True),
    Column("keyed", SmallInteger, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    sqlite_with_rowid=False,
)
"""Every name and key that events came with. Of those without a key `keyed` is 0 and `key` empty, here and below."""

event_counts: Final = Table(
    "event_counts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("keyed", SmallInteger, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("bucket", BigInteger, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
    _time("earliest"),
    _time("latest"),
    sqlite_with_rowid=False,
)
"""Events whose time is in [bucket, bucket + level)."""

event_followups: Final = Table(
    "event_followups",
    metadata,
    Column("name", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("bucket", BigInteger, primary_key=True, autoincrement=False),
    Column("followup", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Follow-ups, in the bucket of the event that opened their subject; without the subjects in `reopened`."""

reopened: Final = Table(
    "reopened",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("time", Double, primary_key=True),
    Index("reopened_time", "name", "key", "time", "subject"),
    sqlite_with_rowid=False,
)
"""Openings of subjects that were opened more than once. Their follow-ups count once in any range: no sum has them."""

reopened_followups: Final = Table(
    "reopened_followups",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

tokens: Final = Table(
    "tokens",
    metadata,
    Column("name", Text, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    _text("scopes"),
    _time("created"),
    _time("expires", nullable=True),
)
"""Who may ask over HTTP. `scopes` is JSON; of the token itself only a digest is kept."""

idempotency: Final = Table(
    "idempotency",
    metadata,
    Column("token", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    _text("digest"),
    _text("command_id"),
    _time("created"),
    Index("idempotency_created", "created"),
)


def kept(value: str) -> str:
    """A text as the tables hold it: PostgreSQL has no NUL in texts, so none is kept anywhere."""
    return value.replace("\0", "\N{SYMBOL FOR NULL}") if "\0" in value else value


def indexed(value: str) -> str:
    """A text as an index holds it: of a long one the beginning, and a digest that keeps it apart from others."""
    if len(value) > LONGEST:
        digest = blake2b(value.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        value = f"{value[: LONGEST - len(digest) - 1]}…{digest}"
    return kept(value)
