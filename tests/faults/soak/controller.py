"""A controller of the soak: a process with a durable outbox that may be killed at any time and is started again.

`python -m tests.faults.soak.controller BROKER NAME FOLDER COUNT RATE SEED` sends until COUNT commands were sent, those
of earlier processes of this name included, and ends when each of them has a final answer from every device.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import json

from outrider.controller import Fleet
from outrider.controller.accounting import outcomes_of
from outrider.controller.dispatch import Dispatch
from outrider.controller.durable import Brief
from outrider.schema import BrokerUnreachable, OutriderError, UnknownTarget

from . import layout

WINDOW: Final = 100
"""Commands on their way at the same time, per controller."""

WAIT: Final = 20.0
"""Seconds to wait for final answers at first; what is open then is asked for until it is not."""

ASK_AGAIN: Final = 2.0
"""Seconds between two rounds of asking."""

AT_ONCE: Final = 20
"""Commands asked for at the same time."""

EXPIRES: Final = 60.0
SHORT: Final = 2.0
"""Seconds commands are good for: most of them, and a few that may run out while a device is away."""


class Sent(NamedTuple):
    """One line of what a controller has sent."""

    id: str
    token: str
    target: str
    command: str


class Order(NamedTuple):
    """One command that is to be sent. `cancel_after` is in seconds, None for most."""

    target: str
    command: str
    seconds: float
    expires: float
    cancel_after: float | None


def order(chance: random.Random) -> Order:
    """The next command: which, to whom, how long."""
    target = chance.choices(
        (chance.choice(layout.DEVICES), f"@{chance.choice(layout.GROUPS)}", f"any:{chance.choice(layout.POOLS)}"),
        (70, 10, 20),
    )[0]
    command = chance.choices(("work", "block", "again"), (60, 15, 25))[0]
    seconds = chance.choices((0.0, chance.uniform(0, 0.05), chance.uniform(0.05, 0.5), 1.5), (50, 30, 18, 2))[0]
    expires = SHORT if chance.random() < 0.03 else EXPIRES
    return Order(target, command, seconds, expires, chance.uniform(0, 1) if seconds > 1 else None)


class Controller:
    """What one process does on a fleet that is open."""

    def __init__(self, fleet: Fleet, name: str, folder: Path, count: int, rate: float, seed: int) -> None:
        self._fleet = fleet
        self._name = name
        self._sent = layout.sent_file(folder, name)
        self._count = count
        self._rate = rate
        self._seed = seed
        self._window = asyncio.Semaphore(WINDOW)

    async def run(self) -> None:
        """Go on with what was sent, send the rest, and ask until nothing is open."""
        async with asyncio.TaskGroup() as tasks:
            for dispatch in self._fleet.resume(wait=WAIT):
                tasks.create_task(_to_its_end(dispatch))
            asking = tasks.create_task(self._ask_now_and_then())
            await self._send(lambda follow: tasks.create_task(follow))
            asking.cancel()
        while unfinished := self._unfinished():
            print(f"{len(unfinished)} open", flush=True)
            await self._ask(unfinished)
            await asyncio.sleep(0.5)

    async def _send(self, start: Callable[[Coroutine[object, object, None]], object]) -> None:
        already = len(read(self._sent))
        began = time.monotonic()
        with self._sent.open("ab") as sent:
            for number in range(already, self._count):
                await asyncio.sleep(max(0.0, began + (number - already) / self._rate - time.monotonic()))
                await self._window.acquire()
                chosen = order(random.Random(f"{self._seed} {self._name} {number}"))
                token = f"{self._name}-{number}"
                dispatch = await self._dispatch(chosen, token)
                line = Sent(dispatch.id, token, chosen.target, chosen.command)
                sent.write(json.encode(line) + b"\n")
                sent.flush()
                start(self._follow(dispatch, chosen.cancel_after))

    async def _dispatch(self, chosen: Order, token: str) -> Dispatch:
        arguments = {"token": token, "seconds": chosen.seconds}
        while True:
            try:
                return self._fleet.dispatch(chosen.target, chosen.command, arguments, wait=WAIT, expires=chosen.expires)
            except UnknownTarget:  # no member of the pool is ready, say
                await asyncio.sleep(0.2)

    async def _follow(self, dispatch: Dispatch, cancel_after: float | None) -> None:
        try:
            if cancel_after is not None:
                asyncio.get_running_loop().call_later(cancel_after, dispatch.cancel)
            await _to_its_end(dispatch)
        finally:
            self._window.release()

    async def _ask_now_and_then(self) -> None:
        """Ask for what nobody waits for any more, as somebody would with `outrider results ID`.

        In time: a device forgets a command some 30 s after that has expired.
        """
        while True:
            await asyncio.sleep(ASK_AGAIN)
            before = time.time() - WAIT - ASK_AGAIN
            await self._ask([brief for brief in self._unfinished() if brief.issued < before])

    async def _ask(self, briefs: list[Brief]) -> None:
        few = asyncio.Semaphore(AT_ONCE)

        async def ask(id: str) -> None:
            async with few:
                try:
                    await outcomes_of(self._fleet, id, wait=5.0)
                except (BrokerUnreachable, TimeoutError):
                    print(f"not asked for {id}: the broker is away", flush=True)

        async with asyncio.TaskGroup() as tasks:
            for brief in briefs:
                tasks.create_task(ask(brief.id))

    def _unfinished(self) -> list[Brief]:
        assert self._fleet.outbox is not None
        return self._fleet.outbox.unfinished(self._fleet.place)


async def _to_its_end(dispatch: Dispatch) -> None:
    async for _ in dispatch:
        pass


def read(path: Path) -> list[Sent]:
    """What was sent; a line that a kill has cut off is left out."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.decode(line, type=Sent) for line in lines if line.endswith(b"\n")]


async def main(broker: str, name: str, folder: Path, count: int, rate: float, seed: int) -> None:
    """Run one controller; until the broker is there, try again."""
    while True:
        try:
            async with Fleet(broker, requester=name, outbox=layout.outbox_file(folder, name)) as fleet:
                try:
                    await fleet.abouts(layout.DEVICES)  # which commands of a pool may be tried twice
                except OutriderError as error:
                    print(f"no abouts: {error}", flush=True)
                await Controller(fleet, name, folder, count, rate, seed).run()
                return
        except BrokerUnreachable as error:
            print(error, flush=True)
            await asyncio.sleep(0.3)


if __name__ == "__main__":
    broker, name, folder, count, rate, seed = sys.argv[1:]
    os.nice(5)  # the devices first
    asyncio.run(main(broker, name, Path(folder), int(count), float(rate), int(seed)))
