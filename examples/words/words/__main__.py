"""`python -m words`: count pages and files with the workers that there are, or run all of it."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from outrider.controller import Fleet
from outrider.schema import OutriderError

from .bars import picture
from .counting import merged, split, visible
from .fetching import decoded
from .mapping import Counted, mapped
from .running import run as run_all

app = typer.Typer(help="Count words on a pool of workers.", no_args_is_help=True, pretty_exceptions_enable=False)
output, messages = Console(), Console(stderr=True)


@app.command()
def count(
    sources: Annotated[list[str] | None, typer.Argument(metavar="[URL|FILE]...", help="Pages, and files here.")] = None,
    urls: Annotated[
        Path | None, typer.Option("--urls", metavar="FILE", help="A list of URLs, one a line; - reads them.")
    ] = None,
    most: Annotated[int, typer.Option("--top", help="How many words to show.")] = 20,
    broker: Annotated[str, typer.Option(envvar="OUTRIDER_BROKER", help="URL.")] = "mqtt://localhost:1883",
    prefix: Annotated[str, typer.Option(envvar="OUTRIDER_PREFIX", help="Levels before every topic.")] = "",
) -> None:
    """Count the words of pages and files together, on all workers of the pool, and draw those that occur most often.

    Exit codes: 0 all were counted, 1 some were not, 2 usage.
    """
    everything = [*(sources or ()), *(_lines(urls) if urls else ())]
    pages = [each for each in everything if each.startswith(("http://", "https://"))]
    names = [each for each in everything if each not in pages]
    try:
        parts = [part for name in names for part in split(_text(Path(name)))]
    except OSError as error:
        raise typer.BadParameter(f"{error.filename}: {error.strerror}") from error
    if not everything:
        raise typer.BadParameter("say what to count: URLs, files, or --urls FILE")
    try:
        counted = asyncio.run(_counted(broker, prefix, pages, parts))
    except OutriderError as error:
        messages.print(f"words: {escape(str(error))}", style="red")
        raise typer.Exit(1) from error
    failed = [each for each in counted if each.counts is None]
    sums = merged([each.counts for each in counted if each.counts is not None])
    output.print(picture(sums, most))
    output.print(f"{sums.total:,} words, {sums.distinct:,} different, in {len(everything):,} texts")
    if failed:
        messages.print(f"{len(failed):,} of {len(counted):,} were not counted", style="red")
        raise typer.Exit(1)


@app.command()
def run(
    workers: Annotated[int, typer.Option(min=0, help="How many worker processes.")] = 2,
    http: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the hub listens.")] = None,
    broker: Annotated[
        str | None,
        typer.Option(envvar="OUTRIDER_BROKER", metavar="URL", help="Else one on this machine, or a new one."),
    ] = None,
) -> None:
    """Run a hub with the queue, and workers, until Ctrl-C."""
    raise typer.Exit(asyncio.run(run_all(workers, http, broker)))


async def _counted(broker: str, prefix: str, pages: Sequence[str], parts: Sequence[str]) -> list[Counted]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with Fleet(broker, prefix=prefix) as fleet:
        with Progress(*columns, console=messages) as progress:
            bar = progress.add_task("counting", total=len(pages) + len(parts))

            def told(counted: Counted) -> None:
                progress.advance(bar)
                if counted.error:
                    progress.console.print(escape(counted.error), style="red")

            done = await mapped(fleet, "count_words", "url", pages, told) if pages else []
            return done + (await mapped(fleet, "count_text", "text", parts, told) if parts else [])


def _text(file: Path) -> str:
    text = decoded(file.read_bytes(), None)
    return visible(text) if file.suffix.lower() in (".html", ".htm", ".xhtml") else text


def _lines(file: Path) -> list[str]:
    text = sys.stdin.read() if str(file) == "-" else file.read_text()
    return [line.strip() for line in text.splitlines() if line.strip()]


if __name__ == "__main__":
    app(prog_name="python -m words")
