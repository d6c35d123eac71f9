"""The command `outrider`: all subcommands, and what each error looks like."""

import importlib.metadata
import logging
import sys
from typing import Annotated

import typer
from rich.text import Text

from outrider.schema import OutriderError

from .broker import broker
from .cancel import cancel
from .demo import demo
from .devices import about, devices
from .exits import USAGE, exit_code
from .forget import forget
from .jobs import jobs
from .output import messages_console, printable
from .repl import repl
from .results import results
from .send import SendCommand, send
from .simulate import simulate
from .terminal import write_any_text
from .watch import watch

app = typer.Typer(
    name="outrider",
    help="See a fleet of devices on an MQTT broker, and command it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command()(broker)
app.command()(devices)
app.command()(about)
app.command(cls=SendCommand, context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})(send)
app.command()(results)
app.command()(jobs)
app.command()(cancel)
app.command()(watch)
app.command()(repl)
app.command()(demo)
app.command()(simulate)
app.command()(forget)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"outrider {importlib.metadata.version('outrider-controller')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _outrider(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USAGE)


def main() -> None:
    """Entry point. Exit codes: 0 all done, 1 some target not done, 2 usage, 3 broker unreachable, 130 Ctrl-C."""
    # What a log would say, errors and subcommands say themselves; without a handler Python would print it as well.
    logging.getLogger("outrider").addHandler(logging.NullHandler())
    write_any_text()
    try:
        app()
    except OutriderError as error:
        words = printable(str(error), keep="\n")
        messages_console().print(Text.assemble(("error: ", "bold red"), words))
        sys.exit(exit_code(error))


if __name__ == "__main__":
    main()
