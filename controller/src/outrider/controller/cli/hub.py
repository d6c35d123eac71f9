"""`outrider hub`: the service for a team in the foreground; `hub export` and `hub token` beside it.

The hub's libraries are an extra, so they are imported where they are needed only.
"""

import asyncio
import contextlib
import gc
import importlib.util
import logging
import os
import re
import signal
import sys
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from platformdirs import user_state_path
from rich.text import Text

from outrider.controller.broker import DEFAULT_PORT, LOOPBACK, BrokerProcess, answers, start_broker
from outrider.controller.settings import DEFAULT_BROKER, Settings, load
from outrider.device import Address
from outrider.schema import LocalError, to_name

from .broker import until_ended_or_deaf
from .moments import moment
from .options import BrokerOption, PrefixOption, seconds
from .output import messages_console, results_console

if TYPE_CHECKING:
    from outrider.controller.hub.hub import Settings as HubSettings
    from outrider.controller.hub.store import Store

LIBRARIES: Final = ("litestar", "uvicorn", "httptools", "sqlalchemy", "alembic", "prometheus_client")

DEFAULT_HTTP: Final = "127.0.0.1:8420"

DEFAULT_NAME: Final = "hub"
"""Who a hub is to the broker, where nothing else is said."""

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="URL",
        envvar="OUTRIDER_DB",
        help="sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE; else a file in the state folder.",
        show_default=False,
        show_envvar=False,
    ),
]


class HubNotInstalled(LocalError):
    """The hub's libraries are missing."""


class Format(StrEnum):
    """How `hub export` writes."""

    NDJSON = "ndjson"
    CSV = "csv"


class ScopeName(StrEnum):
    """What a token allows."""

    READ = "read"
    SCRIPTS = "scripts"
    SEND = "send"
    AUDIT = "audit"
    ADMIN = "admin"


hub = typer.Typer(
    name="hub",
    help="Run the hub: it remembers what the fleet does, and answers over HTTP.",
    pretty_exceptions_enable=False,
)
token = typer.Typer(
    name="token", help="Make, list and remove the API tokens of the hub's clients.", no_args_is_help=True
)
hub.add_typer(token)


@hub.callback(invoke_without_command=True)
def _hub(
    context: typer.Context,
    http: Annotated[
        str, typer.Option("--http", metavar="HOST:PORT", help="Where to listen; port 0 finds a free one.")
    ] = DEFAULT_HTTP,
    database: DatabaseOption = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin", metavar="MODULE", help="A module of functions that devices call at any:hub.", show_default=False
        ),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(
            "--keep",
            metavar="DURATION",
            parser=seconds,
            help="How long records are kept, as 90d; without it for ever.",
            show_default=False,
        ),
    ] = None,
    most: Annotated[
        int | None,
        typer.Option(
            "--max-size",
            metavar="SIZE",
            parser=lambda text: _size(text),
            help="How large the database may become, as 10G: the oldest records go first.",
            show_default=False,
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            metavar="ORIGIN",
            help="A site whose pages may use the API, as https://fleet.example; by default none but the hub's own.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help=f"Who the hub is to the broker; else the broker's user name, else {DEFAULT_NAME}.",
            show_default=False,
        ),
    ] = None,
    broker: BrokerOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Run the hub until Ctrl-C: it remembers what the fleet does, and answers over HTTP.

    Where no broker is named and none runs on this machine, it starts one. On another address than loopback it needs a
    token first: outrider hub token add.

    Exit codes: 0 ended by Ctrl-C or a signal, 1 something it needs ended, 2 usage, 3 broker unreachable.
    """
    if context.invoked_subcommand is not None:
        return
    _require()
    from outrider.controller.hub.hub import Settings as HubSettings

    host, port = _address(http)
    settings = load(broker=broker, prefix=prefix, requester=name)
    user = Address.parse(settings.broker).user
    folder = _folder()
    _log()
    asyncio.run(
        _run(
            HubSettings(
                broker=settings.broker,
                requester=name or (to_name(user) if user else DEFAULT_NAME),
                database=database or _default_database(),
                outbox=folder / "hub-outbox.sqlite",
                prefix=settings.prefix,
                host=host,
                port=port,
                plugins=tuple(plugin or ()),
                origins=tuple(origin or ()),
                keep=keep,
                most=most,
            ),
            may_start=_is_default(broker, settings),
        )
    )


async def _run(settings: "HubSettings", *, may_start: bool) -> None:
    from outrider.controller.hub.hub import Hub

    asked_to_end = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under nohup
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, asked_to_end.set)
    output = results_console()
    async with _broker(may_start=may_start) as process, Hub(settings) as running:
        _settle_memory()
        started = "which it has started" if process is not None else "found there"
        output.print(
            Text(
                f"The hub is at {running.url}\n"
                f"  broker    {Address.parse(settings.broker).place}, {started}\n"
                f"  database  {running.parts.store.name}\n"
                "Ctrl-C ends it."
            ),
            soft_wrap=True,
        )
        if process is None:
            await asked_to_end.wait()
        else:
            await _watch(process, asked_to_end)
        messages_console().print("ending: what is under way is written down", style="dim")


def _settle_memory() -> None:
    """Leave what a hub begins with out of garbage collection, and look less often at the rest.

    Thousands of commands under way are many objects that live for a while; to go through them at each 700th new one
    took a tenth of the event loop's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@contextlib.asynccontextmanager
async def _broker(*, may_start: bool) -> AsyncGenerator[BrokerProcess | None]:
    """A broker on this machine, as long as the context is open, where one is wanted and none runs yet."""
    if not may_start or await answers(LOOPBACK, DEFAULT_PORT):
        yield None
        return
    async with start_broker(DEFAULT_PORT) as process:
        yield process


