"""Plugins of the hub: modules of typed functions, which devices call and HTTP reaches; and how they are found."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import update_wrapper
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, get_type_hints, overload

from outrider.device import Device
from outrider.schema import LocalError

if TYPE_CHECKING:  # a plugin's author needs none of them, and they come with the extra `hub`
    from litestar.types import ControllerRouterHandler

    from outrider.controller.fleet import Fleet

    from .store import Store
    from .telling import Telling

F = TypeVar("F", bound=Callable[..., Any])

GROUP: Final = "outrider.hub"
"""The group of entry points under which installed packages name their plugins."""


class PluginError(LocalError):
    """A plugin that cannot be loaded, or that does not go together with the others; it says which and why."""


class Context:
    """The hub, as a plugin sees it. A function asks for it with a parameter annotated `Context`.

    :ivar name: the hub's name: its id as a device, and its name as a requester.
    :ivar fleet: the devices; to see and to command them.
    :ivar store: what the hub remembers. Its methods block: call them in plain functions, or through `to_thread`.
    :ivar database: its URL, for a plugin that keeps tables of its own there.
    :ivar folder: of the hub's own files; a plugin may have some beside them.
    """

    # No dataclass: msgspec would look for all their types when a route asks for one.

    def __init__(
        self, name: str, fleet: "Fleet", store: "Store", telling: "Telling", database: str, folder: Path
    ) -> None:
        self.name = name
        self.fleet = fleet
        self.store = store
        self.database = database
        self.folder = folder
        self._telling = telling

    async def emit(
        self,
        name: str,
        /,
        *,
        key: str | None = None,
        subject: str | None = None,
        time: float | None = None,
        **data: object,
    ) -> str:
        """Tell of a fact, as `Device.emit` does, but recorded at once: when this returns, `store` has it.

        :param time: when it was, Unix seconds; now, where nothing is said.
        :returns: the event's id.
        :raises InvalidName: the name is not well formed.
        :raises InvalidEvent: the key or the subject is no text of a fit length, or the data cannot be sent.
        :raises MessageTooLarge: the data are larger than a message may be.
        :raises QueueFull: the database is slower than they come, or away.
        """
        return await self._telling.emit(name, key, subject, data, time=time)


Lifespan = Callable[[Context], AbstractAsyncContextManager[object]]
"""What is entered before a plugin's functions can be called, and left after the last of them has ended."""


class Function(NamedTuple):
    """A function of a plugin, with what `Plugin.function` was told of it."""

    name: str
    function: Callable[..., object]
    idempotent: bool
    timeout: float | None
    max_parallel: int | None


class Plugin:
    """Typed functions that the hub offers to devices, in the pool `hub`, and over HTTP.

    ::

        from outrider.controller.hub import Context, Plugin

        words = Plugin("words")

        @words.function(idempotent=True)
        async def count_words(text: str) -> int:
            "Count the words of a text."
            return len(text.split())

        @words.function
        async def dim_all(hub: Context, level: int) -> list[str]:
            "Set every lamp of the kitchen."
            return [outcome.device async for outcome in hub.fleet.send("@kitchen", "dim", level)]

    They are written as commands of a device are: plain or async, with a `Job` where they ask for one.

    :param name: what messages call it.
    :param lifespan: gives an async context, as `contextlib.asynccontextmanager` makes one.
    :param routes: Litestar's route handlers, controllers or routers, which the hub serves at the paths that they name.
        They get a `Context` as the dependency `hub`. Who calls them needs the scope `send`, for GET `read`, unless the
        `opt` of a handler has `exclude_from_auth`.
    :raises InvalidName: the name is not well formed.
    """

    def __init__(
        self, name: str, *, lifespan: Lifespan | None = None, routes: "Sequence[ControllerRouterHandler]" = ()
    ) -> None:
        self.name = name
        self.lifespan = lifespan
        self.routes = routes
        self.functions: dict[str, Function] = {}
        self._checking = Device(name)

    @overload
    def function(self, function: F, /) -> F: ...

    @overload
    def function(
        self,
        /,
        *,
        name: str | None = None,
        idempotent: bool = False,
        timeout: float | None = None,
        max_parallel: int | None = None,
    ) -> Callable[[F], F]: ...

    def function(
        self,
        function: F | None = None,
        /,
        *,
        name: str | None = None,
        idempotent: bool = False,
        timeout: float | None = None,
        max_parallel: int | None = None,
    ) -> F | Callable[[F], F]:
        """Offer a function; the function itself stays as it is. The parameters are those of `Device.command`.

        :raises InvalidCommand: as `Device.command` does, and where an earlier function of this plugin has the name.
        """

        def register(function: F) -> F:
            offered = Function(name or function.__name__, function, idempotent, timeout, max_parallel)
            # A device's rules for commands are those for functions, and tell the author at once.
            register_at(self._checking, offered, None)
            self.functions[offered.name] = offered
            return function

        return register if function is None else register(function)


