"""Ours in `recorder`: records COUNT messages from BROKER in the file DATABASE and prints messages a second.

python -m benchmarks.recording BROKER DATABASE NAME COUNT
"""

import asyncio
import sys
from collections.abc import Sequence
from time import perf_counter

from outrider.controller.hub.recorder import Recorder
from outrider.controller.hub.records import Record
from outrider.controller.hub.store import Store
from outrider.controller.hub.writer import Writer
from outrider.device import Address
from outrider.schema import Topics


async def main(broker: str, database: str, name: str, count: int) -> None:
    began: float | None = None
    recorded = 0
    done = asyncio.Event()

    def clock() -> float:
        nonlocal began
        began = began or perf_counter()
        return 0.0

    def tell(records: Sequence[Record]) -> None:
        nonlocal recorded
        recorded += len(records)
        if recorded >= count:
            done.set()

    with Store.open(f"sqlite:///{database}") as store:
        async with (
            Writer(store, recorded=tell) as writer,
            # The session is not to outlive a round: the broker would go on filling it.
            Recorder(Address.parse(broker), Topics(), writer, name=name, session_expiry=1, clock=clock) as recorder,
        ):
            await recorder.wait_subscribed()
            print("ready", flush=True)
            await done.wait()
            assert began is not None
            print(count / (perf_counter() - began), flush=True)
        assert writer.written == count


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
