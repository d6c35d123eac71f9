"""The newest states of some devices, as retained messages tell them."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

from outrider.schema import Decoder, InvalidMessage, State

_STATE = Decoder(State)


class States:
    """Takes state messages, and keeps the newest of each device.

    :param returned: called with the id of a device that is there with a session that was not known before.
    """

    def __init__(self, returned: Callable[[str], None] | None = None) -> None:
        self._returned = returned
        self._states: dict[str, State] = {}
        self._watchers: list[Callable[[State], None]] = []

    @property
    def states(self) -> Mapping[str, State]:
        """The newest state of every device that was ever seen, by id."""
        return self._states

    def take(self, device: str, payload: bytes) -> None:
        """Take what stands in the place of a device's state; what is broken or names another device is ignored."""
        if not payload:  # someone cleared the retained state: the device is forgotten
            self.forget(device)
            return
        try:
            state, _ = _STATE.decode(payload)
        except InvalidMessage:
            return
        known = self._states.get(device)
        if state.device != device or (known is not None and state.session < known.session):
            return  # an older session says nothing of the present one
        self.replaced(known, state)
        self._states[device] = state
        new = known is None or state.session > known.session
        if new and self._returned is not None and state.status in ("ready", "unready"):
            self._returned(device)
        for changed in list(self._watchers):
            changed(state)

    def replaced(self, known: State | None, state: State) -> None:
        """A state takes the place of another; for those who keep more of a device."""

    def forget(self, device: str) -> None:
        """Know nothing of a device any more."""
        self._states.pop(device, None)

    @contextmanager
    def watch(self, changed: Callable[[State], None]) -> Generator[None]:
        """Call `changed` with each new state while the context is open."""
        self._watchers.append(changed)
        try:
            yield
        finally:
            self._watchers.remove(changed)
