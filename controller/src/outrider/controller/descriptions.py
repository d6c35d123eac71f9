"""What devices can do: their abouts, which stand retained on the broker, each distinct one fetched once."""

import asyncio
from collections.abc import Iterable
from typing import Final
from weakref import WeakValueDictionary

from outrider.device import Connection, Subscription
from outrider.schema import About, Topics, UnknownTarget, digest_of

from .roster import Roster
from .suggestions import nearest

ABOUT_WAIT: Final = 5.0
"""Seconds to wait for a device's about, which stands retained on the broker."""


class Descriptions:
    """Fetches abouts of the devices that a roster knows."""

    def __init__(self, roster: Roster, connection: Connection, topics: Topics) -> None:
        self._roster = roster
        self._connection = connection
        self._topics = topics
        self._abouts: dict[str, About] = {}
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def about(self, device: str, *, wait: float = ABOUT_WAIT) -> About:
        """A device's commands with help and JSON Schema.

        :param wait: seconds.
        :raises UnknownTarget: nobody has seen this device, or its about does not stand on the broker.
        """
        self._require(device)
        asking = self._asking.setdefault(device, asyncio.Lock())
        async with asking:  # one subscription at a time: the first to end it would end it for the others
            return self._roster.about(device) or await self._ask(device, wait)

    async def _ask(self, device: str, wait: float) -> About:
        filter = self._topics.about(device)
        coming = self._roster.await_about(device)
        try:
            async with asyncio.timeout(wait):  # which covers a connection that is lost
                await self._connection.subscribe(Subscription(filter))
                return await coming
        except TimeoutError:
            raise UnknownTarget(
                f"{device} has not told its commands: nothing is retained on {filter}; restart the device"
            ) from None
        finally:
            await self._connection.unsubscribe(filter)

    async def abouts(self, devices: Iterable[str], *, wait: float = ABOUT_WAIT) -> dict[str, About]:
        """What several devices can do, by device. Like devices share a digest, so each distinct about comes once.

        A device whose about does not stand on the broker is left out.

        :param wait: seconds.
        :raises UnknownTarget: nobody has seen one of these devices.
        """
        alike: dict[str, list[str]] = {}
        for device in devices:
            self._require(device)
            digest = self._roster.states[device].about
            alike.setdefault(f"digest {digest}" if digest else device, []).append(device)

        async def fetch(device: str) -> dict[str, About]:
            try:
                return {device: await self.about(device, wait=wait)}
            except UnknownTarget:
                return {}

        async def fetch_alike(first: str, *others: str) -> dict[str, About]:
            found = await fetch(first)
            digest = self._roster.states[first].about if first in self._roster.states else ""
            if found and digest_of(found[first]) == digest:
                self._abouts[digest] = found[first]
                return dict.fromkeys((first, *others), found[first])
            # A device may claim the digest of others: what it tells is its own then, and they are asked themselves.
            return _merged([found, *await asyncio.gather(*map(fetch, others))])

        return _merged(await asyncio.gather(*(fetch_alike(*each) for each in alike.values())))

    def idempotent(self, devices: Iterable[str], command: str) -> bool:
        """Whether all of these devices whose commands are known say so of the command."""
        digests = {state.about for device in devices if (state := self._roster.states.get(device))}
        known = [self._abouts[digest].commands.get(command) for digest in digests if digest in self._abouts]
        return (
            bool(known) and len(known) == len(digests) and all(each is not None and each.idempotent for each in known)
        )

    def _require(self, device: str) -> None:
        if device not in self._roster.states:
            raise UnknownTarget(f"no device {device} has been seen{nearest(device, self._roster.states)}")


def _merged(parts: Iterable[dict[str, About]]) -> dict[str, About]:
    merged: dict[str, About] = {}
    for each in parts:
        merged |= each
    return merged
