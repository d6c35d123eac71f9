"""`outrider script`: a Python script to every device of a target, or once for each input over its devices."""

import io
import math
import sys
from pathlib import Path
from typing import Annotated, BinaryIO, Final, NamedTuple

import typer
from msgspec import ValidationError, convert
from rich.text import Text

from outrider.controller import scripts
from outrider.controller.durable import default_path
from outrider.controller.scripts import FROM_STDIN, Program
from outrider.controller.spread import Again
from outrider.controller.targets import parse
from outrider.device import DEFAULT_WAIT
from outrider.device.scripts.contract import LEAST_MEMORY, MIB, Limits

from .exits import NOT_DONE, run
from .fetching import file_name
from .mapping import Mapping, inputs
from .options import TARGET_HELP, BrokerOption, NameOption, PrefixOption, open_fleet, parsed, seconds, size
from .output import messages_console, printable
from .saving import Folder
from .scripting import Scripting
from .sending import form_of

LIMITS: Final = "Limits"
MAP: Final = "One script for each input"
"""Panels of the help."""


class Given(NamedTuple):
    """What the words of the command line are."""

    files: list[str]
    target: str


def script(
    file: Annotated[
        str, typer.Argument(metavar="SCRIPT", help="A Python file; - is standard input.", show_default=False)
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE|TARGET",
            help="Further files that it imports or reads; and at the end the target, where --on does not name it.",
            show_default=False,
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option("--on", metavar="TARGET", help=TARGET_HELP, show_default=False),
    ] = None,
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="TEXT", help="An argument of the script; several in order.", show_default=False),
    ] = None,
    stdin: Annotated[
        str | None,
        typer.Option("--stdin", metavar="FILE", help="What the script reads; - is standard input.", show_default=False),
    ] = None,
    requirement: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="REQUIREMENT",
            help="A package that it needs, as httpx or 'httpx>=0.28', unless the device forbids it. A script may also "
            "declare them itself (PEP 723).",
            show_default=False,
        ),
    ] = None,
    infer_requirements: Annotated[
        bool,
        typer.Option("--infer-requirements", help="Have the device find out which packages its imports mean."),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="DURATION",
            parser=seconds,
            help="How long it may run on a device, as 30s; without it as long as the device lets it.",
            show_default=False,
            rich_help_panel=LIMITS,
        ),
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(
            "--memory",
            metavar="SIZE",
            parser=size,
            help="As 256M, which it has by default.",
            show_default=False,
            rich_help_panel=LIMITS,
        ),
    ] = None,
    cpu: Annotated[
        float | None,
        typer.Option(
            "--cpu",
            metavar="DURATION",
            parser=seconds,
            help="Processor time; 60s by default.",
            show_default=False,
            rich_help_panel=LIMITS,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes",
            metavar="N",
            help="Processes and threads at once; 64 by default.",
            show_default=False,
            rich_help_panel=LIMITS,
        ),
    ] = None,
    open_files: Annotated[
        int | None,
        typer.Option(
            "--open-files",
            metavar="N",
            help="Open files of a process; 256 by default.",
            show_default=False,
            rich_help_panel=LIMITS,
        ),
    ] = None,
    file_size: Annotated[
        int | None,
        typer.Option(
            "--file-size",
            metavar="SIZE",
            parser=size,
            help="Of each file that it writes; 32M by default.",
            show_default=False,
            rich_help_panel=LIMITS,
        ),
    ] = None,
    output_limit: Annotated[
        int | None,
        typer.Option(
            "--output-limit",
            metavar="SIZE",
            parser=size,
            help="Output that is sent while it runs, of stdout and stderr each; 1M by default.",
            show_default=False,
            rich_help_panel=LIMITS,
        ),
    ] = None,
    map_file: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="FILE",
            help="Run it once for each line that is not empty, which is its last argument then, each on one of the "
            "target's devices; - is standard input.",
            show_default=False,
            rich_help_panel=MAP,
        ),
    ] = None,
    parallel: Annotated[
        int | None,
        typer.Option(
            "--parallel",
            metavar="N",
            min=1,
            help="How many a device gets at once, unless it runs fewer; without it 4.",
            show_default=False,
            rich_help_panel=MAP,
        ),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(
            "--retries",
            metavar="N",
            min=0,
            help="How often one that did not run is sent to another device; without it twice. Given, it holds also for "
            "one that may have run, as on a device that was lost.",
            show_default=False,
            rich_help_panel=MAP,
        ),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Also one that ran and failed: another exit code than 0, a limit, the timeout.",
            rich_help_panel=MAP,
        ),
    ] = False,
    save_output: Annotated[
        Path | None,
        typer.Option(
            "--save-output",
            metavar="DIR",
            help="Write stdout and stderr of each device or input into files in this folder, which has to be new or "
            "empty, with an index.ndjson.",
            show_default=False,
        ),
    ] = None,
    fetch: Annotated[
        list[str] | None,
        typer.Option(
            "--fetch",
            metavar="NAME",
            parser=file_name,
            help="Then fetch a file that the script wrote, into DIR/DEVICE/NAME.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait",
            metavar="DURATION",
            parser=seconds,
            help="How long to wait for it to end, also on devices that are away. Without it as long as a device that "
            "is there works on it. With --map: how long to wait for a device that takes the next one, 30s by default.",
            show_default=False,
        ),
    ] = None,
    expires: Annotated[
        float | None,
        typer.Option(
            "--expires",
            metavar="DURATION",
            parser=seconds,
            help="How long a device may still begin it; 30s by default.",
            show_default=False,
        ),
    ] = None,
    durable: Annotated[
        bool, typer.Option("--durable", help="Write it down before it is sent, as outrider send does.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")] = False,
    ndjson: Annotated[
        bool, typer.Option("--ndjson", help="Print each outcome as a line of JSON, and nothing else.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing on standard output: the exit code tells.")
    ] = False,
    broker: BrokerOption = None,
    prefix: PrefixOption = None,
    name: NameOption = None,
) -> None:
    """Run a Python script on every device of a target, and show its output as it comes.

    On one device the output is as if it ran here, and the exit code is the script's; on several each line begins with
    the device's id, and the exit code is 0 where all exited with 0, else 1. What went wrong here has outrider's own: 1
    not done, 2 usage, 3 broker unreachable.

    For example:

    outrider script hello.py lamp-1

    outrider script main.py helper.py --on @kitchen --arg one --with httpx --timeout 30 --memory 256M

    outrider script count.py --map urls.txt any:scripts --save-output results

    outrider script - --on lamp-1 < hello.py
    """
    form = form_of(json=json, ndjson=ndjson, quiet=quiet)
    if map_file is None and (parallel is not None or retries is not None or retry_failed):
        raise typer.BadParameter("--parallel, --retries and --retry-failed need --map")
    if map_file is not None and (json or durable or fetch):
        raise typer.BadParameter("--map excludes --json, --durable and --fetch; --ndjson has a line for each input")
    if fetch and save_output is None:
        raise typer.BadParameter("--fetch needs --save-output, the folder where the files go")
    given = _given(file, words or [], on)
    parsed(parse)(given.target)
    if [file, stdin, map_file].count(FROM_STDIN) > 1:
        raise typer.BadParameter("standard input can only be one of the script, --stdin and --map")
    asked = {
        name: value
        for name, value in {
            "memory": memory,
            "cpu": cpu,
            "processes": processes,
            "open_files": open_files,
            "file_size": file_size,
            "output": output_limit,
        }.items()
        if value is not None
    }
    if memory is not None and memory < LEAST_MEMORY:
        raise typer.BadParameter(f"--memory: {LEAST_MEMORY // MIB}M is the least")
    limits = _limits(asked)
    standard_input: BinaryIO = getattr(sys.stdin, "buffer", io.BytesIO())  # there is none where it was closed
    program = scripts.read(given.files, standard_input)
    read = "" if stdin is None else scripts.text(stdin, standard_input)

    def arguments(*more: str) -> dict[str, object]:
        return program.arguments(
            args=[*(arg or []), *more],
            stdin=read,
            requirements=requirement or [],
            infer=infer_requirements,
            limits=asked,
        )

    if map_file is not None:
        lines = inputs(map_file, standard_input)
        arguments(max((each.text for each in lines), key=scripts.encoded_size))  # says whether it fits
        _say_doubts(program)
        mapping = Mapping(lines, arguments, form, limits=limits, folder=_folder(save_output))
        fleet = open_fleet(broker, prefix, name, on_disconnect=mapping.disconnected)
        again = Again(2 if retries is None else retries, perhaps_ran=retries is not None, failed=retry_failed)
        work = mapping.run(
            fleet,
            given.target,
            again=again,
            parallel=parallel,
            timeout=timeout,
            expires=expires,
            wait=DEFAULT_WAIT if wait is None else wait,
        )
        if not run(work, interrupted=mapping.say_interrupted):
            raise typer.Exit(NOT_DONE)
        return
    sent = arguments()
    _say_doubts(program)
    scripting = Scripting(given.target, form, limits=limits, folder=_folder(save_output), names=fetch or [])
    outbox = default_path() if durable else None
    fleet = open_fleet(broker, prefix, name, on_disconnect=scripting.disconnected, outbox=outbox)
    script_run = scripting.run(
        fleet,
        lambda targets, abouts: scripting.checked(sent, targets, abouts),
        wait=math.inf if wait is None else wait,
        detach=False,
        timeout=timeout,
        expires=expires,
        if_offline=None,
        limit=None,
        seed=None,
        plan=None,
    )
    if not run(script_run, interrupted=scripting.say_interrupted):
        raise typer.Exit(scripting.exit_code)


