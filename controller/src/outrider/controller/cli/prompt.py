"""The REPL at a terminal: a prompt that shows the target's state, and what comes back while you type."""

import asyncio
import contextlib
import logging
import math
import signal
from collections.abc import Callable, Generator
from functools import partial
from typing import Final

from platformdirs import user_state_path
from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.styles import Style
from rich.text import Text

from outrider.controller import Fleet
from outrider.schema import OutriderError

from .completion import LineCompleter
from .options import open_fleet
from .session import Leave, Sent, Session
from .terminal import printable, results_console, show

ROWS: Final = 6
"""How many commands in flight are shown at most."""

BAR: Final = 20
"""Columns of a progress bar."""

TYPED: Final = 40
"""Characters that are shown of a command in flight."""

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
        self._interpreting: asyncio.Task[Sent | None] | None = None

    async def run(self, broker: str | None, prefix: str | None, requester: str | None) -> int:
        """Read and interpret lines until the user leaves. Returns the exit code.

        :raises BrokerUnreachable: there is none at the start; one that is lost later is awaited.
        """
        fleet = open_fleet(broker, prefix, requester, on_connect=self._connected, on_disconnect=self._disconnected)
        async with fleet, asyncio.TaskGroup() as tasks:
            session = Session(
                fleet, tasks, show=partial(show, self._output), tagged=True, wait=self._wait, changed=self._redraw
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
            )
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)
            with patch_stdout(raw=True), _logged(self._notice), fleet.roster.watch(lambda state: self._redraw()):
                self._greet(fleet)
                await self._loop(self._prompt, session)
                for sent in session.in_flight.values():
                    self._notice(f"[{sent.tag}] {sent.target} {printable(sent.text)} goes on", "yellow")
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

    def _greet(self, fleet: Fleet) -> None:
        count = len(fleet.devices())
        there = f"{count} device{'' if count == 1 else 's'}" if count else "no device yet"
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
        show(self._output, Text(printable(text, keep="\n"), style=style))

    def _redraw(self) -> None:
        """Show what has changed in the prompt and in the bar, also while the user is typing."""
        if self._prompt is not None and self._session is not None:
            self._prompt.bottom_toolbar = self._toolbar if self._session.in_flight else None
            self._prompt.app.invalidate()

    def _message(self) -> StyleAndTextTuples:
        session = self._session
        if session is None or session.target is None:
            return [("", "outrider"), *([("class:lost", " [no broker]")] if self._broker_lost else []), ("", "> ")]
        status, words = "lost", "no broker"
        if not self._broker_lost:
            statuses = [state.status for state in session.states]
            if session.is_group:
                ready = statuses.count("ready")
                status = "ready" if ready and ready == len(statuses) else "unready"
                words = f"{ready} of {len(statuses)} ready"
            else:
                status = words = statuses[0] if statuses else "unknown"
        return [("class:target", session.target), ("", " ["), (f"class:{status}", words), ("", "]> ")]

    def _toolbar(self) -> StyleAndTextTuples:
        assert self._session is not None
        in_flight = list(self._session.in_flight.values())
        width = max((len(_label(sent)) for sent in in_flight[:ROWS]), default=0)
        rows = [_row(sent, width) for sent in in_flight[:ROWS]]
        if len(in_flight) > ROWS:
            rows.append([("", f"… and {len(in_flight) - ROWS} more")])
        return [part for at, row in enumerate(rows) for part in ([("", "\n")] if at else []) + row]


def _label(sent: Sent) -> str:
    text = printable(sent.text)
    return f"{sent.target} {text if len(text) <= TYPED else f'{text[: TYPED - 1]}…'}"


def _row(sent: Sent, width: int) -> StyleAndTextTuples:
    """One command in flight: what it is, how far it is, what its device says."""
    count = len(sent.dispatch.targets.devices)
    row: StyleAndTextTuples = [("class:tag", f"[{sent.tag}] "), ("", f"{_label(sent):{width}}  ")]
    fractions = [progress.fraction for progress in sent.progress.values() if progress.fraction is not None]
    if fractions or sent.done:
        fraction = (sum(fractions) + sent.done) / count
        full = round(fraction * BAR)
        row += [("class:bar", "━" * full), ("class:rest", "─" * (BAR - full)), ("", f" {fraction:4.0%}  ")]
    if count > 1:
        row.append(("", f"{sent.done} of {count} ended"))
    elif sent.progress:
        progress = next(iter(sent.progress.values()))
        row.append(("", printable(progress.text or ("" if fractions else "accepted"))))
    else:
        row.append(("", "sent"))
    return row


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
