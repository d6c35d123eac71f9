"""What is known of a command, wherever it stands: at hand, in the outbox, or in the store only."""

import asyncio
import time
from collections import Counter
from itertools import islice
from typing import NamedTuple, Self

from msgspec import UNSET, Raw, UnsetType, json
from msgspec.structs import replace

from outrider.controller.durable import Durable
from outrider.controller.hub.owners import attempt, is_run, number_of, run_of
from outrider.controller.hub.parts import Parts
from outrider.controller.hub.records import CommandQuery, ResultQuery, ResultRecord
from outrider.controller.hub.submissions import FOLLOWED_AFTER, Standing, Submission, standings_of
from outrider.controller.hub.tokens import Client
from outrider.schema import Error, Result, Status
from outrider.schema.codec import COMMAND

from .bodies import CommandStatus, OutcomeBody, RolloutBody
from .problems import Refused, not_found

SIZES = 100
"""Sizes of batches that are shown of a rollout."""

EXPIRED = "expired"
"""Code of the outcome `queued` of a device that has said nothing until nobody may start the command any more."""


class Found(NamedTuple):
    """A command, and each device's part in it."""

    id: str
    command: str
    target: str
    args: Raw | None
    requester: str
    behalf: str
    issued: float
    expires: float | None
    standings: list[Standing]
    rollout: RolloutBody | None = None
    followed: bool = False
    sent: str = ""
    """The id with which it was sent the last time, where that is another one."""

    @classmethod
    def live(cls, hub: Parts, submission: Submission) -> Self:
        """One that is at hand."""
        return cls(
            submission.id,
            submission.command,
            submission.target,
            None if isinstance(submission.args, UnsetType) else submission.args,
            hub.fleet.requester,
            submission.behalf,
            submission.issued,
            submission.expires,
            list(submission.standings()),
            _rollout(submission),
            not submission.ended.is_set(),
            submission.dispatch.id,
        )

    @property
    def recorded(self) -> str:
        """The id under which answers are in the store."""
        return self.sent or self.id

    @property
    def expired(self) -> bool:
        """Whether nobody may start it any more, and nobody waits for answers."""
        return not self.followed and self.expires is not None and time.time() > self.expires + FOLLOWED_AFTER


async def find(hub: Parts, client: Client, id: str) -> Found:
    """A command that this client may see.

    :raises Refused: there is none, or it is somebody else's: the answer is the same.
    """
    submission = hub.submissions.find(id)
    durable = None if submission is not None else hub.submissions.written(id)
    owner = submission.behalf if submission else durable.behalf if durable else None
    if owner is not None and owner != client.name and not client.may_audit(id):
        raise _unknown(id)
    if submission is not None and not submission.ended.is_set():
        return Found.live(hub, submission)
    if submission is not None:
        found = Found.live(hub, submission)
    elif durable is not None:
        found = _written(durable)
    else:
        found = await _recorded(hub, client, id)
    # Of a group that somebody else addressed, only the answers say who was meant.
    if not found.standings or not all(each.result.status.final for each in found.standings):
        found = found._replace(standings=await _with_recorded(hub, found))
    return found


def status_of(
    found: Found, *, status: Status | None = None, cursor: str | None = None, limit: int = 1000
) -> CommandStatus:
    """What the API says of a command, with a page of its outcomes.

    :param status: only outcomes with this status.
    """
    standings = [_expired(each) for each in found.standings] if found.expired else found.standings
    counts = Counter(str(each.result.status) for each in standings)
    shown = sorted(
        (each for each in standings if status is None or each.result.status is status),
        key=lambda each: each.result.device,
    )
    if cursor is not None:
        shown = [each for each in shown if each.result.device > cursor]
    page = shown[:limit]
    return CommandStatus(
        id=found.id,
        command=found.command,
        target=found.target,
        args=Raw(b"null") if found.args is None else found.args,
        requester=found.requester,
        behalf=found.behalf,
        issued=found.issued,
        expires=found.expires,
        ended=all(_is_ended(each.result) for each in standings),
        count=len(standings),
        counts=dict(counts),
        outcomes=[_outcome(each) for each in page],
        next=page[-1].result.device if page and len(shown) > len(page) else None,
        rollout=found.rollout,
    )


def _expired(standing: Standing) -> Standing:
    """A device's part in a command that nobody may start any more."""
    result = standing.result
    if result.status is not Status.QUEUED:
        return standing
    return Standing(replace(result, error=Error(EXPIRED, "it has expired, and nothing was heard of it")))


