"""Between the event loop and the threads of users' plain functions."""

import asyncio
import threading
from collections.abc import Callable
from contextvars import copy_context


def call_from_any_thread(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Call at once when already in the loop, else in its next turn; nothing once the loop is closed."""
    try:
        here = asyncio.get_running_loop() is loop
    except RuntimeError:
        here = False
    if here:
        call()
        return
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:  # closed: the process is going down and nobody waits any more
        return


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
            # A future refuses StopIteration, as it would end a coroutine silently.
            finished.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)
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
