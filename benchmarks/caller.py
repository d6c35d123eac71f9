"""One process that calls `ping` on a device through the public API.

python -m benchmarks.caller BROKER DEVICE COUNT WINDOW    prints calls a second
"""

import asyncio
import sys
from time import perf_counter

from outrider.controller import Fleet


async def call(broker: str, device: str, count: int, window: int) -> float:
    """Call `count` times with `window` in flight and return the calls a second."""
    left = count

    async def keep_calling(fleet: Fleet) -> None:
        nonlocal left
        while left:
            left -= 1
            await fleet.call(device, "ping", type=int)

    async with Fleet(broker, requester="bench") as fleet:
        began = perf_counter()
        async with asyncio.TaskGroup() as callers:
            for _ in range(window):
                callers.create_task(keep_calling(fleet))
        return count / (perf_counter() - began)


if __name__ == "__main__":
    print(asyncio.run(call(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
