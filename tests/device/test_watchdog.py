import asyncio
import logging
import time

import pytest

from outrider.device.watchdog import watch_loop


async def test_loop_that_stands_still_is_said_once_with_what_blocks_it(caplog: pytest.LogCaptureFixture) -> None:
    def blocks() -> None:
        end = time.monotonic() + 5
        while not caplog.records and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.6)

    with caplog.at_level(logging.ERROR, "outrider.device"), watch_loop("lamp-1", stalled=0.2):
        await asyncio.sleep(0)
        blocks()
    (record,) = caplog.records
    assert "lamp-1: the event loop has stood still" in record.getMessage()
    assert "blocks()" in record.getMessage()


async def test_loop_that_goes_on_is_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "outrider.device"), watch_loop("lamp-1", stalled=1.0):
        await asyncio.sleep(1.6)
    assert caplog.records == []
