"""The soak in short, and the account itself: one that finds nothing must not be one that sees nothing."""

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import UNSET, Raw, json

from outrider.controller.durable import DurableOutbox, Place
from outrider.schema import Command, Result, Status
from tests.faults.soak import layout
from tests.faults.soak.account import Account, account
from tests.faults.soak.cast import MOSQUITTO
from tests.faults.soak.controller import Sent
from tests.faults.soak.device import Execution
from tests.faults.soak.run import Plan, schedule, soak

ADA = layout.CONTROLLERS[0]
FIRST, SECOND = layout.DEVICES[:2]


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_kills_of_everybody_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    plan = Plan(commands=5000, kills=10, rate=60.0, seed=1, limit=360.0)

    result, figures = soak(tmp_path, plan, say=print)

    assert not figures.failures
    assert figures.kills == {"broker": 10, "devices": 10, "controllers": 10}
    assert result.commands.total() >= 5000  # one more where a controller was killed before it noted what it had sent
    assert (result.open, result.twice, result.wrong, result.untold) == ([], [], [], [])


class Files:
    """The files that a soak leaves, written by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.executions = layout.executions_file(folder).open("a")
        self.outboxes = {name: DurableOutbox(layout.outbox_file(folder, name)) for name in layout.CONTROLLERS}

    def send(self, id: str, *devices: str, command: str = "work", target: str = FIRST) -> None:
        place = Place("broker", "", ADA)
        record = self.outboxes[ADA].begin(
            id, place, () if target.startswith("any:") else devices, command=command, target=target
        )
        payload = json.encode(Command(id=id, command=command))
        record.sending(devices, payload, time.time() + 60)
        with layout.sent_file(self.folder, ADA).open("ab") as sent:
            sent.write(json.encode(Sent(id, "token", target, command)) + b"\n")

    def execute(self, id: str, mark: str, *, device: str = FIRST, requester: str = ADA) -> None:
        self.executions.write(" ".join(Execution(device, id, requester, "token", mark)) + "\n")

    def answer(self, id: str, status: Status, mark: str | None = None, *, device: str = FIRST) -> None:
        value = UNSET if mark is None else Raw(json.encode(mark))
        result = Result(id=id, device=device, command="work", status=status, value=value)
        self.outboxes[ADA].resume(id).outcome(result)

    def close(self) -> None:
        self.executions.close()
        for outbox in self.outboxes.values():
            outbox.close()

    async def account(self) -> Account:
        self.close()
        return await asyncio.to_thread(account, self.folder)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    written = Files(tmp_path)
    yield written
    written.close()


async def test_command_executed_once_and_answered_with_its_mark_is_right(files: Files) -> None:
    files.send("one", FIRST, SECOND, target="@row-0")
    for device, mark in ((FIRST, "a"), (SECOND, "b")):
        files.execute("one", mark, device=device)
        files.answer("one", Status.DONE, mark, device=device)

    found = await files.account()

    assert found.kept
    assert (found.commands, found.statuses) == ({"group": 1}, {"done": 2})


async def test_device_without_an_answer_is_open(files: Files) -> None:
    files.send("one", FIRST)

    assert len((await files.account()).open) == 1


async def test_second_execution_is_found(files: Files) -> None:
    files.send("one", FIRST)
    for mark in "ab":
        files.execute("one", mark)
    files.answer("one", Status.DONE, "b")

    assert len((await files.account()).twice) == 1


async def test_second_execution_of_an_idempotent_command_is_right(files: Files) -> None:
    files.send("one", FIRST, command="again")
    for mark in "ab":
        files.execute("one", mark)
    files.answer("one", Status.DONE, "b")

    found = await files.account()

    assert found.kept
    assert found.repeated == 1


async def test_execution_by_two_members_of_a_pool_is_found(files: Files) -> None:
    files.send("one", FIRST, SECOND, target="any:column-0")
    for device, mark in ((FIRST, "a"), (SECOND, "b")):
        files.execute("one", mark, device=device)
        files.answer("one", Status.DONE, mark, device=device)

    assert len((await files.account()).twice) == 1


@pytest.mark.parametrize(
    ("status", "mark", "executions"),
    [
        (Status.DONE, "other", "a"),
        (Status.DONE, "a", ""),
        (Status.EXPIRED, None, "a"),
        (Status.REJECTED, None, "a"),
    ],
)
async def test_answer_that_executions_contradict_is_wrong(
    files: Files, status: Status, mark: str | None, executions: str
) -> None:
    files.send("one", FIRST)
    for each in executions:
        files.execute("one", each)
    files.answer("one", status, mark)

    assert (await files.account()).wrong


async def test_execution_that_nobody_asked_for_is_wrong(files: Files) -> None:
    files.send("one", FIRST)
    files.execute("one", "a")
    files.execute("two", "b")
    files.execute("one", "c", device=SECOND)
    files.answer("one", Status.DONE, "a")

    assert len((await files.account()).wrong) == 2


def test_schedule_is_the_same_for_the_same_seed() -> None:
    plan = Plan(commands=1000, kills=5, rate=1.0, seed=3, limit=1.0)

    assert schedule(plan, random.Random(3)) == schedule(plan, random.Random(3))
    assert len(schedule(plan, random.Random(3))) == 15
