"""One device process that emits events.

python -m benchmarks.emitter BROKER COUNT TOGETHER    prints events a second, each committed and acknowledged

`TOGETHER` tasks emit one event after the other. The journal is a file, deleted afterwards.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from outrider.device import Device

DEVICE = "bench-1"
SUBJECT = "0123456789abcdef"
POLL = 0.001


async def emit(broker: str, count: int, together: int, journal: Path) -> float:
    """Emit so many events and return how many a second the broker has acknowledged."""
    device = Device(DEVICE, journal=journal, max_events=count + together)
    left = count

    async def keep_emitting() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await device.emit("measured", key="e", subject=SUBJECT, number=left, celsius=21.5)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(device.serve(broker))
        await asyncio.sleep(0)
        await device.emit("begun")
        await _delivered(device)  # so that it is connected
        began = perf_counter()
        emitting = [asyncio.create_task(keep_emitting()) for _ in range(together)]
        await asyncio.wait(emitting)
        await _delivered(device)
        took = perf_counter() - began
        device.stop()
    return count / took


async def _delivered(device: Device) -> None:
    while device.telling().waiting:  # noqa: ASYNC110 - nothing of a device's own tells
        await asyncio.sleep(POLL)


def main(broker: str, count: int, together: int) -> None:
    with tempfile.TemporaryDirectory(prefix="emitter-") as folder:
        print(asyncio.run(emit(broker, count, together, Path(folder, "journal.sqlite"))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
