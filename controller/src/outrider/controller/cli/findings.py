"""How what is known of earlier commands looks: shared by `outrider results`, `jobs` and `cancel`."""

import asyncio
import time
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Final

import typer
from msgspec import to_builtins
from rich.table import Table
from rich.text import Text

from outrider.controller.durable import Brief
from outrider.controller.results import Cancellation, DeviceJob, Findings, Jobs, Standing, progress_words
from outrider.device import Reply
from outrider.schema import LocalError, Result

from .live import Live
from .output import (
    json_text,
    messages_console,
    plain_result,
    plain_value,
    printable,
    progress_text,
    reply_line,
    results_console,
    since,
    status_text,
    summary_line,
)
from .sending import Form
from .terminal import counted, named

NAME: Final = 24
"""Characters of a command's or requester's name in a table."""

VALUE: Final = 200
"""Characters of a value in a table; JSON has all of them."""

SLOW: Final = 1.0
"""Seconds after which it is said who has not answered yet."""

_ID: Final = 16
"""Characters of an id that outrider makes."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")]

TargetArgument = Annotated[
    str | None,
    typer.Argument(metavar="TARGET", help="A device's id, @group, …; by default all devices.", show_default=False),
]


class NothingKnown(LocalError):
    """No device and no result on the broker knows of this id."""


def print_lines(lines: Iterable[Mapping[str, object]]) -> None:
    """Print each as a line of JSON."""
    console = results_console()
    for line in lines:
        console.print(json_text(line), soft_wrap=True)


def say(words: str, style: str = "dim") -> None:
    """Say something to people, beside the results."""
    messages_console().print(Text(words, style=style), soft_wrap=True)


def disconnected(reason: str) -> None:
    """Say that the connection was lost."""
    say(f"the connection was lost: {printable(reason)}; connecting again", "yellow")


def say_untold(untold: Mapping[str, str]) -> None:
    """Say who was asked and did not tell, and why."""
    for line in untold_lines(untold):
        messages_console().print(line, soft_wrap=True)


def untold_lines(untold: Mapping[str, str]) -> Iterator[Text]:
    """Who was asked and did not tell, and why."""
    by_reason: dict[str, list[str]] = {}
    for device, why in untold.items():
        by_reason.setdefault(why.removeprefix(f"{device}: "), []).append(device)
    for why, devices in by_reason.items():
        yield Text(f"{named(devices)}: {printable(why)}", style="yellow")


def say_away(devices: Sequence[str]) -> None:
    """Say who is away and was not asked."""
    if devices:
        say(away_line(devices))


def away_line(devices: Sequence[str]) -> str:
    """Who is away and was not asked."""
    how = ("is", "was") if len(devices) == 1 else ("are", "were")
    return f"{counted(len(devices))} {how[0]} away and {how[1]} not asked: {named(devices)}"


def away_and_told(devices: Sequence[str]) -> str:
    """Who is away and is told to cancel a command later."""
    how = ("is", "it is") if len(devices) == 1 else ("are", "they are")
    return f"{counted(len(devices))} {how[0]} away and told when {how[1]} back: {named(devices)}"


def no_job_words(found: Jobs) -> str:
    """What is said where no job runs; empty where that is not known."""
    if found.told:
        return f"no job runs; {counted(len(found.told))} asked"
    return "" if found.untold else "no device is there"


def no_result_words(requester: str) -> str:
    """What is said where this requester has no result."""
    return f"no result stands on the broker for {printable(requester)}; another requester's: add --as NAME"


def unheard(cancellation: Cancellation, target: str | None) -> bool:
    """Whether someone said nothing to it: a device that is there, or one that `target` names and that is away."""
    findings = cancellation.findings
    return bool(findings.untold) or (target is not None and bool(findings.away))


def cancelled_words(cancellation: Cancellation) -> str:
    """Where a command was cancelled."""
    if not cancellation.cancelled:
        return "it had ended before: nothing was cancelled"
    idle = len(cancellation.idle)
    others = f"; {counted(idle)} did not run it" if idle else ""
    return f"cancelled on {named(cancellation.cancelled)}{others}"


def say_unfinished(briefs: Sequence[Brief], *, now: float | None = None) -> None:
    """Say which durable commands have not ended.

    :param now: Unix seconds.
    """
    now = time.time() if now is None else now
    for brief in briefs:
        left = brief.expires - now
        until = f"good for {since(left)} more" if left > 0 else f"expired {since(-left)} ago"
        say(
            f"not ended: {brief.id} {printable(brief.command)} to {_short(brief.target)} ({brief.ended} of "
            f"{counted(brief.devices)} ended, {until}): outrider results {brief.id}"
        )


def plain_durable(brief: Brief) -> dict[str, object]:
    """A durable command that has not ended, for JSON."""
    place = brief.place._asdict()
    return {**place, **{name: value for name, value in brief._asdict().items() if name != "place"}}


def print_outcomes(findings: Findings, besides: Collection[str] = ()) -> None:
    """Print a line for each device that knows of the command, and how many ended how.

    :param besides: devices whose outcome was printed before.
    """
    console = results_console()
    for line in outcome_lines(findings, besides):
        console.print(line, soft_wrap=True)


def outcome_lines(findings: Findings, besides: Collection[str] = ()) -> Iterator[Text]:
    """A line for each device that knows of the command, and how many ended how."""
    for device, result in findings.outcomes.items():
        if device in besides:
            continue
        if (line := reply_line(Reply(device, result), show_device=True)) is not None:
            yield line
    if len(findings.outcomes) > 1:
        yield summary_line(findings.outcomes)


def document(findings: Findings) -> dict[str, object]:
    """All that is known of a command, as one JSON object."""
    counts: dict[str, int] = {}
    for result in findings.outcomes.values():
        counts[result.status] = counts.get(result.status, 0) + 1
    commands = [result.command for result in findings.outcomes.values() if result.command]
    return {
        "id": findings.id,
        "command": commands[0] if commands else None,
        "counts": counts,
        "outcomes": [plain_outcome(findings, device) for device in findings.outcomes],
        "away": list(findings.away),
        "untold": findings.untold,
    }


def plain_outcome(findings: Findings, device: str) -> dict[str, object]:
    """One device's outcome under the names of a Result's fields, and how far its job is, where it runs."""
    job = findings.running.get(device)
    progress = {"fraction": job.fraction, "text": job.text} if job else {}
    return {**plain_result(findings.outcomes[device]), **progress}


def nothing_known(findings: Findings, requester: str) -> NothingKnown:
    """The words for an id that no device knows."""
    who = printable(requester)
    if findings.strangers:
        device, job = next(iter(findings.strangers.items()))
        whose = (
            f"{printable(job.requester) or 'nobody by name'}{f' (for {printable(job.behalf)})' if job.behalf else ''}"
        )
        advice = f"; add --as {printable(job.requester)}" if job.requester and not job.behalf else ""
        return NothingKnown(f"{findings.id} runs on {device} for {whose}, not for {who}{advice}")
    away = f"{named(findings.away)} may know of it when back; else it is " if findings.away else ""
    return NothingKnown(
        f"nothing is known of {findings.id} that {who} sent: {away}mistyped, or sent as somebody else (--as NAME), or "
        "forgotten (a device remembers it for 30 s after its expiry and its end, and of ping the last result only)"
    )


def nobody_runs(cancellation: Cancellation, requester: str) -> NothingKnown:
    """The words for an id that no device runs or remembers, as far as they answered."""
    if cancellation.findings.strangers:
        return nothing_known(cancellation.findings, requester)
    nobody = "no device that answered" if cancellation.findings.untold else "no device"
    return NothingKnown(
        f"{nobody} runs {cancellation.findings.id}: it has ended, or belongs to another requester than "
        f"{printable(requester)} (--as){', or waits for a device that is away' if cancellation.findings.away else ''}"
    )


def results_table(standing: Sequence[Standing], *, everyone: bool, now: float | None = None) -> Table:
    """One row for each result, its value as long as there is room.

    :param everyone: say who asked.
    :param now: Unix seconds.
    """
    now = time.time() if now is None else now
    table = _table("ID", "DEVICE", *(["REQUESTER"] if everyone else []), "COMMAND", "STATUS", "WHEN", "VALUE")
    for requester, result in ((each.requester, each.result) for each in standing):
        table.add_row(
            Text(result.id),
            Text(result.device, style="bold"),
            *([Text(_short(requester) or "-")] if everyone else []),
            Text(_short(result.command)),
            status_text(result.status),
            Text("" if result.finished is None else f"{since(now - result.finished)} ago"),
            _cell(_said(result)),
        )
    return table


def jobs_table(running: Sequence[DeviceJob], *, now: float | None = None) -> Table:
    """One row for each job.

    :param now: Unix seconds.
    """
    now = time.time() if now is None else now
    table = _table("ID", "DEVICE", "COMMAND", "REQUESTER", "SINCE", "PROGRESS")
    for device, job in ((each.device, each.job) for each in running):
        behalf = f" for {_short(job.behalf)}" if job.behalf else ""
        table.add_row(
            Text(printable(job.id[:64])),
            Text(device, style="bold"),
            Text(_short(job.command)),
            Text((_short(job.requester) or "-") + behalf),
            Text(since(now - (job.received if job.started is None else job.started))),
            _cell(progress_words(job) if job.started is not None else "waits for a thread", "cyan"),
        )
    return table


def plain_job(each: DeviceJob) -> dict[str, object]:
    """A job under the names of its fields."""
    fields: dict[str, object] = to_builtins(each.job)
    return {"device": each.device, **fields}


class Wait:
    """Something that is waited for: at the foot of a terminal stands for whom, and what is heard of it meanwhile.

    Where it takes longer than `SLOW`, outcomes are printed as they come.

    :param form: outcomes are printed as text only.
    :ivar printed: the devices whose outcome was printed.
    """

    def __init__(self, what: str, form: Form) -> None:
        self.printed: set[str] = set()
        self._what = what
        self._form = form
        self._results = results_console()
        self._live = Live(self._results if self._results.is_terminal else messages_console(), ())
        self._outcomes: dict[str, Reply] = {}
        self._silent: frozenset[str] = frozenset()
        self._slow = False

    def heard(self, reply: Reply) -> None:
        """Take what a device said of the command."""
        if isinstance(reply.message, Result):
            self._outcomes[reply.device] = reply
            self._print()
        elif (words := progress_text(reply.message)) is not None:
            self._live.note(f"{self._what}: {printable(reply.device)}  {words.plain.splitlines()[0][:VALUE]}")

    def asking(self, devices: frozenset[str]) -> None:
        """Note which devices have not answered yet."""
        self._silent = devices
        self._say_silent()

    @contextmanager
    def shown(self) -> Generator[None]:
        """While the context is open, it is waited."""
        timer = asyncio.get_running_loop().call_later(SLOW, self._become_slow)
        try:
            with self._live:
                self._live.note(self._what)
                yield
        finally:
            timer.cancel()

    def _become_slow(self) -> None:
        self._slow = True
        self._say_silent()
        self._print()

    def _say_silent(self) -> None:
        if self._slow:
            silent = f": no answer from {named(sorted(self._silent))} yet" if self._silent else ""
            self._live.note(self._what + silent)

    def _print(self) -> None:
        if not self._slow or self._form is not Form.TEXT:
            return
        for device in sorted(self._outcomes.keys() - self.printed):
            if (line := reply_line(self._outcomes[device], show_device=True)) is not None:
                self._results.print(line, soft_wrap=True)
            self.printed.add(device)


@contextmanager
def waiting(what: str, form: Form) -> Generator[Wait]:
    """Show what is waited for, see `Wait`."""
    wait = Wait(what, form)
    with wait.shown():
        yield wait


def _said(result: Result) -> str:
    if result.error is not None:
        code = f"{result.error.code}: " if result.error.code else ""
        return code + result.error.message
    value = plain_value(result)
    return "" if value is None else value if isinstance(value, str) else json_text(value)


def _short(name: str) -> str:
    return printable(name if len(name) <= NAME else f"{name[: NAME - 1]}…")


def _cell(text: str, style: str = "") -> Text:
    """One line, as much of it as there is room for."""
    short = f"{text[:VALUE]}…" if len(text) > VALUE else text
    line = " ".join(printable(line) for line in short.splitlines())
    return Text(line, style=style, no_wrap=True, overflow="ellipsis")


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    for name in names:
        # An id that is cut is of no use: the other columns give way to it.
        table.add_column(name, no_wrap=name != names[-1], min_width=_ID if name == "ID" else None)
    return table
