"""One command from its acceptance to its result: what the executor knows of it, and what it may say meanwhile."""

import asyncio
from collections.abc import Iterator
from typing import Literal

from outrider.schema import Encoding, Error

from .job import Job
from .journal import Entry, Key
from .tracing import Running

TEXT_LENGTH = 2000
"""Characters of an exception's message, or of a report's text, that a message carries."""

CHUNK = 16_384
"""Characters of output in one message."""


class Execution:
    """A job from its acceptance to its result."""

    __slots__ = (
        "accepted",
        "command",
        "encoding",
        "ended",
        "entry",
        "expires",
        "fraction",
        "job",
        "key",
        "received",
        "running",
        "seq",
        "slot",
        "started",
        "stopped_by",
        "task",
        "text",
        "timeout",
        "topic",
        "trace",
    )

    def __init__(self, key: Key, command: str, encoding: Encoding, entry: Entry | None, received: float) -> None:
        self.key = key
        self.command = command
        self.encoding = encoding
        self.entry = entry
        self.received = received
        self.started: float | None = None
        self.ended = False
        self.slot = False
        """Whether it has one of the threads."""
        self.stopped_by: Literal["", "cancel", "terminate", "timeout"] = ""
        self.seq = 0
        self.fraction: float | None = None
        self.text: str | None = None
        self.timeout: float | None = None
        self.expires = 0.0
        self.job: Job | None = None
        self.task: asyncio.Task[None] | None = None
        self.accepted: asyncio.TimerHandle | None = None
        self.trace: str | None = None
        """The W3C traceparent that came with it."""
        self.topic = ""
        """Where it came; empty after a restart."""
        self.running: Running | None = None

    def stop(self, by: Literal["cancel", "terminate", "timeout"]) -> None:
        """Tell the function to stop; the first reason stays."""
        self.stopped_by = self.stopped_by or by
        if self.job:
            self.job.cancel()


def told(code: str, text: str) -> Error:
    """An error in words that every encoding can carry: cut, and without halves of surrogate pairs."""
    return Error(code, carried(text[:TEXT_LENGTH]))


def carried(text: str) -> str:
    """Text that can be encoded: halves of surrogate pairs, as undecodable file names have them, become `?`."""
    return text.encode(errors="replace").decode()


def chunks(text: str) -> Iterator[str]:
    """Output in pieces that fit a message."""
    for at in range(0, len(text), CHUNK):
        yield carried(text[at : at + CHUNK])


def words_of(error: BaseException) -> str:
    """What an exception says, with its type's name; a message that cannot be had is left out."""
    try:
        said = str(error)
    except Exception:
        said = ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
