"""How a board looks: the lines of `outrider watch` for a terminal of any size. Pure; `now` is Unix seconds."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from msgspec import UnsetType
from rich.text import Text

from outrider.controller.watch import Board, DeviceRow, JobRow, Last, Sort, status_counts
from outrider.schema import Status

from .output import STATUS_STYLES, json_text, plain_value, printable, since

GREY: Final = "grey54"
"""What stands back. Readable on dark and on light grounds, which a terminal's own dim colours are not everywhere."""

GAP: Final = 2
SHARES: Final = 20
"""Columns of the bar of states at least."""

NAMES: Final = ((36, 16), (26, 12), (0, 9))
"""Columns of a job's name, by how wide the whole is at least."""

MUST: Final = ("DEVICE", "STATE", "JOB", "LAST RESULT")
SPARE: Final = 12
"""Columns that stay for these before there are others."""

AGE: Final = 7
"""Columns for how long something is ago."""

LARGE: Final = 2_000
"""Bytes of a value that is not decoded to be shown."""

BACK: Final = 5.0
"""Seconds for which it is shown that the connection is back."""


@dataclass(slots=True)
class View:
    """What is looked at, and how.

    :ivar target: what the rows stand for, as it was typed; empty for all devices.
    :ivar shown: the devices of target and filter; None for all.
    :ivar unseen: devices that the target names and nobody has seen.
    :ivar filter: narrows the target; `typing` is what stands on the line while one is typed.
    :ivar lost: since when there is no connection, and why; `back` when it came back.
    :ivar deaf: what the broker does not let this side hear.
    :ivar versions: of devices, as far as they are known.
    """

    broker: str
    target: str = ""
    shown: frozenset[str] | None = None
    unseen: tuple[str, ...] = ()
    sort: Sort = Sort.ACTIVITY
    offset: int = 0
    filter: str = ""
    typing: str | None = None
    wrong: str = ""
    lost: tuple[float, str] | None = None
    back: float = float("-inf")
    deaf: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    keys: bool = True


class Page(NamedTuple):
    """A screenful: its lines, and which of how many devices are on it."""

    lines: list[Text]
    devices: tuple[str, ...]
    whole: int


def page(board: Board, view: View, now: float, width: int, height: int) -> Page:
    """What stands on a terminal of this size. `view.offset` is brought within its bounds."""
    chosen = board.devices.keys() if view.shown is None else view.shown
    head = [_title(view, now, width), *_numbers(board, chosen, now, width), _banner(view, now, width)]
    foot = [_keys(view, width)] if view.keys else []
    room = max(height - len(head) - len(foot) - 1, 1)  # 1 for the names of the columns
    order = board.order(now, chosen, by=view.sort, room=room)
    if len(order) > room or view.unseen:
        room = max(room - 1, 1)
    view.offset = max(min(view.offset, len(order) - room), 0)
    visible = order[view.offset : view.offset + room]
    rows = [board.devices[id] for id in visible]
    columns = _columns(board, chosen, view, rows, width)
    lines = [*head, _header(columns)]
    lines += [_line(columns, Cells(row, view, now)) for row in rows]
    if not order:
        lines.append(_nobody(view, board))
    rest = order[: view.offset] + order[view.offset + room :]
    if rest or view.unseen:
        lines += [Text()] * (room - max(len(rows), 1))
        lines.append(_rest(board, rest, view))
    lines += [Text()] * (height - len(lines) - len(foot))
    lines += foot
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Page(lines[: max(height, 1)], tuple(visible), len(order))


def snapshot(board: Board, view: View, now: float, width: int) -> list[Text]:
    """All devices, however many, for once."""
    view.keys = False
    lines = page(board, view, now, width, len(board.devices) + 8).lines
    while lines and not lines[-1].plain.strip():
        lines.pop()
    return [line for line in lines if line.plain.strip()]


# The head and the foot


def _title(view: View, now: float, width: int) -> Text:
    text = Text.assemble(("outrider watch", "bold"), ("  ", ""), (printable(view.target) or "all devices", "bold cyan"))
    if view.filter:
        text.append("  filter ", GREY).append(printable(view.filter), "bold cyan")
    right = f"{printable(view.broker)}  {time.strftime('%H:%M:%S', time.localtime(now))}"
    blank = width - text.cell_len - len(right)
    return text.append(f"{' ' * blank}{right}", GREY) if blank >= GAP else text


