"""The life of a device: `unready` —start→ `ready` —stop→ `unready`; terminate leads from either to the end."""

from collections.abc import Callable
from typing import Literal

from statemachine import State, StateMachine


class Lifecycle(StateMachine):
    """The state machine behind `start`, `stop` and `terminate`.

    `start` in `ready` and `stop` in `unready` succeed and change nothing, so that a broadcast can be repeated.
    A transition costs some 70 µs, so the current status is kept in `status` for the path of data commands.
    Only the device's event loop may send events.
    """

    unready = State(initial=True)
    ready = State()
    terminated = State(final=True)

    start = unready.to(ready) | ready.to(ready, internal=True)
    stop = ready.to(unready) | unready.to(unready, internal=True)
    terminate = unready.to(terminated) | ready.to(terminated)

    def __init__(self, status: str, changed: Callable[[str], None]) -> None:
        """Begin in `status`; `changed` is called with the new status after each change, not for the first."""
        self.status = ""
        self._changed = changed
        super().__init__(start_value=status)  # pyright: ignore[reportUnknownMemberType]  # typed in part

    def apply(self, event: Literal["start", "stop", "terminate"]) -> str:
        """Let an event happen and return the resulting status.

        :raises statemachine.exceptions.TransitionNotAllowed: once terminated.
        """
        self.send(event)  # pyright: ignore[reportUnknownMemberType]  # typed in part
        return self.status

    def on_enter_state(self, target: State) -> None:
        """Called by the state machine."""
        first = not self.status
        self.status = str(target.id)
        if not first:
            self._changed(self.status)
