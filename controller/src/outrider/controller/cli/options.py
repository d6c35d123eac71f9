"""The options that every subcommand shares, and the fleet they lead to."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from outrider.controller import Fleet
from outrider.controller.settings import DEFAULT_BROKER, load
from outrider.device.scripts import sizes
from outrider.schema import LocalError

T = TypeVar("T")

BrokerOption = Annotated[
    str | None,
    typer.Option(
        "--broker",
        metavar="URL",
        help="As mqtt://user:password@host:1883, mqtts://, ws://, wss:// or unix:///path; else OUTRIDER_BROKER, "
        f"else the configuration file, else {DEFAULT_BROKER}.",
        show_default=False,
    ),
]

PrefixOption = Annotated[
    str | None,
    typer.Option(
        "--prefix", metavar="PREFIX", help="Levels before every topic, for shared brokers; else OUTRIDER_PREFIX."
    ),
]

NameOption = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="Who asks; else the broker's user name, else OUTRIDER_NAME, else user-host.",
        show_default=False,
    ),
]

TARGET_HELP: Final = (
    "A device's id, a list a,b, a glob 'lamp-*', @group, a query 'room=kitchen and fw<2.1', any:pool, all, "
    "and '@group - lamp-3'."
)

LONGEST: Final = 1e9
"""Seconds that a command's timeout may be at most, by the protocol."""


def seconds(text: str) -> float:
    """A duration as it is typed, `30s`, `5m`, `1h`, `2d`, `200ms` or plain seconds: a parser for options."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a duration: write 30 or 30s, 5m, 1h, 2d, 200ms")
    value = float(match[1]) * _UNITS[match[2] or "s"]
    if not 0.001 <= value <= LONGEST:
        raise typer.BadParameter(f"{text} is not in the range 0.001 to {LONGEST:.0f} seconds")
    return value


_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(rf"(\d{{1,12}}(?:\.\d{{1,9}})?|\.\d{{1,9}})\s*({'|'.join(_UNITS)})?")


def size(text: str) -> int:
    """Bytes as they are typed, `256M`, `1.5G`, `64K` or a plain number, counted by 1024: a parser for options."""
    try:
        return sizes.size(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def parsed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A parser for options out of a function that raises `LocalError`."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except LocalError as error:
            raise typer.BadParameter(str(error)) from None

    return convert


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


def open_fleet(
    broker: str | None,
    prefix: str | None,
    requester: str | None,
    *,
    on_connect: Callable[[], None] | None = None,
    on_disconnect: Callable[[str], None] | None = None,
    outbox: Path | None = None,
) -> Fleet:
    """The fleet that the options, the environment and the configuration file name; not connected yet.

    :param on_connect: called whenever the broker is there; `on_disconnect`, with the reason, whenever it is lost.
    :param outbox: where commands are written down before they are sent.
    :raises InvalidSettings: the configuration file cannot be used.
    :raises InvalidAddress: the broker's URL cannot be used.
    :raises InvalidName: the requester or the prefix is not well formed.
    """
    settings = load(broker=broker, prefix=prefix, requester=requester)
    return Fleet(
        settings.broker,
        requester=settings.requester,
        prefix=settings.prefix,
        on_connect=on_connect,
        on_disconnect=on_disconnect,
        outbox=outbox,
    )
