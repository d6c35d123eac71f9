"""Hearing what devices tell of their own accord, as it comes, over MQTT."""

import secrets
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Raw, UnsetType
from msgspec.structs import replace

from outrider.device import Address, Connection, Message, Subscription
from outrider.schema import ANY, Encoding, Event, InvalidMessage, Kind, Topics, encode
from outrider.schema.codec import EVENT

from .opening import opened


class Listener:
    """A context in which `heard` is called with each event, its data as JSON. A repeat may come twice.

    :param devices: those of these only; None: of all.
    :param name: what the broker knows this client by.
    :param event: events of this name only.
    """

    def __init__(
        self,
        address: Address,
        topics: Topics,
        heard: Callable[[Event], None],
        *,
        name: str,
        devices: Iterable[str] | None = None,
        event: str | None = None,
        on_disconnect: Callable[[str], None] | None = None,
    ) -> None:
        self._topics = topics
        self._heard = heard
        self._filters = [topics.event(device, event or ANY) for device in devices or [ANY]]
        self._connection = Connection(
            address,
            client_id=f"{name}-{secrets.token_hex(4)}",
            receive=self._receive,
            on_disconnect=on_disconnect,
        )

    async def __aenter__(self) -> Self:
        """Connect and subscribe.

        :raises BrokerUnreachable: no connection, or no answer to the subscriptions.
        :raises SubscribeRefused: the broker does not let this client read events.
        """
        await opened(self._connection, lambda: self._connection.subscribe(*map(Subscription, self._filters)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._connection.__aexit__(kind, error, traceback)

    def _receive(self, batch: Sequence[Message]) -> None:
        for message in batch:
            topic = self._topics.parse(message.topic)
            if topic is None or topic.kind is not Kind.EVENT:
                continue
            try:
                event, encoding = EVENT.decode(message.payload)
            except InvalidMessage:
                continue
            if event.device != topic.device:
                continue
            if encoding is Encoding.MSGPACK and not isinstance(event.data, UnsetType):
                try:
                    event = replace(event, data=Raw(encode(msgspec.msgpack.decode(event.data), Encoding.JSON)))
                except (msgspec.MsgspecError, TypeError, ValueError):
                    continue
            self._heard(event)
