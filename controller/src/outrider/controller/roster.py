"""Who is there: the live states and abouts of a fleet, as retained messages tell them."""

import asyncio
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

from outrider.schema import About, Decoder, InvalidMessage, Kind, State, Topic
from outrider.schema.codec import MAX_SIZE

_STATE = Decoder(State)
_ABOUT = Decoder(About, max_size=4 * MAX_SIZE)


class Roster:
    """Takes state and about messages, and keeps the newest of each device.

    :param returned: called with the id of a device that is there with a session that was not known before.
    """

    def __init__(self, returned: Callable[[str], None] | None = None) -> None:
        self._returned = returned
        self._states: dict[str, State] = {}
        self._abouts: dict[str, About] = {}
        self._awaited: dict[str, list[asyncio.Future[About]]] = {}
        self._watchers: list[Callable[[State], None]] = []

    @property
    def states(self) -> Mapping[str, State]:
        """The newest state of every device that was ever seen, by id."""
        return self._states

    def receive(self, topic: Topic, payload: bytes) -> None:
        """Take a message of kind STATE or ABOUT; one that is broken or names another device is ignored."""
        if topic.device is None:
            return
        if topic.kind is Kind.STATE:
            self._state(topic.device, payload)
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

    @contextmanager
    def watch(self, changed: Callable[[State], None]) -> Generator[None]:
        """Call `changed` with each new state while the context is open."""
        self._watchers.append(changed)
        try:
            yield
        finally:
            self._watchers.remove(changed)

    def _state(self, device: str, payload: bytes) -> None:
        if not payload:  # someone cleared the retained state: the device is forgotten
            self._states.pop(device, None)
            return
        try:
            state, _ = _STATE.decode(payload)
        except InvalidMessage:
            return
        known = self._states.get(device)
        if state.device != device or (known is not None and state.session < known.session):
            return  # an older session says nothing of the present one
        if known is not None and known.about != state.about:
            self._abouts.pop(device, None)
        self._states[device] = state
        new = known is None or state.session > known.session
        if new and self._returned is not None and state.status in ("ready", "unready"):
            self._returned(device)
        for changed in list(self._watchers):
            changed(state)

    def _about(self, device: str, payload: bytes) -> None:
        try:
            about, _ = _ABOUT.decode(payload)
        except InvalidMessage:
            return
        self._abouts[device] = about
        for future in self._awaited.pop(device, []):
            if not future.done():
                future.set_result(about)