async def _watch(process: BrokerProcess, asked_to_end: asyncio.Event) -> None:
    """Wait for the end, and start the broker again where it takes no connections any more."""
    while True:
        await until_ended_or_deaf(process, asked_to_end)
        if asked_to_end.is_set():
            return
        await process.restart()
        messages_console().print("the broker took no connections any more, and has been started again", style="yellow")


@hub.command()
def export(
    since: Annotated[
        float | None,
        typer.Option(metavar="TIME", parser=moment, help="From then on.", show_default=False),
    ] = None,
    until: Annotated[
        float | None,
        typer.Option(metavar="TIME", parser=moment, help="Before then.", show_default=False),
    ] = None,
    format: Annotated[Format, typer.Option(help="How to write it.")] = Format.NDJSON,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND", help="command, progress, result, state or event; by default all.", show_default=False
        ),
    ] = None,
    database: DatabaseOption = None,
) -> None:
    """Write what the hub has recorded to standard output, as lines of JSON or CSV. The hub may run meanwhile.

    A TIME is 2026-11-25, 2026-11-25T14:30, with an offset or in local time, Unix seconds, or how long ago: 2h, 7d.
    """
    _require()
    from outrider.controller.hub.export import KINDS, Kind, comma_separated, ndjson
    from outrider.controller.hub.store import Store

    for each in kind or ():
        if each not in KINDS:
            raise typer.BadParameter(f"there is no kind {each}: {', '.join(KINDS)}")
    kinds: list[Kind] = [each for each in KINDS if not kind or each in kind]
    write = ndjson if format is Format.NDJSON else comma_separated
    with Store.open(database or _default_database(), read_only=True) as store:
        for line in write(store.export(kinds, since, until)):
            sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


@token.command("add")
def add_token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is: commands are sent on its behalf.")],
    scope: Annotated[
        list[ScopeName],
        typer.Option(
            "--scope",
            help="read: look; scripts: run scripts, and nothing else; send: look and command; audit: see what others "
            "do, too; admin: all, and cancel what others do. May be repeated.",
        ),
    ],
    expires: Annotated[
        float | None,
        typer.Option(
            "--expires", metavar="DURATION", parser=seconds, help="How long it is good, as 90d.", show_default=False
        ),
    ] = None,
    database: DatabaseOption = None,
) -> None:
    """Make a token and print it. It is shown this once: the hub keeps only its digest."""
    _require()
    from outrider.controller.hub.tokens import Scope, make_token

    with _store(database) as store:
        scopes = [Scope(each.value) for each in scope]
        until = None if expires is None else time.time() + expires
        made = make_token(store, name, scopes, expires=until)
    results_console().print(Text(made), soft_wrap=True)


@token.command("list")
def list_tokens(
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")] = False,
    database: DatabaseOption = None,
) -> None:
    """List the tokens: names, scopes, and until when they are good."""
    _require()
    from msgspec import to_builtins
    from rich.table import Table

    from .output import json_text, printable

    with _store(database) as store:
        tokens = store.tokens()
    if json:
        results_console().print(json_text({"tokens": to_builtins(tokens)}), soft_wrap=True)
        return
    if not tokens:
        messages_console().print("there is no token: outrider hub token add NAME --scope read", style="dim")
        return
    table = Table("NAME", "SCOPES", "MADE", "EXPIRES", box=None, pad_edge=False, header_style="bold")
    for each in tokens:
        expires = "never" if each.expires is None else _day(each.expires)
        table.add_row(printable(each.name), " ".join(each.scopes), _day(each.created), expires)
    results_console().print(table)


@token.command("remove")
def remove_token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is.")], database: DatabaseOption = None
) -> None:
    """Remove a token: within seconds a running hub refuses it."""
    _require()
    with _store(database) as store:
        if not store.remove_token(name):
            known = ", ".join(each.name for each in store.tokens()) or "none"
            raise typer.BadParameter(f"there is no token {name}; there are: {known}")


def _store(database: str | None) -> "Store":
    """The hub's store, also where a hub runs on it."""
    from outrider.controller.hub.store import Store, StoreHeld

    url = database or _default_database()
    try:
        return Store.open(url)
    except StoreHeld:
        return Store.open(url, beside=True)


def has_hub() -> bool:
    """Whether the hub's libraries are installed."""
    return not _missing()


def _missing() -> list[str]:
    return [name for name in LIBRARIES if importlib.util.find_spec(name) is None]


def _require() -> None:
    """Say what is missing, before an import fails.

    :raises HubNotInstalled: the extra is not installed.
    """
    if missing := _missing():
        raise HubNotInstalled(f"the hub needs {', '.join(missing)}: pip install 'outrider-controller[hub]'")


def _folder() -> Path:
    return user_state_path("outrider")


def _default_database() -> str:
    return f"sqlite:///{_folder() / 'hub.sqlite'}"


def _is_default(option: str | None, settings: Settings) -> bool:
    """Whether nobody has named a broker, so that one may be started."""
    return not option and not os.environ.get("OUTRIDER_BROKER") and settings.broker == DEFAULT_BROKER


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or not host:
        raise typer.BadParameter(f"{text!r} is no address to listen on: write {DEFAULT_HTTP}, or 0.0.0.0:8420")
    return host.strip("[]"), int(port)


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d{1,12})\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no size: write 500M or 10G")
    return int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ")


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%MZ")


def _log() -> None:
    """Send what the hub and its server say to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("outrider", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
