"""`outrider results`: what became of commands that were sent before."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from outrider.controller import Fleet
from outrider.controller.accounting import outcomes_of, settled
from outrider.controller.durable import Brief, DurableOutbox, OutboxUnusable, default_path
from outrider.controller.results import Findings, Standing, check_id, last_results, results_of
from outrider.schema import BrokerUnreachable

from .exits import NOT_DONE, run
from .findings import (
    JsonOption,
    NothingKnown,
    disconnected,
    document,
    no_result_words,
    nothing_known,
    plain_durable,
    plain_outcome,
    print_lines,
    print_outcomes,
    results_table,
    say,
    say_away,
    say_unfinished,
    say_untold,
    waiting,
)
from .hubs import HubOption, findings_of, hub_named
from .hubs import last_results as last_of_hub
from .options import BrokerOption, NameOption, PrefixOption, open_fleet, seconds
from .output import json_text, plain_result, results_console
from .sending import Form, form_of

NONE_RECORDED: Final = "the hub has recorded no result for you; everybody's: --everyone"


def results(
    id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="The command's id; without it, the last results.", show_default=False),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="TARGET",
            help="On these devices: an id, @group, …; by default on all.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait",
            metavar="DURATION",
            parser=seconds,
            help="How long to wait for devices that still run it, as 30s or 5m; by default not at all, after --durable "
            "as outrider send does.",
            show_default=False,
        ),
    ] = None,
    everyone: Annotated[
        bool,
        typer.Option("--everyone", help="Without ID: the results of all requesters, and of commands typed by hand."),
    ] = False,
    json: JsonOption = False,
    ndjson: Annotated[
        bool, typer.Option("--ndjson", help="Print each result as a line of JSON, and nothing else.")
    ] = False,
    hub: HubOption = None,
    broker: BrokerOption = None,
    prefix: PrefixOption = None,
    name: NameOption = None,
) -> None:
    """Show what became of a command that was sent before, from any process; without ID the last results.

    With a hub (--hub, OUTRIDER_HUB, or `hub` in the configuration file) it is asked: it knows what was sent through it,
    and remembers all results.

    The last result that each device gave you stands on the broker. Earlier ones the devices are asked for.

    Of a command sent with --durable every device is accounted for; to those that have not answered it is sent again
    until it expires. Without ID such commands that have not ended are listed as well.

    Exit codes: 0 all done, 1 some not done or still running, 2 nothing known of this ID, 3 broker unreachable.

    For example:

    outrider results

    outrider results 5f0c2a9e41d7b386 --wait 5m
    """
    form = form_of(json=json, ndjson=ndjson)
    if id is None and wait is not None:
        raise typer.BadParameter("--wait waits for one command: give its ID as well")
    if id is not None and everyone:
        raise typer.BadParameter("--everyone goes without an ID; results of another requester: --as NAME")
    if (url := hub_named(hub)) is not None:
        if id is None:
            _print_last(last_of_hub(url, target, everyone=everyone), [], form, everyone=everyone, none=NONE_RECORDED)
        elif not _print_findings(findings_of(url, check_id(id), target, wait), form):
            raise typer.Exit(NOT_DONE)
        return
    path = _outbox()
    fleet = open_fleet(broker, prefix, name, on_disconnect=disconnected, outbox=path)
    if id is None:
        try:
            run(_last(fleet, target, form, everyone=everyone))
        except BrokerUnreachable:
            if path is not None and form is Form.TEXT:
                with DurableOutbox(path) as outbox:
                    say_unfinished(outbox.unfinished())
            raise
    elif target is None and path is not None and (known := _settled(path, id, fleet)) is not None:
        if not _print_findings(known, form):
            raise typer.Exit(NOT_DONE)
    elif not run(_of(fleet, check_id(id), target, form, wait)):
        raise typer.Exit(NOT_DONE)


def _outbox() -> Path | None:
    """The durable outbox, where there is one that can be used."""
    path = default_path()
    if not path.exists():
        return None
    try:
        DurableOutbox(path).close()
    except OutboxUnusable as error:
        say(str(error), "yellow")
        return None
    return path


def _settled(path: Path, id: str, fleet: Fleet) -> Findings | None:
    """What the outbox alone knows, where that is all."""
    with DurableOutbox(path) as outbox:
        return settled(outbox, id, fleet.place)


async def _last(fleet: Fleet, target: str | None, form: Form, *, everyone: bool) -> None:
    async with fleet:
        found = await last_results(fleet, target, everyone=everyone)
        unfinished = [] if fleet.outbox is None else fleet.outbox.unfinished()
    none = "no result stands on the broker" if everyone else no_result_words(fleet.requester)
    _print_last(found, unfinished, form, everyone=everyone, none=none)


def _print_last(
    found: Sequence[Standing], unfinished: Sequence[Brief], form: Form, *, everyone: bool, none: str
) -> None:
    lines = [{**({"requester": each.requester} if everyone else {}), **plain_result(each.result)} for each in found]
    match form:
        case Form.NDJSON:
            print_lines(lines)
        case Form.JSON:
            durable = {"durable": [plain_durable(brief) for brief in unfinished]} if unfinished else {}
            results_console().print(json_text({"results": lines, **durable}), soft_wrap=True)
        case _ if found:
            results_console().print(results_table(found, everyone=everyone))
        case _:
            say(none)
    if form is Form.TEXT:
        say_unfinished(unfinished)


async def _of(fleet: Fleet, id: str, target: str | None, form: Form, wait: float | None) -> bool:
    async with fleet:
        findings = None
        with waiting(f"waiting for {id}", form) as shown:
            if target is None and fleet.outbox is not None:
                findings = await outcomes_of(fleet, id, wait=wait, heard=shown.heard, asking=shown.asking)
            durable = findings is not None
            if findings is None:
                findings = await results_of(fleet, id, target, wait=wait or 0.0, heard=shown.heard, asking=shown.asking)
    done = _print_findings(findings, form, shown.printed, durable=durable)
    if not findings.outcomes and id in fleet.roster.states:
        raise NothingKnown(f"{id} is a device, no command; its last result: outrider results --target {id}")
    if not findings.outcomes:
        raise nothing_known(findings, fleet.requester)
    return done


def _print_findings(findings: Findings, form: Form, besides: Collection[str] = (), *, durable: bool = True) -> bool:
    """Print what is known of a command, `besides` what was printed before; whether it is done.

    :param durable: what has not ended will be known here later.
    """
    match form:
        case Form.NDJSON:
            print_lines(plain_outcome(findings, device) for device in findings.outcomes)
        case Form.JSON:
            results_console().print(json_text(document(findings)), soft_wrap=True)
        case _:
            print_outcomes(findings, besides)
    say_untold(findings.untold)
    say_away(findings.away)
    if form is Form.TEXT and findings.outcomes and (findings.running or (durable and not findings.ended)):
        say(f"to wait for it: outrider results {findings.id} --wait 5m; to cancel it: outrider cancel {findings.id}")
    return findings.done