def _is_ended(result: Result) -> bool:
    """Whether a device's part is over, as far as anybody can know."""
    if result.status is Status.QUEUED:
        return result.error is not None and result.error.code == EXPIRED
    return result.status.final or result.status is Status.OFFLINE


def overview(hub: Parts, submission: Submission) -> CommandStatus:
    """The same without outcomes."""
    return status_of(Found.live(hub, submission), limit=0)


def _outcome(standing: Standing) -> OutcomeBody:
    result, progress = standing
    return OutcomeBody(
        device=result.device,
        status=str(result.status),
        value=result.value,
        error=result.error,
        started=result.started,
        finished=result.finished,
        fraction=None if progress is None else progress.fraction,
        text=None if progress is None else progress.text,
    )


def _rollout(submission: Submission) -> RolloutBody | None:
    rollout = submission.rollout
    if rollout is None:
        return None
    total = len(rollout.addressed) + len(rollout.never_addressed)
    return RolloutBody(
        batch=rollout.batch,
        batches=list(islice(rollout.plan.sizes(total), SIZES)),
        addressed=len(rollout.addressed),
        settled=len(rollout.settled),
        in_flight=list(rollout.in_flight),
        failures=rollout.failures,
        judged=rollout.judged,
        aborted=rollout.aborted,
    )


def _written(durable: Durable) -> Found:
    sending = next((each.sending for each in durable.devices.values() if each.sending is not None), None)
    args = UNSET if sending is None else COMMAND.decode(sending.payload)[0].args
    return Found(
        run_of(durable.id),
        durable.command,
        durable.target,
        None if isinstance(args, UnsetType) else args,
        durable.place.requester,
        durable.behalf,
        durable.issued,
        durable.expires,
        list(standings_of(durable)),
        sent=durable.id,
    )


async def _recorded(hub: Parts, client: Client, id: str) -> Found:
    """A command that only the store knows: an old one, or one that another requester sent.

    :raises Refused: it does not know it either, or the client may not see it.
    """
    requester, behalf = (None, None) if client.may_audit(id) else (hub.fleet.requester, client.name)
    query = CommandQuery(id=id, requester=requester, behalf=behalf, limit=1000)
    page, sent = await asyncio.to_thread(hub.store.commands, query), id
    if not page.items:
        raise _unknown(id)
    submitted = page.items[-1].issued or page.items[-1].received
    while is_run(id):  # what was sent again, as no device had room for it
        after = attempt(run_of(id), number_of(sent) + 1)
        again = await asyncio.to_thread(hub.store.commands, replace(query, id=after))
        if not again.items:
            break
        page, sent = again, after
    first = page.items[-1]
    addressed = sorted({each.device for each in page.items if each.device is not None})
    groups = sorted({f"@{each.group}" for each in page.items if each.group is not None})
    standings = [
        Standing(
            Result(
                id=sent,
                device=device,
                command=first.command,
                status=Status.QUEUED,
                error=Error("", "sent; no answer has been recorded"),
            )
        )
        for device in addressed
    ]
    return Found(
        id,
        first.command,
        ",".join((*groups, *addressed)),
        first.args,
        first.requester,
        first.behalf,
        submitted,
        first.expires,
        standings,
        sent=sent,
    )


async def _with_recorded(hub: Parts, found: Found) -> list[Standing]:
    """Each device's part, with the results that have been recorded where none is known here."""
    results = await asyncio.to_thread(_results, hub, found)
    standings = [
        Standing(results.pop(device))
        if not each.result.status.final and (device := each.result.device) in results
        else each
        for each in found.standings
    ]
    known = {each.result.device for each in standings}
    return [*standings, *(Standing(result) for device, result in results.items() if device not in known)]


def _results(hub: Parts, found: Found) -> dict[str, Result]:
    results: dict[str, Result] = {}
    cursor: int | None = None
    while True:
        page = hub.store.results(ResultQuery(id=found.recorded, requester=found.requester, cursor=cursor, limit=1000))
        for record in page.items:
            results[record.device] = _result(record)
        if (cursor := page.next) is None:
            return results


def _result(record: ResultRecord) -> Result:
    return Result(
        id=record.id,
        device=record.device,
        command=record.command,
        status=record.status,
        value=UNSET if record.value is None or record.status is not Status.DONE else record.value,
        error=None if record.error is None else json.decode(record.error, type=Error),
        started=record.started,
        finished=record.finished,
    )


def _unknown(id: str) -> Refused:
    return not_found(f"no command {id} is known, or it is not yours")
