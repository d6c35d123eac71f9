"""A recorder in a process of its own: `python -m tests.controller.hub.recording BROKER PREFIX DATABASE NAME`.

It says "recording" when it is, and on SIGTERM ends cleanly and says how many were new.
"""

import asyncio
import signal
import sys

from outrider.controller.hub.recorder import Recorder
from outrider.controller.hub.store import Store
from outrider.controller.hub.writer import Writer
from outrider.device import Address
from outrider.schema import Topics


async def main(broker: str, prefix: str, database: str, name: str) -> None:
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    with Store.open(database) as store:
        async with (
            Writer(store) as writer,
            Recorder(Address.parse(broker), Topics(prefix), writer, name=name) as recorder,
        ):
            await recorder.wait_subscribed()
            print("recording", flush=True)
            await asked.wait()
        print(f"{writer.written} new, {writer.repeats} repeats", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4]))
