"""Clear what the broker keeps of retired devices: their state, about and results.

async with Fleet("mqtt://localhost") as fleet:
    forgotten = await forget(fleet, ["lamp-1", "lamp-2"])
    print(forgotten.topics, forgotten.kept)
"""

import asyncio
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from outrider.device import Connection, Message, Subscription
from outrider.schema import ANY, BrokerUnreachable, Kind, LocalError, Topics

from .course import is_there
from .fleet import Fleet

AT_ONCE: Final = 50
"""Devices whose topics are looked through in one go."""

PATIENCE: Final = 15.0
"""Seconds for the broker to send what it keeps, and to take its clearing."""


class StillThere(LocalError):
    """A device that is connected tells its state again at once; it must be ended first."""


class Forgotten(NamedTuple):
    """What was cleared.

    :ivar topics: how many retained messages each device had.
    :ivar kept: topics that the broker did not let go of, and why.
    """

    topics: dict[str, int]
    kept: dict[str, str]


async def forget(fleet: Fleet, devices: Iterable[str], *, force: bool = False) -> Forgotten:
    """Clear every retained topic of some devices: also of such that nobody has seen, and of whom only results stand.

    :param force: also of devices that are connected, which then tell their state and about again when they reconnect.
    :raises StillThere: a device is connected; nothing was cleared.
    :raises BrokerUnreachable: the broker did not answer in time.
    """
    devices = sorted(set(devices))
    states = fleet.roster.states
    there = [device for device in devices if is_there(device, states)]
    if there and not force:
        more = f" and {len(there) - 5} more" if len(there) > 5 else ""
        raise StillThere(
            f"{', '.join(there[:5])}{more}: connected, and would tell what it is again; send it terminate first"
        )
    counts = dict.fromkeys(devices, 0)
    kept: dict[str, str] = {}
    for some in _batches(devices):
        topics = await retained(fleet, some)
        publishes = [fleet.connection.publish(topic, b"", retain=True) for topic in topics]
        for topic, refusal in zip(topics, await asyncio.gather(*publishes, return_exceptions=True), strict=True):
            counts[_device_of(fleet.topics, topic)] += 1
            if refusal is not None:
                kept[topic] = str(refusal)
    # Under MQTT 3.1.1, and by Mosquitto's ACL, a refusal looks like success: only looking again tells.
    for some in _batches([device for device in devices if counts[device]]):
        for topic in await retained(fleet, some):
            kept.setdefault(topic, "the broker keeps it: this user may not clear it, or it was published again")
    return Forgotten(counts, kept)


async def retained(fleet: Fleet, devices: Sequence[str]) -> list[str]:
    """The topics of some devices on which the broker keeps a message, in order.

    :raises BrokerUnreachable: the broker did not answer in time.
    """
    found: set[str] = set()

    def receive(batch: Sequence[Message]) -> None:
        found.update(message.topic for message in batch if message.retain and message.payload)

    # A connection of its own: a subscription made again would bring the fleet what it has already.
    name = f"{fleet.requester}-{secrets.token_hex(4)}"
    try:
        async with (
            asyncio.timeout(PATIENCE),
            Connection(fleet.connection.address, client_id=name, receive=receive) as connection,
        ):
            await connection.wait_connected(retry=False)
            filters = [fleet.topics.of_device(device) for device in devices]
            filters += [fleet.topics.member(ANY, device) for device in devices]
            await connection.subscribe(*map(Subscription, filters))
            await connection.roundtrip()
    except TimeoutError:
        raise BrokerUnreachable(
            f"The broker at {fleet.connection.address.place} did not say within {PATIENCE:g} s what it keeps: try again"
        ) from None
    return sorted(found)


def _batches(devices: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(devices), AT_ONCE):
        yield devices[at : at + AT_ONCE]


def _device_of(topics: Topics, topic: str) -> str:
    parsed = topics.parse(topic)
    if parsed is not None and parsed.kind is Kind.POOL and parsed.device is not None:
        return parsed.device
    return topic.removeprefix(topics.of_device("").removesuffix("/#")).partition("/")[0]
