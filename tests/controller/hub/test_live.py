"""Following what is recorded: what is wanted, in order, and where some was missed."""

import asyncio

import pytest

from outrider.controller.hub.live import Follower, Gap, Live
from outrider.controller.hub.records import CommandRecord, Record


def command(number: int) -> CommandRecord:
    return CommandRecord(id=str(number), command="ping", device="lamp-1", received=float(number))


async def first(follower: Follower, count: int) -> list[Record | Gap]:
    async with asyncio.timeout(5):
        return [await anext(follower) for _ in range(count)]


async def test_follower_gets_what_is_recorded_from_now_on() -> None:
    live = Live()
    live.recorded([command(0)])
    with live.follow() as follower:
        live.recorded([command(1), command(2)])
        live.recorded([command(3)])
        assert await first(follower, 3) == [command(1), command(2), command(3)]
        assert live.followers == 1
    assert live.followers == 0


async def test_waiting_follower_is_woken() -> None:
    live = Live()
    with live.follow() as follower:
        waiting = asyncio.create_task(first(follower, 1))
        await asyncio.sleep(0)
        live.recorded([command(1)])
        assert await waiting == [command(1)]


async def test_follower_gets_only_what_it_wants() -> None:
    live = Live()
    with live.follow(lambda record: record.received > 2) as follower:
        live.recorded([command(number) for number in range(1, 5)])
        assert await first(follower, 2) == [command(3), command(4)]


async def test_slow_follower_is_told_where_it_missed_how_many_and_others_miss_nothing() -> None:
    live = Live()
    with live.follow(limit=2) as slow, live.follow() as quick:
        live.recorded([command(number) for number in range(5)])
        assert await first(slow, 1) == [command(0)]
        live.recorded([command(5)])
        assert await first(slow, 2) == [command(1), Gap(3)]
        assert await first(slow, 1) == [command(5)]
        live.recorded([command(number) for number in range(6, 10)])
        assert await first(slow, 3) == [command(6), command(7), Gap(2)]
        assert slow.missed == 5
        assert await first(quick, 10) == [command(number) for number in range(10)]
        assert quick.missed == 0


async def test_follower_whose_wish_fails_is_ended_and_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    live = Live()
    with live.follow(lambda record: bool(1 / (record.received - 1))) as broken, live.follow() as whole:
        live.recorded([command(1)])
        live.recorded([command(2)])
        with pytest.raises(StopAsyncIteration):
            await anext(broken)
        assert await first(whole, 2) == [command(1), command(2)]
    assert "ZeroDivisionError" in caplog.text


async def test_closing_ends_followers_after_what_they_have() -> None:
    live = Live()
    with live.follow() as follower:
        live.recorded([command(1)])
        live.close()
        assert [record async for record in follower] == [command(1)]
    with live.follow() as late:
        assert [record async for record in late] == []
