"""Any order of receive, crash, restart, duplicate, cancel, expire and deliver keeps the promises."""

import asyncio
import tempfile
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import Raw

from outrider.device import Job, JournalFile, Key, SqliteJournal, ping
from outrider.device.admission import Registration
from outrider.device.executor import Answer, Executor
from outrider.device.journal import CLOCK_TOLERANCE
from outrider.schema import Command, CommandSpec, Encoding, Result, Status, encode
from outrider.schema.messages import DEFAULT_EXPIRY

KEYS = [Key(requester, "", id) for requester in ("ann", "bob") for id in ("1", "2", "3")]
LIMIT = 5.0


@dataclass(frozen=True)
class Sent:
    """A command as a requester keeps it, to send it again."""

    key: Key
    command: Command
    at: float


class Crashable(SqliteJournal):
    """A journal whose process may be gone."""

    crashed = False

    def commit(self) -> None:
        if not self.crashed:
            super().commit()


class Promises(RuleBasedStateMachine):
    """A device's executor and journal, crashed at will, against what was promised.

    What runs is counted outside: `ran`. What the broker acknowledged to the requester is `taken`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "lamp-1.sqlite")
        self.now = self.latest = 1_700_000_000.0
        self.ran: Counter[Key] = Counter()
        self.holding: dict[Key, asyncio.Future[None]] = {}
        self.sent: dict[Key, Sent] = {}
        self.taken: set[Key] = set()
        self.received: set[Key] = set()
        self.published: dict[Key, list[Result]] = defaultdict(list)
        self.undelivered: list[Answer] = []

    @initialize()
    def begin(self) -> None:
        self.loop.run_until_complete(self._start())

    # The device

    async def _start(self) -> None:
        self.file = JournalFile(self.path)
        self.journal = Crashable(self.file, "lamp-1")
        self.undelivered = []
        life = self.life = object()

        async def run(job: Job) -> str:
            key = Key(job.requester, "", job.id)
            self.ran[key] += 1
            self.holding[key] = self.loop.create_future()
            await self.holding[key]
            return "ran"

        async def once(job: Job) -> str:
            return await run(job)

        async def again(job: Job) -> str:
            return await run(job)

        def answer(answer: Answer) -> None:
            if self.life is life and isinstance(answer.message, Result):
                self.published[Key(answer.requester, "", answer.message.id)].append(answer.message)
                self.undelivered.append(answer)

        commands = {
            "once": Registration(CommandSpec(once, injectable=(Job,)), once),
            "again": Registration(CommandSpec(again, injectable=(Job,)), again, idempotent=True),
            "ping": Registration(CommandSpec(ping), ping, idempotent=True, inline=True),
        }
        self.executor = Executor(
            "lamp-1",
            groups=frozenset(),
            commands=commands,
            status=lambda: "ready",
            journal=self.journal,
            answer=answer,
            clock=lambda: self.now,
        )
        self.executor.recover()
        await self._settle()

    async def _settle(self) -> None:
        """Let everything happen that can."""
        for _ in range(10):
            await asyncio.sleep(0)

    def _restart(self) -> None:
        self.life = None
        self.holding.clear()
        self.received = set(self.taken)
        pending = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        for task in pending:
            task.cancel()
        with suppress(Exception):
            self.loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self.loop.run_until_complete(self._start())

    # What happens

    @rule(
        key=st.sampled_from(KEYS),
        name=st.sampled_from(["once", "again", "ping"]),
        lasts=st.sampled_from([None, -CLOCK_TOLERANCE - 1, 5.0, 100.0]),
        commits=st.booleans(),
    )
    def receive(self, key: Key, name: str, lasts: float | None, commits: bool) -> None:
        if key not in self.sent:
            expires = None if lasts is None else self.now + lasts
            args = Raw(encode({}, Encoding.JSON))
            command = Command(id=key.id, command=name, args=args, issued=self.now, expires=expires)
            self.sent[key] = Sent(key, command, self.now)
        self._send(self.sent[key], commits)

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), commits=st.booleans())
    def duplicate(self, data: st.DataObject, commits: bool) -> None:
        self._send(self.sent[data.draw(st.sampled_from(sorted(self.sent)))], commits)

    def _send(self, sent: Sent, commits: bool) -> None:
        if sent.command.expires is None and self.latest > sent.at + DEFAULT_EXPIRY:
            return  # one that says nothing of when it expires is remembered for so long, and may run again afterwards

        async def take() -> None:
            self.received.add(sent.key)
            self.executor.receive(sent.command, Encoding.JSON, sent.key.requester)
            if commits:
                self.executor.commit()
                self.taken |= self.received
                await self._settle()

        self.loop.run_until_complete(take())

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        held = self.holding.pop(data.draw(st.sampled_from(sorted(self.holding))))
        if not held.done():
            held.set_result(None)
        self.loop.run_until_complete(self._settle())

    @precondition(lambda self: self.holding)
    @rule(data=st.data(), turns=st.integers(0, 5))
    def crash_while_one_finishes(self, data: st.DataObject, turns: int) -> None:
        held = self.holding.pop(data.draw(st.sampled_from(sorted(self.holding))))

        async def go_on() -> None:
            if not held.done():
                held.set_result(None)
            for _ in range(turns):
                await asyncio.sleep(0)

        self.loop.run_until_complete(go_on())
        self.crash()

    @rule(key=st.sampled_from(KEYS))
    def cancel(self, key: Key) -> None:
        def ignore(*_: object) -> None: ...

        async def tell() -> None:
            self.executor.cancel(Job("x", "cancel", key.requester, "", ignore, ignore), key.id)
            await self._settle()

        self.loop.run_until_complete(tell())

    @precondition(lambda self: self.undelivered)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        answer = self.undelivered.pop(data.draw(st.integers(0, len(self.undelivered) - 1)))
        if answer.entry and self.journal.find(answer.entry.key) is answer.entry:
            self.journal.delivered(answer.entry)

    @rule(seconds=st.sampled_from([1.0, 20.0, 40.0, 200.0, -300.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.latest = max(self.latest, self.now)

    @rule()
    def crash(self) -> None:
        """What was not committed is gone, and nobody gets a word."""
        self.journal.crashed = True
        self.file.close()
        self._restart()

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.executor.close(LIMIT))
        self.taken |= self.received
        self.journal.close()
        self.file.close()
        self._restart()

    # What was promised

    @invariant()
    def no_more_than_one_execution_unless_idempotent(self) -> None:
        for key, count in self.ran.items():
            assert count == 1 or self.sent[key].command.command == "again", key

    @invariant()
    def one_answer_for_each_command(self) -> None:
        for key, results in self.published.items():
            if self.sent[key].command.command == "ping":
                continue
            # One that was delivered and has expired is forgotten; who repeats it then is told just that.
            told = {(result.status, result.finished) for result in results if result.status is not Status.EXPIRED}
            assert len(told) <= 1, (key, results)

    @invariant()
    def what_is_expired_at_first_never_runs(self) -> None:
        for key, results in self.published.items():
            if results[0].status is Status.EXPIRED:
                assert self.ran[key] == 0

    def teardown(self) -> None:
        """In the end every command that was taken has its answer, and every answer can be delivered."""
        for key in list(self.holding):
            held = self.holding.pop(key)
            if not held.done():
                held.set_result(None)

        async def end() -> None:
            await self._settle()
            self.executor.commit()
            await self.executor.close(LIMIT)

        try:
            if hasattr(self, "executor"):
                self.loop.run_until_complete(end())
                for key in self.taken:
                    assert self.published[key], f"{key} was taken and never answered"
                waiting = {entry.key for entry in self.journal.undelivered()}
                assert not list(self.journal.unfinished())
                assert waiting <= set(self.published)
                self.file.close()
        finally:
            self.loop.close()
            self.folder.cleanup()


TestPromises = Promises.TestCase
TestPromises.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
