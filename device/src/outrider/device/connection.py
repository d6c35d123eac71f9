"""One MQTT session over many network connections.

It connects, falls back to MQTT 3.1.1, reconnects, subscribes again, and keeps every publish until the broker has
acknowledged it.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from types import TracebackType
from typing import Final, ParamSpec, Self

from outrider.schema.errors import BrokerUnreachable, SubscribeRefused

from .address import Address
from .attempts import STEADY, Opener, Pauses
from .client import MQTT_3_1_1, MQTT_5, Message
from .link import RECEIVE_MAXIMUM, Handlers, Link, LinkError, LinkLost, Loss, Settings
from .outbox import Outbox, Publication
from .session import Subscription, Will
from .transport import prepare

__all__ = ["Connection", "Message", "Subscription", "Will"]

logger = logging.getLogger("outrider.connection")

_SUSPICIOUS = 3
"""Connections in a row that a broker which is there ended early, until the log suspects another client with the id."""
_CLOSING = 1.0
"""Seconds for a clean end, once everything has been said."""
_FILTERS_AT_ONCE = 200
_NAMES: Final = {MQTT_5: "5", MQTT_3_1_1: "3.1.1"}

P = ParamSpec("P")


class Connection:
    """A session with the broker at `address`, kept up from entering the context until leaving it.

    Where the address has several hosts, they are one broker: the next one is asked when one does not answer, and what
    is unacknowledged and subscribed goes on there.

    It does not wait for the broker: publishes are queued and subscriptions remembered until it is there. Leaving the
    context is `disconnect`.

    - `receive` gets all messages that came together, in order; when it returns they are acknowledged. Should it raise,
      that is logged and they are acknowledged all the same: the broker would only send the same again. Where it returns
      a future they are acknowledged when that is done, and all before them. They never are if it is cancelled or the
      connection ends first: a session that is kept brings them again.
    - `will` is asked anew before each connect, to each of several hosts.
    - `session_expiry`: seconds for which the broker keeps the session while this side is away; 0 begins a clean one
      each time. MQTT 3.1.1 knows only clean, and kept for as long as the broker likes.
    - `keepalive`: seconds without traffic after which the connection is probed, unless the address says how many.
    - `window`: how many publishes may be unacknowledged at once, fewer where the broker says so. `max_queued`: how many
      may wait beyond that.
    - `connect_timeout`: seconds for opening a connection, and again for the broker's answer.
    - `max_packet_size`: bytes of a packet this side accepts; an MQTT 5 broker drops larger ones.
    - `receive_maximum`: how many messages may be unacknowledged. An MQTT 5 broker sends no more; else what exceeds it,
      or 64 MiB, is left unread.
    - `on_connect` is called when the broker has accepted the connection and all subscriptions have been made again,
      before anything queued is sent; `on_disconnect`, with the reason in words, when that connection has ended and it
      was not `disconnect` or `abort` that ended it.
    - `tls` replaces the context made from the address.

    :raises InvalidAddress: the address needs a library that is not installed.
    """

    def __init__(
        self,
        address: Address,
        *,
        client_id: str,
        receive: Callable[[Sequence[Message]], asyncio.Future[None] | None],
        will: Callable[[], Will | None] | None = None,
        session_expiry: int = 0,
        keepalive: int = 30,
        window: int = 500,
        max_queued: int = 10_000,
        connect_timeout: float = 10.0,
        max_packet_size: int = 1_048_576,
        receive_maximum: int = RECEIVE_MAXIMUM,
        on_connect: Callable[[], None] | None = None,
        on_disconnect: Callable[[str], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        prepare(address)
        keepalive = address.keepalive or keepalive
        self.address: Final = address
        self.client_id: Final = client_id
        self._receive = receive
        self._will = will
        self._session_expiry = session_expiry
        self._connect_timeout = connect_timeout
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._where = address.named
        self._outbox = Outbox(self._where, window=window, max_queued=max_queued)
        self._opener = Opener(
            Settings(
                address, client_id, session_expiry, keepalive, max_packet_size, receive_maximum, connect_timeout, tls
            ),
            Handlers(self._take, self._outbox.acknowledged, self._send_queued),
        )
        self._link: Link | None = None
        self._subscriptions: dict[str, Subscription] = {}
        self._unwanted: set[str] = set()
        self._answers: dict[Subscription, str | None] = {}
        self._retained_received = 0
        self._pauses = Pauses()
        self._failure: str | None = None
        self._watchers: list[asyncio.Future[None]] = []
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"connection of {self.client_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.disconnect()

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection and all subscriptions have been made again."""
        return self._link is not None and not self._link.lost.done()

    @property
    def ended(self) -> bool:
        """Whether this side has ended it: nothing reconnects."""
        return self._ended

    @property
    def protocol(self) -> int | None:
        """The MQTT version in use, 5, or 4 for 3.1.1; None while not connected."""
        return None if self._link is None else self._link.protocol

    @property
    def pending(self) -> int:
        """How many published messages the broker has not acknowledged."""
        return self._outbox.pending

    @property
    def session_present(self) -> bool:
        """Whether the broker still had this session when the present connection began."""
        return self._link is not None and self._link.session_present

    async def wait_connected(self, *, retry: bool = True, timeout: float | None = None) -> None:
        """Return once connected. Without `retry` give up as soon as an attempt has failed.

        :raises BrokerUnreachable: an attempt failed, or `timeout` seconds are over; it says where, why and what to do.
        """
        try:
            async with asyncio.timeout(timeout):
                while not self.connected:
                    self._check_open()
                    if self._failure is not None and not retry:
                        raise self._unreachable(self._failure)
                    await self._change()
        except TimeoutError:
            raise self._unreachable(self._failure or f"no answer within {timeout:g} s") from None

    async def subscribe(self, *subscriptions: Subscription, anew: bool = False) -> None:
        """Subscribe now, and after each reconnect; return when the broker has confirmed all.

        While not connected it waits; a call that is cancelled meanwhile has still been remembered.

        :param anew: first end what an earlier process has subscribed of it in this session: rumqttd sends retained
            messages only to a subscription that is new to the session.
        :raises InvalidName: not a topic filter.
        :raises SubscribeRefused: the broker refused some; those are forgotten.
        :raises BrokerUnreachable: the connection was closed on this side before it was confirmed.
        """
        for each in subscriptions:
            each.check()
            self._subscriptions[each.filter] = each
        filters = {each.filter for each in subscriptions}
        if anew:
            self._unwanted |= filters
        else:
            self._unwanted -= filters
        answers: dict[Subscription, str | None] = {}
        link = self._link
        while missing := [each for each in subscriptions if each not in answers]:
            try:
                if link is not None:
                    if link.session_present and (unwanted := self._unwanted & filters):
                        await _end(link, unwanted)
                    self._unwanted -= filters & self._subscriptions.keys()
                    answers.update(zip(missing, await link.subscribe(missing), strict=True))
                    continue
            except LinkLost:
                pass
            link = await self._connected_link()
            answers = {each: self._answers[each] for each in subscriptions if each in self._answers}
        refused = {each.filter: reason for each, reason in answers.items() if reason is not None}
        for name in refused:
            self._subscriptions.pop(name, None)
        for each in subscriptions:
            if self._subscriptions.get(each.filter) == each:
                self._subscriptions[each.filter] = each.again
        if refused:
            which = ", ".join(f"{name} ({reason})" for name, reason in refused.items())
            raise SubscribeRefused(f"{self._where} refused the subscription to {which}: check its access control list")

    async def unsubscribe(self, *filters: str) -> None:
        """Unsubscribe, and return when the broker has confirmed it. Without a connection the next one does it."""
        known = [each for each in filters if self._subscriptions.pop(each, None) is not None]
        self._unwanted.update(filters)  # of a session that outlives the connection
        link = self._link
        if link is not None and filters:
            with contextlib.suppress(LinkLost):
                if known:
                    await link.unsubscribe(known)
                await _end(link, set(filters).difference(known))
                self._unwanted.difference_update(filters)

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expiry: int | None = None
    ) -> asyncio.Future[None]:
        """Publish with QoS 1, in the order of the calls; the future is done when the broker has acknowledged it.

        Queued while not connected, and sent again after a reconnect until it is acknowledged. After `expiry` seconds
        nobody shall get it any more (the broker heeds that on MQTT 5). Cancelling the future withdraws what has not
        been sent. The future fails with `PublishRefused` (a broker says so on MQTT 5 only), with `MessageTooLarge` if
        only the next connection shows that, with `LocalError` after `expiry`, or with `BrokerUnreachable` when this
        side ends the connection first. Nobody has to look at a failure.

        :raises InvalidName: the topic is empty or has a wildcard in it.
        :raises MessageTooLarge: over what the broker accepts.
        :raises QueueFull: `max_queued` messages wait already.
        :raises BrokerUnreachable: this side has ended the connection.
        """
        self._outbox.check(topic, payload)
        self._check_open()
        now = monotonic()
        deadline = None if expiry is None else now + expiry
        publication = Publication(topic, payload, retain, deadline, asyncio.get_running_loop().create_future())
        if (link := self._link) is not None and link.writable and self._outbox.idle:
            self._send(link, publication, now)
        else:
            self._outbox.put(publication)
        return publication.future

    async def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was published so far is acknowledged or refused; False if `timeout` seconds do not do."""
        unfinished = self._outbox.unfinished()
        if unfinished:
            _, late = await asyncio.wait(unfinished, timeout=timeout)
            return not late
        return True

    async def roundtrip(self) -> None:
        """Return when the retained messages due from earlier subscriptions have been received.

        The broker is asked something harmless until its answer comes with no retained message before it. Once is not
        enough: a broker that sends only so many before they are acknowledged (Mosquitto, 20 by default) lets the
        answer overtake the rest. The question is to subscribe and unsubscribe a filter that nobody publishes to.
        """
        question = f"outrider/never/{self.client_id}"
        while True:
            link = self._link or await self._connected_link()
            before = self._retained_received
            try:
                await _end(link, [question])
            except LinkLost:
                await self._connected_link()
                continue
            if self._retained_received == before:
                return

    def reconnect(self) -> None:
        """End the network connection, without the will, and connect anew at once. The session goes on."""
        self._hurry.set()
        if self._link is not None:
            self._link.disconnect()

    def drop(self) -> None:
        """Lose the network connection as a broken cable would: the broker publishes the will. It is made anew."""
        if self._link is not None:
            self._link.abort()

    async def disconnect(self, *, end_session: bool = False, flush: float = 1.0) -> None:
        """Wait up to `flush` seconds for acknowledgements, then DISCONNECT: the will is not sent, nothing reconnects.

        `end_session` makes the broker forget the session. What stays unacknowledged fails with `BrokerUnreachable`.
        """
        if self._ended:
            if self._task is not None:
                await asyncio.wait([self._task])
            return
        link = self._link
        try:
            if self.connected:
                await self.flush(flush)
                link = self._link
        finally:
            if link is not None:
                link.disconnect(end_session=end_session)
            self._end()
        if self._task is not None:
            await asyncio.wait([self._task])
        if link is None:
            if end_session and self._session_expiry:
                logger.warning("%s was not reached, so it keeps the session of %s", self._where, self.client_id)
            return
        await link.closed(_CLOSING)
        if end_session and self._session_expiry:
            try:
                await self._opener.clear_session(link.protocol, timeout=_CLOSING)
            except LinkError as error:
                logger.warning("%s keeps the session of %s: %s", self._where, self.client_id, error)

    def abort(self) -> None:
        """End without DISCONNECT, as a crash would: the broker publishes the will. Nothing reconnects."""
        if self._link is not None:
            self._link.abort()
        self._end()

    async def _run(self) -> None:
        """Keep a connection up, until cancelled."""
        while True:
            self._hurry.clear()
            lived: float | None = None
            try:
                link = await self._opener.open(self._will or _no_will)
                lived, began = 0.0, monotonic()
                await self._serve(link)
                lived = monotonic() - began
            except LinkError as error:
                self._failed(str(error))
            except Exception as error:
                logger.exception("%s: connecting to %s failed", self.client_id, self._where)
                self._failed(f"{type(error).__name__}: {error}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pauses.next(lived)):
                    await self._hurry.wait()

    async def _serve(self, link: Link) -> None:
        """Make `link` the connection until it ends."""
        began = monotonic()
        established = False
        self._where = self._outbox.broker = link.address.named
        self._outbox.begin(receive_maximum=link.receive_maximum, packet_limit=link.packet_limit)
        try:
            self._answers = await self._subscribe_again(link)
            self._link = link
            self._failure = None
            established = True
            logger.info("%s is connected to %s with MQTT %s", self.client_id, self._where, _NAMES[link.protocol])
            self._changed()
            if self._on_connect is not None:
                _call(self._on_connect)
            self._send_queued()
            if self._hurry.is_set():  # `reconnect` was called while this connection came about
                link.disconnect()
            await asyncio.wait([link.lost])
        finally:
            self._link = None
            link.disconnect()
            loss = link.lost.result()
            early = monotonic() - began < STEADY
            self._outbox.cut(early=early and not loss.taken_over)
            if (early or not established) and not loss.taken_over and not self._hurry.is_set():
                self._opener.move_on()
        self._log_loss(loss, early)
        if established and not self._ended and self._on_disconnect is not None:
            _call(self._on_disconnect, loss.reason)

    def _log_loss(self, loss: Loss, early: bool) -> None:
        taken = f"another client connected to {self._where} with the client id {self.client_id}: give each its own"
        if loss.taken_over:
            logger.error("%s. Connecting again", taken)
        elif early and self._pauses.cut_short + 1 >= _SUSPICIOUS:
            # That is all that MQTT 3.1.1, and Mosquitto 2.0.11 on MQTT 5, let see of it.
            logger.warning("%s, again soon after connecting. Perhaps %s", loss.reason, taken)
        else:
            logger.info("%s lost the connection to %s: %s", self.client_id, self._where, loss.reason)

    async def _subscribe_again(self, link: Link) -> dict[Subscription, str | None]:
        """Make all remembered subscriptions on a new connection; the result tells why some were refused."""
        answers: dict[Subscription, str | None] = {}
        wanted = list(self._subscriptions.values())
        try:
            if self._unwanted and link.session_present:
                async with asyncio.timeout(self._connect_timeout):
                    await _end(link, self._unwanted)
            self._unwanted.clear()
            for start in range(0, len(wanted), _FILTERS_AT_ONCE):
                some = wanted[start : start + _FILTERS_AT_ONCE]
                async with asyncio.timeout(self._connect_timeout):
                    answers.update(zip(some, await link.subscribe(some), strict=True))
        except TimeoutError:
            raise LinkError(f"no answer to SUBSCRIBE within {self._connect_timeout:g} s") from None
        except LinkLost:
            raise LinkError(f"{link.lost.result().reason} after SUBSCRIBE") from None
        for subscription, refusal in answers.items():
            if refusal is not None:
                logger.error("%s refused the subscription to %s: %s", self._where, subscription.filter, refusal)
        return answers

    def _take(self, messages: list[Message]) -> asyncio.Future[None] | None:
        self._retained_received += sum(message.retain for message in messages)
        try:
            return self._receive(messages)
        except Exception:
            logger.exception("%s: receiving %d messages failed", self.client_id, len(messages))
            return None

    def _send_queued(self) -> None:
        now, link = monotonic(), self._link
        while link is not None and link.writable and (publication := self._outbox.next(now)) is not None:
            self._send(link, publication, now)

    def _send(self, link: Link, publication: Publication, now: float) -> None:
        expiry = publication.expiry(now)
        packet_id = link.publish(publication.topic, publication.payload, retain=publication.retain, expiry=expiry)
        self._outbox.sent(packet_id, publication)

    async def _connected_link(self) -> Link:
        while True:
            link = self._link
            if link is not None and not link.lost.done():
                return link
            self._check_open()
            await self._change()

    async def _change(self) -> None:
        """Wait until a connection has come about, an attempt has failed, or this side has ended it all."""
        watcher = asyncio.get_running_loop().create_future()
        self._watchers.append(watcher)
        await watcher

    def _changed(self) -> None:
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    def _failed(self, reason: str) -> None:
        if reason != self._failure:
            logger.warning("%s", self._unreachable(reason))
        self._failure = reason
        self._changed()

    def _end(self) -> None:
        self._ended = True
        if self._task is not None:
            self._task.cancel()
        self._outbox.close(
            BrokerUnreachable(f"The connection to {self._where} was ended before the broker acknowledged this message")
        )
        self._changed()

    def _check_open(self) -> None:
        if self._ended:
            raise BrokerUnreachable(f"The connection to {self._where} has been ended on this side: make a new one")

    def _unreachable(self, reason: str) -> BrokerUnreachable:
        which = "one of them" if self.address.more else "it"
        return BrokerUnreachable(
            f"No connection to {self.address.named}: {reason}. "
            f"Check that {which} runs and that the URL is right ({self.address})"
        )


def _no_will() -> None:
    return None


def _call(callback: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    try:
        callback(*args, **kwargs)
    except Exception:
        logger.exception("%s failed", getattr(callback, "__qualname__", callback))


async def _end(link: Link, filters: Iterable[str]) -> None:
    """End subscriptions that an earlier connection has made in this session.

    rumqttd ends, and confirms the end of, those alone that this connection has made itself: so it makes them first.

    :raises LinkLost: the connection ended before the broker answered.
    """
    again = [Subscription(each, retain_handling=2) for each in sorted(filters)]
    for start in range(0, len(again), _FILTERS_AT_ONCE):
        some = again[start : start + _FILTERS_AT_ONCE]
        await asyncio.gather(link.subscribe(some), link.unsubscribe([each.filter for each in some]))
