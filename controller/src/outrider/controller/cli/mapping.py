"""One script for each line of a file, over the devices of a target: outcomes in the order of the lines."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from rich.console import Console, RenderableType
from rich.text import Text

from outrider.controller import Fleet
from outrider.controller.dispatch import NOT_ADDRESSED
from outrider.controller.scripts import FROM_STDIN, RUN, InvalidScript, answer, succeeded
from outrider.controller.spread import Again
from outrider.controller.spreading import Ended, Spreading
from outrider.device import Reply
from outrider.device.scripts.contract import TRUNCATED, Limits
from outrider.schema import Result, Status

from .exits import Interrupted
from .interruptions import interruptions
from .live import Live
from .output import counts_text, json_text, plain_result, printable
from .saving import Folder
from .script_ends import ending, endings_text, entry, how_it_ended, outputs
from .script_output import plain
from .sending import Form
from .terminal import counted, messages_console, results_console

LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a file with inputs."""

CANCELLING: Final = 10.0
"""Seconds for cancelled scripts to end, after Ctrl-C."""

_SHOWN: Final = 40
"""Characters of an input that stand in a message."""

_NAMED: Final = 8
"""Runs of lines that are named in a message."""


class Input(NamedTuple):
    """A line of the file: its number, from 1, and what it says."""

    line: int
    text: str


