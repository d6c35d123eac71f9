"""Between the event loop and the threads of users' plain functions."""

import asyncio
import threading
from collections.abc import Callable
from contextvars import copy_context

WAITING = 100
"""Calls from threads that wait for their event loop; a thread that makes one more waits itself."""

_room = threading.BoundedSemaphore(WAITING)


def call_from_any_thread(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Call at once when already in the loop, else in its next turn; nothing once the loop is closed.

    A thread that calls faster than the loop can follow is held back, so that what waits stays bounded.
    """
    try:
        here = asyncio.get_running_loop() is loop
    except RuntimeError:
        here = False
    if here:
        call()
        return
    while not _room.acquire(timeout=1):
        if loop.is_closed():
            return

    def called() -> None:
        _room.release()
        call()

    try:
        loop.call_soon_threadsafe(called)
    except RuntimeError:  # closed: the process is going down and nobody waits any more
        _room.release()


def run_in_daemon_thread(function: Callable[[], object], name: str) -> asyncio.Future[object]:
    """Run a plain function in a thread that does not keep the process alive.

    A `ThreadPoolExecutor` joins its threads at exit, so one function that ignores cancel would hold up `terminate`.

    :returns: a future with the function's value or exception; `asyncio.CancelledError` raised by it cancels the future.
    """
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[object] = loop.create_future()
    context = copy_context()

    def settle(value: object, error: BaseException | None) -> None:
        if finished.done():
            return
        if error is None:
            finished.set_result(value)
        elif isinstance(error, asyncio.CancelledError):
            finished.cancel()
        else:
            # A future refuses StopIteration, and GeneratorExit would close the coroutines that await it.
            silent = isinstance(error, StopIteration | GeneratorExit)
            finished.set_exception(RuntimeError(repr(error)) if silent else error)
            finished.exception()  # seen, also where nobody waits any more

    def run() -> None:
        value: object = None
        raised: BaseException | None = None
        try:
            value = context.run(function)
        except BaseException as error:
            raised = error
        call_from_any_thread(loop, lambda: settle(value, raised))

    threading.Thread(target=run, name=name, daemon=True).start()
    return finished
