"""From messages on the wire to records: what is worth recording, and what is refused."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Final, cast

import msgspec
from msgspec import Raw, UnsetType

from outrider.device import Message
from outrider.schema import (
    Code,
    Command,
    Decoder,
    Encoding,
    Event,
    InvalidMessage,
    Kind,
    Progress,
    Result,
    State,
    Topic,
    Topics,
    encode,
)
from outrider.schema.codec import MAX_RESULT

from .records import CommandRecord, EventRecord, ProgressRecord, Record, ResultRecord, StateRecord

_GREATEST_NUMBER: Final = 2**63 - 1
_TOPICS: Final = 16_384

_COMMAND: Final = Decoder(Command)
_PROGRESS: Final = Decoder(Progress)
_RESULT: Final = Decoder(Result, max_size=MAX_RESULT)
_STATE: Final = Decoder(State)
_EVENT: Final = Decoder(Event)
_read_json: Final = msgspec.json.Decoder().decode
_read_msgpack: Final = msgspec.msgpack.Decoder().decode


class Transcript:
    """Makes records of what is said under `topics`."""

    def __init__(self, topics: Topics) -> None:
        self._parse: Callable[[str], Topic | None] = lru_cache(maxsize=_TOPICS)(topics.parse)

    def record(self, message: Message, received: float) -> Record | None:
        """What to remember of a message that came at the time `received`; None where there is nothing.

        There is nothing on other topics, in the empty message that clears a stored one, and in a stored command: it was
        recorded when it was said. Values are checked as far as everybody must be able to read them later.

        :raises InvalidMessage: it is no message of the protocol, is over a limit, or speaks for another device.
        """
        topic = self._parse(message.topic)
        if topic is None or not message.payload:
            return None
        match topic.kind:
            case Kind.EVENT:
                return _event(topic, message.payload, received)
            case Kind.PROGRESS:
                return _progress(topic, message.payload, received)
            case Kind.RESULT:
                return _result(topic, message.payload, received)
            case Kind.STATE:
                return _state(topic, message.payload, received)
            case Kind.CMD if not message.retain:
                return _command(topic, message.payload, received)
            case _:
                return None


def _command(topic: Topic, payload: bytes, received: float) -> CommandRecord:
    command, encoding = _COMMAND.decode(payload)
    return CommandRecord(
        id=command.id or "",
        requester=topic.requester or command.from_ or "",
        behalf=command.behalf or "",
        device=topic.device,
        group=topic.group,
        command=command.command,
        args=_value(command.args, encoding),
        issued=command.issued,
        expires=command.expires,
        timeout=command.timeout,
        trace=command.trace,
        received=received,
    )


def _progress(topic: Topic, payload: bytes, received: float) -> ProgressRecord:
    progress, _ = _PROGRESS.decode(payload)
    if progress.device != topic.device:
        raise _speaks_for_another(topic, progress.device)
    if progress.seq > _GREATEST_NUMBER:
        raise InvalidMessage(f"no job says {progress.seq} things: `seq` counts from 0")
    return ProgressRecord(
        id=progress.id,
        requester=topic.requester or "",
        device=progress.device,
        number=progress.seq,
        accepted=progress.accepted,
        fraction=progress.fraction,
        text=progress.text,
        stream=progress.stream,
        data=progress.data,
        received=received,
    )


def _result(topic: Topic, payload: bytes, received: float) -> ResultRecord:
    result, encoding = _RESULT.decode(payload)
    if result.device != topic.device:
        raise _speaks_for_another(topic, result.device)
    if result.error is not None and encoding is Encoding.MSGPACK:
        _check_finite(result.error.details)
    return ResultRecord(
        id=result.id,
        requester=topic.requester or "",
        device=result.device,
        command=result.command,
        status=result.status,
        value=_value(result.value, encoding),
        error=None if result.error is None else _written(result.error),
        started=result.started,
        finished=result.finished,
        received=received,
    )


def _state(topic: Topic, payload: bytes, received: float) -> StateRecord:
    state, _ = _STATE.decode(payload)
    if state.device != topic.device:
        raise _speaks_for_another(topic, state.device)
    return StateRecord(
        device=state.device,
        status=state.status,
        session=state.session,
        since=state.since,
        groups=state.groups,
        pools=state.pools,
        tags=state.tags,
        about=state.about,
        received=received,
    )


def _event(topic: Topic, payload: bytes, received: float) -> EventRecord:
    event, encoding = _EVENT.decode(payload)
    if event.device != topic.device:
        raise _speaks_for_another(topic, event.device)
    if event.name != topic.name:
        raise InvalidMessage(f"the event {event.name} came on the topic of {topic.name}")
    return EventRecord(
        id=event.id,
        device=event.device,
        name=event.name,
        key=event.key,
        subject=event.subject,
        time=event.time,
        data=_value(event.data, encoding),
        received=received,
    )


def _value(value: Raw | UnsetType, encoding: Encoding) -> Raw | None:
    """A value as JSON that can be read, however it was sent."""
    if isinstance(value, UnsetType):
        return None
    try:
        if encoding is Encoding.JSON:
            # What was skipped so far may hold bytes that are no text, and numbers out of all range.
            _read_json(value)
            return value
        decoded: object = _read_msgpack(value)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise InvalidMessage(f"the value cannot be read: {error}") from error
    _check_finite(decoded)
    return _written(decoded)


def _written(value: object) -> Raw:
    try:
        return Raw(encode(value, Encoding.JSON))
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise InvalidMessage(f"the value cannot be written as JSON: {error}") from error


def _check_finite(value: object) -> None:
    """MessagePack has numbers that are none, for which JSON has no form. Its depth was bounded before."""
    match value:
        case float() if not math.isfinite(value):
            raise InvalidMessage(f"{value} is not a finite number")
        case dict():
            for key, item in cast("dict[object, object]", value).items():
                _check_finite(key)
                _check_finite(item)
        case list():
            for item in cast("list[object]", value):
                _check_finite(item)
        case _:
            pass


def _speaks_for_another(topic: Topic, device: str) -> InvalidMessage:
    return InvalidMessage(f"{topic.device} speaks as {device}", code=Code.UNAUTHORIZED)
