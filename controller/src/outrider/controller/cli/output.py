"""How replies, outcomes, states and abouts look: the same for `outrider send`, the other subcommands and the REPL.

All of it is `rich.text.Text`, never markup, with the control characters of what devices said written out.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import UNSET, DecodeError, UnsetType, to_builtins
from msgspec.structs import replace
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from outrider.controller.dispatch import NOT_ADDRESSED
from outrider.device import RESERVED, Reply, value_of
from outrider.schema import About, Progress, Result, State, Status

from .documentation import about_table, about_text
from .terminal import json_text, messages_console, printable, results_console

__all__ = [
    "about_table",
    "about_text",
    "counts_text",
    "devices_table",
    "duration",
    "json_text",
    "messages_console",
    "plain_result",
    "plain_value",
    "printable",
    "progress_text",
    "reply_line",
    "results_console",
    "status_text",
    "summary_line",
    "value_text",
]

INDENT: Final = "    "

FOLDED: Final = 12
"""Columns into which a cell of the table of devices may be folded, and no less."""

_GIVING_WAY: Final = ("VERSIONS", "COMMANDS", "POOLS", "TAGS", "GROUPS")
"""What the table of devices leaves out on a narrow terminal, the first one first."""

STATUS_STYLES: Final[Mapping[str, str]] = {
    "ready": "green",
    "unready": "yellow",
    "terminated": "dim",
    "lost": "red",
    Status.DONE: "green",
    Status.FAILED: "red",
    Status.REJECTED: "red",
    Status.CANCELLED: "yellow",
    Status.TIMED_OUT: "red",
    Status.EXPIRED: "yellow",
    Status.INTERRUPTED: "red",
    Status.OFFLINE: "yellow",
    Status.QUEUED: "yellow",
    Status.RUNNING: "cyan",
}
"""The colour of each state and each outcome."""


def plain_value(result: Result) -> object:
    """The decoded value of a `done` result, None where there is none; one that cannot be read as text saying so."""
    try:
        return value_of(result)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        raw = b"" if isinstance(result.value, UnsetType) else bytes(result.value)
        return f"(not JSON: {raw!r})"


def plain_result(result: Result) -> dict[str, object]:
    """A result under the names of its fields, its value decoded; what is not set is left out."""
    plain: dict[str, object] = to_builtins(replace(result, value=UNSET))
    if not isinstance(result.value, UnsetType):
        plain["value"] = plain_value(result)
    return plain


def value_text(value: object) -> str:
    """A value for people: text as it is, everything else as JSON; None is no text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return printable(value, keep="\n\t")
    line = json_text(value)
    return line if len(line) <= 100 else json_text(value, indent=2)


def reply_line(reply: Reply, *, show_device: bool) -> Text | None:
    """What a device said, for people; None where there is nothing to say. Several lines where the value has several.

    :param show_device: begin with the device's id.
    """
    message = reply.message
    line = Text.assemble((f"{printable(reply.device)}  " if show_device else "", "bold"))
    if isinstance(message, Result):
        return line + _result_text(message)
    body = progress_text(message)
    return None if body is None else line + body


def progress_text(progress: Progress) -> Text | None:
    """What happens to a command meanwhile; None where there is nothing to say."""
    if progress.accepted:
        return Text("accepted", style="cyan")
    if progress.stream is not None:
        data = printable((progress.data or "").rstrip("\n"), keep="\n\t")
        return Text("| ", style="dim") + Text(_hang(data), style="red" if progress.stream == "stderr" else "")
    words = [f"{progress.fraction:4.0%}"] if progress.fraction is not None else []
    if progress.text:
        words.append(printable(progress.text))
    return Text("  ".join(words), style="cyan") if words else None


def _result_text(result: Result) -> Text:
    text = Text(str(result.status), style=STATUS_STYLES[result.status])
    if result.status is Status.DONE:
        said = value_text(plain_value(result))
    elif result.error is not None:
        code = f"{printable(result.error.code)}: " if result.error.code else ""
        said = code + printable(result.error.message, keep="\n\t")
    else:
        said = ""
    words = Text.assemble(text)
    one_line = "\n" not in said
    if said and one_line:
        words.append(f"  {said}")
    if result.started is not None and result.finished is not None:
        words.append(f"  ({duration(result.finished - result.started)})", style="dim")
    if not one_line:
        words.append("".join(f"\n{INDENT}{line}" for line in said.rstrip("\n").split("\n")))
    return words


