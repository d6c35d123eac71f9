"""The command `outrider-device`: run a device until it is terminated."""

import argparse
import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from outrider.schema import LocalError, OutriderError, check_name

from .builtin import calculate
from .definition import check_tags
from .device import DEFAULT_BROKER, Device
from .journal_file import Synchronous
from .memory_journal import MemoryJournal
from .scripts.options import add_options, scripts_of, stated

EXAMPLE = """examples:
  outrider-device run lamp:lamp --broker mqtt://localhost      the object `lamp` of lamp.py
  outrider-device run --id lamp-1 --ready --group kitchen      a device with ping and calculate, for trying things out
  outrider-device run --id lamp-1 --ready --allow-scripts      one that runs scripts, locked in and with limits
"""


class UsageError(LocalError):
    """The command line does not say which device to run."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Exit codes: 0 terminated, 1 failed, 2 usage."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        device = _device(options)
        asyncio.run(_serve(device, options.broker, options.prefix))
    except OutriderError as error:
        print(f"outrider-device: {error}", file=sys.stderr)  # noqa: T201 - to whoever started it
        sys.exit(1 if not isinstance(error, UsageError | ValueError | TypeError) else 2)


async def _serve(device: Device, broker: str, prefix: str) -> None:
    if not await device.serve_until_signal(broker, prefix=prefix):
        # A function that ignores cancel would hold up asyncio.run for ever; it has its result (`interrupted`).
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="outrider-device", description="Run an outrider device.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run a device until it is terminated",
        description="Run the device that a module defines, or one made of options. It ends with exit code 0 on "
        "`terminate`, SIGTERM and Ctrl-C.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("device", nargs="?", metavar="MODULE:NAME", help="a Device object, found from the current folder")
    run.add_argument("--id", help="the device's id; without MODULE:NAME the device has ping and calculate")
    run.add_argument("--ready", action="store_true", help="a new device begins ready instead of unready")
    run.add_argument("--group", action="append", default=[], help="a group it is in; may be repeated")
    run.add_argument("--pool", action="append", default=[], help="a pool it is in; may be repeated")
    run.add_argument("--tag", action="append", default=[], metavar="KEY=VALUE", help="a tag; may be repeated")
    run.add_argument(
        "--journal",
        metavar="PATH|memory",
        help="where it remembers what it ran (one of its own under $XDG_STATE_HOME/outrider/devices); memory: nowhere, "
        "so that a command may run again after a restart",
    )
    run.add_argument(
        "--synchronous",
        choices=get_args(Synchronous),
        help="what the journal survives: the end of the process (normal), or of the power too (full, slower)",
    )
    run.add_argument("--max-jobs", type=int, help="jobs it takes on at once (1000); one more is `busy`")
    run.add_argument(
        "--broker",
        default=os.environ.get("OUTRIDER_BROKER") or DEFAULT_BROKER,
        help=f"URL; else OUTRIDER_BROKER, else {DEFAULT_BROKER}",
    )
    run.add_argument(
        "--prefix",
        default=os.environ.get("OUTRIDER_PREFIX", ""),
        help="levels before every topic, for shared brokers; else OUTRIDER_PREFIX",
    )
    run.add_argument("--verbose", action="store_true", help="say more on standard error")
    add_options(run)
    return parser


def _device(options: argparse.Namespace) -> Device:
    if options.device:
        device = _load(options.device)
        if options.id:
            device.id = check_name(options.id, "device id")
    elif options.id:
        device = Device(options.id)
        device.include(calculate)
    else:
        raise UsageError("say which device: MODULE:NAME or --id ID (see outrider-device run --help)")
    if options.ready:
        device.initial = "ready"
    if options.max_jobs is not None:
        if options.max_jobs < 1:
            raise UsageError(f"--max-jobs {options.max_jobs}: a device takes on at least one job")
        device.max_jobs = options.max_jobs
    if options.journal is not None:
        device.journal = MemoryJournal() if options.journal == "memory" else Path(options.journal).expanduser()
    if options.synchronous:
        device.synchronous = options.synchronous
    device.groups = tuple(dict.fromkeys((*device.groups, *(check_name(name, "group") for name in options.group))))
    device.pools = tuple(dict.fromkeys((*device.pools, *(check_name(name, "pool") for name in options.pool))))
    for tag in options.tag:
        key, equals, value = tag.partition("=")
        if not key or not equals:
            raise UsageError(f"--tag {tag}: write KEY=VALUE, as in --tag room=kitchen")
        device.tags = check_tags({**device.tags, key: value})
    _allow_scripts(options, device)
    return device


def _allow_scripts(options: argparse.Namespace, device: Device) -> None:
    if not options.allow_scripts:
        if extra := stated(options):
            raise UsageError(f"{', '.join(extra)} without --allow-scripts: say that scripts are allowed, too")
        return
    try:
        scripts = scripts_of(options)
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is missing for scripts: pip install 'outrider-device[scripts]'") from error
    scripts.include_in(device)


def _load(reference: str) -> Device:
    module, colon, name = reference.partition(":")
    file = Path(module)
    if file.suffix == ".py" and file.is_file():
        wanted = f"{file.stem}:{name or file.stem}"
        raise UsageError(
            f"{reference!r} names a file: write its module and the object in it, as {wanted} in its folder"
        )
    if not module or not colon or not name:
        raise UsageError(f"{reference!r} is not MODULE:NAME, as in lamp:lamp for the object `lamp` of lamp.py")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] and error.name != module:
            raise
        raise UsageError(f"there is no module {module!r} in {Path.cwd()} or among the installed ones") from error
    device = getattr(found, name, None)
    if not isinstance(device, Device):
        known = ", ".join(key for key, value in vars(found).items() if isinstance(value, Device)) or "none"
        raise UsageError(f"{module}:{name} is no Device (Device objects of {module}: {known})")
    return device


if __name__ == "__main__":
    main()
