"""Commands that a device is given in its own process, without the broker: the same rules, another way in and out."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping

from msgspec import Raw

from outrider.schema import (
    MAX_DEPTH,
    MAX_SIZE,
    Command,
    Encoding,
    InvalidArguments,
    InvalidMessage,
    Result,
    encode,
)
from outrider.schema.codec import check_nesting
from outrider.schema.commands import check_finite

from . import tracing
from .executor import Answer, Executor
from .invoker import Arguments
from .job import Job

GOOD_FOR = 30.0
"""Seconds in which such a command must start: it may wait for a thread."""


class Performing:
    """Gives commands to an executor, and takes their answers.

    :param device: whose commands they are; it is their requester as well.
    :param clock: Unix seconds.
    """

    def __init__(self, executor: Executor, device: str, clock: Callable[[], float] = time.time) -> None:
        self._executor = executor
        self._device = device
        self._clock = clock
        self._asked: dict[str, asyncio.Future[Result]] = {}

    async def perform(
        self, command: str, args: Arguments | Raw, *, behalf: str | None = None, timeout: float | None = None
    ) -> Result:
        """Run a command and return its final answer, in JSON, whatever its status; it is cancelled with the caller.

        :param args: named or positional; as they stand in JSON, or not encoded yet.
        :param behalf: who asks.
        :param timeout: seconds it may run.
        :raises InvalidArguments: they cannot be written in JSON, or are too large or too deep.
        """
        id = secrets.token_hex(8)
        now = self._clock()
        message = Command(
            id=id,
            command=command,
            args=_encoded(args),
            behalf=behalf,
            issued=now,
            expires=now + GOOD_FOR,
            timeout=timeout,
            trace=tracing.current(),
        )
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._asked[id] = answer
        try:
            self._executor.receive(message, Encoding.JSON, self._device)
            self._executor.commit()
            return await answer
        except asyncio.CancelledError:
            owner = Job(id, command, self._device, behalf or "", lambda _, __: None, lambda _, __: None)
            self._executor.cancel(owner, id)
            raise
        finally:
            del self._asked[id]

    def take(self, answer: Answer) -> bool:
        """Whether an answer is for somebody here, who has it then."""
        if answer.requester != self._device or (asked := self._asked.get(answer.message.id)) is None:
            return False
        if isinstance(answer.message, Result) and not asked.done():
            asked.set_result(answer.message)
        return True


def _encoded(args: Arguments | Raw) -> Raw:
    try:
        if not isinstance(args, Raw):
            for name, value in args.items() if isinstance(args, Mapping) else enumerate(args, 1):
                check_finite(value, str(name))
            args = Raw(encode(args, Encoding.JSON))
    except InvalidArguments:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidArguments(f"the arguments cannot be written in JSON: {error}") from error
    size = len(bytes(args))
    if size > MAX_SIZE:
        raise InvalidArguments(f"the arguments have {size:,} bytes; the limit is {MAX_SIZE:,}: send less at once")
    try:
        check_nesting(bytes(args), Encoding.JSON, max_depth=MAX_DEPTH - 1)  # the message around them is a level, too
    except InvalidMessage as error:
        raise InvalidArguments(f"the arguments cannot be taken: {error}") from error
    return args
