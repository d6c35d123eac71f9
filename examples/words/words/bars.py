"""A bar picture of the words that occur most often, for a terminal."""

from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from .counting import Counts, top


def picture(counts: Counts, most: int = 20) -> Table:
    """A row for each of the words, with a bar beside it."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(justify="right", no_wrap=True, max_width=30)
    table.add_column(justify="right")
    table.add_column(ratio=1)
    found = top(counts.counts, most)
    greatest = found[0][1] if found else 1
    for word, times in found:
        table.add_row(Text(word), f"{times:,}", Bar(greatest, 0, times, color="cyan"))
    return table
