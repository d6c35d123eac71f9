"""Events that the hub itself tells, as its plugins make them: recorded, without a way over the broker."""

import itertools
import secrets
import time
from collections.abc import Callable, Mapping

from msgspec import UnsetType

from outrider.device.events import make_event

from .records import EventRecord
from .writer import Writer


class Telling:
    """Records events of a hub.

    :param device: whose they are: the hub's name.
    :param clock: Unix seconds.
    """

    def __init__(self, device: str, writer: Writer, *, clock: Callable[[], float] = time.time) -> None:
        self._device = device
        self._writer = writer
        self._clock = clock
        self._life = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    async def emit(
        self, name: str, key: str | None, subject: str | None, data: Mapping[str, object], *, time: float | None = None
    ) -> str:
        """Record an event; see `Context.emit`."""
        id, now = f"{self._life}-{next(self._numbers)}", self._clock()
        time = now if time is None else time
        event, _ = make_event(id, self._device, name, key, subject, data, time=time)
        record = EventRecord(
            id=id,
            device=self._device,
            name=name,
            key=key,
            subject=subject,
            time=time,
            data=None if isinstance(event.data, UnsetType) else event.data,
            received=now,
        )
        await self._writer.put([record])
        return id
