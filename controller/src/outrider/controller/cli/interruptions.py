"""Ctrl-C while something is waited for: as an event of the loop, and what the user is asked then."""

import asyncio
import signal
from collections.abc import Generator
from contextlib import contextmanager

from prompt_toolkit import PromptSession
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent


@contextmanager
def interruptions() -> Generator["asyncio.Queue[None]"]:
    """Ctrl-C as entries of a queue, instead of the end of the program."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[None]()
    loop.add_signal_handler(signal.SIGINT, queue.put_nowait, None)
    try:
        yield queue
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def one_of(question: str, keys: str) -> str:
    """The key that was pressed; the one before the last for Ctrl-C, Ctrl-D or Escape."""
    bindings = KeyBindings()

    def answer(event: KeyPressEvent) -> None:
        event.app.exit(result=event.key_sequence[0].data.lower())

    for key in keys:
        bindings.add(key)(answer)
        bindings.add(key.upper())(answer)
    bindings.add("<any>")(_nothing)
    session: PromptSession[str] = PromptSession(key_bindings=bindings, erase_when_done=True)
    try:
        return await session.prompt_async(question)
    except (KeyboardInterrupt, EOFError):
        return keys[-2]


def _nothing(event: KeyPressEvent) -> None:
    """Any other key."""