def register_at(device: Device, offered: Function, context: Context | None) -> None:
    """Make a plugin's function a command of the device that the hub is.

    :param context: what the function's parameters that are annotated `Context` get.
    :raises InvalidCommand: as `Device.command` does.
    """
    decorate = device.command(
        name=offered.name,
        idempotent=offered.idempotent,
        timeout=offered.timeout,
        max_parallel=offered.max_parallel,
    )
    decorate(_bound(offered.function, context))


def _bound(function: Callable[..., Any], context: Context | None) -> Callable[..., Any]:
    """The function without its parameters that are annotated `Context`, which are given that."""
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError):
        return function  # `CommandSpec` says what is wrong
    wanted = [name for name, hint in hints.items() if hint is Context and name != "return"]
    if not wanted:
        return function
    given = dict.fromkeys(wanted, context)

    def plain(**arguments: object) -> object:
        return function(**arguments, **given)

    async def asynchronous(**arguments: object) -> object:
        return await function(**arguments, **given)

    bound: Callable[..., Any] = asynchronous if inspect.iscoroutinefunction(function) else plain
    update_wrapper(bound, function)
    signature = inspect.signature(function)
    others = [each for name, each in signature.parameters.items() if name not in wanted]
    bound.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]  # as PEP 362 has it
    bound.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if name not in wanted}
    return bound


def load(references: Sequence[str] = (), *, installed: bool = True) -> list[Plugin]:
    """The plugins that references name and, before them, those of installed packages.

    :param references: `MODULE` for all plugins of a module, `MODULE:NAME` for one; found from the current folder.
    :param installed: look for entry points in the group `outrider.hub`.
    :raises PluginError: a module cannot be imported or has no such plugin, or two plugins or functions share a name.
    """
    found: list[Plugin] = []
    if installed:
        for point in entry_points(group=GROUP):
            package = point.dist.name if point.dist else "an installed package"
            found += _named(point.value, f"plugin {point.name} of {package} ({point.value})")
    for reference in references:
        found += _named(reference, f"plugin {reference}")
    plugins = list(dict.fromkeys(found))
    check_names(plugins)
    return plugins


def check_names(plugins: Iterable[Plugin]) -> None:
    """Refuse plugins that cannot be told apart.

    :raises PluginError: two have one name, or a function of the same name.
    """
    names: set[str] = set()
    owners: dict[str, str] = {}
    for plugin in plugins:
        if plugin.name in names:
            raise PluginError(f"there are two plugins called {plugin.name!r}: give one of them another name")
        names.add(plugin.name)
        for function in plugin.functions:
            if function in owners:
                raise PluginError(
                    f"the plugins {owners[function]!r} and {plugin.name!r} both have a function {function!r}: call one "
                    "of them otherwise, with function(name=…)"
                )
            owners[function] = plugin.name


def _named(reference: str, what: str) -> list[Plugin]:
    module_name, colon, name = reference.partition(":")
    file = Path(module_name)
    if file.suffix == ".py" and file.is_file():
        raise PluginError(f"{what} names a file: write its module, as {file.stem}, in its folder")
    if not module_name or (colon and not name):
        raise PluginError(f"{what} is not MODULE or MODULE:NAME, as in words or words:plugin")
    module = _imported(module_name, what)
    if name:
        plugin = getattr(module, name, None)
        if not isinstance(plugin, Plugin):
            raise PluginError(f"{what} is no Plugin (those of {module_name}: {', '.join(_plugins(module)) or 'none'})")
        return [plugin]
    found = _plugins(module)
    if not found:
        raise PluginError(f"{what} has no Plugin in it: make one, as `words = Plugin('words')`")
    return list(found.values())


def _plugins(module: ModuleType) -> dict[str, Plugin]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Plugin)}


def _imported(name: str, what: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise PluginError(f"{what}: there is no module {error.name!r} in {here} or among the installed") from error
        raise PluginError(f"{what} needs {error.name}, which is not installed{_place(error)}") from error
    except Exception as error:
        raise PluginError(f"{what} cannot be imported: {type(error).__name__}: {error}{_place(error)}") from error


def _place(error: BaseException) -> str:
    """Where in somebody else's file it was raised."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    last = frames[-1] if len(frames) > 1 else None
    return f" ({last.filename}, line {last.lineno})" if last else ""
