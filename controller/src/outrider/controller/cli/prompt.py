"""The REPL at a terminal: a prompt that shows the target's state, and what comes back while you type."""

import asyncio
import contextlib
import logging
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Final

from platformdirs import user_state_path
from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.styles import Style
from rich.console import RenderableType
from rich.text import Text

from outrider.controller import Fleet
from outrider.schema import OutriderError, State

from .completion import LineCompleter
from .hints import Lines, hint
from .keyboard import Keyboard, keys_kept
from .options import open_fleet
from .sent import Question, Sent
from .session import Session
from .terminal import counted, printable, results_console, show
from .toolbar import message, toolbar
from .typed import typed
from .watch import look, watching
from .words import Declined, Leave

HELD: Final = 2_000
"""Lines and tables that are kept to be shown after `watch`."""

REDRAW: Final = 0.03
"""Seconds between two drawings at least, however much comes."""

LOOK_AGAIN: Final = 1.0
"""Seconds after which states and help are looked up anew: of a device that was forgotten nothing tells."""

_STYLE: Final = Style.from_dict(
    {
        "target": "bold",
        "ready": "ansigreen",
        "unready": "ansiyellow",
        "lost": "ansired",
        "terminated": "ansibrightblack",
        "unknown": "ansibrightblack",
        "bottom-toolbar": "noreverse",
        "tag": "ansicyan",
        "bar": "ansigreen",
        "rest": "ansibrightblack",
        "usage": "bold",
        "parameter": "ansicyan",
        "current": "ansicyan bold underline",
        "help": "ansibrightblack",
        "fault": "ansired",
        "warning": "ansiyellow",
    }
)


