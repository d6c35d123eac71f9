"""What the hub does for devices: the functions of its plugins, as a member of the pool `hub`, and for HTTP."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from msgspec import Raw

from outrider.device import Address, Arguments, Device, JournalFile, SqliteJournal, error_of, value_of
from outrider.device.endpoint import Endpoint
from outrider.schema import BrokerUnreachable, Code, CommandAbout, CommandRejected, InvalidArguments, Result, Topics

from .plugins import Context, Plugin, PluginError, check_names, register_at

POOL: Final = "hub"
"""The pool that every hub is in."""


class Functions:
    """The functions of the plugins, for callers in this process."""

    def __init__(self, device: Device, endpoint: Endpoint) -> None:
        self._device = device
        self._performing = endpoint.performing
        self._abouts = {
            name: command.spec.about(
                idempotent=command.idempotent, timeout=command.timeout, max_parallel=command.max_parallel
            )
            for name, command in sorted(device.commands.items())
            if name != "ping"  # a device's own, unless a plugin has one
        }
        self.open = False

    def names(self) -> list[str]:
        """Their names, in order."""
        return list(self._abouts)

    def about(self, name: str) -> CommandAbout:
        """A function's help, and JSON Schemas of its arguments and its value.

        :raises CommandRejected: there is no such function; its code is `unknown-command`.
        """
        if name not in self._abouts:
            raise self._rejected(name, Code.UNKNOWN_COMMAND, f"no plugin has a function {name!r}; there are {self}")
        return self._abouts[name]

    async def call(self, name: str, args: Arguments | Raw, *, caller: str, timeout: float | None = None) -> object:
        """Call a function and return its value as plain objects. It is cancelled with whoever awaits it.

        :param args: named or positional; decoded, or as they stand in JSON.
        :param caller: for whom, a well-formed name; `Job.behalf` tells the function.
        :param timeout: seconds it may run.
        :raises RemoteError: as a device that is called would.
        :raises BrokerUnreachable: the hub has ended.
        """
        result = await self.result(name, args, caller=caller, timeout=timeout)
        if error := error_of(result):
            raise error
        return value_of(result)

    async def result(self, name: str, args: Arguments | Raw, *, caller: str, timeout: float | None = None) -> Result:
        """`call`, which returns the final answer whatever its status, the value in JSON.

        :raises CommandRejected: there is no such function, or no message can carry the arguments.
        :raises BrokerUnreachable: the hub has ended.
        """
        self.about(name)
        if not self.open:
            raise BrokerUnreachable(f"{self._device.id} has ended: its functions cannot be called any more")
        try:
            return await self._performing.perform(name, args, behalf=caller, timeout=timeout)
        except InvalidArguments as error:
            raise self._rejected(name, Code.INVALID_ARGUMENTS, str(error), error.argument) from error

    def _rejected(self, name: str, code: Code, words: str, argument: str | None = None) -> CommandRejected:
        device = self._device.id
        details = {"argument": argument} if argument else None
        return CommandRejected(
            f"{device}: {name} rejected ({code}): {words}", device=device, command=name, code=code, details=details
        )

    def __str__(self) -> str:
        return ", ".join(self._abouts) or "none"


class Services:
    """Serves the functions of plugins as long as the context is open: to devices in the pool `hub`, and to `functions`.

    :param context: what the plugins see of the hub; its name is the device's id.
    :param broker: URL.
    :param journal: a file of its own, so that a call runs once also across a restart of the hub.
    :raises PluginError: two plugins have one name, or a function of the same name.
    :raises InvalidName: the hub's name is not well formed.
    """

    def __init__(
        self, plugins: Sequence[Plugin], context: Context, *, broker: str, prefix: str = "", journal: Path
    ) -> None:
        check_names(plugins)
        self._plugins = plugins
        self._context = context
        self._address = Address.parse(broker)
        self._prefix = Topics(prefix).prefix
        self._path = journal
        self._device = Device(context.name, pools=[POOL], initial="ready")
        for plugin in plugins:
            for function in plugin.functions.values():
                register_at(self._device, function, context)
        self._stack = contextlib.AsyncExitStack()
        self._serving: asyncio.Task[bool]
        self.functions: Functions

    async def __aenter__(self) -> Self:
        """Enter the plugins' contexts, then serve; it does not wait for the broker.

        :raises PluginError: a plugin's context could not be entered.
        :raises JournalError: the journal cannot be opened: another hub of this name runs already, or the disk is at
            fault.
        """
        try:
            for plugin in self._plugins:
                await self._begin(plugin)
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End what runs, leave the pool, then leave the plugins' contexts."""
        await self._stack.aclose()

    async def ended(self) -> bool:
        """Return when somebody has ended the device with `terminate`; False if a function of it would not stop.

        :raises SubscribeRefused: the broker does not let the hub read its commands.
        """
        return await asyncio.shield(self._serving)

    async def _begin(self, plugin: Plugin) -> None:
        if plugin.lifespan is None:
            return
        try:
            await self._stack.enter_async_context(plugin.lifespan(self._context))
        except Exception as error:
            raise PluginError(f"plugin {plugin.name} could not start: {type(error).__name__}: {error}") from error

    async def _open(self) -> None:
        id = self._device.id
        file = self._stack.enter_context(contextlib.closing(JournalFile(self._path)))
        name = f"{self._prefix}/{id}" if self._prefix else id
        journal = self._stack.enter_context(contextlib.closing(SqliteJournal(file, name)))
        endpoint = Endpoint(self._device, self._address, journal, prefix=self._prefix)
        self.functions = Functions(self._device, endpoint)
        self._serving = asyncio.create_task(endpoint.run(), name=f"services of {id}")
        self._serving.add_done_callback(self._closed)
        self._stack.push_async_callback(self._end, endpoint)
        await asyncio.sleep(0)  # it takes up first what a restart has interrupted
        self.functions.open = True

    async def _end(self, endpoint: Endpoint) -> None:
        endpoint.stop()
        await asyncio.wait([self._serving])

    def _closed(self, serving: asyncio.Task[bool]) -> None:
        self.functions.open = False
        if not serving.cancelled():
            serving.exception()  # `ended` raises it
