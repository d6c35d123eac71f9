"""Which hub is asked, for the subcommands that can ask one; what it says is shown by `findings` as everything else."""

import importlib.util
import os
import time
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final

import typer
from msgspec import UNSET, json

from outrider.controller.results import Findings, Jobs, Standing
from outrider.controller.settings import load
from outrider.device import RunningJob
from outrider.schema import Error, LocalError, Result, Status

if TYPE_CHECKING:
    from outrider.controller.hub.client import HubClient
    from outrider.controller.hub.client import Result as Recorded

LAST: Final = 100
"""Results that are listed of those that a hub has recorded."""

WAIT_LIMIT: Final = 60.0
"""Seconds that one request may wait."""

HubOption = Annotated[
    str | None,
    typer.Option(
        "--hub",
        metavar="URL",
        help="Ask this hub, as http://localhost:8420; else OUTRIDER_HUB, else the configuration file. Its token is in "
        "OUTRIDER_HUB_TOKEN.",
        show_default=False,
    ),
]


class ClientNotInstalled(LocalError):
    """The library that asks a hub is missing."""


class NotAllowed(LocalError):
    """The hub would show less than what is asked for."""


def hub_named(option: str | None) -> str | None:
    """The URL of the hub that is to be asked; None where none is configured."""
    return load(hub=option).hub


def open_hub(url: str) -> "HubClient":
    """A client of this hub.

    :raises ClientNotInstalled: httpx is missing.
    """
    if importlib.util.find_spec("httpx") is None:
        raise ClientNotInstalled("to ask a hub, httpx is needed: pip install 'outrider-controller[client]'")
    from outrider.controller.hub.client import HubClient

    return HubClient(url, os.environ.get("OUTRIDER_HUB_TOKEN"))


def last_results(url: str, target: str | None, *, everyone: bool) -> list[Standing]:
    """The last results that a hub has recorded, newest first: one's own, or everybody's.

    :raises NotAllowed: everybody's are not this client's to see.
    """
    with open_hub(url) as hub:
        me = hub.me()
        if everyone and not {"audit", "admin"} & set(me.scopes):
            raise NotAllowed(f"the token {me.name} has not the scope audit: see your own without --everyone")
        devices = None if target is None else hub.devices(target)
        found = hub.results() if everyone else hub.results(requester=me.hub, behalf=me.name)
        wanted = (each for each in found if devices is None or each.device in devices)
        return [Standing(each.requester, _result(each)) for each in islice(wanted, LAST)]


def findings_of(url: str, id: str, target: str | None, wait: float | None) -> Findings:
    """What a hub knows of a command.

    :param wait: seconds to wait for its end.
    :raises HubRefused: it knows of none that is this client's.
    """
    deadline = time.monotonic() + (wait or 0.0)
    with open_hub(url) as hub:
        devices = None if target is None else hub.devices(target)
        status = hub.command(id, wait=min(wait or 0.0, WAIT_LIMIT))
        while not status.ended and (left := deadline - time.monotonic()) > 0:
            status = hub.command(id, wait=min(max(left, 0.1), WAIT_LIMIT))
    outcomes: dict[str, Result] = {}
    running: dict[str, RunningJob] = {}
    for each in status.outcomes:
        if devices is not None and each.device not in devices:
            continue
        outcomes[each.device] = Result(
            id=id,
            device=each.device,
            command=status.command,
            status=Status(each.status),
            value=each.value,
            error=each.error,
            started=each.started,
            finished=each.finished,
        )
        if each.status == Status.RUNNING:
            running[each.device] = RunningJob(
                id, status.command, status.requester, status.behalf, status.issued, None, each.fraction, each.text
            )
    return Findings(id, outcomes, running, {}, (), {})


def jobs_on(url: str, target: str | None) -> Jobs:
    """What devices are doing now, as a hub has asked them."""
    with open_hub(url) as hub:
        return hub.jobs(target)


def _result(record: "Recorded") -> Result:
    return Result(
        id=record.id,
        device=record.device,
        command=record.command,
        status=record.status,
        value=record.value if record.status is Status.DONE else UNSET,
        error=json.decode(record.error, type=Error | None),
        started=record.started,
        finished=record.finished,
    )
