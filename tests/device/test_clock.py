"""A clock that is told when time passes."""

import asyncio

import pytest

from outrider.device import Job, ManualClock, MemoryJournal
from outrider.device.admission import Registration
from outrider.device.clock import BEGINNING
from outrider.device.executor import Answer, Executor
from outrider.schema import Command, CommandSpec, Encoding, Result, Status
from tests.processes import until


def test_time_passes_only_when_it_is_told_to() -> None:
    clock = ManualClock(100.0)
    assert (clock(), clock.monotonic()) == (100.0, 0.0)
    clock.advance(2.5)
    assert (clock(), clock.monotonic()) == (102.5, 2.5)
    clock.set(50.0)
    assert (clock(), clock.monotonic()) == (50.0, 2.5)
    with pytest.raises(ValueError, match="to turn the clock back use set"):
        clock.advance(-1)


async def test_sleepers_wake_in_order_when_enough_time_has_passed() -> None:
    clock, woken = ManualClock(), list[int]()

    async def sleep(seconds: int) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    async with asyncio.TaskGroup() as tasks:
        for seconds in (3, 1, 2):
            tasks.create_task(sleep(seconds))
        await asyncio.sleep(0)
        assert clock.sleeping == 3
        clock.advance(2)
        await asyncio.sleep(0)
        assert woken == [1, 2]
        clock.set(clock() + 1000)
        await asyncio.sleep(0)
        assert clock.sleeping == 1
        clock.advance(1)
    assert woken == [1, 2, 3]


async def test_command_expires_by_the_clock_that_is_given() -> None:
    clock, answers = ManualClock(), list[Answer]()
    executor = Executor(
        "lamp-1",
        groups=frozenset(),
        commands={},
        status=lambda: "ready",
        journal=MemoryJournal(),
        answer=answers.append,
        clock=clock,
    )
    command = Command(id="c1", command="ping", expires=clock() + 60)
    clock.advance(3600)
    executor.receive(command, Encoding.JSON, "ann")
    executor.commit()
    (answer,) = answers
    assert isinstance(answer.message, Result)
    assert answer.message.status is Status.EXPIRED


async def test_clock_that_is_ahead_makes_a_device_forget_nothing() -> None:
    clock, answers, ran = ManualClock(), list[Answer](), list[str]()

    async def work(job: Job) -> None:
        ran.append(job.id)

    executor = Executor(
        "lamp-1",
        groups=frozenset(),
        commands={"work": Registration(CommandSpec(work, injectable=(Job,)), work)},
        status=lambda: "ready",
        journal=(journal := MemoryJournal()),
        answer=answers.append,
        clock=clock,
    )

    async def send(id: str) -> Status:
        command = Command(id=id, command="work", issued=clock.monotonic() + BEGINNING, expires=BEGINNING + 60)
        executor.receive(command, Encoding.JSON, "ann")
        executor.commit()
        await until(lambda: answers)
        answer = answers.pop()
        assert isinstance(answer.message, Result)
        if answer.entry is not None:
            journal.delivered(answer.entry)
        return answer.message.status

    assert await send("c1") is Status.DONE
    clock.set(BEGINNING + 365 * 86_400)
    assert await send("c2") is Status.EXPIRED
    assert await send("c1") is Status.DONE
    clock.set(BEGINNING)
    assert await send("c3") is Status.DONE
    assert ran == ["c1", "c3"]
