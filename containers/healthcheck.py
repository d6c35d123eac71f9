"""Say whether a device is up as everyone else sees it: by the state that it keeps at the broker.

A device that crashed, hangs or lost its broker is `lost` there at the latest after one and a half keep-alives.

    python healthcheck.py lamp-1        exit code 0: ready or unready; 1: anything else, with the reason
"""

import asyncio
import os
import sys
from collections.abc import Sequence

from outrider.device import Address, Connection, Message, Subscription
from outrider.schema import Decoder, OutriderError, State, Topics

LIMIT = 5.0
"""Seconds until the check gives up; compose.yaml allows twice that."""


async def state_of(device: str, broker: str, prefix: str) -> State:
    """Return the retained state of the device.

    :raises TimeoutError: the broker holds none.
    :raises BrokerUnreachable: it could not be asked.
    """
    states: asyncio.Queue[State] = asyncio.Queue()
    decoder = Decoder(State)

    def receive(messages: Sequence[Message]) -> None:
        for message in messages:
            states.put_nowait(decoder.decode(message.payload)[0])

    connection = Connection(Address.parse(broker), client_id=f"health-{device}-{os.getpid()}", receive=receive)
    async with asyncio.timeout(LIMIT), connection:
        await connection.wait_connected(retry=False)
        await connection.subscribe(Subscription(Topics(prefix).state(device)))
        return await states.get()


def main() -> None:
    """Check the device that the command line names at the broker of the environment, as `outrider-device` does."""
    device = sys.argv[1]
    broker, prefix = os.environ["OUTRIDER_BROKER"], os.environ.get("OUTRIDER_PREFIX", "")
    try:
        state = asyncio.run(state_of(device, broker, prefix))
    except TimeoutError:
        sys.exit(f"{device} has no state at {broker}")
    except OutriderError as error:
        sys.exit(str(error))
    if state.status not in ("ready", "unready"):
        sys.exit(f"{device} is {state.status}")


if __name__ == "__main__":
    main()
