"""One network connection: a paho client on an open socket, from CONNECT until the connection ends.

Each network connection has a paho client of its own. So the will is fresh, an acknowledgement cannot reach a later
connection, and paho has nothing to send again: what is unacknowledged belongs to the `Connection`.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from .address import Address
from .client import MQTT_5, Expiry, Message, SocketClient, in_words, properties
from .receipts import Held, Receipt, Receipts
from .session import Subscription, Will
from .stream import BufferedSocket
from .transport import open_socket, reason_of

if TYPE_CHECKING:
    from paho.mqtt.client import SocketLike

logger = logging.getLogger("outrider.connection")

RECEIVE_MAXIMUM = 65_535
"""How many messages may be unacknowledged where nothing else is said (MQTT 5.0, 3.1.2.11.3)."""

_LARGEST_PACKET = 268_435_455  # MQTT 5.0, 2.1.4
_TURN = 0.01
"""Seconds of decoding after which other tasks get their turn."""
_MOST_BYTES = 64 * 1024 * 1024
"""Bytes of messages that may be unacknowledged: how many is limited by the broker, how large they are by nobody."""
_SLOWEST = 5000
"""Bytes a second at which what is unacknowledged may still be on its way."""
_UNUSED = ("broker", 1)
"""A host and a port for paho, which wants both and connects to neither: the socket is open already."""
_UNSUPPORTED_VERSION, _BAD_LOGIN, _NOT_AUTHORIZED, _KEEP_ALIVE, _TAKEN_OVER = 0x84, 0x86, 0x87, 0x8D, 0x8E


class Loss(NamedTuple):
    """Why a network connection ended, in words; `taken_over` when another client came with the same client id."""

    reason: str
    taken_over: bool = False


class LinkError(Exception):
    """No MQTT connection came about.

    `other_version`: another MQTT version may work. `said_so`: because the broker answered that, not by its silence.
    """

    def __init__(self, reason: str, *, other_version: bool = False, said_so: bool = False) -> None:
        super().__init__(reason)
        self.other_version = other_version
        self.said_so = said_so


class LinkLost(Exception):
    """The network connection ended before the broker answered."""


class Settings(NamedTuple):
    """How to connect: the arguments of `Connection` of the same names."""

    address: Address
    client_id: str
    session_expiry: int
    keepalive: int
    max_packet_size: int
    receive_maximum: int
    connect_timeout: float
    tls: ssl.SSLContext | None


class Handlers(NamedTuple):
    """What a link calls. Messages may come before `Link.connect` has returned."""

    messages: Callable[[list[Message]], asyncio.Future[None] | None]
    """All messages that came together; they are acknowledged when it returns, or when the future is done."""
    acknowledged: Callable[[int, str | None], None]
    """The broker has acknowledged the publish with this packet id, or refused it for the given reason."""
    room: Callable[[], None]
    """Something was acknowledged, or the network takes data again: perhaps more can be published."""


class Link:
    """An MQTT connection that the broker has accepted; made by `connect`. It ends once, when `lost` is done."""

    def __init__(self, settings: Settings, opened: BufferedSocket, client: SocketClient, handlers: Handlers) -> None:
        self.lost: asyncio.Future[Loss] = asyncio.get_running_loop().create_future()
        self.session_present = False
        self.receive_maximum = RECEIVE_MAXIMUM
        self.packet_limit = _LARGEST_PACKET
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._handlers = handlers
        self.address = settings.address
        """Where the broker is."""
        self._socket = opened
        self._client = client
        self._expiry = False
        self._connack: asyncio.Future[tuple[ConnectFlags, ReasonCode, Properties | None]] = self._loop.create_future()
        self._answers: dict[int, asyncio.Future[list[ReasonCode]]] = {}
        self._receipts = Receipts(most=settings.receive_maximum, most_bytes=_MOST_BYTES)
        self._paused = False
        self._writing = False
        self._due_since: float | None = None
        self._oldest: int | None = None
        self._oldest_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def connect(cls, settings: Settings, protocol: int, handlers: Handlers, *, will: Will | None) -> "Link":
        """Open a socket, send CONNECT with `protocol` and return once the broker has accepted it.

        :raises LinkError: why it did not come about.
        """
        timeout = settings.connect_timeout
        try:
            opened = await open_socket(settings.address, tls=settings.tls, timeout=timeout)
        except (OSError, TimeoutError) as error:
            raise LinkError(reason_of(error, settings.address)) from error
        client = SocketClient(
            opened,
            client_id=settings.client_id,
            protocol=protocol,
            clean=settings.session_expiry == 0,
            acknowledged=handlers.acknowledged,
        )
        link = cls(settings, opened, client, handlers)
        try:
            link._begin(will)
            await link._accepted(timeout)
        except BaseException:
            link.abort()
            raise
        return link

    @property
    def writable(self) -> bool:
        """Whether the network takes more; `on_room` is called when this becomes true again."""
        return self._socket.writable and not self.lost.done()

    def publish(self, topic: str, payload: bytes, *, retain: bool, expiry: int | None) -> int:
        """Send a PUBLISH with QoS 1 and return its packet id. `expiry`: seconds, left out where none can be said."""
        options = None if expiry is None or not self._expiry else Expiry(expiry)
        while True:
            info = self._client.publish(topic, payload, 1, retain, options)
            if info.rc != MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:  # the packet id is still in use: take the next
                if self._due_since is None:
                    self._due_since = monotonic()
                return info.mid

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str | None]:
        """Subscribe and return for each, in order, why the broker refused it, or None.

        :raises LinkLost: the connection ended before the broker answered.
        """
        if self.protocol == MQTT_5:
            _, mid = self._client.subscribe(
                [
                    (each.filter, SubscribeOptions(1, False, each.retain_as_published, each.retain_handling))
                    for each in subscriptions
                ]
            )
        else:
            _, mid = self._client.subscribe([(each.filter, 1) for each in subscriptions])
        codes = await self._answer(mid)
        if len(codes) != len(subscriptions):
            self.abort()
            raise LinkLost
        return [str(code) if code.is_failure else None for code in codes]

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Unsubscribe; a filter that was not subscribed is no error.

        :raises LinkLost: the connection ended before the broker answered.
        """
        _, mid = self._client.unsubscribe(list(filters))
        await self._answer(mid)

    def disconnect(self, *, end_session: bool = False) -> None:
        """Send DISCONNECT and close: the broker does not publish the will. `end_session` takes effect on MQTT 5."""
        if self.lost.done():
            return
        self._lose(Loss("disconnected"))
        if end_session and self.protocol == MQTT_5:
            self._client.disconnect(properties=properties(PacketTypes.DISCONNECT, SessionExpiryInterval=0))
        else:
            self._client.disconnect()
        self._client.loop_write()

    async def closed(self, timeout: float) -> None:
        """Wait until everything has left and the socket is closed; after `timeout` seconds it is cut."""
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._socket.closed)
        except TimeoutError:
            self._socket.abort()

    def abort(self) -> None:
        """Cut the connection without DISCONNECT: the broker publishes the will."""
        if not self.lost.done():
            self._lose(Loss("cut on this side"))
            self._socket.abort()

    @property
    def protocol(self) -> int:
        """The MQTT version, 5 or 4 (3.1.1)."""
        return int(self._client.protocol)

    def _begin(self, will: Will | None) -> None:
        client, settings = self._client, self._settings
        address, keepalive, clean = self.address, settings.keepalive, settings.session_expiry == 0
        client.username_pw_set(address.user, address.password)
        if will is not None:
            client.will_set(will.topic, will.payload, 1, True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_answer
        client.on_unsubscribe = self._on_answer
        client.on_socket_register_write = self._on_register_write
        self._socket.on_data = self._drain
        self._socket.on_lost = self._on_lost
        self._socket.on_writable = self._on_writable
        if self.protocol == MQTT_5:
            wishes = properties(PacketTypes.CONNECT, MaximumPacketSize=settings.max_packet_size)
            if settings.receive_maximum < RECEIVE_MAXIMUM:
                wishes.ReceiveMaximum = settings.receive_maximum
            if settings.session_expiry:
                wishes.SessionExpiryInterval = settings.session_expiry
            # Both must be set: clean_start alone defaults to "the first connect of this client only".
            client.connect(*_UNUSED, keepalive, clean_start=clean, properties=wishes)
        else:
            client.connect(*_UNUSED, keepalive)
        self._tick()

    async def _accepted(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                flags, reason, limits = await self._connack
        except TimeoutError:
            raise LinkError(f"no answer to CONNECT within {timeout:g} s", other_version=True) from None
        if reason.is_failure:
            raise LinkError(
                _refusal(reason, limits, self.address),
                other_version=reason.value == _UNSUPPORTED_VERSION,
                said_so=True,
            )
        if self.lost.done():
            raise LinkError(self.lost.result().reason)
        self.session_present = flags.session_present
        self.receive_maximum = getattr(limits, "ReceiveMaximum", self.receive_maximum)
        self._expiry = self.protocol == MQTT_5 and not _is_rumqttd(limits)
        self.packet_limit = min(getattr(limits, "MaximumPacketSize", _LARGEST_PACKET), _LARGEST_PACKET)
        if getattr(limits, "MaximumQoS", 2) < 1:
            raise LinkError("it takes no QoS 1, which outrider needs")
        if not getattr(limits, "RetainAvailable", 1):
            raise LinkError("it keeps no retained messages, which outrider needs")

    async def _answer(self, mid: int | None) -> list[ReasonCode]:
        if mid is None or self.lost.done():
            raise LinkLost
        answer: asyncio.Future[list[ReasonCode]] = self._loop.create_future()
        self._answers[mid] = answer
        if self._paused:  # the answer stands behind messages
            self._resume()
        try:
            return await answer
        finally:
            self._answers.pop(mid, None)

    def _drain(self) -> None:
        """Decode all that has come and hand it over; acknowledge it, or hold its receipts until that may be."""
        if self.lost.done() or self._paused:
            return
        client = self._client
        began = monotonic()
        until = began + _TURN
        try:
            while self._socket.pending():
                if client.read(until) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                    break
                if monotonic() > until:
                    break
        except Exception:
            logger.exception("paho failed on what the broker sent; the connection is dropped")
            self.abort()
            return
        self._due_since = began if client.unanswered else None
        receipts, client.receipts = client.receipts, []
        messages, client.messages = client.messages, []
        if messages or receipts:
            self._hold(messages, receipts, self._handlers.messages(messages) if messages else None)
        if self.lost.done():
            return
        self._handlers.room()
        if self._receipts.full and all(answer.done() for answer in self._answers.values()):
            self._paused = True
            self._socket.hold()
        elif self._socket.pending():
            self._socket.hold()
            self._loop.call_soon(self._continue)
        if not self._writing:  # nothing to say, so no turn of the loop for it
            self._socket.flush()

    def _hold(self, messages: list[Message], receipts: list[Receipt], until: asyncio.Future[None] | None) -> None:
        """Acknowledge messages once that may be, and nothing of what came before is held."""
        if self.lost.done():
            return
        if until is None and not self._receipts.waiting:
            self._client.acknowledge(receipts)
            return
        size = sum(len(message.topic) + len(message.payload) for message in messages)
        self._receipts.hold(Held(receipts, size, until))
        if until is not None:
            until.add_done_callback(self._release)

    def _release(self, done: asyncio.Future[None]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            logger.error("receiving messages failed", exc_info=error)
        if self.lost.done():  # the broker sends them again over the next connection
            return
        if receipts := self._receipts.release():
            self._client.acknowledge(receipts)
            self._write_soon()
        if self._paused and not self._receipts.full:
            self._resume()

    def _resume(self) -> None:
        self._paused = False
        self._loop.call_soon(self._continue)

    def _continue(self) -> None:
        self._socket.release()
        self._drain()

    def _write_soon(self) -> None:
        if not self._writing:
            self._writing = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._writing = False
        self._client.loop_write()
        self._socket.flush()

    def _tick(self) -> None:
        if self._paused:
            self._client.unheard()
            self._due_since = self._oldest = None
        self._client.loop_misc()
        if self._settings.keepalive and (reason := self._stuck(monotonic())):
            self._lose(Loss(reason))
            self._socket.abort()
        if not self.lost.done():
            self._timer = self._loop.call_later(min(5.0, self._settings.keepalive / 4 or 5.0), self._tick)

    def _stuck(self, now: float) -> str:
        """Why nothing more is to be expected of this connection; empty as long as something is."""
        oldest, keepalive = self._client.oldest, self._settings.keepalive
        if oldest is None or oldest != self._oldest:
            self._oldest, self._oldest_since = oldest, now
        if oldest is None:
            return ""
        # What is large takes its time on a slow link, in which nothing may be heard.
        sending = self._client.unanswered_bytes / _SLOWEST
        limit = keepalive / 2 + sending
        if self._due_since is not None and now - self._due_since > limit:
            # A path that swallows everything shows on TCP's level after minutes only, and a ping is due when idle.
            return f"nothing was heard for {limit:.3g} s though answers are due: the connection is half open"
        if now - self._oldest_since > keepalive + sending:
            # Others are heard, so that neither the silence nor a ping tells: the message or its answer is lost, or the
            # path is half open towards the broker. Only another connection can bring it (MQTT 5.0, 4.4).
            return f"a message was not acknowledged within {keepalive + sending:.3g} s"
        return ""

    def _lose(self, loss: Loss, *, other_version: bool = True) -> None:
        if self.lost.done():
            return
        self.lost.set_result(loss)
        if self._timer is not None:
            self._timer.cancel()
        if not self._connack.done():
            self._connack.set_exception(LinkError(f"{loss.reason} after CONNECT", other_version=other_version))
            self._connack.exception()  # `connect` may have been cancelled: then nobody asks
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(LinkLost())
                answer.exception()

    # paho swallows nothing that a callback raises, so these only store and schedule.

    def _on_connect(
        self, _client: Client, _userdata: object, flags: ConnectFlags, reason: ReasonCode, limits: Properties | None
    ) -> None:
        if not self._connack.done():
            self._connack.set_result((flags, reason, limits))

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        flags: DisconnectFlags,
        reason: ReasonCode,
        details: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._lose(Loss(f"the broker ended it: {in_words(reason, details)}", reason.value == _TAKEN_OVER))
        elif reason.value == _KEEP_ALIVE:
            self._lose(Loss(f"no answer to a ping within {self._settings.keepalive} s"))
        else:
            self._lose(Loss("the broker sent something that is not MQTT"))

    def _on_lost(self, error: Exception | None) -> None:
        # A TLS failure, such as a client certificate that is asked for, has nothing to do with the version.
        self._lose(Loss(reason_of(error, self.address)), other_version=not isinstance(error, ssl.SSLError))

    def _on_answer(
        self, _client: Client, _userdata: object, mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        answer = self._answers.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(reasons)

    def _on_register_write(self, _client: Client, _userdata: object, _socket: "SocketLike") -> None:
        self._write_soon()

    def _on_writable(self) -> None:
        self._handlers.room()


def _is_rumqttd(limits: Properties | None) -> bool:
    """Whether the broker is rumqttd, by all that it says of itself (0.20).

    It hands the properties of a message on to subscribers that speak 3.1.1, and then panics and takes no more
    connections: so it gets no message with properties.
    """
    said: dict[str, object] = {} if limits is None else limits.json()  # type: ignore[no-untyped-call]  # see client
    return said == {"TopicAliasMaximum": 4096}


def _refusal(reason: ReasonCode, details: Properties | None, address: Address) -> str:
    match reason.value:
        case code if code in (_BAD_LOGIN, _NOT_AUTHORIZED):
            who = f"user {address.user!r}" if address.user else "a client without user and password"
            return (
                f"it refused {who} ({in_words(reason, details)}): "
                f"check user and password in the URL, {address.scheme}://USER:PASSWORD@{address.place}"
            )
        case _:
            return f"it refused the connection ({in_words(reason, details)})"
