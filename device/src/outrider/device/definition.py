"""What a device's author says of it: its id, how it stands in the fleet, and typed functions as commands."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, overload

from outrider.schema import MAX_SIZE, CommandSpec, InvalidCommand, check_name

from . import builtin
from .admission import Registration
from .job import Job
from .journal import Journal, MemoryJournal

F = TypeVar("F", bound=Callable[..., Any])


class Definition:
    """A device before it is connected.

    :param id: unique in the fleet; A-Z a-z 0-9 _ -, at most 64 characters.
    :param groups: each can be commanded as one; every device is in the group `all` besides.
    :param pools: pools of devices of which any one may take a command.
    :param tags: facts to choose devices by.
    :param versions: what is shown in `about`, besides outrider's and Python's.
    :param initial: the status of a new device; data commands run in `ready` only.
    :param journal: what keeps a command from running twice; in memory by default.
    :param max_jobs: jobs accepted and not finished; one more is rejected as `busy`.
    :param max_threads: plain functions that run at the same time.
    :param max_size: bytes of a message, command or result.
    :raises InvalidName: for an id, group or pool that is not well formed.
    """

    def __init__(
        self,
        id: str,
        *,
        groups: Iterable[str] = (),
        pools: Iterable[str] = (),
        tags: Mapping[str, str | int | float | bool] | None = None,
        versions: Mapping[str, str] | None = None,
        initial: Literal["unready", "ready"] = "unready",
        journal: Journal | None = None,
        max_jobs: int = 1000,
        max_threads: int = 32,
        max_size: int = MAX_SIZE,
    ) -> None:
        self.id = check_name(id, "device id")
        self.groups = tuple(dict.fromkeys(check_name(group, "group") for group in groups))
        self.pools = tuple(dict.fromkeys(check_name(pool, "pool") for pool in pools))
        self.tags = dict(tags or {})
        self.versions = dict(versions or {})
        self.initial: Literal["unready", "ready"] = initial
        self.journal: Journal = journal or MemoryJournal()
        self.max_jobs = max_jobs
        self.max_threads = max_threads
        self.max_size = max_size
        self.commands: dict[str, Registration] = {}
        self._register(builtin.ping, idempotent=True, inline=True)

    @overload
    def command(self, function: F, /) -> F: ...

    @overload
    def command(
        self, /, *, name: str | None = None, idempotent: bool = False, timeout: float | None = None
    ) -> Callable[[F], F]: ...

    def command(
        self,
        function: F | None = None,
        /,
        *,
        name: str | None = None,
        idempotent: bool = False,
        timeout: float | None = None,
    ) -> F | Callable[[F], F]:
        """Make a typed function a command; the function itself stays as it is.

        `async def` functions run in the event loop, plain ones each in a thread. The docstring is the command's help.

        :param name: the command's name if not the function's.
        :param idempotent: running it twice does no harm, so it may be run again after a restart.
        :param timeout: seconds it may run; a caller can only ask for less.
        :raises InvalidCommand: the signature does not say enough, or the name is taken.
        """

        def register(function: F) -> F:
            self._register(function, name=name, idempotent=idempotent, timeout=timeout)
            return function

        return register if function is None else register(function)

    def include(self, *functions: Callable[..., object]) -> None:
        """Add ready-made commands, such as `outrider.device.calculate`."""
        for function in functions:
            self._register(function)

    def _register(
        self,
        function: Callable[..., object],
        *,
        name: str | None = None,
        idempotent: bool = False,
        timeout: float | None = None,
        inline: bool = False,
    ) -> None:
        spec = CommandSpec(function, name=name, injectable=(Job,))
        if spec.name in builtin.RESERVED:
            raise InvalidCommand(f"{self.id}: {spec.name!r} is a control command of every device; choose another name")
        known = self.commands.get(spec.name)
        if known is not None and known.function is not builtin.ping:
            raise InvalidCommand(f"{self.id}: there is a command {spec.name!r} already; choose another name")
        self.commands[spec.name] = Registration(spec, function, idempotent, timeout, inline=inline)
