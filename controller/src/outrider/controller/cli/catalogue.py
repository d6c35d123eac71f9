"""What the devices of a target can do: for whoever may wait for it, and at once for who may not."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from outrider.controller import Fleet
from outrider.schema import About, CommandAbout, LocalError, OutriderError, State

ABOUT_WAIT: Final = 2.0
"""Seconds for what devices say of themselves, which stands on the broker."""

ASK_AGAIN: Final = 10.0
"""Seconds after which devices that told nothing are asked again."""

KEPT: Final = 200
"""How many kinds of devices, taken together, are remembered."""

Kinds = frozenset[str]


class Catalogue:
    """The commands of targets.

    :param tasks: where devices are asked in the background.
    :param changed: called when something is known that was not.
    :ivar version: grows with what is known.
    """

    def __init__(self, fleet: Fleet, tasks: asyncio.TaskGroup, changed: Callable[[], None]) -> None:
        self._fleet = fleet
        self._tasks = tasks
        self._changed = changed
        self.version = 0
        self._known: dict[Kinds, Mapping[str, CommandAbout]] = {}
        self._asked: dict[Kinds, float] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def commands(self, target: str) -> Mapping[str, CommandAbout]:
        """What the devices of a target can do together; empty where none has told.

        :raises TargetSyntax: the target cannot be read.
        :raises UnknownTarget: it stands for no device.
        """
        states = self._fleet.devices(target)
        abouts = await self._fleet.abouts([state.device for state in states], wait=ABOUT_WAIT)
        return self.learn(states, abouts)

    def learn(self, states: Iterable[State], abouts: Mapping[str, About]) -> Mapping[str, CommandAbout]:
        """Remember what devices told, and return their commands together."""
        together = _together(abouts.values())
        if together:
            while len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            self._known[_kinds(states)] = together
            self.version += 1
        return together

    def known(self, target: str | None) -> Mapping[str, CommandAbout]:
        """What is known of them now; where that is nothing, they are asked meanwhile."""
        if target is None:
            return {}
        try:
            states = self._fleet.devices(target)
        except LocalError:
            return {}
        kinds = _kinds(states)
        if (known := self._known.get(kinds)) is not None:
            return known
        if time.monotonic() - self._asked.get(kinds, float("-inf")) > ASK_AGAIN:
            if len(self._asked) >= KEPT:
                self._asked.clear()
            self._asked[kinds] = time.monotonic()
            task = self._tasks.create_task(self._ask(target), name=f"what {target} can do")
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        return {}

    def close(self) -> None:
        """Ask nobody any more."""
        for task in self._asking:
            task.cancel()

    async def _ask(self, target: str) -> None:
        try:
            if await self.commands(target):
                self._changed()
        except OutriderError:  # it is gone, or the broker is: whoever sends to it is told
            pass


def _kinds(states: Iterable[State]) -> Kinds:
    """What tells devices with other commands apart: the digests of what they can do."""
    return frozenset(state.about or state.device for state in states)


def _together(abouts: Iterable[About]) -> dict[str, CommandAbout]:
    commands: dict[str, CommandAbout] = {}
    for about in abouts:
        commands = about.commands | commands
    return commands
