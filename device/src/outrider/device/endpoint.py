"""One device on one broker: what comes in goes to the executor, answers, state and about go out."""

import asyncio
import logging
import platform
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from importlib.metadata import version

from outrider.schema import (
    ALL,
    About,
    Code,
    Decoder,
    Encoding,
    InvalidMessage,
    Kind,
    LocalError,
    OutriderError,
    Result,
    Topic,
    Topics,
    digest_of,
    encoding_of,
)
from outrider.schema import Command as CommandMessage

from .address import Address
from .admission import Registration
from .answers import OUTBOX, Answers
from .builtin import READING, REMEMBERED, RESERVED, Controls, Stats
from .caller import Caller
from .connection import Connection, Message, Subscription
from .definition import Definition
from .events import Events
from .executor import Answer, Executor
from .invoker import Arguments
from .journal import Journal
from .lifecycle import Lifecycle
from .performing import Performing
from .presence import Presence

logger = logging.getLogger("outrider.device")

GRACE = 0.5
"""Seconds that jobs have to end after terminate."""

CATCHING_UP = 5.0
"""Seconds after a connect in which commands may come that had to wait for it."""

HEARD = (Kind.STATE, Kind.POOL, Kind.RESULT, Kind.PROGRESS)
"""What comes beside commands: its own state, and what it needs to call others."""

SESSION_EXPIRY = 7 * 86400
"""Seconds the broker keeps commands for a device that is away."""


