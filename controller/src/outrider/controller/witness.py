"""Hearing what is said between all requesters and all devices: commands, progress and results."""

import secrets
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Final, Protocol, Self

import msgspec
from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import replace

from outrider.device import Address, Connection, Message, Subscription
from outrider.schema import (
    ANY,
    Command,
    Decoder,
    Encoding,
    InvalidMessage,
    Kind,
    Progress,
    Result,
    SubscribeRefused,
    Topic,
    Topics,
    encode,
)
from outrider.schema.codec import MAX_RESULT

from .opening import opened

VALUE_SIZE: Final = 16_384
"""Bytes of a result's value that are passed on; a larger one is left out."""

_COMMAND = Decoder(Command)
_PROGRESS = Decoder(Progress)
_RESULT = Decoder(Result, max_size=MAX_RESULT)


class Listener(Protocol):
    """Takes what is heard. A requester is empty where none was named."""

    def command(self, requester: str, id: str, command: str) -> None:
        """Somebody asks something."""

    def progress(self, requester: str, progress: Progress) -> None:
        """A device says how far it is."""

    def result(self, requester: str, result: Result, *, standing: bool) -> None:
        """A device answered, now or earlier (`standing`)."""


class Witness:
    """A context in which a listener hears everything that the broker lets this client hear.

    When it is entered, the results that stand on the broker have come. It has a connection of its own.

    :param name: what the broker knows this client by.
    :param on_connect: called whenever the broker is there; `on_disconnect`, with the reason, whenever it is lost.
    :ivar deaf: what the broker does not let this client hear.
    """

    def __init__(
        self,
        address: Address,
        topics: Topics,
        listener: Listener,
        *,
        name: str,
        on_connect: Callable[[], None] | None = None,
        on_disconnect: Callable[[str], None] | None = None,
    ) -> None:
        self.deaf: list[str] = []
        self._topics = topics
        self._parse = lru_cache(maxsize=16_384)(topics.parse)
        self._listener = listener
        self._connection = Connection(
            address,
            client_id=f"{name}-{secrets.token_hex(4)}",
            receive=self._receive,
            on_connect=on_connect,
            on_disconnect=on_disconnect,
        )

    async def __aenter__(self) -> Self:
        """Connect, subscribe, and wait for what stands on the broker.

        :raises BrokerUnreachable: no connection, or no answer to the subscriptions.
        """
        await opened(self._connection, self._subscribe)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._connection.__aexit__(kind, error, traceback)

    async def _subscribe(self) -> None:
        for what, filters in self._filters().items():
            try:
                await self._connection.subscribe(*map(Subscription, filters))
            except SubscribeRefused:
                self.deaf.append(what)
        await self._connection.roundtrip()

    def _filters(self) -> dict[str, Sequence[str]]:
        topics = self._topics
        return {
            # First, so that a job's name is known when it begins.
            "commands": (topics.commands_to_device(ANY), topics.commands_to_group(ANY)),
            "progress": (topics.progress(ANY, ANY),),
            "results": (f"{topics.result(ANY)}/#",),  # the topic without a requester is in it
        }

    def _receive(self, batch: Sequence[Message]) -> None:
        for message in batch:
            topic = self._parse(message.topic)
            if topic is None or not message.payload:
                continue
            try:
                self._hear(topic, message)
            except InvalidMessage:
                continue

    def _hear(self, topic: Topic, message: Message) -> None:
        match topic.kind:
            case Kind.CMD if not message.retain:
                command, _ = _COMMAND.decode(message.payload)
                self._listener.command(topic.requester or command.from_ or "", command.id or "", command.command)
            case Kind.PROGRESS:
                progress, _ = _PROGRESS.decode(message.payload)
                if progress.device == topic.device:
                    self._listener.progress(topic.requester or "", progress)
            case Kind.RESULT:
                result, encoding = _RESULT.decode(message.payload)
                if result.device == topic.device:
                    result = _with_short_value(result, encoding)
                    self._listener.result(topic.requester or "", result, standing=message.retain)
            case _:
                pass


def _with_short_value(result: Result, encoding: Encoding) -> Result:
    """The result, its value as JSON however it was asked for, and without it where it is large."""
    if isinstance(result.value, UnsetType):
        return result
    if len(memoryview(result.value)) > VALUE_SIZE:
        return replace(result, value=UNSET)
    if encoding is Encoding.JSON:
        return replace(result, value=result.value.copy())  # else it holds the whole message
    try:
        return replace(result, value=Raw(encode(msgspec.msgpack.decode(result.value), Encoding.JSON)))
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise InvalidMessage(f"the value cannot be written as JSON: {error}") from error
