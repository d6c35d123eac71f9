"""`outrider cancel`: end a command that was sent before, from any process."""

from typing import Annotated

import typer

from outrider.controller import Fleet
from outrider.controller.results import ENDING_WAIT, check_id
from outrider.controller.results import cancel as cancel_on

from .exits import NOT_DONE, run
from .findings import (
    JsonOption,
    TargetArgument,
    away_and_told,
    cancelled_words,
    disconnected,
    document,
    nobody_runs,
    plain_outcome,
    print_lines,
    print_outcomes,
    say,
    say_untold,
    unheard,
    waiting,
)
from .options import BrokerOption, NameOption, PrefixOption, open_fleet, seconds
from .output import json_text, results_console
from .sending import Form, form_of


def cancel(
    id: Annotated[
        str,
        typer.Argument(metavar="ID", help="The command's id, as outrider jobs and send show it.", show_default=False),
    ],
    target: TargetArgument = None,
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait",
            metavar="DURATION",
            parser=seconds,
            help=f"How long to wait for its jobs to end; by default {ENDING_WAIT:g}s.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
    ndjson: Annotated[
        bool, typer.Option("--ndjson", help="Print each device's outcome as a line of JSON, and nothing else.")
    ] = False,
    broker: BrokerOption = None,
    prefix: PrefixOption = None,
    name: NameOption = None,
) -> None:
    """Cancel a command that you sent before, from any process, and show how it ended on each device.

    Only your own: of the requester that you are (--as). A device that is away is told when it is back.

    Exit codes: 0 it has ended, 1 some device did not answer or still runs it, 2 no device knows this ID, 3 broker
    unreachable.
    """
    form = form_of(json=json, ndjson=ndjson)
    limit = ENDING_WAIT if wait is None else wait
    if not run(
        _cancel(open_fleet(broker, prefix, name, on_disconnect=disconnected), check_id(id), target, form, limit)
    ):
        raise typer.Exit(NOT_DONE)


async def _cancel(fleet: Fleet, id: str, target: str | None, form: Form, wait: float) -> bool:
    async with fleet:
        with waiting(f"cancelling {id}", form) as shown:
            cancellation = await cancel_on(fleet, id, target, wait=wait, heard=shown.heard, asking=shown.asking)
    findings, silent = cancellation.findings, unheard(cancellation, target)
    match form:
        case Form.NDJSON:
            print_lines(plain_outcome(findings, device) for device in findings.outcomes)
        case Form.JSON:
            told = {"cancelled": list(cancellation.cancelled), "idle": list(cancellation.idle)}
            results_console().print(json_text({**document(findings), **told}), soft_wrap=True)
        case _:
            print_outcomes(findings, shown.printed)
            if findings.outcomes:
                say(cancelled_words(cancellation))
    say_untold(findings.untold)
    if findings.away:
        say(away_and_told(findings.away))
    if not findings.outcomes:
        nobody = nobody_runs(cancellation, fleet.requester)
        if not silent:
            raise nobody
        say(str(nobody))
    return findings.ended and not silent