class Endpoint:
    """Serves one device over one `Connection`, from connect to terminate.

    :param journal: open, and closed by whoever opened it.
    :param clock: Unix seconds.
    :ivar performing: gives it commands in this process, without the broker.
    """

    def __init__(
        self,
        definition: Definition,
        address: Address,
        journal: Journal,
        *,
        prefix: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.topics = Topics(prefix)
        self._device = definition
        self._clock = clock
        self._journal = journal
        self._command_decoder = Decoder(CommandMessage, max_size=definition.max_size)
        self._parse = lru_cache(maxsize=1024)(self.topics.parse)
        self._dropped: Counter[str] = Counter()
        self._began = time.monotonic()
        self._logged = float("-inf")
        self._connected_at = float("-inf")
        self._ended = asyncio.Event()
        self._keeps_status = False
        self._failure: LocalError | None = None
        self._caller: Caller | None = None
        self.loop = asyncio.get_running_loop()
        self._lifecycle = Lifecycle(self._journal.status() or definition.initial, self._status_changed)
        registrations = dict(definition.commands)
        self._executor = Executor(
            definition.id,
            groups=frozenset(definition.groups),
            commands=registrations,
            # What still comes while this process ends must not start: nobody would give its result.
            status=lambda: "terminated" if self._ended.is_set() else self._lifecycle.status,
            journal=self._journal,
            answer=self._give,
            asking=self,
            telling=lambda: self.events,
            clock=clock,
            tolerance=definition.clock_tolerance,
            max_jobs=definition.max_jobs,
            max_threads=definition.max_threads,
            max_size=definition.max_size,
        )
        self.performing = Performing(self._executor, definition.id, clock)
        controls = Controls(self._lifecycle, self._executor, lambda: about, self._stats)
        registrations |= {
            name: Registration.of_control(
                getattr(controls, name), idempotent=name in READING, remembered=REMEMBERED.get(name)
            )
            for name in RESERVED
        }
        about = About(
            versions={
                "outrider": version("outrider-device"),
                "python": platform.python_version(),
                **definition.versions,
            },
            commands={
                name: registration.spec.about(
                    idempotent=registration.idempotent,
                    timeout=registration.timeout,
                    max_parallel=registration.max_parallel,
                )
                for name, registration in sorted(registrations.items())
            },
        )
        self._presence = Presence(
            definition,
            self.topics,
            (about, digest_of(about)),
            journal=self._journal,
            publish=self._publish_retained,
            reconnect=lambda: self._connection.reconnect(),
            clock=clock,
        )
        self._connection = Connection(
            address,
            client_id="-".join((*self.topics.prefix.split("/"), definition.id)).lstrip("-"),
            receive=self._receive,
            will=self._presence.will,
            session_expiry=SESSION_EXPIRY,
            max_queued=OUTBOX + definition.max_jobs,
            on_connect=self._connected,
        )
        self._answers = Answers(self._connection, self.topics, definition.id, self._journal, self._dropped)
        self.events = Events(
            definition.id,
            self.topics,
            journal,
            publish=self._connection.publish,
            connected=lambda: self._connection.connected,
            clock=clock,
            dropped=self._dropped,
            max_waiting=definition.max_events,
            max_size=definition.max_size,
        )

    @property
    def caller(self) -> Caller:
        """The device as a requester; made when it is first needed, for most devices call nobody."""
        if self._caller is None:
            self._caller = Caller(
                self._connection,
                self.topics,
                self._device.id,
                state=self._presence.published,
                clock=self._clock,
            )
            if self._connection.ended:
                self._caller.close()
        return self._caller

    async def ask(self, target: str, command: str, args: Arguments, *, wait: float) -> Result:
        """Ask another device, or one of a pool; see `Caller.ask`."""
        return await self.caller.ask(target, command, args, wait=wait)

    async def run(self) -> bool:
        """Serve until `terminate` or `stop`.

        :returns: False if a command's function would not end; its thread or task may still run.
        :raises SubscribeRefused: the broker does not let this device read its commands.
        """
        self._executor.recover()
        self._tell_recovered()
        async with self.events, self._connection, asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(self._subscribe(), name=f"subscribe {self._device.id}")]
            beside += [
                tasks.create_task(self._background(function), name=f"{function.__name__} of {self._device.id}")
                for function in self._device.backgrounds
            ]
            await self._ended.wait()
            for task in beside:
                task.cancel()
            stopped = await self._executor.close(GRACE)
            self._presence.close()
            if self._caller is not None:
                self._caller.close()
            if self._keeps_status:
                self._presence.changed()
            if self._connection.connected:
                self._presence.publish("terminated")
            await self._connection.disconnect(end_session=not self._keeps_status)
            self._answers.close()
        if self._failure:
            raise self._failure
        logger.info("%s has ended, %s", self._device.id, "to come back" if self._keeps_status else "terminated")
        return stopped

    def stop(self) -> None:
        """End as cleanly as `terminate` does, but come back with the present status at the next start."""
        self._keeps_status = True
        self._ended.set()

    def drop(self) -> None:
        """Lose the network connection, and make it anew."""
        self._connection.drop()

    def crash(self) -> None:
        """End without a word to anybody: the broker publishes the will."""
        self._connection.abort()
        self.stop()

    async def _background(self, function: Callable[[], Awaitable[object]]) -> None:
        try:
            await function()
        except Exception:
            logger.exception("%s goes on without its background function %s", self._device.id, function.__name__)

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
            if self._ended.is_set():  # by `crash`, which ends the connection
                return
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
        self._executor.commit()  # one for all that came together; the connection acknowledges them then

    def _route(self, message: Message) -> None:
        topic = self._parse(message.topic)
        if topic is not None and topic.kind is Kind.CMD:
            self._command(topic, message)
        elif topic is not None and topic.kind in HEARD:
            if topic.kind is Kind.STATE and topic.device == self._device.id and not self._ended.is_set():
                self._presence.receive(message)
            if self._caller is not None or topic.device != self._device.id:
                self.caller.receive(topic, message.payload)
        else:
            self._drop("topic", f"nothing of the protocol belongs on {message.topic!r}")

    def _command(self, topic: Topic, message: Message) -> None:
        if self._answers.overrun:
            self._drop("overrun", "too many answers wait for the broker to take them")
            return
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
            self._executor.skew.observe(command.issued, self._clock(), waited=self._may_have_waited)
            self._executor.receive(command, encoding, requester)

    @property
    def _may_have_waited(self) -> bool:
        """Whether what comes now may have lain at the broker while this device was away."""
        return time.monotonic() - self._connected_at < CATCHING_UP

    def _tell_recovered(self) -> None:
        """Log where the journal is, and what a restart left in it."""
        usage, counts = self._journal.usage, self._executor.counts
        place = "in memory only: a restart forgets what ran" if usage.path is None else f"in {usage.path}"
        logger.info("%s keeps its journal %s", self._device.id, place)
        if found := counts["recovered"]:
            ended = ", ".join(f"{count} {status}" for status, count in counts.items() if status != "recovered")
            again = f"{len(self._executor.running())} started again"
            words = ", ".join(word for word in (ended, again) if word)
            logger.warning("%s was ended with %d commands under way: %s", self._device.id, found, words)

    def _drop(self, reason: str, message: str) -> None:
        """Count what gets no answer, and log it, at most a line a second."""
        self._dropped[reason] += 1
        now = time.monotonic()
        if now - self._logged >= 1:
            self._logged = now
            count = self._dropped[reason]
            logger.warning("%s dropped a message (%d as %s so far): %s", self._device.id, count, reason, message)

    # What goes out beside answers

    def _give(self, answer: Answer) -> None:
        if not self.performing.take(answer):
            self._answers.give(answer)
        elif answer.entry and isinstance(answer.message, Result):
            self._journal.delivered(answer.entry)

    def _connected(self) -> None:
        self._connected_at = time.monotonic()
        self._presence.publish(self._lifecycle.status)
        self._presence.publish_about()
        self._presence.publish_pools()
        self._answers.repeat()
        if self._caller is not None:
            self._caller.reconnected()
        self.events.send()

    def _status_changed(self, status: str) -> None:
        self._presence.changed()
        if status == "terminated":
            self._journal.keep_status(None)
            self._ended.set()
            return
        self._journal.keep_status(status)
        if self._connection.connected:
            self._presence.publish(status)

    def _publish_retained(self, topic: str, payload: bytes) -> None:
        try:
            self._connection.publish(topic, payload, retain=True)
        except OutriderError as error:
            logger.error("%s: nobody will see %s: %s", self._device.id, topic, error)  # noqa: TRY400  # words say it

    def _stats(self) -> Stats:
        now = self._clock()
        return Stats(
            uptime=time.monotonic() - self._began,  # whatever becomes of the clock
            clock=now,
            clock_ahead=self._executor.skew.ahead,
            session=self._presence.session,
            protocol=self._connection.protocol,
            jobs=len(self._executor.running()),
            ended=dict(self._executor.counts),
            dropped=dict(self._dropped),
            journal=self._journal.usage,
            journal_error=self._executor.journal_error,
            events_waiting=self.events.waiting,
            events_sent=self.events.sent,
        )


def _encoding(payload: bytes) -> Encoding:
    """What to answer a broken message in."""
    try:
        return encoding_of(payload)
    except InvalidMessage:
        return Encoding.JSON
