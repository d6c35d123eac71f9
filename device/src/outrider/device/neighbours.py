"""What a device knows of others: the states of those it calls, and who is in the pools it calls. It follows no more."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Final

from outrider.schema import ANY, Decoder, InvalidMessage, Kind, Member, Topic, Topics

from .connection import Connection, Subscription
from .states import States

FOLLOWED: Final = 1000
"""Devices called by their own ids whose states are followed; the one that was called longest ago makes room."""

AT_ONCE: Final = 200
"""Topic filters in one SUBSCRIBE."""

_MEMBER = Decoder(Member)


class Neighbours(States):
    """Follows the states of the devices and the members of the pools that are asked for, from then on.

    :param own: this device's id; what it publishes of itself it reads in any case.
    :param state: what it has published last.
    :param returned: called with the id of a device that is there with a session that was not known before.
    """

    def __init__(
        self, connection: Connection, topics: Topics, own: str, state: bytes, returned: Callable[[str], None]
    ) -> None:
        super().__init__(returned)
        self.take(own, state)
        self._connection = connection
        self._topics = topics
        self._own = own
        self._called: dict[str, None] = {}
        self._pools: dict[str, dict[str, Member]] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        """By topic filter: what is followed, and when its retained messages have come."""
        self._unwanted: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def know(self, device: str) -> None:
        """Follow the state of a device; returns when it is known, or nobody has ever seen the device."""
        self._called.pop(device, None)
        self._called[device] = None
        while len(self._called) > FOLLOWED:
            oldest = next(iter(self._called))
            del self._called[oldest]
            self._leave(oldest)
        await self._follow([self._topics.state(device)])

    async def members(self, pool: str) -> list[Member]:
        """Follow a pool, and return who is in it; their states are known then."""
        filter = self._topics.member(pool, ANY)
        self._pools.setdefault(pool, {})
        await self._follow([filter])
        members = list(self._pools[pool].values())
        await self._follow([self._topics.state(member.device) for member in members])
        states = self.states
        return [each for each in members if each.device in states and pool in states[each.device].pools]

    def receive(self, topic: Topic, payload: bytes) -> None:
        """Take a state, or what stands where a device says that it is in a pool."""
        if topic.device is None:
            return
        if topic.kind is Kind.POOL and topic.pool is not None:
            if topic.pool in self._pools:
                self._point(self._pools[topic.pool], topic.device, payload)
            else:
                self._drop(self._topics.member(topic.pool, ANY))
        elif topic.device == self._own or self._topics.state(topic.device) in self._following:
            self.take(topic.device, payload)
        else:
            self._drop(self._topics.state(topic.device))

    def close(self) -> None:
        """Follow nothing any more."""
        for task in self._tasks:
            task.cancel()

    def _point(self, members: dict[str, Member], device: str, payload: bytes) -> None:
        try:
            member = _MEMBER.decode(payload)[0] if payload else None
        except InvalidMessage:
            member = None
        if member is not None and member.device == device:
            members[device] = member
        elif members.pop(device, None):
            self._leave(device)

    async def _follow(self, filters: Iterable[str]) -> None:
        """Subscribe what is not yet, and return when the retained messages of all of them have come."""
        filters = [each for each in filters if each != self._topics.state(self._own)]
        new = [each for each in filters if each not in self._following]
        if new:
            # A task of its own: others wait for the same, whoever gives up.
            task = self._begin(self._subscribe(new))
            self._following |= dict.fromkeys(new, task)
        while waited := [each for each in filters if each in self._following and not self._following[each].done()]:
            await asyncio.shield(self._following[waited[0]])

    async def _subscribe(self, filters: list[str]) -> None:
        try:
            for at in range(0, len(filters), AT_ONCE):
                await self._connection.subscribe(*map(Subscription, filters[at : at + AT_ONCE]), anew=True)
            await self._connection.roundtrip()
        except BaseException:
            for each in filters:
                self._following.pop(each, None)
            raise

    def _leave(self, device: str) -> None:
        """Follow a device no more, unless it is called or in a pool."""
        filter = self._topics.state(device)
        wanted = device in self._called or any(device in members for members in self._pools.values())
        if not wanted and filter in self._following:
            del self._following[filter]
            self.forget(device)
            self._begin(self._connection.unsubscribe(filter))

    def _drop(self, filter: str) -> None:
        """End a subscription of an earlier process of this device: the broker has kept the session."""
        if filter not in self._unwanted:
            self._unwanted.add(filter)
            self._begin(self._connection.unsubscribe(filter))

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"neighbours of {self._own}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for it sees it
