"""What a device, and each of its jobs, offers to tell events."""

import asyncio
from uuid import UUID

from .events import Events


class Emits:
    """Events, in the two forms that `async def` and plain functions need."""

    def telling(self) -> Events:
        """Who keeps and sends them.

        :raises NotServed: the device is not being served.
        """
        raise NotImplementedError

    async def emit(
        self, name: str, /, *, key: str | None = None, subject: str | UUID | None = None, **data: object
    ) -> str:
        """Tell an event, and return its id once the journal has kept it.

        From then on it is not lost: it is sent until the broker has acknowledged it, also after the connection, the
        process or, with `synchronous="full"`, the power was lost. It may arrive more than once, always under the same
        id, and in the order in which events were kept. The broker need not be there. Events that are emitted together
        share a commit, so many at once (`asyncio.gather`) cost little. Cancelling takes no event back.

        :param name: what kind of event it is, the last level of its topic; in the characters of an id.
        :param key: what events of this name are counted by, up to 256 characters.
        :param subject: what it is about, up to 256 characters: later events name the same subject to follow it up.
        :param data: facts, as JSON can carry them; msgspec Structs, dataclasses, times and the like too.
        :raises InvalidName: the name is not well formed.
        :raises InvalidEvent: key or subject is empty or too long, or the data cannot be sent.
        :raises MessageTooLarge: it is over the device's `max_size`.
        :raises EventsFull: the device keeps `max_events` already which the broker has not acknowledged.
        :raises JournalError: the journal cannot be written. Of these four nothing was kept.
        :raises NotServed: the device is not being served.
        """
        return await self.telling().emit(name, key, _text(subject), data)

    def emit_blocking(
        self, name: str, /, *, key: str | None = None, subject: str | UUID | None = None, **data: object
    ) -> str:
        """`emit` for a plain function, which runs in a thread: the thread waits.

        :raises RuntimeError: in the event loop, which would wait for itself.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self.telling().emit_blocking(name, key, _text(subject), data)
        raise RuntimeError("emit_blocking would stop the event loop: in an async function await emit instead")


def _text(subject: str | UUID | None) -> str | None:
    return str(subject) if isinstance(subject, UUID) else subject
