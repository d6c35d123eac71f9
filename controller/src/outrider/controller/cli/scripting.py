"""One script on its way to the devices of a target: their output as it comes, and how each one ended."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console, RenderableType
from rich.text import Text

from outrider.controller import Dispatch, Fleet, Targets
from outrider.controller.scripts import ALLOWING, RUN, answer, succeeded
from outrider.device import Reply
from outrider.device.scripts.contract import STREAMS, TRUNCATED, Limits, ScriptResult, Stream
from outrider.schema import About, Code, LocalError, Progress, Result

from .fetching import fetch
from .live import NAME, Live
from .output import json_text, plain_result, printable, summary_line
from .saving import Folder
from .script_ends import ending, endings_text, entry, how_it_ended, outputs
from .script_output import COLOURS, Lines, Told, Verbatim, plain
from .sending import Form, Sending, later
from .terminal import messages_console, named

FAILED: Final = 1
"""The exit code where a script did not end by itself, and that of one whose own is none that a process can have."""


class ScriptsOff(LocalError):
    """No device of the target runs scripts."""


class Scripting(Sending):
    """One script on its way.

    :param limits: those that it runs with, as far as they are known here.
    :param folder: where its output is kept too.
    :param names: of files that are fetched afterwards, into the folder.
    """

    def __init__(self, target: str, form: Form, *, limits: Limits, folder: Folder | None, names: Sequence[str]) -> None:
        super().__init__(target, RUN, form)
        self._limits = limits
        self._folder = folder
        self._names = names
        self._told: dict[str, Told] = {}
        self._lines: dict[str, Lines] = {}
        self._unended: set[Console] = set()
        """The consoles whose last line has not ended."""
        messages = messages_console()
        # One terminal has one console: another one would write through the lines at its foot.
        one = self._results.is_terminal and messages.is_terminal
        self._consoles: dict[Stream, Console] = {
            "stdout": self._results,
            "stderr": self._results if one else messages,
        }
        self._aside = self._results if one else messages
        self._fetched = True
        self.exit_code = FAILED

    def checked(self, arguments: dict[str, object], targets: Targets, abouts: Mapping[str, About]) -> dict[str, object]:
        """The arguments, as they are.

        :raises ScriptsOff: all devices have told their commands, and none runs scripts.
        """
        if abouts and len(abouts) == len(targets.devices) and not any(RUN in each.commands for each in abouts.values()):
            who = next(iter(abouts)) if len(abouts) == 1 else f"none of the {len(abouts)} devices"
            verb = "does not run scripts" if len(abouts) == 1 else "runs scripts"
            raise ScriptsOff(f"{who} {verb}: start it with {ALLOWING}")
        return arguments

    def _live(self, dispatch: Dispatch) -> Live:
        # Below the output of the only device, whose last line may be open, nothing can stand.
        return Live(self._aside, dispatch.targets.devices, shown=not _is_alone(dispatch) and self._form is Form.TEXT)

    def _say_progress(self, reply: Reply, progress: Progress) -> None:
        if self._dispatch is None or not self._dispatch.expects(reply.device):
            return
        told = self._told_by(reply.device)
        excessive = told.excessive
        missing, text = told.take(progress)
        if missing and self._form is Form.TEXT:
            self._say_missing(reply.device, missing)
        if progress.stream is not None and text:
            self._print_output(reply.device, progress.stream, text)
            if self._folder is not None:
                self._folder.add(reply.device, progress.stream, text)
        if told.excessive and not excessive and self._form is Form.TEXT:
            words = "… sends more output than it was asked to; the rest is dropped"
            self._say_aside(Text(f"{printable(reply.device)}  {words}", style="dim"))
        if progress.text and self._form is Form.TEXT and self._is_alone and self._aside.is_terminal:
            self._say_aside(Text(printable(progress.text), style="dim"))

    def _print_outcome(self, result: Result) -> None:
        said = answer(result)
        whole = said is None or self._print_rest(result.device, said)
        if self._folder is not None:
            self._folder.begin(result.device)
            lacking: dict[str, object] = {} if whole else {"incomplete": True}
            self._folder.note({"device": result.device} | entry(result) | lacking, result.device)
        if self._form is Form.NDJSON:
            self._print(self._results, json_text(plain_result(result)))
        elif self._form is Form.TEXT:
            for stream in STREAMS:
                self._print_text(stream, self._lines_of(result.device).end(stream))
            if not self._is_alone or said is None or said.killed_by is not None:
                self._say_aside(ending(result, self._limits))

    def _print_rest(self, device: str, said: ScriptResult) -> bool:
        """Show what the result has of the output and was not shown meanwhile; whether all of it is there now."""
        whole_there = True
        told = self._told_by(device)
        for stream, whole in outputs(said):
            if rest := told.rest(stream, whole):
                self._print_output(device, stream, rest)
                if self._folder is not None:
                    self._folder.add(device, stream, rest)
            elif told.gaps and TRUNCATED.search(whole):
                whole_there = False
            elif told.gaps and self._folder is not None:
                self._folder.begin(device)
                self._folder.replace(device, stream, whole)
        return whole_there

    async def _afterwards(self, fleet: Fleet, dispatch: Dispatch) -> None:
        if self._folder is None or not self._names:
            return
        for device, result in dispatch.outcomes.items():
            if answer(result) is None:
                continue
            for name in self._names:
                if words := await fetch(fleet, device, name, self._folder):
                    self._fetched = False
                    self._say_aside(Text.assemble((f"{device}  ", "bold"), words))

    def _conclude(self, dispatch: Dispatch) -> None:
        dispatch.let_go()
        results = list(dispatch.outcomes.values())
        if self._form is Form.JSON:
            self._print(self._results, json_text(self._document(dispatch)))
        elif self._form is Form.TEXT:
            if len(results) > 1:
                endings = Counter(filter(None, map(how_it_ended, results)))
                self._say_aside(summary_line(dispatch.outcomes).append_text(endings_text(endings)))
            self._say_aside(later(dispatch))
        if self._form is not Form.QUIET and (lacking := _lacking(results)):
            self._say_aside(Text(f"no scripts on {named(lacking)}: start it with {ALLOWING}", style="dim"))
        self.exit_code = self._code(results)

    def _succeeded(self, dispatch: Dispatch) -> bool:
        return self.exit_code == 0

    def _code(self, results: Sequence[Result]) -> int:
        if len(results) != 1:
            return 0 if results and all(map(succeeded, results)) and self._fetched else FAILED
        said = answer(results[0])
        if said is None or not 0 <= said.exit_code <= 255:
            return FAILED
        return said.exit_code or (0 if self._fetched else FAILED)

    @property
    def _is_alone(self) -> bool:
        return self._dispatch is not None and _is_alone(self._dispatch)

    def _told_by(self, device: str) -> Told:
        return self._told.setdefault(device, Told(self._limits.output))

    def _lines_of(self, device: str) -> Lines:
        if device not in self._lines:
            devices = self._dispatch.targets.devices if self._dispatch else ()
            width = min(max(map(len, devices), default=0), NAME)
            place = devices.index(device) if device in devices else len(devices)
            self._lines[device] = Lines(device, width, COLOURS[place % len(COLOURS)])
        return self._lines[device]

    def _print_output(self, device: str, stream: Stream, text: str) -> None:
        if self._form is not Form.TEXT:
            return
        if not self._is_alone:
            self._print_text(stream, self._lines_of(device).add(stream, text))
        else:
            self._print_text(stream, plain(text))
            self._note_end(self._consoles[stream], text)

    def _print_text(self, stream: Stream, text: Verbatim | None) -> None:
        if text is not None:
            self._print(self._consoles[stream], text)

    def _note_end(self, console: Console, text: str) -> None:
        if text.endswith("\n"):
            self._unended.discard(console)
        else:
            self._unended.add(console)

    def _say_aside(self, line: RenderableType | None) -> None:
        if line is not None:
            self._end_line()
        super()._say_aside(line)

    async def _goes_on(self, dispatch: Dispatch, live: Live) -> bool:
        self._end_line()  # else the question would stand in the place of the last line
        return await super()._goes_on(dispatch, live)

    def _end_line(self) -> None:
        if self._aside in self._unended:
            self._unended.discard(self._aside)
            self._print(self._aside, Verbatim([("\n", None)]))

    def _say_missing(self, device: str, count: int) -> None:
        words = f"… {count:,} message{'' if count == 1 else 's'} of its output or progress did not come"
        if self._dispatch is not None:
            words += f"; what a result holds of it: outrider results {self._dispatch.id} --json"
        self._say_aside(Text(f"{printable(device)}  {words}", style="dim"))


def _is_alone(dispatch: Dispatch) -> bool:
    return dispatch.targets.pool is not None or len(dispatch.targets.devices) == 1


def _lacking(results: Sequence[Result]) -> list[str]:
    return [each.device for each in results if each.error is not None and each.error.code == Code.UNKNOWN_COMMAND]