def _hang(text: str) -> str:
    return text.replace("\n", f"\n{INDENT}| ")


def summary_line(outcomes: Mapping[str, Result]) -> Text:
    """How many of the targets ended how, as `3 targets: 2 done, 1 rejected`; the counts add up."""
    counts: dict[Status, int] = {}
    for result in outcomes.values():
        counts[result.status] = counts.get(result.status, 0) + 1
    text = Text(f"{len(outcomes)} target{'' if len(outcomes) == 1 else 's'}: ").append_text(counts_text(counts))
    never = sum(result.error is not None and result.error.code == NOT_ADDRESSED for result in outcomes.values())
    return text.append(f" ({never} never addressed)") if never else text


def counts_text(counts: Mapping[Status, int]) -> Text:
    """How many ended how, as `2 done, 1 rejected`, in the order of the protocol's list, which begins with `done`."""
    parts = [Text(f"{counts[status]} {status}", style=STATUS_STYLES[status]) for status in Status if status in counts]
    return Text(", ").join(parts)


def duration(seconds: float) -> str:
    """A length of time for people: `3 ms`, `0.5 s`, `4 min`, `2 h`, `3 days`."""
    seconds = max(seconds, 0.0)
    if seconds < 0.0005:
        return "under 1 ms"
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for length, unit in ((86400.0, "day"), (3600.0, "h"), (60.0, "min")):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if unit == 'day' and count != 1 else ''}"
    return f"{seconds:.0f} s"


def since(seconds: float) -> str:
    """How long something has been so, for people: `4 min`; whole seconds are enough."""
    return duration(seconds) if seconds >= 60 else f"{max(seconds, 0):.0f} s"


def status_text(status: str) -> Text:
    """A device's status in its colour."""
    return Text(status, style=STATUS_STYLES.get(status, ""))


def devices_table(states: Iterable[State], abouts: Mapping[str, About], *, now: float | None = None) -> RenderableType:
    """One row for each device. Columns that would be empty for all are left out, and those there is no room for.

    :param abouts: by device, as far as they are known.
    :param now: Unix seconds.
    """
    now = time.time() if now is None else now
    rows = [_device_row(state, abouts.get(state.device), now) for state in states]
    return _Fitting(
        {
            name: [row[at] for row in rows]
            for at, name in enumerate(("DEVICE", "STATUS", "SINCE", "GROUPS", "POOLS", "TAGS", "COMMANDS", "VERSIONS"))
            if at < 3 or any(row[at] for row in rows)
        }
    )


class _Fitting:
    """A table of these columns, as many as there is room for."""

    def __init__(self, columns: Mapping[str, Sequence[Text]]) -> None:
        self._columns = columns

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table."""
        columns = dict(self._columns)
        for name in _GIVING_WAY:
            if sum(_width(name, cells) for name, cells in columns.items()) > options.max_width + 1:
                columns.pop(name, None)
        table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
        for name in columns:
            table.add_column(name, no_wrap=name in ("DEVICE", "STATUS", "SINCE"), overflow="fold")
        for cells in zip(*columns.values(), strict=True):
            table.add_row(*cells)
        yield table


def _width(name: str, cells: Sequence[Text]) -> int:
    """Columns of a terminal that a column needs, with the gap to the next."""
    widest = max((cell.cell_len for cell in cells), default=0)
    if name in _GIVING_WAY:
        widest = min(widest, FOLDED)
    return max(widest, len(name)) + 1


def _device_row(state: State, about: About | None, now: float) -> tuple[Text, ...]:
    tags = (f"{printable(key)}={printable(_tag(value))}" for key, value in sorted(state.tags.items()))
    commands = sorted(about.commands.keys() - set(RESERVED)) if about else []
    versions = (
        f"{printable(name)} {printable(version)}" for name, version in (about.versions if about else {}).items()
    )
    return (
        Text(state.device, style="bold"),
        status_text(state.status),
        # A will is written before what it tells of: when the device was lost, it does not say.
        Text("" if state.status == "lost" else since(now - state.since)),
        Text(" ".join(state.groups)),
        Text(" ".join(state.pools)),
        Text(" ".join(tags)),
        Text(" ".join(map(printable, commands))),
        Text(", ".join(versions)),
    )


def _tag(value: str | float | bool) -> str:
    return value if isinstance(value, str) else json_text(value)