def inputs(path: str, standard_input: BinaryIO) -> list[Input]:
    """The lines of a file that are not empty, each with its number, from 1.

    :param path: `-` is standard input.
    :raises InvalidScript: it cannot be read, is no UTF-8, is too large, or has no inputs.
    """
    name = "standard input" if path == FROM_STDIN else path
    try:
        if path == FROM_STDIN:
            data = standard_input.read(LARGEST + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(LARGEST + 1)
    except OSError as error:
        raise InvalidScript(f"{name} cannot be read: {error.strerror or error}") from None
    if len(data) > LARGEST:
        raise InvalidScript(f"{name} has more than {LARGEST:,} bytes: split it")
    found: list[Input] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            said = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise InvalidScript(f"{name}, line {number} is not UTF-8") from None
        if "\0" in said:
            raise InvalidScript(f"{name}, line {number} has a NUL in it, which no program can be given")
        if said:
            found.append(Input(number, said))
    if not found:
        raise InvalidScript(f"{name} has no inputs: each line that is not empty is one")
    return found


class Mapping:
    """One script for each input.

    :param lines: the inputs.
    :param arguments: what `run_script` gets for an input.
    """

    def __init__(
        self,
        lines: Sequence[Input],
        arguments: Callable[[str], dict[str, object]],
        form: Form,
        *,
        limits: Limits,
        folder: Folder | None,
    ) -> None:
        self._lines = lines
        self._arguments = arguments
        self._form = form
        self._limits = limits
        self._folder = folder
        self._width = max(6, len(str(lines[-1].line)))
        self._results = results_console()
        messages = messages_console()
        one = self._results.is_terminal and messages.is_terminal
        self._aside = self._results if one else messages
        self._ended: dict[int, Ended] = {}
        """Those whose turn has not come."""
        self._printed = 0
        self._statuses: Counter[Status] = Counter()
        self._endings: Counter[str] = Counter()
        self._unsent: list[int] = []
        self._failed = 0
        self._live = Live(self._aside, [str(each.line) for each in lines], shown=form is Form.TEXT)
        self._spreading: Spreading | None = None

    async def run(
        self,
        fleet: Fleet,
        target: str,
        *,
        again: Again,
        parallel: int | None,
        timeout: float | None,
        expires: float | None,
        wait: float,
    ) -> bool:
        """Run it for every input and print each outcome in its turn; whether all ended with exit code 0.

        :raises Interrupted: the user wanted it to end.
        """
        async with fleet:
            fleet.resolve(target)
            spreading = self._spreading = Spreading(
                fleet,
                target,
                RUN,
                lambda number: self._arguments(self._lines[number].text),
                len(self._lines),
                succeeded=succeeded,
                ended=self._take,
                again=again,
                parallel=parallel,
                timeout=timeout,
                expires=expires,
                wait=wait,
            )
            self._live.note(partial(_note, spreading))
            with self._live, interruptions() as came:
                interrupted = await self._until_ended(spreading, came)
        self._conclude()
        if interrupted:
            raise Interrupted
        return not self._failed

    def disconnected(self, reason: str) -> None:
        """Say that the connection was lost."""
        self._say(f"the connection was lost: {printable(reason)}; connecting again")

    def say_interrupted(self) -> None:
        """Say what Ctrl-C, or another early end, leaves behind."""
        behind = range(self._printed, len(self._lines))
        never = [at for at in behind if (ended := self._ended.get(at)) is not None and ended.result is None]
        unsent = [*self._unsent, *(self._lines[at].line for at in never)]
        unended = [self._lines[at].line for at in behind if at not in self._ended]
        words = f"interrupted; {len(self._lines) - len(unended) - len(unsent)} of {_inputs(len(self._lines))} ended"
        if unended:
            words += f"; cancelled, and not heard of since: {_of_lines(unended)}"
        if unsent:
            words += f"; never sent: {_of_lines(unsent)}"
        messages_console().print(words, soft_wrap=True)

    async def _until_ended(self, spreading: Spreading, came: "asyncio.Queue[None]") -> bool:
        """Return when every input has ended; whether Ctrl-C came before."""
        running = asyncio.create_task(spreading.run(), name="inputs")
        asked = asyncio.create_task(came.get(), name="Ctrl-C")
        try:
            await asyncio.wait((running, asked), return_when=asyncio.FIRST_COMPLETED)
            interrupted = not running.done()
            if interrupted:
                self._say(Text(f"cancelling {len(spreading.running)} of them", style="dim"))
                spreading.stop()
                asked = asyncio.create_task(came.get(), name="Ctrl-C again")
                await asyncio.wait((running, asked), timeout=CANCELLING, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
        except asyncio.CancelledError:  # by another signal
            spreading.stop()
            raise
        finally:
            asked.cancel()
            running.cancel()
            await asyncio.gather(running, asked, return_exceptions=True)
        return interrupted

    def _take(self, ended: Ended) -> None:
        self._ended[ended.number] = ended
        of = self._lines[ended.number]
        self._save(_about(of, ended), ended.result)
        if ended.result is not None:
            self._live.take(Reply(str(of.line), ended.result))
        while (due := self._ended.pop(self._printed, None)) is not None:
            self._printed += 1
            self._print_outcome(self._lines[due.number], due)

    def _print_outcome(self, of: Input, ended: Ended) -> None:
        result = ended.result
        if result is None:
            self._unsent.append(of.line)
        else:
            self._statuses[result.status] += 1
            self._endings.update(filter(None, [how_it_ended(result)]))
        self._failed += result is None or not succeeded(result)
        if self._form is Form.NDJSON:
            about = _about(of, ended)
            self._print(self._results, json_text(about if result is None else about | plain_result(result)))
        elif self._form is Form.TEXT and result is not None:
            self._print_output(result)
            if not succeeded(result):
                line = Text(f"line {of.line}, {_short(of.text)}: ")
                self._say(line.append_text(ending(result, self._limits) or Text(result.status)))

    def _print_output(self, result: Result) -> None:
        for stream, text in outputs(answer(result)):
            if text:
                console = self._results if stream == "stdout" else self._aside
                self._print(console, plain(text if text.endswith("\n") else f"{text}\n"))

    def _save(self, about: dict[str, object], result: Result | None) -> None:
        if self._folder is None:
            return
        if result is None:
            self._folder.note(about, None)
            return
        name = f"{about['index']:0{self._width}d}"
        self._folder.begin(name)
        whole = True
        for stream, text in outputs(answer(result)):
            self._folder.add(name, stream, text)
            whole = whole and not TRUNCATED.search(text)
        lacking: dict[str, object] = {} if whole else {"incomplete": True}
        self._folder.note({**about, "device": result.device, **entry(result), **lacking}, name)

    def _conclude(self) -> None:
        if self._form is not Form.TEXT:
            return
        spreading = self._spreading
        words = Text(f"{_inputs(len(self._lines))}: ").append_text(counts_text(self._statuses))
        if self._unsent:
            words.append(f"{', ' if self._statuses else ''}{len(self._unsent)} never sent")
        words.append_text(endings_text(self._endings))
        if spreading is not None and spreading.repeats:
            words.append(f"; {spreading.repeats} made again")
        self._say(words)
        if self._unsent and spreading is not None and not spreading.stopped:
            self._say(Text(f"no device took the rest within the wait: {_of_lines(self._unsent)}", style="dim"))

    def _say(self, words: RenderableType) -> None:
        if self._form is not Form.QUIET:
            self._print(self._aside, words)

    def _print(self, console: Console, shown: RenderableType) -> None:
        console.print(shown, soft_wrap=True)


def _about(of: Input, ended: Ended) -> dict[str, object]:
    """What is said of an input, beside the result where there is one."""
    about: dict[str, object] = {"index": of.line, "input": of.text, "attempts": ended.attempts}
    if ended.result is None:
        about |= {"status": Status.CANCELLED, "error": {"code": NOT_ADDRESSED, "message": "never sent"}}
    return about


def _note(spreading: Spreading) -> str:
    running = list(spreading.running.values())  # a copy: it is another thread that asks
    devices = {device for dispatch in running for device in dispatch.targets.devices}
    again = f", {spreading.repeats} made again" if spreading.repeats else ""
    return f"{len(running)} under way on {counted(len(devices))}{again}"


def _inputs(count: int) -> str:
    return f"{count} input{'' if count == 1 else 's'}"


def _of_lines(lines: Sequence[int]) -> str:
    """Lines of the file for a sentence, as `lines 3 to 7, 9`."""
    runs: list[list[int]] = []
    for line in lines:
        if runs and line == runs[-1][1] + 1:
            runs[-1][1] = line
        else:
            runs.append([line, line])
    words = [str(first) if first == last else f"{first} to {last}" for first, last in runs[:_NAMED]]
    more = ["…"] if len(runs) > _NAMED else []
    return f"line{'' if len(lines) == 1 else 's'} {', '.join([*words, *more])}"


def _short(text: str) -> str:
    return json_text(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
