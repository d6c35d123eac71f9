"""Reading what devices said to requesters: the results that stand on the broker, and all that comes from now on."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from types import TracebackType
from typing import Final, Self

import msgspec
from msgspec import Raw, UnsetType
from msgspec.structs import replace

from outrider.device import Address, Connection, Message, Subscription
from outrider.schema import (
    ANY,
    Decoder,
    Encoding,
    InvalidMessage,
    Kind,
    Progress,
    Result,
    Topics,
    encode,
)
from outrider.schema.codec import MAX_RESULT

from .opening import opened

CATCHING_UP: Final = 5.0
"""Seconds for the broker to pass on what devices said before."""

Heard = Callable[[str, Progress | Result], None]
"""Takes a requester, empty where none was named, and what a device said to it."""

_PROGRESS = Decoder(Progress)
_RESULT = Decoder(Result, max_size=MAX_RESULT)


class Onlooker:
    """A context in which `heard` is called with every answer to one requester, or to all of them.

    When it is entered, the results that stand on the broker have come. It has a connection of its own: a fleet's has
    the same subscriptions already, and leaves out what stands.

    :param requester: None for everybody, as far as the broker lets this client read their results.
    :param name: what the broker knows this client by.
    """

    def __init__(self, address: Address, topics: Topics, heard: Heard, *, requester: str | None, name: str) -> None:
        self._topics = topics
        self._parse = lru_cache(maxsize=16_384)(topics.parse)
        self._heard = heard
        self._requester = requester
        self._connection = Connection(address, client_id=f"{name}-{secrets.token_hex(4)}", receive=self._receive)

    async def __aenter__(self) -> Self:
        """Connect, subscribe, and wait for what stands on the broker.

        :raises BrokerUnreachable: no connection, or no answer to the subscriptions.
        :raises SubscribeRefused: the broker does not let this client read the answers.
        """
        await opened(self._connection, self._subscribe)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._connection.__aexit__(kind, error, traceback)

    async def _subscribe(self) -> None:
        await self._connection.subscribe(*self._subscriptions())
        await self._connection.roundtrip()

    async def catch_up(self) -> None:
        """Return when what devices said until now has been heard, or the broker does not answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CATCHING_UP):
                await self._connection.roundtrip()

    def _subscriptions(self) -> Sequence[Subscription]:
        topics = self._topics
        if self._requester is None:
            return [Subscription(f"{topics.result(ANY)}/#")]  # the topic without a requester is in it
        return [
            Subscription(topics.result(ANY, self._requester)),
            Subscription(topics.progress(ANY, self._requester)),
        ]

    def _receive(self, batch: Sequence[Message]) -> None:
        for message in batch:
            topic = self._parse(message.topic)
            if topic is None or topic.device is None:
                continue
            try:
                said = _said(topic.kind, message.payload)
            except InvalidMessage:
                continue
            if said is not None and said.device == topic.device:
                self._heard(topic.requester or "", said)


def _said(kind: Kind, payload: bytes) -> Progress | Result | None:
    """A progress or a result, its value as JSON however it was asked for; None where there is none any more."""
    if kind is Kind.PROGRESS:
        return _PROGRESS.decode(payload)[0]
    if kind is not Kind.RESULT or not payload:
        return None
    result, encoding = _RESULT.decode(payload)
    if encoding is Encoding.JSON or isinstance(result.value, UnsetType):
        return result
    try:
        return replace(result, value=Raw(encode(msgspec.msgpack.decode(result.value), Encoding.JSON)))
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise InvalidMessage(f"the value cannot be written as JSON: {error}") from error
