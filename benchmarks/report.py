"""What was measured: a table for people, a list in JSON for machines."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Line:
    """One measurement beside its peer. More is better; without figures `why` says why there are none.

    :ivar value: ours, in `unit`.
    :ivar peer: the peer's, in the same unit.
    :ivar goal: the ratio to reach, None where none is set.
    """

    name: str
    unit: str
    value: float | None = None
    peer: float | None = None
    goal: float | None = None
    why: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours in terms of the peer's: 1 is as fast, more is faster."""
        return self.value / self.peer if self.value is not None and self.peer else None

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached, None without one. What could not be measured has not reached it."""
        if self.goal is None:
            return None
        return self.ratio is not None and self.ratio >= self.goal

    def plain(self) -> dict[str, object]:
        """What stands in the results file."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "peer": self.peer,
            "ratio": self.ratio,
            "goal": self.goal,
            "met": self.met,
        }


def write(path: Path, lines: Sequence[Line]) -> None:
    """Write the results file."""
    path.write_text(json.dumps([line.plain() for line in lines], indent=2) + "\n")


def table(lines: Sequence[Line], title: str) -> Group:
    """What to show: the figures, and below them why some are missing."""
    shown = Table(title=title, title_justify="left")
    shown.add_column("measurement")
    for heading in ("ours", "peer", "unit", "ratio", "goal", "met"):
        shown.add_column(heading, justify="left" if heading == "unit" else "right")
    for line in lines:
        if line.value is None:
            shown.add_row(line.name, "[yellow]none[/]", "", line.unit, "", _goal(line), "")
            continue
        met = {None: "", True: "[green]yes[/]", False: "[red]no[/]"}[line.met]
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
        peer = "" if line.peer is None else f"{line.peer:,.0f}"
        shown.add_row(line.name, f"{line.value:,.0f}", peer, line.unit, ratio, _goal(line), met)
    reasons = (f"[yellow]{line.name} was not measured:[/] {escape(line.why)}" for line in lines if line.value is None)
    return Group(shown, *reasons)


def _goal(line: Line) -> str:
    return "" if line.goal is None else f"≥ {line.goal:g}"