def _numbers(board: Board, chosen: Iterable[str], now: float, width: int) -> list[Text]:
    totals = board.totals(now, chosen)
    count = sum(totals.statuses.values())
    devices = Text(f"{count:,} device{'' if count == 1 else 's'}").append(": " if count else "")
    devices.append_text(_counts(totals.statuses))
    traffic = Text.assemble(
        (f"{totals.running:,} job{'' if totals.running == 1 else 's'} running", "cyan" if totals.running else GREY),
        ("   ", ""),
        *_rated(totals.commands, "commands/s"),
        ("   ", ""),
        *_rated(totals.results, "results/s"),
    )
    if totals.ended:
        traffic.append("   ")
        parts = [Text(f"{number:,} {status}", STATUS_STYLES[status]) for status, number in totals.ended.items()]
        traffic.append_text(Text(", ").join(parts))
    left = width - devices.cell_len - GAP
    if count and left >= SHARES:
        devices.append("  ").append_text(_shares(totals.statuses, min(left, 2 * SHARES)))
    return [devices, traffic]


def _rated(rate: float, what: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (_number(rate), "bold" if rate else GREY), (f" {what}", GREY)


def _banner(view: View, now: float, width: int) -> Text:
    if view.lost is not None:
        began, reason = view.lost
        words = f" the broker is lost since {since(now - began)}: {printable(reason)}; what stands here is old "
        return Text(words.ljust(width), style="bold white on red")
    if now - view.back < BACK:
        return Text(" the broker is back ".ljust(width), style="bold white on green")
    if view.deaf:
        return Text(f"the broker lets you hear no {' and no '.join(view.deaf)}: see its access rights", style="yellow")
    return Text()


def _keys(view: View, width: int) -> Text:
    if view.typing is not None:
        line = Text.assemble(("filter: ", "bold"), (printable(view.typing), "cyan"), ("▏", "bold"))
        words = view.wrong or "a target as in lamp-*, @kitchen, is:lost, room=kitchen; Enter takes it, Esc leaves it"
        return line.append(f"  {printable(words)}", "red" if view.wrong else GREY)
    keys = [("q", "quit"), ("↑↓ PgUp PgDn", "scroll"), ("s", f"sort: {view.sort}"), ("/", "filter")]
    if view.filter:
        keys.append(("Esc", "no filter"))
    parts = [Text.assemble((key, "bold"), (f" {what}", GREY)) for key, what in keys]
    return Text("   ").join(parts)


def _nobody(view: View, board: Board) -> Text:
    if not board.devices:
        return Text("no device yet; start one: outrider-device run --id lamp-1 --ready", style=GREY)
    what = " and ".join(printable(each) for each in (view.target, view.filter) if each)
    return Text(f"none of {len(board.devices):,} devices matches {what} yet", style=GREY)


def _rest(board: Board, rest: Sequence[str], view: View) -> Text:
    """What the rows that do not fit hold."""
    text = Text()
    if rest:
        rows = [board.devices[id] for id in rest]
        above = f" ({view.offset:,} above)" if view.offset else ""
        text.append(f"… and {len(rest):,} more{above}: ", GREY).append_text(_counts(status_counts(rows)))
        if busy := sum(bool(row.jobs) for row in rows):
            text.append(f"; {busy:,} of them busy", "cyan")
    if view.unseen:
        more = f" and {len(view.unseen) - 3:,} more" if len(view.unseen) > 3 else ""
        text.append(f"{'; ' if rest else ''}not seen yet: {', '.join(view.unseen[:3])}{more}", "yellow")
    return text


def _counts(counts: Mapping[str, int]) -> Text:
    return Text(", ").join(Text(f"{number:,} {name}", STATUS_STYLES[name]) for name, number in counts.items())


def _shares(counts: Mapping[str, int], width: int) -> Text:
    """A bar of the states' colours. Each that there is has a column at least."""
    whole = sum(counts.values())
    parts = {name: max(round(number / whole * width), 1) for name, number in counts.items()}
    parts[max(parts, key=lambda name: parts[name])] += width - sum(parts.values())
    return Text.assemble(
        *(("━" * columns, GREY if name == "terminated" else STATUS_STYLES[name]) for name, columns in parts.items())
    )


# The table


class Cells(NamedTuple):
    """What a column is drawn from."""

    row: DeviceRow
    view: View
    now: float


class Column(NamedTuple):
    """A column: its name, how it draws, and how many columns of the terminal it has."""

    name: str
    draw: Callable[[Cells, int], Text]
    width: int


def _columns(board: Board, chosen: Iterable[str], view: View, rows: Sequence[DeviceRow], width: int) -> list[Column]:
    """The columns for this width: the more important ones first, then the rest of the room is shared out."""
    states = [board.devices[id].state for id in chosen if id in board.devices]
    ids = max((len(state.device) for state in states), default=0)
    status = max((len(state.status) for state in states), default=7)
    groups = max((len(" ".join(state.groups)) for state in states), default=0)
    tags = max((len(_tags(row)) for row in rows), default=0)
    versions = max((len(view.versions.get(row.state.device, "")) for row in rows), default=0)
    # name, draw, columns at least, columns at most; in the order of their importance
    wanted: list[tuple[str, Callable[[Cells, int], Text], int, int]] = [
        ("DEVICE", _device, min(max(ids, 6), 16), min(max(ids, 6), 32)),
        ("STATE", _state, max(status, 7), max(status, 7)),
        ("JOB", _job, 22, 36),
        ("LAST RESULT", _last, 24, 64),
        ("SINCE", _since, 6, 6),
        ("PER MIN", _rate, 7, 7),
        ("MESSAGE", _message, 14, 36),
        ("GROUPS", _groups, min(max(groups, 6), 16), min(max(groups, 6), 24)),
        ("TAGS", _tag_words, min(max(tags, 4), 20), min(max(tags, 4), 32)),
        ("VERSIONS", _versions, min(max(versions, 8), 16), min(max(versions, 8), 24)),
    ]
    empty = {"GROUPS": groups, "TAGS": tags, "VERSIONS": versions}
    wanted = [each for each in wanted if empty.get(each[0], 1)]
    taken = wanted[:1]
    left = width - taken[0][2]
    for each in wanted[1:]:
        if left < each[2] + GAP + (0 if each[0] in MUST else SPARE):
            break
        taken.append(each)
        left -= each[2] + GAP
    widths = {name: least for name, _, least, _ in taken}
    for name, share in (
        ("DEVICE", 1.0),
        ("LAST RESULT", 0.6),
        ("JOB", 0.5),
        ("MESSAGE", 1.0),
        ("TAGS", 1.0),
        ("GROUPS", 1.0),
        ("VERSIONS", 1.0),
        ("LAST RESULT", 1.0),
        ("JOB", 1.0),
    ):
        for known, _, _, most in taken:
            if known == name:
                more = min(round(left * share), most - widths[name])
                widths[name] += more
                left -= more
    return [Column(name, draw, widths[name]) for name, draw, *_ in sorted(taken, key=lambda each: _PLACES[each[0]])]


_PLACES: Final = {
    name: place
    for place, name in enumerate(
        ("DEVICE", "STATE", "SINCE", "JOB", "MESSAGE", "LAST RESULT", "PER MIN", "GROUPS", "TAGS", "VERSIONS")
    )
}


def _header(columns: Sequence[Column]) -> Text:
    names = (
        f"{column.name:>{column.width}}" if column.name in _RIGHT else f"{column.name:<{column.width}}"
        for column in columns
    )
    return Text((" " * GAP).join(names), style="bold")


_RIGHT: Final = ("SINCE", "PER MIN")


def _line(columns: Sequence[Column], cells: Cells) -> Text:
    line = Text()
    for at, column in enumerate(columns):
        if at:
            line.append(" " * GAP)
        cell = column.draw(cells, column.width)
        cell.truncate(column.width, overflow="ellipsis", pad=True)
        line.append_text(cell)
    return line


def _device(cells: Cells, width: int) -> Text:
    state = cells.row.state
    return Text(state.device, style=GREY if state.status == "terminated" else "bold")


def _state(cells: Cells, width: int) -> Text:
    status = cells.row.state.status
    return Text(status, style=GREY if status == "terminated" else STATUS_STYLES[status])


def _since(cells: Cells, width: int) -> Text:
    state = cells.row.state
    # A will is written before what it tells of: when the device was lost, only this side may have seen.
    began = cells.row.changed if state.status == "lost" else state.since
    words = "" if began is None else since(cells.now - began)
    return Text(f"{words:>{width}}", style=GREY)


def _job(cells: Cells, width: int) -> Text:
    """`calibrate +2 ━━━━━━───  60%`: a job's name and how far it is, and how many more there are."""
    jobs = _jobs(cells.row)
    if not jobs:
        return Text()
    job, lost = jobs[0], cells.row.state.status == "lost"
    more = f" +{len(jobs) - 1}" if len(jobs) > 1 else ""
    name = next(columns for least, columns in NAMES if width >= least)
    label = Text(printable(job.command or job.id))
    label.truncate(name - len(more), overflow="ellipsis")
    label.append(more)
    label.truncate(name, pad=True)
    bar = width - label.cell_len - 6
    if job.fraction is None:
        return label.append(f" for {since(cells.now - job.since)}", GREY if lost else "cyan")
    label.append(" ").append_text(_bar(job, bar, GREY if lost else "cyan"))
    return label.append(f" {job.fraction:4.0%}", GREY if lost else "")


def _jobs(row: DeviceRow) -> list[JobRow]:
    """A device's jobs: first those that say how far they are, the oldest first."""
    return sorted(row.jobs.values(), key=lambda job: (job.fraction is None, job.since))


def _bar(job: JobRow, width: int, style: str) -> Text:
    halves = round(min(max(job.fraction or 0.0, 0.0), 1.0) * width * 2)
    full = "━" * (halves // 2) + ("╾" if halves % 2 else "")
    return Text.assemble((full, style), ("─" * (width - len(full)), GREY))


def _message(cells: Cells, width: int) -> Text:
    texts = [job.text for job in _jobs(cells.row)[:1]]
    return Text(_one_line(texts[0]) if texts else "", style="cyan")


def _last(cells: Cells, width: int) -> Text:
    """`done dim 40     4 s`: what came of the last command, and how long ago."""
    last = cells.row.last
    if last is None:
        return Text()
    result = last.result
    text = Text.assemble((str(result.status), STATUS_STYLES[result.status]), f" {_one_line(result.command)}")
    if said := _said(last):
        text.append(f" {said}", GREY)
    text.truncate(width - AGE, overflow="ellipsis", pad=True)
    return text.append(f"{since(cells.now - last.at):>{AGE}}", GREY)


def _said(last: Last) -> str:
    result = last.result
    if result.status is Status.DONE:
        if not isinstance(result.value, UnsetType) and len(memoryview(result.value)) > LARGE:
            return _one_line(bytes(memoryview(result.value)[:LARGE]).decode(errors="replace"))
        value = plain_value(result)
        return "" if value is None else _one_line(value) if isinstance(value, str) else json_text(value)[:200]
    if result.error is None:
        return ""
    return _one_line(result.error.message or result.error.code)


def _rate(cells: Cells, width: int) -> Text:
    count = cells.row.rate.count(cells.now) if cells.row.rate else 0
    return Text(f"{f'{count:,}' if count else '':>{width}}")


def _groups(cells: Cells, width: int) -> Text:
    return Text(" ".join(cells.row.state.groups))


def _tag_words(cells: Cells, width: int) -> Text:
    return Text(_tags(cells.row))


def _versions(cells: Cells, width: int) -> Text:
    return Text(cells.view.versions.get(cells.row.state.device, ""), style=GREY)


def _tags(row: DeviceRow) -> str:
    tags = sorted(row.state.tags.items())
    return " ".join(
        f"{printable(key)}={printable(value) if isinstance(value, str) else json_text(value)}" for key, value in tags
    )


def _one_line(text: str) -> str:
    return printable(" ".join(text[:400].split()))[:200]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.95 or value == 0 else f"{value:.1f}"
