"""`outrider jobs`: what runs on the devices now."""

from typing import Annotated

import typer

from outrider.controller import Fleet
from outrider.controller.results import Jobs
from outrider.controller.results import jobs as jobs_on

from .exits import NOT_DONE, run
from .findings import (
    JsonOption,
    TargetArgument,
    disconnected,
    jobs_table,
    no_job_words,
    plain_job,
    print_lines,
    say,
    say_away,
    say_untold,
    waiting,
)
from .hubs import HubOption, hub_named
from .hubs import jobs_on as jobs_of_hub
from .options import BrokerOption, NameOption, PrefixOption, open_fleet
from .output import json_text, results_console
from .sending import Form, form_of


def jobs(
    target: TargetArgument = None,
    json: JsonOption = False,
    ndjson: Annotated[
        bool, typer.Option("--ndjson", help="Print each job as a line of JSON, and nothing else.")
    ] = False,
    hub: HubOption = None,
    broker: BrokerOption = None,
    prefix: PrefixOption = None,
    name: NameOption = None,
) -> None:
    """List the jobs that run on the devices now, of all requesters, oldest first.

    With a hub (--hub, OUTRIDER_HUB, or `hub` in the configuration file) it is asked; it shows your own only, unless
    your token has the scope audit.

    Exit codes: 0 all that are there have told, 1 some have not, 2 usage, 3 broker unreachable.
    """
    form = form_of(json=json, ndjson=ndjson)
    if (url := hub_named(hub)) is not None:
        if not _print(jobs_of_hub(url, target), form):
            raise typer.Exit(NOT_DONE)
    elif not run(_jobs(open_fleet(broker, prefix, name, on_disconnect=disconnected), target, form)):
        raise typer.Exit(NOT_DONE)


async def _jobs(fleet: Fleet, target: str | None, form: Form) -> bool:
    async with fleet:
        with waiting("asking for jobs", form) as shown:
            found = await jobs_on(fleet, target, asking=shown.asking)
    return _print(found, form)


def _print(found: Jobs, form: Form) -> bool:
    """Print jobs; whether all that are there have told."""
    lines = [plain_job(each) for each in found.running]
    match form:
        case Form.NDJSON:
            print_lines(lines)
        case Form.JSON:
            whole = {"jobs": lines, "away": list(found.away), "untold": found.untold}
            results_console().print(json_text(whole), soft_wrap=True)
        case _ if found.running:
            results_console().print(jobs_table(found.running))
        case _ if words := no_job_words(found):
            say(words)
        case _:
            pass
    say_untold(found.untold)
    say_away(found.away)
    return not found.untold
