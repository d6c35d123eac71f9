"""The command `outrider`: all subcommands, and what each error looks like."""

import contextlib
import importlib.metadata
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text
from typer.core import TyperGroup

from outrider.schema import OutriderError

from .asyncapi import asyncapi
from .broker import broker
from .cancel import cancel
from .demo import demo
from .devices import about, devices
from .events import events
from .exits import USAGE, advice, exit_code
from .faults import faults
from .forget import forget
from .hub import hub
from .jobs import jobs
from .output import messages_console, printable
from .repl import repl
from .results import results
from .script import script
from .send import SendCommand, send
from .shells import SCRIPTS, VARIABLE, Shell, current_shell, install
from .simulate import simulate
from .tab import answer
from .terminal import guard_output
from .watch import watch


class Program(TyperGroup):
    """Takes `--install-completion` and `--show-completion` with the name of a shell or, as Typer's own, without."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer hides the type of contexts
        """The words left over. The shell's name is found out where it is not given.

        :raises UnknownShell: it has no completion.
        """
        if args and args[0] in ("--install-completion", "--show-completion") and args[1:2] != ["--help"]:
            args = [args[0], *(args[1:] or [current_shell()])]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="outrider",
    help="See a fleet of devices on an MQTT broker, and command it.",
    cls=Program,
    add_completion=False,  # its scripts take words apart at : = @, see shells.py
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command()(broker)
app.command()(devices)
app.command()(about)
app.command(cls=SendCommand, context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})(send)
app.command()(script)
app.command()(results)
app.command()(jobs)
app.command()(cancel)
app.command()(events)
app.command()(watch)
app.command()(repl)
app.add_typer(hub)
app.command()(demo)
app.command()(simulate)
app.command()(forget)
app.command()(faults)
app.command()(asyncapi)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"outrider {importlib.metadata.version('outrider-controller')}")
        raise typer.Exit


def _install(shell: Shell | None) -> None:
    if shell is not None:
        typer.echo(f"{shell} completion installed in {install(shell)}")
        typer.echo("Completion will take effect once you restart the terminal")
        raise typer.Exit


def _show(shell: Shell | None) -> None:
    if shell is not None:
        typer.echo(SCRIPTS[shell], nl=False)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _outrider(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
    install_completion: Annotated[
        Shell | None,
        typer.Option(
            "--install-completion",
            metavar="[SHELL]",
            callback=_install,
            is_eager=True,
            help="Install completion for the current shell, or for bash, zsh or fish.",
            show_default=False,
        ),
    ] = None,
    show_completion: Annotated[
        Shell | None,
        typer.Option(
            "--show-completion",
            metavar="[SHELL]",
            callback=_show,
            is_eager=True,
            help="Print what that would install, to put it in place by hand.",
            show_default=False,
        ),
    ] = None,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USAGE)


def main() -> None:
    """Entry point. Exit codes: 0 all done, 1 some target not done, 2 usage, 3 broker unreachable, 130 Ctrl-C."""
    # What a log would say, errors and subcommands say themselves; without a handler Python would print it as well.
    logging.getLogger("outrider").addHandler(logging.NullHandler())
    if shell := os.environ.get(VARIABLE):
        _complete(shell)
    guard_output()
    try:
        app()
    except OutriderError as error:
        words = printable(str(error), keep="\n")
        messages_console().print(Text.assemble(("error: ", "bold red"), words))
        if more := advice(error):
            messages_console().print(Text(more, style="dim"))
        sys.exit(exit_code(error))


def _complete(shell: str) -> None:
    """Answer a shell that asks what may stand at the cursor, and end; never with an error."""
    with contextlib.suppress(Exception), Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        sys.stdout.write(answer(app, Shell(shell), sys.argv[1:]))
    sys.stdout.flush()
    os._exit(0)  # at once: a name server that does not answer would keep the thread that asks it


if __name__ == "__main__":
    main()
