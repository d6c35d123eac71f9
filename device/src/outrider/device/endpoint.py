"""One device on one broker: what comes in goes to the executor, answers, state and about go out."""

import asyncio
import logging
import platform
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version

from msgspec import UNSET, json, structs

from outrider.schema import (
    ALL,
    About,
    Code,
    Decoder,
    Encoding,
    Error,
    InvalidMessage,
    Kind,
    LocalError,
    MessageTooLarge,
    QueueFull,
    Result,
    State,
    Status,
    Topic,
    Topics,
    encode,
    encoding_of,
)
from outrider.schema import Command as CommandMessage
from outrider.schema.messages import MAX_SESSION

from .address import Address
from .admission import Registration
from .builtin import RESERVED, Controls, Stats
from .connection import Connection, Message, Subscription, Will
from .definition import Definition
from .executor import Answer, Executor
from .journal import Entry
from .lifecycle import Lifecycle

logger = logging.getLogger("outrider.device")

GRACE = 0.5
"""Seconds that jobs have to end after terminate."""

SESSION_EXPIRY = 7 * 86400
"""Seconds the broker keeps commands for a device that is away."""

_SORTED = json.Encoder(order="sorted")


class Endpoint:
    """Serves one device over one `Connection`, from connect to terminate.

    :param clock: Unix seconds.
    """

    def __init__(
        self, definition: Definition, address: Address, *, prefix: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self.topics = Topics(prefix)
        self._device = definition
        self._clock = clock
        self._journal = definition.journal
        self._command_decoder = Decoder(CommandMessage, max_size=definition.max_size)
        self._state_decoder = Decoder(State)
        self._parse = lru_cache(maxsize=1024)(self.topics.parse)
        self._dropped: Counter[str] = Counter()
        self._publishing: dict[Entry, asyncio.Future[None]] = {}
        self._began = self._since = clock()
        self._session = 0
        self._own_sessions: set[int] = set()
        self._foreign_session = 0
        self._ended = asyncio.Event()
        self._keeps_status = False
        self._failure: LocalError | None = None
        self._lifecycle = Lifecycle(self._journal.status() or definition.initial, self._status_changed)
        registrations = dict(definition.commands)
        self._executor = Executor(
            definition.id,
            groups=frozenset(definition.groups),
            commands=registrations,
            # What still comes while this process ends must not start: nobody would give its result.
            status=lambda: "terminated" if self._ended.is_set() else self._lifecycle.status,
            journal=self._journal,
            answer=self._answer,
            clock=clock,
            max_jobs=definition.max_jobs,
            max_threads=definition.max_threads,
            max_size=definition.max_size,
        )
        controls = Controls(self._lifecycle, self._executor, lambda: self._about, self._stats)
        registrations |= {name: Registration.of_control(getattr(controls, name)) for name in RESERVED}
        self._about = About(
            versions={
                "outrider": version("outrider-device"),
                "python": platform.python_version(),
                **definition.versions,
            },
            commands={
                name: registration.spec.about(idempotent=registration.idempotent, timeout=registration.timeout)
                for name, registration in sorted(registrations.items())
            },
        )
        self._about_digest = digest_of(self._about)
        self._connection = Connection(
            address,
            client_id="-".join((*self.topics.prefix.split("/"), definition.id)).lstrip("-"),
            receive=self._receive,
            will=self._will,
            session_expiry=SESSION_EXPIRY,
            on_connect=self._connected,
        )

    async def run(self) -> bool:
        """Serve until `terminate` or `stop`.

        :returns: False if a command's function would not end; its thread or task may still run.
        :raises SubscribeRefused: the broker does not let this device read its commands.
        """
        async with self._connection, asyncio.TaskGroup() as tasks:
            subscribing = tasks.create_task(self._subscribe(), name=f"subscribe {self._device.id}")
            await self._ended.wait()
            subscribing.cancel()
            stopped = await self._executor.close(GRACE)
            if self._keeps_status:
                self._since = self._clock()
            self._publish_state("terminated")
            await self._connection.disconnect(end_session=not self._keeps_status)
        if self._failure:
            raise self._failure
        return stopped

    def stop(self) -> None:
        """End as cleanly as `terminate` does, but come back with the present status at the next start."""
        self._keeps_status = True
        self._ended.set()

    async def _subscribe(self) -> None:
        device = self._device
        filters = [self.topics.commands_to_device(device.id), self.topics.commands_to_group(ALL)]
        filters += [self.topics.commands_to_group(group) for group in device.groups]
        try:
            await self._connection.subscribe(
                *(Subscription(filter, retain_as_published=True, retain_handling=2) for filter in filters),
                Subscription(self.topics.state(device.id)),
            )
        except LocalError as error:
            self._failure = error
            self._keeps_status = True
            self._ended.set()

    # What comes in

    def _receive(self, batch: Sequence[Message]) -> None:
        for message in batch:
            try:
                self._route(message)
            except Exception:
                self._dropped["internal"] += 1
                logger.exception("%s: a message on %s could not be handled", self._device.id, message.topic)

    def _route(self, message: Message) -> None:
        topic = self._parse(message.topic)
        if topic is not None and topic.kind is Kind.CMD:
            self._command(topic, message)
        elif topic is not None and topic.kind is Kind.STATE:
            self._own_state(message)
        else:
            self._drop("topic", f"nothing of the protocol belongs on {message.topic}")

    def _command(self, topic: Topic, message: Message) -> None:
        requester = topic.requester or ""
        try:
            command, encoding = self._command_decoder.decode(message.payload)
        except InvalidMessage as error:
            if message.retain or error.id is None:
                # An empty retained message is how a stored one is cleared, and nothing to speak of.
                if message.payload or not message.retain:
                    self._drop(error.code, f"{error} (on {message.topic})")
            else:
                self._executor.refuse(error.id, "", requester, error.code, str(error), _encoding(message.payload))
            return
        requester = requester or command.from_ or ""
        if message.retain and (command.id is None or self._connection.protocol != 5):
            self._drop("retained", f"a retained command on {message.topic}; clear it with mosquitto_pub -r -n")
        elif message.retain and self._executor.knows(command, requester):
            self._drop("retained", f"a stored copy of {command.id} on {message.topic}")
        elif message.retain:
            words = f"commands must not be retained; clear it: mosquitto_pub -t {message.topic} -r -n"
            self._executor.refuse(command.id or "", command.command, requester, Code.INVALID_MESSAGE, words, encoding)
        elif message.dup and command.id is None:
            self._drop("duplicate", f"a redelivered command without an id on {message.topic}")
        elif command.from_ is not None and command.from_ != requester:
            words = f"from says {command.from_}, the topic says {requester}; they must agree"
            if command.id is None:
                self._drop(Code.UNAUTHORIZED, words)
            else:
                self._executor.refuse(command.id, command.command, requester, Code.UNAUTHORIZED, words, encoding)
        else:
            self._executor.receive(command, encoding, requester)

    def _own_state(self, message: Message) -> None:
        """Heal the retained state: an older session is replaced, a newer one that is not ours is overtaken."""
        if self._ended.is_set():
            return
        try:
            state, _ = self._state_decoder.decode(message.payload)
        except InvalidMessage:
            self._publish_state(self._lifecycle.status)
            return
        if self._session < state.session < MAX_SESSION and state.session not in self._own_sessions:
            logger.warning("%s: a newer session stands in its state; reconnecting with a higher one", self._device.id)
            self._foreign_session = state.session
            self._connection.reconnect()
        elif not message.retain and (state.session != self._session or state.status == "lost"):
            # Not for the copy that a subscription brings: each connect publishes the state anyway.
            self._publish_state(self._lifecycle.status)

    def _drop(self, reason: str, message: str) -> None:
        self._dropped[reason] += 1
        logger.warning("%s dropped a message: %s", self._device.id, message)

    # What goes out

    def _answer(self, answer: Answer) -> None:
        message, entry = answer.message, answer.entry
        if not isinstance(message, Result):
            if self._connection.connected:
                self._publish(self.topics.progress(self._device.id, answer.requester), message, answer.encoding)
            return
        # The future, not the key: its callback runs a turn later, when a repeat may have been read already.
        if entry and (first := self._publishing.get(entry)) and not first.done():
            return  # repeated while the first is still on its way
        topic = self.topics.result(self._device.id, answer.requester or None)
        try:
            sent = self._publish(topic, message, answer.encoding, retain=True)
        except MessageTooLarge as error:
            smaller = structs.replace(
                message, status=Status.FAILED, value=UNSET, error=Error(Code.TOO_LARGE, str(error))
            )
            if entry:
                self._journal.finished(entry, smaller)
            sent = self._publish(topic, smaller, answer.encoding, retain=True)
        if entry and sent:
            self._publishing[entry] = sent
            sent.add_done_callback(lambda done: self._delivered(entry, done))

    def _publish(
        self, topic: str, message: object, encoding: Encoding, *, retain: bool = False
    ) -> asyncio.Future[None] | None:
        try:
            return self._connection.publish(topic, encode(message, encoding), retain=retain)
        except QueueFull:
            # A result stays in the journal and goes out after the next connect.
            self._dropped["queue-full"] += 1
            return None

    def _delivered(self, entry: Entry, sent: asyncio.Future[None]) -> None:
        if self._publishing.get(entry) is sent:
            del self._publishing[entry]
        if sent.cancelled():
            return
        if error := sent.exception():
            logger.error("%s could not give the result of %s: %s", self._device.id, entry.key.id, error)
        else:
            self._journal.delivered(entry)

    def _connected(self) -> None:
        topic = self.topics.about(self._device.id)
        self._publish(topic, self._about, Encoding.JSON, retain=True)
        self._publish_state(self._lifecycle.status)
        for entry in self._journal.undelivered():
            if entry.result is not None and entry not in self._publishing:
                self._answer(Answer(entry.key.requester, entry.result, entry.encoding, entry))

    def _status_changed(self, status: str) -> None:
        self._since = self._clock()
        if status == "terminated":
            self._journal.keep_status(None)
            self._ended.set()
        else:
            self._journal.keep_status(status)
            self._publish_state(status)

    def _publish_state(self, status: str) -> None:
        if self._connection.connected:
            self._publish(self.topics.state(self._device.id), self._state(status), Encoding.JSON, retain=True)

    def _state(self, status: str) -> State:
        device = self._device
        return State(
            device=device.id,
            status=status,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            session=self._session,
            since=self._since,
            groups=list(device.groups),
            pools=list(device.pools),
            tags=dict(device.tags),
            about=self._about_digest,
        )

    def _will(self) -> Will:
        self._session = self._journal.next_session(self._clock(), above=self._foreign_session)
        self._own_sessions.add(self._session)
        return Will(self.topics.state(self._device.id), encode(self._state("lost"), Encoding.JSON))

    def _stats(self) -> Stats:
        now = self._clock()
        return Stats(
            uptime=now - self._began,
            clock=now,
            session=self._session,
            protocol=self._connection.protocol,
            jobs=len(self._executor.running()),
            ended=dict(self._executor.counts),
            dropped=dict(self._dropped),
        )


def digest_of(about: About) -> str:
    """What a State's `about` holds: the same for devices that can do the same."""
    return sha256(_SORTED.encode(about)).hexdigest()[:16]


def _encoding(payload: bytes) -> Encoding:
    """What to answer a broken message in."""
    try:
        return encoding_of(payload)
    except InvalidMessage:
        return Encoding.JSON