class Prompt:
    """The loop at a terminal: prompt, interpret, while answers come in above the prompt and in the bar below it."""

    def __init__(self, wait: float | None) -> None:
        self._output = results_console()
        self._wait = math.inf if wait is None else wait
        self._prompt: PromptSession[str] | None = None
        self._session: Session | None = None
        self._broker_lost = False
        self._interpreting: asyncio.Task[Sent | Question | None] | None = None
        self._patched = contextlib.ExitStack()
        self._held: deque[RenderableType] | None = None
        self._statuses: Sequence[str] = ()
        self._looked: tuple[str | None, float] = (None, float("-inf"))
        self._helped: tuple[object, float, Lines] = (None, float("-inf"), [])

    async def run(self, broker: str | None, prefix: str | None, requester: str | None) -> int:
        """Read and interpret lines until the user leaves. Returns the exit code.

        :raises BrokerUnreachable: there is none at the start; one that is lost later is awaited.
        """
        fleet = open_fleet(broker, prefix, requester, on_connect=self._connected, on_disconnect=self._disconnected)
        with keys_kept() as keyboard:
            return await self._converse(fleet, keyboard)

    async def _converse(self, fleet: Fleet, keyboard: Keyboard) -> int:
        async with fleet, asyncio.TaskGroup() as tasks:
            session = Session(
                fleet,
                tasks,
                show=self._show,
                tagged=True,
                wait=self._wait,
                changed=self._changed,
                confirm=partial(self._confirm, keyboard),
                watch=self._watch,
            )
            self._session = session
            self._prompt = PromptSession[str](
                self._message,
                completer=LineCompleter(session),
                complete_while_typing=False,
                auto_suggest=AutoSuggestFromHistory(),
                history=_history(),
                enable_history_search=True,
                style=_STYLE,
                input=keyboard,
            )
            self._prompt.app.min_redraw_interval = REDRAW
            self._prompt.app.before_render += self._lay_out
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)
            with self._patched, _logged(self._notice), fleet.roster.watch(self._state_changed):
                self._patched.enter_context(patch_stdout(raw=True))
                self._greet(fleet)
                await self._loop(self._prompt, session)
                for sent in session.in_flight.values():
                    words = f"[{sent.tag}] {sent.target} {printable(sent.text)} goes on; "
                    self._notice(f"{words}what became of it: outrider results {sent.dispatch.id}", "yellow")
            session.close()
        return 0

    async def _loop(self, prompt: PromptSession[str], session: Session) -> None:
        while True:
            try:
                text = await prompt.prompt_async(handle_sigint=False)
                for line in text.splitlines():  # several where they were pasted
                    self._interpreting = asyncio.create_task(session.interpret(line), name="interpret")
                    await self._interpreting
            except (Leave, EOFError):
                return
            except KeyboardInterrupt:
                if not prompt.default_buffer.text:
                    tag = max(session.in_flight, default=None)
                    cancel = "" if tag is None else f"; cancel {tag} ends the command [{tag}] on its device"
                    self._notice(f"Ctrl-D or exit leaves{cancel}", "")
            except Declined as error:
                self._notice(str(error), "yellow")
            except OutriderError as error:
                self._notice(f"error: {error}", "red")
            except asyncio.CancelledError:
                if self._interpreting is None or not self._interpreting.cancelled():
                    raise
                self._notice("interrupted; nothing was sent", "yellow")
            finally:
                self._interpreting = None

    def _interrupt(self) -> None:
        """Ctrl-C while a line is interpreted; at the prompt it is a key."""
        if self._interpreting is not None:
            self._interpreting.cancel()

    async def _watch(self, fleet: Fleet, target: str | None) -> None:
        """Give the terminal to the live table, and show afterwards what came meanwhile."""
        if not self._output.is_terminal or self._output.is_dumb_terminal:
            await look(fleet, target, self._show, self._show, width=self._output.width)
            return
        self._patched.close()  # what was printed before is on the terminal then
        held = self._held = deque[RenderableType](maxlen=HELD)
        try:
            await watching(fleet, target)
        finally:
            self._held = None
            self._patched.enter_context(patch_stdout(raw=True))
            if len(held) == HELD:
                self._notice(f"the last {HELD} answers that came meanwhile:", "dim")
            for each in held:
                self._show(each)

    async def _confirm(self, keyboard: Keyboard, question: str) -> bool:
        words, _, last = question.rpartition("\n")  # a prompt of several lines would not fold those before the last
        self._notice(words, "yellow")
        return await _yes(last, keyboard)

    def _show(self, shown: RenderableType) -> None:
        if self._held is not None:
            self._held.append(shown)
        else:
            show(self._output, shown)

    def _greet(self, fleet: Fleet) -> None:
        count = len(fleet.devices())
        there = counted(count) if count else "no device yet"
        address = fleet.connection.address
        words = "help shows what to type, Tab completes, Ctrl-D leaves."
        self._notice(f"{there} at {address.host}:{address.port}. {words}", "dim")

    def _connected(self) -> None:
        if self._broker_lost:
            self._broker_lost = False
            self._notice("the broker is back", "green")
            self._redraw()

    def _disconnected(self, reason: str) -> None:
        self._broker_lost = True
        self._notice(f"lost the broker: {reason}; trying to reach it again. What you send now goes out then.", "yellow")
        self._redraw()

    def _notice(self, text: str, style: str) -> None:
        self._show(Text(printable(text, keep="\n"), style=style))

    def _state_changed(self, state: State) -> None:
        self._changed()

    def _changed(self) -> None:
        self._looked = (None, float("-inf"))
        self._redraw()

    def _redraw(self) -> None:
        """Show what has changed in the prompt and in the bar, also while the user is typing."""
        if self._prompt is not None:
            self._prompt.app.invalidate()

    def _message(self) -> StyleAndTextTuples:
        session = self._session
        assert session is not None
        now = time.monotonic()
        if self._looked[0] != session.target or now - self._looked[1] > LOOK_AGAIN:
            self._statuses = [state.status for state in session.states]
            self._looked = session.target, now
        return message(
            session.target,
            self._statuses,
            group=session.is_group,
            lost=self._broker_lost,
            columns=self._output.width,
        )

    def _lay_out(self, app: Application[str]) -> None:
        """Make the toolbar anew before each drawing; None where there is nothing to show, so that it takes no room."""
        if self._prompt is None or self._session is None:
            return
        size = app.output.get_size()
        in_flight = list(self._session.in_flight.values())
        shown = toolbar(self._hint(), in_flight, size.columns, size.rows, lost=self._broker_lost)
        self._prompt.bottom_toolbar = shown or None

    def _hint(self) -> Lines:
        assert self._prompt is not None
        assert self._session is not None
        session = self._session
        text = self._prompt.default_buffer.document.text_before_cursor
        what, now = (text, session.target, session.catalogue.version), time.monotonic()
        if self._helped[0] != what or now - self._helped[1] > LOOK_AGAIN:
            at = typed(text)
            commands = session.catalogue.known(at.target or session.target)
            self._helped = what, now, hint(at, commands, session.fleet.roster.states)
        return self._helped[2]


def _history() -> History:
    """The lines typed before, readable by their user alone."""
    try:
        path = user_state_path("outrider", ensure_exists=True) / "history"
        path.touch(mode=0o600)
        return FileHistory(path)
    except OSError:  # a read-only home, as containers may have
        return InMemoryHistory()


@contextlib.contextmanager
def _logged(notice: Callable[[str, str], None]) -> Generator[None]:
    """Show the errors that outrider logs, and no warnings: what these say here, the prompt and the notices say."""

    class Notices(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            notice(record.getMessage(), "red")

    logger, handler = logging.getLogger("outrider"), Notices(logging.ERROR)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _ignored(event: KeyPressEvent) -> None:
    """Any other key."""


async def _yes(question: str, keyboard: Keyboard) -> bool:
    """Ask, and wait for y; everything else that ends a question is a no."""
    bindings = KeyBindings()

    def answer(event: KeyPressEvent) -> None:
        event.app.exit(result=event.key_sequence[0].key)

    for key in ("y", "Y", "n", "N", "enter", "escape", "c-d"):
        bindings.add(key, eager=True)(answer)
    bindings.add("<any>")(_ignored)
    asking: PromptSession[str] = PromptSession(key_bindings=bindings, input=keyboard)
    try:
        return await asking.prompt_async(question, handle_sigint=False) in ("y", "Y")
    except (KeyboardInterrupt, EOFError):
        return False
