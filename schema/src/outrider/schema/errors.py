"""Error codes of the protocol, and every exception outrider raises.

OutriderError
├── LocalError                  this side: bad use, or no broker; nothing ran because of it
│   ├── InvalidAddress          a broker URL that cannot be used
│   ├── InvalidName             an id, group, pool, requester or topic that is not well formed
│   ├── InvalidCommand          a function that cannot become a command
│   ├── InvalidDefinition       a device's limits, tags or versions that cannot be
│   ├── InvalidMessage          bytes that are no message of the protocol
│   ├── InvalidEvent            an event's key, subject or data that no message can carry
│   ├── InvalidArguments        arguments that do not fit the command
│   ├── MessageTooLarge         over the size that this side or the broker allows
│   ├── UnknownTarget           a device or group that nobody has seen
│   │   └── NoMember            a pool that no ready device is in
│   ├── BrokerUnreachable       no connection, or the broker refused it
│   │   └── NotServed           a device that is not being served
│   ├── PublishRefused          the broker refused a message
│   ├── SubscribeRefused        the broker refused a subscription
│   ├── QueueFull               more waits to be sent than this side keeps
│   │   └── EventsFull          a device that keeps as many events as it may
│   ├── JournalError            a device's journal that cannot be opened or written
│   └── NoAnswer                the wait ended before the device's final answer
└── RemoteError                 the device gave a final status other than `done`
    ├── CommandRejected         it never started; `code` says why
    ├── CommandFailed           it raised, or its result could not be sent
    ├── CommandCancelled        `cancel`, `stop` before it started, or `terminate`
    ├── CommandTimedOut         stopped at its `timeout`
    ├── CommandExpired          not started before `expires`
    └── CommandInterrupted      the device restarted in the middle, or a plain function would not stop
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple


class Status(StrEnum):
    """What became of a command on one target, in one word, the same everywhere."""

    DONE = "done"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    EXPIRED = "expired"
    INTERRUPTED = "interrupted"
    OFFLINE = "offline"
    QUEUED = "queued"
    RUNNING = "running"

    @property
    def final(self) -> bool:
        """True for the device's own words; the requester's `offline`, `queued` and `running` may still change."""
        return self not in (Status.OFFLINE, Status.QUEUED, Status.RUNNING)


class Code(StrEnum):
    """Why a command was rejected or failed."""

    INVALID_MESSAGE = "invalid-message"
    UNKNOWN_COMMAND = "unknown-command"
    INVALID_ARGUMENTS = "invalid-arguments"
    NOT_READY = "not-ready"
    BUSY = "busy"
    UNAUTHORIZED = "unauthorized"
    TOO_LARGE = "too-large"
    UNSUPPORTED = "unsupported"
    ERROR = "error"
    INTERNAL = "internal"


class OutriderError(Exception):
    """Root of everything outrider raises on purpose."""


class LocalError(OutriderError):
    """Something is wrong on this side: bad use, or no broker. Nothing ran because of it."""


class InvalidAddress(LocalError, ValueError):
    """A broker URL that cannot be used."""


class InvalidName(LocalError, ValueError):
    """An id, group, pool, requester or topic that is not well formed."""


class InvalidCommand(LocalError, TypeError):
    """A function that cannot become a command: its signature does not say enough, or its name is taken."""


class InvalidDefinition(LocalError, ValueError):
    """What a device's author says of it cannot be: a limit out of range, a tag or version that no message carries."""