def _given(script: str, words: list[str], on: str | None) -> Given:
    """Which words are files, and which is the target.

    :raises typer.BadParameter: it cannot be told, and why.
    """
    if on is not None:
        for word in words:
            if not _is_file(word):
                raise typer.BadParameter(
                    f"{word!r} is no file that goes along, and the target is --on {on}: leave one of them out"
                )
        return Given([script, *words], on)
    if not words:
        raise typer.BadParameter(f"no target: write outrider script {script} --on TARGET, or the target as last word")
    *more, target = words
    if target.endswith(".py"):
        raise typer.BadParameter(f"{target!r} is a file, and no target is given: write --on TARGET")
    for word in more:
        if not _is_file(word):
            hint = "a target stands last, and arguments of the script are written --arg TEXT"
            raise typer.BadParameter(f"{word!r} is no file that goes along; {hint}")
    return Given([script, *more], target)


def _is_file(word: str) -> bool:
    return word.endswith(".py") or Path(word).is_file()


def _limits(asked: dict[str, int | float]) -> Limits:
    try:
        return convert(asked, Limits)
    except ValidationError as error:
        said = str(error).replace("`$.output`", "--output-limit").replace("`$.", "`--").replace("_", "-")
        raise typer.BadParameter(said) from None


def _folder(path: Path | None) -> Folder | None:
    return None if path is None else Folder(path)


def _say_doubts(program: Program) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for words in scripts.doubts(program):
        line = f"{printable(words)} (so says Python {version} here; it is sent all the same)"
        messages_console().print(Text.assemble(("warning: ", "yellow"), line), soft_wrap=True)
