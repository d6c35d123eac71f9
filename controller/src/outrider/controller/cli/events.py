"""`outrider events`: what devices tell of their own accord; as it comes, or what a hub has recorded."""

import asyncio
import time
from collections import OrderedDict
from datetime import datetime
from typing import Annotated, Final

import msgspec
import typer
from msgspec import UnsetType, to_builtins
from rich.text import Text

from outrider.controller.events import Listener
from outrider.controller.hub.records import EventRecord
from outrider.device import Address
from outrider.schema import Event

from .exits import run
from .findings import disconnected, print_lines, say
from .hubs import HubOption, hub_named, open_hub
from .moments import moment
from .options import BrokerOption, NameOption, PrefixOption, open_fleet
from .output import json_text, printable, results_console
from .sending import Form, form_of

LOOK_AGAIN: Final = 0.5
"""Seconds between two questions to a hub for what is new."""

REMEMBERED: Final = 10_000
"""Events whose ids are remembered, so that a repeat is not shown again."""


def events(
    target: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="Whose: a device's id, @group, …; by default all.", show_default=False),
    ] = None,
    event: Annotated[
        str | None, typer.Option("--name", metavar="EVENT", help="Events of this name only.", show_default=False)
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="Events with this key only.", show_default=False)
    ] = None,
    since: Annotated[
        float | None,
        typer.Option(
            metavar="TIME",
            parser=moment,
            help="Those from then on: 2h, 2026-11-25T14:30. Needs a hub.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many that a hub has recorded, the newest.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")] = False,
    ndjson: Annotated[
        bool, typer.Option("--ndjson", help="Print each event as a line of JSON, and nothing else.")
    ] = False,
    hub: HubOption = None,
    broker: BrokerOption = None,
    prefix: PrefixOption = None,
    name: NameOption = None,
) -> None:
    """Show what devices tell of their own accord, oldest first.

    With a hub (--hub, OUTRIDER_HUB, or `hub` in the configuration file) what it has recorded, and with --follow what
    comes; without one what comes from now on, until Ctrl-C.

    For example:

    outrider events @kitchen --name switched

    outrider events --since 2h --hub http://localhost:8420
    """
    form = form_of(json=json, ndjson=ndjson)
    url = hub_named(hub)
    if json and (follow or url is None):
        raise typer.BadParameter("--json prints one document when all is known, and this has no end: use --ndjson")
    if url is None:
        if since is not None:
            raise typer.BadParameter("only a hub knows what was before: name it with --hub, or leave --since out")
        run(_follow(target, event, key, form, broker, prefix, name))
        return
    _query(url, target, event, key, since, limit, form, follow=follow)


async def _follow(
    target: str | None,
    event: str | None,
    key: str | None,
    form: Form,
    broker: str | None,
    prefix: str | None,
    name: str | None,
) -> None:
    """Print events as they come."""
    shown: OrderedDict[tuple[str, str], None] = OrderedDict()
    fleet = open_fleet(broker, prefix, name, on_disconnect=disconnected)
    devices: tuple[str, ...] | None = None
    if target is not None:
        async with fleet:
            devices = fleet.resolve(target).devices

    def heard(come: Event) -> None:
        if (key is not None and come.key != key) or (come.device, come.id) in shown:
            return
        shown[come.device, come.id] = None
        if len(shown) > REMEMBERED:
            shown.popitem(last=False)
        _show(come, form)

    address: Address = fleet.connection.address
    async with Listener(
        address, fleet.topics, heard, name=fleet.requester, devices=devices, event=event, on_disconnect=disconnected
    ):
        if form is Form.TEXT:
            say("events as they come; Ctrl-C ends it")
        await asyncio.Event().wait()


def _query(
    url: str,
    target: str | None,
    event: str | None,
    key: str | None,
    since: float | None,
    limit: int,
    form: Form,
    *,
    follow: bool,
) -> None:
    """Print what a hub has recorded, and what comes."""
    with open_hub(url) as hub:
        devices = None if target is None else hub.devices(target)
        found: list[EventRecord] = []
        cursor: int | None = None
        last = 0
        while len(found) < limit:
            page = hub.events(name=event, key=key, since=since, cursor=cursor)
            last = last or max((each.seq for each in page.items), default=0)
            found += [each for each in page.items if devices is None or each.device in devices]
            if (cursor := page.next) is None:
                break
        found = found[:limit][::-1]
        if form is Form.JSON:
            results_console().print(json_text({"events": [_plain(each) for each in found]}), soft_wrap=True)
        else:
            for each in found:
                _show(each, form)
            if not found and form is Form.TEXT and not follow:
                say("no such event has been recorded")
        if follow:
            run(_follow_hub(url, devices, event, key, last, form))


async def _follow_hub(
    url: str, devices: frozenset[str] | None, event: str | None, key: str | None, last: int, form: Form
) -> None:
    with open_hub(url) as hub:
        while True:
            page = await asyncio.to_thread(hub.events, name=event, key=key, after=last)
            for each in page.items:
                last = each.seq
                if devices is None or each.device in devices:
                    _show(each, form)
            if page.next is None:
                await asyncio.sleep(LOOK_AGAIN)


def _show(event: Event | EventRecord, form: Form) -> None:
    if form is Form.NDJSON:
        print_lines([_plain(event)])
        return
    data = None if event.data is None or isinstance(event.data, UnsetType) else msgspec.json.decode(event.data)
    at = datetime.fromtimestamp(event.time).astimezone()
    day = "" if time.time() - event.time < 43_200 else f"{at:%Y-%m-%d} "
    line = Text.assemble((f"{day}{at:%H:%M:%S}.{at.microsecond // 1000:03d}  ", "dim"), (event.device, "bold"))
    line.append(f"  {printable(event.name)}", style="cyan")
    for what, text in (("key", event.key), ("subject", event.subject)):
        if text is not None:
            line.append(f"  {what}={printable(text)}")
    if data is not None:
        line.append(f"  {json_text(data)}")
    results_console().print(line, soft_wrap=True)


def _plain(event: Event | EventRecord) -> dict[str, object]:
    fields: dict[str, object] = to_builtins(msgspec.structs.replace(event, data=None))
    plain = {name: value for name, value in fields.items() if value is not None and name != "type"}
    if event.data is not None and not isinstance(event.data, UnsetType):
        plain["data"] = msgspec.json.decode(event.data)
    return plain
