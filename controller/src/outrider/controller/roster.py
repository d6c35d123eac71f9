"""Who is there: the live states and abouts of a fleet, as retained messages tell them."""

import asyncio
from collections.abc import Callable

from outrider.device.states import States
from outrider.schema import About, Decoder, InvalidMessage, Kind, State, Topic
from outrider.schema.codec import MAX_SIZE

_ABOUT = Decoder(About, max_size=4 * MAX_SIZE)


class Roster(States):
    """Takes state and about messages, and keeps the newest of each device.

    :param returned: called with the id of a device that is there with a session that was not known before.
    """

    def __init__(self, returned: Callable[[str], None] | None = None) -> None:
        super().__init__(returned)
        self._abouts: dict[str, About] = {}
        self._awaited: dict[str, list[asyncio.Future[About]]] = {}

    def receive(self, topic: Topic, payload: bytes) -> None:
        """Take a message of kind STATE or ABOUT; one that is broken or names another device is ignored."""
        if topic.device is None:
            return
        if topic.kind is Kind.STATE:
            self.take(topic.device, payload)
        elif topic.kind is Kind.ABOUT:
            self._about(topic.device, payload)

    def about(self, device: str) -> About | None:
        """What is known of the device's commands; None until its about has come."""
        return self._abouts.get(device)

    def await_about(self, device: str) -> asyncio.Future[About]:
        """A future for the next about message of this device."""
        future: asyncio.Future[About] = asyncio.get_running_loop().create_future()
        self._awaited.setdefault(device, []).append(future)
        return future

    def replaced(self, known: State | None, state: State) -> None:
        """Its about is another one, too, where the digest is."""
        if known is not None and known.about != state.about:
            self._abouts.pop(state.device, None)

    def _about(self, device: str, payload: bytes) -> None:
        try:
            about, _ = _ABOUT.decode(payload)
        except InvalidMessage:
            return
        self._abouts[device] = about
        for future in self._awaited.pop(device, []):
            if not future.done():
                future.set_result(about)
