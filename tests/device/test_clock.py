"""A clock that is told when time passes."""

import asyncio

import pytest

from outrider.device import ManualClock, MemoryJournal
from outrider.device.executor import Answer, Executor
from outrider.schema import Command, Encoding, Result, Status


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
