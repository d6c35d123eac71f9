"""What a device's author says of it: its id, how it stands in the fleet, and typed functions as commands."""

import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast, overload

from outrider.schema import MAX_SIZE, CommandSpec, InvalidCommand, InvalidDefinition, check_name

from . import builtin
from .address import Address
from .admission import Registration
from .events import MAX_EVENTS
from .job import Job
from .journal import CLOCK_TOLERANCE, Journal
from .journal_file import Synchronous

F = TypeVar("F", bound=Callable[..., Any])
B = TypeVar("B", bound=Callable[[], Awaitable[object]])

SIZES: Final = (4096, 16 * 1024 * 1024)
"""Bytes that `max_size` may be: room for what stands around a result, and what a device can hold many of."""

LARGEST_TOLERANCE: Final = 86_400.0
"""Seconds that clocks may differ at most: so long a command is remembered beyond its `expires`."""

_INTEGERS: Final = (-(2**63), 2**64 - 1)
"""What every encoding can carry."""


class Definition:
    """A device before it is connected.

    :param id: unique in the fleet; A-Z a-z 0-9 _ -, at most 64 characters.
    :param groups: each can be commanded as one; every device is in the group `all` besides.
    :param pools: pools of devices of which any one may take a command.
    :param tags: facts to choose devices by.
    :param versions: what is shown in `about`, besides outrider's and Python's.
    :param initial: the status of a new device; data commands run in `ready` only.
    :param journal: what keeps a command from running twice: the path of a file, by default one of the device's own
        under `$XDG_STATE_HOME/outrider`; or a journal, as `MemoryJournal()`, which forgets with its process.
    :param synchronous: what the journal's file survives: the end of the process (`normal`), or of the power (`full`).
    :param clock_tolerance: seconds that its clock and those of requesters may differ.
    :param max_jobs: jobs accepted and not finished; one more is rejected as `busy`.
    :param max_threads: plain functions that run at the same time.
    :param max_events: events that wait for the broker's acknowledgement; one more is refused.
    :param max_size: bytes of a message, command or result; 4,096 to 16 MiB.
    :raises InvalidName: for an id, group or pool that is not well formed.
    :raises InvalidDefinition: for a limit out of range, a tag or a version that no message can carry.
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
        journal: Journal | Path | None = None,
        synchronous: Synchronous = "normal",
        clock_tolerance: float = CLOCK_TOLERANCE,
        max_jobs: int = 1000,
        max_threads: int = 32,
        max_events: int = MAX_EVENTS,
        max_size: int = MAX_SIZE,
    ) -> None:
        self.id = check_name(id, "device id")
        self.groups = tuple(dict.fromkeys(check_name(group, "group") for group in groups))
        self.pools = tuple(dict.fromkeys(check_name(pool, "pool") for pool in pools))
        self.tags = check_tags(tags or {})
        self.versions = {name: _check_version(name, version) for name, version in (versions or {}).items()}
        self.initial: Literal["unready", "ready"] = initial
        self.journal = journal
        self.synchronous: Synchronous = synchronous
        if not 0 < clock_tolerance <= LARGEST_TOLERANCE:
            raise InvalidDefinition(
                f"clock_tolerance cannot be {clock_tolerance!r}: give seconds above 0, up to {LARGEST_TOLERANCE:g}"
            )
        self.clock_tolerance = float(clock_tolerance)
        self.max_jobs = _check_limit("max_jobs", max_jobs, 1)
        self.max_threads = _check_limit("max_threads", max_threads, 1)
        self.max_events = _check_limit("max_events", max_events, 1)
        self.max_size = _check_limit("max_size", max_size, *SIZES)
        self.commands: dict[str, Registration] = {}
        self.backgrounds: list[Callable[[], Awaitable[object]]] = []
        self.openings: list[Callable[[Address, str], AbstractContextManager[object] | None]] = []
        self._register(builtin.ping, idempotent=True, inline=True)

    @overload
    def command(self, function: F, /) -> F: ...

    @overload
    def command(
        self,
        /,
        *,
        name: str | None = None,
        idempotent: bool = False,
        timeout: float | None = None,
        max_parallel: int | None = None,
        private: bool = False,
    ) -> Callable[[F], F]: ...

    def command(
        self,
        function: F | None = None,
        /,
        *,
        name: str | None = None,
        idempotent: bool = False,
        timeout: float | None = None,
        max_parallel: int | None = None,
        private: bool = False,
    ) -> F | Callable[[F], F]:
        """Make a typed function a command; the function itself stays as it is.

        `async def` functions run in the event loop, plain ones each in a thread. The docstring is the command's help.

        :param name: the command's name if not the function's.
        :param idempotent: running it twice does no harm, so it may be run again after a restart.
        :param timeout: seconds it may run; a caller can only ask for less.
        :param max_parallel: how many of it the device takes on at the same time; one more is rejected as `busy`. A
            plain function that does not stop when it is cancelled or timed out counts until it returns.
        :param private: `jobs` shows one that runs to who sent it only, not to everybody who may ask.
        :raises InvalidCommand: the signature does not say enough, the name is taken, it is a generator, its timeout is
            not above 0 and finite, or `max_parallel` is no whole number from 1 on.
        """

        def register(function: F) -> F:
            self._register(
                function,
                name=name,
                idempotent=idempotent,
                timeout=timeout,
                max_parallel=max_parallel,
                private=private,
            )
            return function

        return register if function is None else register(function)

    def background(self, function: B, /) -> B:
        """Run an `async def` function without parameters beside the commands, as one that measures and emits.

        It begins when the device is served, whether or not a broker is there, in any status, and is cancelled at the
        end. Where it raises, the log says so and the device goes on without it.

        :raises InvalidDefinition: it is not `async def`, or cannot be called without arguments.
        """
        name = getattr(function, "__name__", repr(function))
        if not inspect.iscoroutinefunction(cast(object, function)):  # what it returns is not narrowed then
            raise InvalidDefinition(f"{self.id}: the background function {name} must be async def")
        try:
            inspect.signature(function).bind()
        except TypeError as error:
            raise InvalidDefinition(f"{self.id}: nothing calls the background function {name} with {error}") from None
        self.backgrounds.append(function)
        return function

    def before_serving(self, function: Callable[[Address, str], AbstractContextManager[object] | None], /) -> None:
        """Call a function with the broker's address and the topics' prefix each time before the device is served.

        What it raises, `serve` raises: for what must not be on just any broker, or is prepared on the disk. The journal
        is open by then, so no other process serves this device. A context manager that it returns is entered, and left
        when the device is served no more.
        """
        self.openings.append(function)

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
        max_parallel: int | None = None,
        inline: bool = False,
        private: bool = False,
    ) -> None:
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise InvalidCommand(
                f"{self.id}: command {name or function.__name__!r} is a generator (it has a yield); a command gives "
                "one value: return it, and tell what happens meanwhile with Job.report or Job.print"
            )
        spec = CommandSpec(function, name=name, injectable=(Job,))
        if spec.name in builtin.RESERVED:
            raise InvalidCommand(f"{self.id}: {spec.name!r} is a control command of every device; choose another name")
        if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
            raise InvalidCommand(
                f"{self.id}: command {spec.name!r} cannot have the timeout {timeout}: give seconds above 0, or none"
            )
        if max_parallel is not None and (type(max_parallel) is not int or max_parallel < 1):
            raise InvalidCommand(
                f"{self.id}: command {spec.name!r} cannot have max_parallel {max_parallel!r}: give 1 or more, or none"
            )
        known = self.commands.get(spec.name)
        if known is not None and known.function is not builtin.ping:
            raise InvalidCommand(f"{self.id}: there is a command {spec.name!r} already; choose another name")
        # A float, as a message has it: 3 and 3.0 would give the About different digests.
        seconds = None if timeout is None else float(timeout)
        self.commands[spec.name] = Registration(
            spec, function, idempotent, seconds, inline=inline, max_parallel=max_parallel, private=private
        )


def check_tags(tags: Mapping[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
    """The tags, as long as a message can carry them.

    :raises InvalidDefinition: names the tag that has no name, or a value that is no text, number or truth.
    """
    checked: dict[str, str | int | float | bool] = {}
    for name, value in tags.items():
        if not _is_text(name) or not name:
            raise InvalidDefinition(f"a tag cannot be called {name!r}: use text that is not empty, as in room=1")
        match value:
            case str():
                good = _is_text(value)
            case bool():
                good = True
            case int():
                good = _INTEGERS[0] <= value <= _INTEGERS[1]
            case float():
                good = math.isfinite(value)
            case _:
                good = False
        if not good:
            raise InvalidDefinition(f"tag {name!r} cannot be {value!r}: use text, a finite number, True or False")
        checked[name] = value
    return checked


def _check_version(name: str, version: str) -> str:
    if not (_is_text(name) and name and _is_text(version)):
        raise InvalidDefinition(f"version {name!r} cannot be {version!r}: both are text, as in firmware='1.2'")
    return version


def _check_limit(name: str, value: int, least: int, most: int | None = None) -> int:
    if type(value) is not int or value < least or (most is not None and value > most):
        range = f"{least} or more" if most is None else f"{least:,} to {most:,}"
        raise InvalidDefinition(f"{name} cannot be {value!r}: give a whole number, {range}")
    return value


def _is_text(value: object) -> bool:
    """Whether it is text that can be encoded: bytes of a command line that are no UTF-8 cannot."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
