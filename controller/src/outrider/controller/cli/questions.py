"""The REPL's `jobs`, `results` and `cancel`: asked of the fleet in use, shown as `outrider` shows them."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import RenderableType
from rich.text import Text

from outrider.controller import Fleet
from outrider.controller import results as inquiries
from outrider.controller.results import ANSWER_WAIT, Asking, Cancellation, Findings, Jobs

from .findings import (
    SLOW,
    away_and_told,
    away_line,
    cancelled_words,
    jobs_table,
    no_job_words,
    no_result_words,
    nobody_runs,
    nothing_known,
    outcome_lines,
    results_table,
    unheard,
    untold_lines,
)
from .terminal import named

Show = Callable[[RenderableType], None]
Say = Callable[[Text], None]


async def show_jobs(fleet: Fleet, target: str | None, show: Show, say: Say) -> Jobs:
    """Show what runs on the devices of a target, or on all."""
    with _silence_told(say) as asking:
        found = await inquiries.jobs(fleet, target, asking=asking)
    if found.running:
        show(jobs_table(found.running))
    elif words := no_job_words(found):
        say(_dim(words))
    _say_rest(found, say)
    return found


async def show_results(fleet: Fleet, id: str | None, show: Show, say: Say, *, most: int | None = None) -> bool:
    """Show what became of a command, or the last results; whether all of it was done.

    :param most: how many of the last results.
    :raises NothingKnown: no device and no result on the broker knows of it.
    """
    if id is None:
        if standing := await inquiries.last_results(fleet):
            show(results_table(standing[:most], everyone=False))
            if most is not None and len(standing) > most:
                say(_dim(f"and {len(standing) - most} before these; all of them: outrider results"))
        else:
            say(_dim(no_result_words(fleet.requester)))
        return True
    with _silence_told(say) as asking:
        findings = await inquiries.results_of(fleet, id, asking=asking)
    for line in outcome_lines(findings):
        show(line)
    _say_rest(findings, say)
    if not findings.outcomes:
        raise nothing_known(findings, fleet.requester)
    return findings.done


async def cancel(fleet: Fleet, id: str, target: str | None, show: Show, say: Say) -> bool:
    """Cancel a command, wait until it has ended, and show how; whether it has.

    :raises NothingKnown: no device runs it or remembers it.
    """
    with _silence_told(say) as asking:
        cancellation: Cancellation = await inquiries.cancel(fleet, id, target, asking=asking)
    findings, silent = cancellation.findings, unheard(cancellation, target)
    for line in outcome_lines(findings):
        show(line)
    if findings.outcomes:
        say(_dim(cancelled_words(cancellation)))
    for line in untold_lines(findings.untold):
        say(line)
    if findings.away:
        say(_dim(away_and_told(findings.away)))
    if not findings.outcomes:
        nobody = nobody_runs(cancellation, fleet.requester)
        if not silent:
            raise nobody
        say(_dim(str(nobody)))
    return findings.ended and not silent


@contextmanager
def _silence_told(say: Say) -> Generator[Asking]:
    """Say once who keeps others waiting, where some device does not answer at once."""
    silent: frozenset[str] = frozenset()

    def asking(devices: frozenset[str]) -> None:
        nonlocal silent
        silent = devices

    def tell() -> None:
        if silent:
            say(_dim(f"no answer from {named(sorted(silent))} yet; waiting {ANSWER_WAIT:g} s at most"))

    timer = asyncio.get_running_loop().call_later(SLOW, tell)
    try:
        yield asking
    finally:
        timer.cancel()


def _say_rest(found: Jobs | Findings, say: Say) -> None:
    for line in untold_lines(found.untold):
        say(line)
    if found.away:
        say(_dim(away_line(found.away)))


def _dim(words: str) -> Text:
    return Text(words, style="dim")
