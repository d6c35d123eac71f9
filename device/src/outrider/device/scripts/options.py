"""What `outrider-device run` takes about scripts."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from .contract import LEAST_MEMORY, Limits
from .sizes import size

if TYPE_CHECKING:
    from .capability import Scripts


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options; without `--allow-scripts` the others do nothing, and saying them is an error."""
    group = parser.add_argument_group(
        "scripts",
        "Run Python scripts that others send, locked in and with limits. Only with a broker on this machine, or by TLS "
        "with credentials.",
    )
    group.add_argument("--allow-scripts", action="store_true", help="take scripts, as a member of the pool `scripts`")
    group.add_argument("--script-memory", type=_size, metavar="SIZE", help="what one may ask for at most (1G)")
    group.add_argument("--script-timeout", type=_seconds, metavar="SECONDS", help="how long one may take (300)")
    group.add_argument("--script-parallel", type=_count, metavar="COUNT", help="at once (100); one more is `busy`")
    group.add_argument(
        "--script-workspace", type=_size, metavar="SIZE", help="what each requester's files may have in all (100M)"
    )
    group.add_argument(
        "--script-files",
        action="append",
        metavar="PATTERN",
        help="names of files that may be sent (*.py); may be repeated",
    )
    group.add_argument("--script-no-packages", action="store_true", help="install no packages that scripts ask for")
    group.add_argument(
        "--script-index",
        metavar="URL|FOLDER",
        help="where packages come from: an index, or a folder with wheels; else as this machine is configured",
    )
    group.add_argument("--script-network", action="store_true", help="let scripts reach the network")
    group.add_argument("--script-python", metavar="PATH", help="the Python that runs them")
    group.add_argument(
        "--script-folder",
        type=Path,
        metavar="FOLDER",
        help="for workspaces and packages; else OUTRIDER_SCRIPTS, else one under $XDG_STATE_HOME/outrider",
    )
    group.add_argument("--script-sandbox", choices=("bubblewrap", "landlock"), help="else the best that works here")


def stated(options: argparse.Namespace) -> list[str]:
    """The options about scripts that the command line has, but for `--allow-scripts`."""
    given = vars(options).items()
    return [f"--{name.replace('_', '-')}" for name, value in given if name.startswith("script_") and value]


def scripts_of(options: argparse.Namespace) -> "Scripts":
    """The capability as the command line has it.

    :raises ImportError: the extra `scripts` is not installed.
    """
    from .capability import Scripts
    from .settings import GREATEST, Settings

    usual = Settings()
    memory = options.script_memory or GREATEST.memory
    timeout = options.script_timeout or usual.timeout
    processors = max(GREATEST.cpu, timeout)
    return Scripts(
        greatest=Limits(
            memory=memory,
            cpu=processors,
            processes=GREATEST.processes,
            open_files=GREATEST.open_files,
            file_size=GREATEST.file_size,
            output=GREATEST.output,
        ),
        timeout=timeout,
        parallel=options.script_parallel or usual.parallel,
        quota=options.script_workspace or usual.quota,
        patterns=tuple(options.script_files or usual.patterns),
        packages=not options.script_no_packages,
        index=options.script_index,
        network=options.script_network,
        python=options.script_python,
        sandbox=options.script_sandbox,
        folder=options.script_folder and options.script_folder.expanduser().absolute(),
    )


def _size(text: str) -> int:
    try:
        bytes = size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if bytes < LEAST_MEMORY:
        raise argparse.ArgumentTypeError(f"{text} is too little: 16M is the least")
    return bytes


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no time: give seconds above 0")
    return seconds


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no count: give 1 or more")
    return int(text)
