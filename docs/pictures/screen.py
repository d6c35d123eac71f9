"""A terminal's screen as a picture that needs no font from elsewhere."""

import io
import re
from itertools import groupby

import pyte
import pyte.screens
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.style import Style
from rich.text import Text

FONT_FACES = re.compile(r"@font-face \{\{.*?\}\}\n", re.DOTALL)
FORMAT = FONT_FACES.sub("", CONSOLE_SVG_FORMAT).replace("Fira Code, monospace", "DejaVu Sans Mono, Menlo, monospace")
BRIGHT = "bright"
COLOURS = {"brown": "yellow"}
"""pyte's names of the 16 colours, where rich has another."""


def svg(screen: pyte.Screen, title: str) -> str:
    """Everything on the screen, without the empty lines at its end."""
    lines = [_line(screen, row) for row in range(screen.lines)]
    while lines and not lines[-1].plain.strip():
        lines.pop()
    console = Console(file=io.StringIO(), record=True, width=screen.columns, highlight=False)
    for line in lines:
        console.print(line, soft_wrap=True)
    picture = console.export_svg(title=title, code_format=FORMAT, unique_id=re.sub(r"\W", "-", title))
    return "".join(f"{row.rstrip()}\n" for row in picture.splitlines())


def _line(screen: pyte.Screen, row: int) -> Text:
    cells = (screen.buffer[row][column] for column in range(screen.columns))
    text = Text()
    for style, run in groupby(cells, _style):
        text.append("".join(cell.data for cell in run), style)
    text.rstrip()
    return text


def _style(cell: pyte.screens.Char) -> Style:
    return Style(color=_colour(cell.fg), bgcolor=_colour(cell.bg), bold=cell.bold, reverse=cell.reverse)


def _colour(name: str) -> str | None:
    if name == "default":
        return None
    if re.fullmatch("[0-9a-f]{6}", name):
        return f"#{name}"
    base = name.removeprefix(BRIGHT)
    colour = COLOURS.get(base, base)
    return f"bright_{colour}" if base != name else colour
