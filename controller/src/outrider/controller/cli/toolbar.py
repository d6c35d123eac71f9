"""What the REPL's terminal shows beside the line that is typed: the prompt, help, and commands in flight. Pure."""

from collections.abc import Sequence
from typing import Final

from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.utils import get_cwidth

from .hints import Lines
from .sent import Sent
from .terminal import printable

ROWS: Final = 6
"""How many commands in flight are shown at most."""

BAR: Final = 20
"""Columns of a progress bar at most."""

NARROW: Final = 60
"""Columns below which words are left out."""


def message(
    target: str | None, statuses: Sequence[str], *, group: bool, lost: bool, columns: int
) -> StyleAndTextTuples:
    """The prompt: the target in use, as much as there is room for, and how its devices are.

    :param group: the target stands for any number of devices.
    :param lost: there is no broker.
    """
    if target is None:
        return [("", "outrider"), *([("class:lost", " [no broker]")] if lost else []), ("", "> ")]
    status, words = "lost", "no broker"
    if not lost and group:
        ready, count = statuses.count("ready"), len(statuses)
        status = "ready" if ready and ready == count else "unready"
        words = f"{ready} of {count} ready" if columns >= NARROW else f"{ready}/{count}"
    elif not lost:
        status = words = statuses[0] if statuses else "unknown"
    name = shortened(printable(target), max(columns // 3, 10))
    return [("class:target", name), ("", " ["), (f"class:{status}", words), ("", "]> ")]


def toolbar(
    hint: Lines, in_flight: Sequence[Sent], columns: int, lines: int, *, lost: bool = False
) -> StyleAndTextTuples:
    """Help on what is typed, and below it the commands in flight, on a terminal of this size.

    :param lost: there is no broker.
    """
    shown = in_flight[: max(min(ROWS, lines // 4), 1)]
    rows = [cut(line, columns) for line in hint] if lines >= 2 * len(hint) + len(shown) else []
    labels = [_label(sent, columns * 2 // 5) for sent in shown]
    width = max(map(get_cwidth, labels), default=0)
    rows += [
        cut(_row(sent, label + " " * (width - get_cwidth(label)), columns, lost=lost), columns)
        for sent, label in zip(shown, labels, strict=True)
    ]
    if len(in_flight) > len(shown):
        rows.append([("", f"… and {len(in_flight) - len(shown)} more")])
    return [part for at, row in enumerate(rows) for part in ([("", "\n")] if at else []) + row]


def shortened(text: str, width: int) -> str:
    """Text within so many columns."""
    if get_cwidth(text) <= width:
        return text
    kept, room = "", width - 1
    for char in text[: width + 1]:
        room -= get_cwidth(char)
        if room < 0:
            break
        kept += char
    return f"{kept.rstrip()}…"


def cut(line: StyleAndTextTuples, columns: int) -> StyleAndTextTuples:
    """A line within so many columns."""
    parts: StyleAndTextTuples = []
    for style, text, *_ in line:
        room = columns - sum(get_cwidth(part[1]) for part in parts)
        if room <= 0:
            break
        parts.append((style, shortened(text, room)))
    return parts


def _label(sent: Sent, width: int) -> str:
    """What was typed, and for whom, within so many columns."""
    text, target = printable(sent.text), printable(sent.target)
    room = max(width - get_cwidth(text) - 1, width // 2)
    return shortened(f"{shortened(target, room)} {text}", width)


def _row(sent: Sent, label: str, columns: int, *, lost: bool) -> StyleAndTextTuples:
    """One command in flight: what it is, how far it is, what its device says."""
    row: StyleAndTextTuples = [("class:tag", f"[{sent.tag}] "), ("", f"{label}  ")]
    fractions = [progress.fraction for progress in sent.progress.values() if progress.fraction is not None]
    if fractions or sent.done:
        bar = min(BAR, columns // 5)
        fraction = min((sum(fractions) + sent.done) / sent.count, 1.0)
        full = round(fraction * bar)
        row += [("class:bar", "━" * full), ("class:rest", "─" * (bar - full)), ("", f" {fraction:4.0%}  ")]
    if lost and not sent.done and not sent.progress and not sent.dispatch.is_with_broker:
        row.append(("class:lost", "waits for the broker"))
    elif sent.count > 1:
        row.append(("", f"{sent.done} of {sent.count} ended"))
    elif sent.progress:
        progress = next(iter(sent.progress.values()))
        row.append(("", printable(progress.text or ("" if fractions else "accepted"))))
    else:
        row.append(("", "sent"))
    return row
