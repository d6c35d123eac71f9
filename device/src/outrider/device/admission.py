"""Whether a command may run: pure, with the time and the device's situation as arguments."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from outrider.schema import ALL, Code, Command, CommandSpec, Status
from outrider.schema.messages import MAX_EXPIRY

from .job import Job
from .journal import CLOCK_TOLERANCE


class Registration(NamedTuple):
    """A command as a device knows it.

    `idempotent` ones skip the journal. `control` commands run in any state, at once. `inline` ones run at once too:
    they are outrider's own and never block. `timeout` is in seconds. `max_parallel` is how many may be accepted and not
    finished at the same time.
    """

    spec: CommandSpec
    function: Callable[..., object]
    idempotent: bool = False
    timeout: float | None = None
    control: bool = False
    inline: bool = False
    max_parallel: int | None = None

    @classmethod
    def of_control(cls, function: Callable[..., object], *, idempotent: bool) -> "Registration":
        """A control command made of a method of `builtin.Controls`."""
        return cls(CommandSpec(function, injectable=(Job,)), function, idempotent, control=True, inline=True)


class Situation(NamedTuple):
    """What a decision depends on besides the command.

    `now` is Unix seconds. `jobs` are those accepted and not finished, `alike` those of them of the same command.
    `forgotten_until` is the greatest `expires` that the journal has dropped, 0 for a command that skips it.
    """

    now: float
    status: str
    jobs: int = 0
    alike: int = 0
    journal_full: bool = False
    forgotten_until: float = 0.0


class Refusal(NamedTuple):
    """Why a command must not run; `code` is empty where the status says all."""

    status: Status
    code: str
    message: str


class Admission:
    """The rules of one device.

    :param groups: those the device is in.
    :param commands: looked at anew for each decision.
    """

    def __init__(
        self, device: str, groups: frozenset[str], commands: Mapping[str, Registration], *, max_jobs: int
    ) -> None:
        self._device = device
        self._addressed = groups | {device, ALL}
        self._commands = commands
        self._max_jobs = max_jobs

    def refusal(self, command: Command, registration: Registration | None, situation: Situation) -> Refusal | None:
        """Why this command must not run now, None if it may (its arguments are not looked at)."""
        device, now, expires = self._device, situation.now, command.expires
        if expires is not None:
            issued = now + CLOCK_TOLERANCE if command.issued is None else command.issued
            if expires > issued + MAX_EXPIRY:
                message = "expires lies more than 7 days after issued; choose an earlier one"
                return Refusal(Status.REJECTED, Code.INVALID_MESSAGE, message)
            if is_expired(expires, now):
                message = f"expired {now - expires:.0f} s before it arrived, by the clock of {device}"
                return Refusal(Status.EXPIRED, "", message)
            if expires <= situation.forgotten_until:
                message = f"as old as commands that {device} has forgotten; send it again with a new id"
                return Refusal(Status.EXPIRED, "", message)
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


def is_expired(expires: float, now: float) -> bool:
    """Whether a command must not start any more: `expires` lies more than the clock tolerance before `now`."""
    return now - expires > CLOCK_TOLERANCE
