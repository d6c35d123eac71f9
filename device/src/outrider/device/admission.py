"""Whether a command may run: pure, with the time and the device's situation as arguments."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from outrider.schema import ALL, UNKNOWN, Code, Command, CommandSpec, Status
from outrider.schema.messages import MAX_EXPIRY

from .job import Job
from .journal import CLOCK_TOLERANCE, Entry, Stage
from .skew import rough


class Registration(NamedTuple):
    """A command as a device knows it.

    `idempotent` ones may run again after a restart. `control` commands run in any state, at once. `inline` ones run at
    once too: they are outrider's own and never block. `timeout` is in seconds. `max_parallel` is how many may be
    accepted and not finished at the same time. `remembered` is for how many seconds the journal keeps it at most, where
    a late repeat does no harm. The jobs of `private` ones are shown to their owners alone.
    """

    spec: CommandSpec
    function: Callable[..., object]
    idempotent: bool = False
    timeout: float | None = None
    control: bool = False
    inline: bool = False
    max_parallel: int | None = None
    remembered: float | None = None
    private: bool = False

    @property
    def journaled(self) -> bool:
        """Whether the journal keeps it: all but what is done as soon as it has come, and may be done twice."""
        return not (self.idempotent and self.inline)

    @classmethod
    def of_control(
        cls, function: Callable[..., object], *, idempotent: bool, remembered: float | None = None
    ) -> "Registration":
        """A control command made of a method of `builtin.Controls`."""
        spec = CommandSpec(function, injectable=(Job,))
        return cls(spec, function, idempotent, control=True, inline=True, remembered=remembered)


class Situation(NamedTuple):
    """What a decision depends on besides the command.

    `now` is Unix seconds. `jobs` are those accepted and not finished, `alike` those of them of the same command.
    `forgotten_until` is the greatest `expires` that the journal has dropped, `forgotten_before` when a journal was
    lost; both are 0 for a command that skips it. `clock` says what is wrong with the device's clock, if anything is.
    """

    now: float
    status: str
    jobs: int = 0
    alike: int = 0
    journal_full: bool = False
    forgotten_until: float = 0.0
    forgotten_before: float = 0.0
    clock: str = ""


class Refusal(NamedTuple):
    """Why a command must not run; `code` is empty where the status says all."""

    status: Status
    code: str
    message: str
    details: dict[str, object] | None = None


class Admission:
    """The rules of one device.

    :param groups: those the device is in.
    :param commands: looked at anew for each decision.
    :param tolerance: seconds that clocks may differ.
    """

    def __init__(
        self,
        device: str,
        groups: frozenset[str],
        commands: Mapping[str, Registration],
        *,
        max_jobs: int,
        tolerance: float = CLOCK_TOLERANCE,
    ) -> None:
        self._device = device
        self._addressed = groups | {device, ALL}
        self._commands = commands
        self._max_jobs = max_jobs
        self._tolerance = tolerance

    def refusal(self, command: Command, registration: Registration | None, situation: Situation) -> Refusal | None:
        """Why this command must not run now, None if it may (its arguments are not looked at)."""
        device = self._device
        # What changes nothing may be asked however late it is: also by who wants to know why all else is too late.
        reads = registration is not None and registration.control and not registration.journaled
        if late := self._too_late(command, situation, reads=reads):
            return late
        if command.to is not None and command.to not in self._addressed:
            return Refusal(Status.REJECTED, Code.INVALID_MESSAGE, f"meant for {command.to}; this is {device}")
        if registration is None:
            names = ", ".join(sorted(self._commands))
            message = f"{device} has no command {command.command!r}; it has {names}"
            return Refusal(Status.REJECTED, Code.UNKNOWN_COMMAND, message)
        if situation.status == "terminated":
            return Refusal(Status.REJECTED, Code.NOT_READY, f"{device} is ending and takes no more commands")
        if situation.status != "ready" and not registration.control:
            message = f"{device} is {situation.status}; data commands run in ready only: send it start first"
            return Refusal(Status.REJECTED, Code.NOT_READY, message)
        if situation.jobs >= self._max_jobs and not registration.inline:
            message = f"{device} has {situation.jobs} jobs already; try again when some have ended"
            return Refusal(Status.REJECTED, Code.BUSY, message)
        if registration.max_parallel is not None and situation.alike >= registration.max_parallel:
            limit = f"{situation.alike} {command.command} of at most {registration.max_parallel}"
            return Refusal(Status.REJECTED, Code.BUSY, f"{device} runs {limit} already; try again when one has ended")
        if situation.journal_full and not registration.control:
            message = f"the journal of {device} is full; try again when older commands have expired"
            return Refusal(Status.REJECTED, Code.BUSY, message)
        return None

    def refusal_after_restart(
        self, entry: Entry, registration: Registration | None, situation: Situation
    ) -> Refusal | None:
        """Why a command that a restart has interrupted must not run, or not again; None if it may.

        A control command may: it is the last of those that came, and had not ended.
        """
        if registration is None:
            message = f"{self._device} was restarted without this command"
            status = Status.INTERRUPTED if entry.stage is Stage.STARTED else Status.REJECTED
            return Refusal(status, "" if status is Status.INTERRUPTED else Code.UNKNOWN_COMMAND, message)
        if registration.control:
            return None
        late = is_expired(entry.expires, situation.now, self._tolerance)
        if entry.stage is Stage.STARTED:
            if registration.idempotent and not late and situation.status == "ready":
                return None
            message = f"{self._device} was restarted while it ran; whether it finished is not known"
            return Refusal(Status.INTERRUPTED, "", message)
        if late:
            return Refusal(Status.EXPIRED, "", f"expired while {self._device} was away")
        if situation.status != "ready":
            message = f"{self._device} was restarted before it started, and came back {situation.status}"
            return Refusal(Status.CANCELLED, "", message)
        return None

    def _too_late(self, command: Command, situation: Situation, *, reads: bool) -> Refusal | None:
        """Why its times keep it from running."""
        device, now, expires, issued = self._device, situation.now, command.expires, command.issued
        if expires is not None:
            if expires > (now + self._tolerance if issued is None else issued) + MAX_EXPIRY:
                message = "expires lies more than 7 days after issued; choose an earlier one"
                return Refusal(Status.REJECTED, Code.INVALID_MESSAGE, message)
            if is_expired(expires, now, self._tolerance) and not reads:
                clock = situation.clock or time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
                message = f"expired {rough(now - expires)} before it arrived, by the clock of {device} ({clock})"
                return Refusal(Status.EXPIRED, "", message, {UNKNOWN: True})
            if expires <= situation.forgotten_until:
                message = f"as old as commands that {device} has forgotten; send it again with a new id"
                return Refusal(Status.EXPIRED, "", message, {UNKNOWN: True})
        lost = situation.forgotten_before
        if issued is not None and lost and issued <= lost + self._tolerance:
            message = f"{device} has lost its journal since it was issued, and may have run it; send it with a new id"
            return Refusal(Status.EXPIRED, "", message, {UNKNOWN: True})
        return None


def is_expired(expires: float, now: float, tolerance: float = CLOCK_TOLERANCE) -> bool:
    """Whether a command must not start any more: `expires` lies more than the clock tolerance before `now`."""
    return now - expires > tolerance
