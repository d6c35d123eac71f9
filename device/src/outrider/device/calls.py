"""What a device, and each of its jobs, offers a command's function: calls to other devices and to pools."""

import asyncio
import concurrent.futures
from typing import Any, Protocol, TypeVar, overload

from outrider.schema import Result

from .invoker import DEFAULT_WAIT, Arguments
from .outcome import error_of, value_of

T = TypeVar("T")


class Asking(Protocol):
    """Who sends what is asked: the endpoint of a device."""

    loop: asyncio.AbstractEventLoop

    async def ask(self, target: str, command: str, args: Arguments, *, wait: float) -> Result:
        """Send a command to one device, or one of a pool, and return its final answer, whatever its status."""
        ...


class Calls:
    """Calls to other devices, in the two forms that `async def` and plain functions need."""

    def asking(self) -> Asking:
        """Who sends what is asked.

        :raises BrokerUnreachable: the device is not being served.
        """
        raise NotImplementedError

    def waits(self, call: "concurrent.futures.Future[Result]") -> None:
        """Note that a thread waits for this call; for those who can end the waiting."""

    @overload
    async def call(
        self, target: str, command: str, /, *args: object, type: type[T], wait: float = ..., **named: object
    ) -> T: ...

    @overload
    async def call(self, target: str, command: str, /, *args: object, wait: float = ..., **named: object) -> object: ...

    async def call(
        self,
        target: str,
        command: str,
        /,
        *args: object,
        type: Any = object,  # the overloads say what it is
        wait: float = DEFAULT_WAIT,
        **named: object,
    ) -> object:
        """Call a command on another device, or on any one of a pool (`any:words`), and return its value.

        Arguments go by position or by name; one that is called `type` or `wait` goes by position. The requester is this
        device's id.

        :param type: what the value is decoded as; plain objects by default.
        :param wait: seconds to wait for the final answer. A device may start the command for as long, at least for 30.
        :raises UnknownTarget: nobody has seen this device.
        :raises NoMember: no member of the pool is ready.
        :raises InvalidName: the target is neither a device nor a pool, or `command` is empty or too long.
        :raises InvalidArguments: NaN, an infinity or an integer of more than 64 bits.
        :raises RemoteError: the device answered otherwise than `done`.
        :raises NoAnswer: the wait ended first, or the device is terminated and was not asked.
        :raises SubscribeRefused: the broker does not let this device read answers, states or pools.
        :raises QueueFull: too many calls of this device wait for their answers.
        :raises BrokerUnreachable: the broker was not there to find the device, or this device has ended.
        """
        result = await self.asking().ask(target, command, arguments(args, named), wait=wait)
        return _value(result, type)

    @overload
    def call_blocking(
        self, target: str, command: str, /, *args: object, type: type[T], wait: float = ..., **named: object
    ) -> T: ...

    @overload
    def call_blocking(
        self, target: str, command: str, /, *args: object, wait: float = ..., **named: object
    ) -> object: ...

    def call_blocking(
        self,
        target: str,
        command: str,
        /,
        *args: object,
        type: Any = object,  # the overloads say what it is
        wait: float = DEFAULT_WAIT,
        **named: object,
    ) -> object:
        """`call` for a plain function, which runs in a thread: the thread waits.

        :raises RuntimeError: in the event loop, which would wait for itself.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError("call_blocking would stop the event loop: in an async function await call instead")
        asking = self.asking()
        asked = asking.ask(target, command, arguments(args, named), wait=wait)
        waiting = asyncio.run_coroutine_threadsafe(asked, asking.loop)
        self.waits(waiting)
        try:
            result = waiting.result()
        except concurrent.futures.CancelledError:  # another class than asyncio's
            raise asyncio.CancelledError from None
        return _value(result, type)


def arguments(args: tuple[object, ...], named: dict[str, object]) -> Arguments:
    """The arguments of a command as they were given to a Python function.

    :raises TypeError: some by position and some by name.
    """
    if args and named:
        raise TypeError("give arguments by position or by name, not both: the protocol has one or the other")
    return named or list(args)


def _value(result: Result, type: type[object]) -> object:
    if error := error_of(result):
        raise error
    return value_of(result, type)
