"""What goes out to requesters: every final answer until the broker has it, progress as far as there is room."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from msgspec import UNSET, structs

from outrider.schema import (
    BrokerUnreachable,
    Code,
    Error,
    JournalError,
    MessageTooLarge,
    OutriderError,
    Result,
    Status,
    Topics,
    encode,
)

from .builtin import READING
from .connection import Connection
from .executor import Answer
from .journal import Entry, Journal

logger = logging.getLogger("outrider.device")

NOT_RETAINED = frozenset((*READING, "cancel"))
"""Questions about other commands, whose answers must not take the place of those commands' results on the broker."""

PROGRESS_WAITING = 1000
"""Unacknowledged messages above which progress is left out, but for the last one of each job: `seq` shows the gap."""

MOST_WAITING = 50_000
"""Unacknowledged messages above which a device takes no more commands: it could not keep their answers."""

NOTED_WITHIN = 1.0
"""Seconds after which the journal keeps at the latest that an answer was delivered."""

OUTBOX = MOST_WAITING + 10_000
"""What the connection must be able to keep besides the answers of running jobs: those to all commands taken before."""


class Answers:
    """Publishes the answers of one device.

    :param dropped: where that is counted which goes to nobody, by reason.
    """

    def __init__(
        self, connection: Connection, topics: Topics, device: str, journal: Journal, dropped: Counter[str]
    ) -> None:
        self._connection = connection
        self._topics = topics
        self._device = device
        self._journal = journal
        self._dropped = dropped
        self._under_way: dict[Entry, asyncio.Future[None]] = {}
        self._noting: asyncio.TimerHandle | None = None
        self._left_out: dict[tuple[str, str], Answer] = {}
        """By requester and id: the last progress of a job, where it was left out."""

    @property
    def overrun(self) -> bool:
        """Whether so many answers wait that no more commands can be taken."""
        return self._connection.pending >= MOST_WAITING

    def give(self, answer: Answer) -> None:
        """Publish an answer. It never raises: whose answer it is cannot help it."""
        job = answer.requester, answer.message.id
        last = self._left_out.pop(job, None)
        if isinstance(answer.message, Result):
            if last is not None and self._connection.pending < MOST_WAITING:
                self._dropped["progress"] -= 1
                self._try(self._give_progress, last)
            self._try(self._give_result, answer)
        elif self._connection.connected and self._connection.pending < PROGRESS_WAITING:
            self._try(self._give_progress, answer)
        else:
            self._dropped["progress"] += 1
            self._left_out[job] = answer

    def _try(self, publish: Callable[[Answer], None], answer: Answer) -> None:
        try:
            publish(answer)
        except (OutriderError, TypeError, ValueError) as error:
            self._dropped["answer"] += 1
            logger.error(  # noqa: TRY400  # the words say it
                "%s could not give an answer to %s: %s", self._device, answer.message.id, error
            )

    def repeat(self) -> None:
        """Give the final answers again that the broker has not acknowledged, after a connect."""
        for entry in list(self._journal.undelivered()):
            if entry.result is not None and entry not in self._under_way:
                self.give(Answer(entry.key.requester, entry.result, entry.encoding, entry))

    def close(self) -> None:
        """Note nothing later any more: the journal is about to be closed."""
        if self._noting:
            self._noting.cancel()

    def _give_progress(self, answer: Answer) -> None:
        topic = self._topics.progress(self._device, answer.requester)
        self._connection.publish(topic, encode(answer.message, answer.encoding))

    def _give_result(self, answer: Answer) -> None:
        entry, result = answer.entry, answer.message
        assert isinstance(result, Result)
        # The future, not the key: its callback runs a turn later, when a repeat may have been read already.
        if entry and (first := self._under_way.get(entry)) and not first.done():
            return  # repeated while the first is still on its way
        topic = self._topics.result(self._device, answer.requester or None)
        retain = result.command not in NOT_RETAINED
        try:
            sent = self._connection.publish(topic, encode(result, answer.encoding), retain=retain)
        except (MessageTooLarge, TypeError, ValueError) as error:
            code = Code.TOO_LARGE if isinstance(error, MessageTooLarge) else Code.INTERNAL
            told = Error(code, str(error).encode(errors="replace").decode())
            result = structs.replace(result, status=Status.FAILED, value=UNSET, error=told)
            if entry:
                self._journal.finished(entry, result)
            sent = self._connection.publish(topic, encode(result, answer.encoding), retain=retain)
        if entry:
            self._under_way[entry] = sent
            sent.add_done_callback(lambda done: self._delivered(entry, done))

    def _delivered(self, entry: Entry, sent: asyncio.Future[None]) -> None:
        if self._under_way.get(entry) is sent:
            del self._under_way[entry]
        if sent.cancelled():
            return
        error = sent.exception()
        if isinstance(error, BrokerUnreachable):
            return  # the connection was closed on this side; the answer stays in the journal
        if error is not None:  # given up: the broker would refuse it again
            logger.error("%s could not give the result of %s: %s", self._device, entry.key.id, error)
        self._journal.delivered(entry)
        if self._noting is None:
            self._noting = asyncio.get_running_loop().call_later(NOTED_WITHIN, self._note)

    def _note(self) -> None:
        """Keep what was delivered. Where that fails it is delivered once more after a restart, which does no harm."""
        self._noting = None
        with suppress(JournalError):
            self._journal.commit()
