"""What is acknowledged when, and how much may wait."""

import asyncio

from outrider.device.receipts import Held, Receipts


async def test_bound_on_receipts_and_bytes_is_told_and_lifted() -> None:
    loop = asyncio.get_running_loop()
    receipts = Receipts(most=2, most_bytes=99)
    small, large = loop.create_future(), loop.create_future()
    receipts.hold(Held([(1, 1), (2, 1)], 10, small))
    assert not receipts.full
    receipts.hold(Held([(3, 1)], 10, None))
    assert receipts.full
    small.set_result(None)
    assert receipts.release() == [(1, 1), (2, 1), (3, 1)]
    assert not receipts.full
    assert not receipts.waiting
    receipts.hold(Held([(4, 1)], 100, large))
    assert receipts.full
    assert receipts.release() == []
    large.cancel()
    assert receipts.release() == []
    assert not receipts.full
    assert not receipts.waiting