class InvalidMessage(LocalError, ValueError):
    """Bytes that are no message of the protocol.

    `id` is the command's id where one could still be read, so that an answer can name it.
    """

    def __init__(self, message: str, *, code: Code = Code.INVALID_MESSAGE, id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.id = id


class InvalidEvent(LocalError, ValueError):
    """An event's key, subject or data that no message can carry. Nothing was kept."""


class InvalidArguments(LocalError, ValueError):
    """Arguments that do not fit the command; `argument` names the one at fault where there is one."""

    def __init__(self, message: str, *, argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument


class MessageTooLarge(LocalError):
    """A message over the size that this side or the broker allows."""


class UnknownTarget(LocalError):
    """A target that nobody has seen, or that stands for no device at all."""


class NoMember(UnknownTarget):
    """A pool without a ready member, so that it stands for no device: nothing was sent.

    :ivar pool: which one.
    :ivar members: how many devices are in it, none of which is ready.
    """

    def __init__(self, message: str, *, pool: str, members: int) -> None:
        super().__init__(message)
        self.pool = pool
        self.members = members


class BrokerUnreachable(LocalError):
    """No connection to the broker, or the broker refused it."""


class NotServed(BrokerUnreachable):
    """A device that is not being served: `serve` has not begun, or has ended."""


class PublishRefused(LocalError):
    """The broker refused a message (MQTT 5 only; under 3.1.1 a refusal looks like success)."""


class SubscribeRefused(LocalError):
    """The broker refused a subscription."""


class QueueFull(LocalError):
    """More messages wait to be sent than this side keeps."""


class EventsFull(QueueFull):
    """A device keeps as many events as it may, until the broker takes some. This one was not kept."""


class JournalError(LocalError):
    """A device's journal that cannot be opened or written."""


class NoAnswer(LocalError):
    """The wait ended before the device's final answer; `status` is `offline`, `queued` or `running`."""

    def __init__(self, message: str, *, device: str, status: Status) -> None:
        super().__init__(message)
        self.device = device
        self.status = status


class RemoteError(OutriderError):
    """The device gave a final status other than `done`.

    `device` and `command` say which. `code` and `details` are the protocol's; `code` is empty where the status says
    all.
    """

    def __init__(
        self, message: str, *, device: str, command: str, code: str = "", details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.device = device
        self.command = command
        self.code = code
        self.details: Mapping[str, object] = details or {}


class CommandRejected(RemoteError):
    """The command never started; `code` says why."""


class CommandFailed(RemoteError):
    """The command raised, or its result could not be sent."""


class CommandCancelled(RemoteError):
    """Ended by `cancel`, by `stop` before it started, or by `terminate`."""


class CommandTimedOut(RemoteError):
    """Stopped at its `timeout`."""


class CommandExpired(RemoteError):
    """Not started before its `expires`."""


class CommandInterrupted(RemoteError):
    """The device restarted in the middle, or a plain function would not stop."""


class Condition(NamedTuple):
    """One row of the table condition → status → code → exception."""

    condition: str
    status: Status
    code: Code | None
    exception: type[RemoteError]


CONDITIONS: Final = (
    Condition(
        "the envelope is not as the protocol says, is retained, or repeats an id with another content",
        Status.REJECTED,
        Code.INVALID_MESSAGE,
        CommandRejected,
    ),
    Condition("the device has no such command", Status.REJECTED, Code.UNKNOWN_COMMAND, CommandRejected),
    Condition(
        "an argument is missing, unknown, of another type or out of range",
        Status.REJECTED,
        Code.INVALID_ARGUMENTS,
        CommandRejected,
    ),
    Condition("a data command while the device is not `ready`", Status.REJECTED, Code.NOT_READY, CommandRejected),
    Condition("the device runs as many jobs as it may", Status.REJECTED, Code.BUSY, CommandRejected),
    Condition(
        "`from` differs from the topic, or the requester may not do this",
        Status.REJECTED,
        Code.UNAUTHORIZED,
        CommandRejected,
    ),
    Condition("the message is over the size limit", Status.REJECTED, Code.TOO_LARGE, CommandRejected),
    Condition("the message asks for what this device cannot do", Status.REJECTED, Code.UNSUPPORTED, CommandRejected),
    Condition("the command's own code raised", Status.FAILED, Code.ERROR, CommandFailed),
    Condition("the result is over the size limit", Status.FAILED, Code.TOO_LARGE, CommandFailed),
    Condition("the result cannot be encoded, or outrider is at fault", Status.FAILED, Code.INTERNAL, CommandFailed),
    Condition("`cancel`, `stop` before it started, or `terminate`", Status.CANCELLED, None, CommandCancelled),
    Condition("it ran as long as its `timeout` allows", Status.TIMED_OUT, None, CommandTimedOut),
    Condition("it had not started before its `expires`", Status.EXPIRED, None, CommandExpired),
    Condition(
        "the device restarted in the middle, or a plain function would not stop",
        Status.INTERRUPTED,
        None,
        CommandInterrupted,
    ),
)
"""What a device may answer other than `done`, and what a caller in Python then gets."""

EXCEPTIONS: Final[Mapping[Status, type[RemoteError]]] = {row.status: row.exception for row in CONDITIONS}
