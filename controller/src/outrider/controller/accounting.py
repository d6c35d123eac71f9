"""What became of a durable command on each device of its target, as that was when the command was sent.

async with Fleet("mqtt://localhost", outbox="outbox.sqlite") as fleet:
    findings = await outcomes_of(fleet, id)
    print(findings.outcomes)
"""

import time
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from outrider.device import Reply
from outrider.device.invocation import as_interrupted, has_forgotten
from outrider.device.journal import CLOCK_TOLERANCE
from outrider.schema import UNKNOWN, Error, LocalError, Progress, Result, Status

from .course import is_there
from .durable import Durable, DurableOutbox, Place
from .fleet import Fleet
from .results import Asking, Findings, check_id, results_of

NAMED: Final = 50
"""Devices asked one by one at most; more are asked with one message to all."""


class NotHere(LocalError):
    """The command was sent as somebody else or through another broker: nobody here can go on with it."""


async def outcomes_of(
    fleet: Fleet,
    id: str,
    *,
    wait: float | None = None,
    heard: Callable[[Reply], None] | None = None,
    asking: Asking | None = None,
) -> Findings | None:
    """Each device's outcome of a command in the fleet's outbox; None where the outbox does not have it.

    First the broker and the devices are asked what they know. Devices that then are missing get the command again,
    until it expires, and those that had accepted it also after that. What comes of it is written down.

    :param wait: seconds to wait for final answers, as in `Fleet.dispatch`.
    :param heard: called with what devices say of it meanwhile, and with each outcome as it becomes known.
    :param asking: told of the devices that have not answered yet, while they are asked what they know.
    :raises InvalidName: no command can have this id.
    :raises NotHere: it was sent as another requester, or elsewhere.
    :raises OutboxUnusable: the outbox cannot be read.
    """
    durable = None if fleet.outbox is None else fleet.outbox.find(check_id(id))
    if fleet.outbox is None or durable is None:
        return None
    _check_place(durable, fleet.place)
    known: Findings | None = None
    asked_at = time.time()
    sent_to = [device for device in durable.open if durable.devices[device].sending is not None]
    if sent_to:
        record = fleet.outbox.resume(id)
        known = await _ask(fleet, durable, sent_to, asking)
        for device in sent_to:
            if (result := known.outcomes.get(device)) is not None:
                if result.status.final:
                    record.outcome(result)
                else:
                    record.accepted(device)
                durable = _with(durable, device, result)
    dispatch = fleet.resume_one(durable, wait=wait)
    async for reply in dispatch:
        if heard is not None and (isinstance(reply.message, Progress) or reply.message.status.final):
            heard(reply)
    outcomes = dict(dispatch.outcomes)
    untold = {} if known is None else {device: why for device, why in known.untold.items() if device in sent_to}
    for device in sent_to:
        if known is None or outcomes[device].status.final:
            untold.pop(device, None)
        elif device in known.outcomes:
            outcomes[device] = replace(known.outcomes[device], command=durable.command)
        elif device not in untold and is_there(device, fleet.roster.states):
            outcomes[device] = _unknown_there(durable, device, outcomes[device], asked_at)
            fleet.outbox.resume(id).outcome(outcomes[device])
    running = {} if known is None else known.running
    open_ones = {device: job for device, job in running.items() if not outcomes[device].status.final}
    return Findings(id, outcomes, open_ones, {}, (), untold)


def settled(outbox: DurableOutbox, id: str, place: Place) -> Findings | None:
    """A command's outcomes where the outbox has one of each device, so that neither broker nor devices need be asked.

    :returns: None where it has not, or does not have the command.
    :raises InvalidName: no command can have this id.
    :raises NotHere: it was sent as another requester, or elsewhere.
    :raises OutboxUnusable: the outbox cannot be read.
    """
    durable = outbox.find(check_id(id))
    if durable is None or durable.open:
        return None
    _check_place(durable, place)
    outcomes = {device: each.outcome for device, each in sorted(durable.devices.items()) if each.outcome is not None}
    return Findings(id, outcomes, {}, {}, (), {})


async def _ask(fleet: Fleet, durable: Durable, devices: list[str], asking: Asking | None) -> Findings:
    """What the broker and the devices know of it; not that a device which had accepted it has forgotten it."""
    seen = [device for device in devices if device in fleet.roster.states]
    found = await results_of(fleet, durable.id, ",".join(seen) if 0 < len(seen) <= NAMED else None, asking=asking)
    outcomes = {
        device: result
        for device, result in found.outcomes.items()
        if device in devices and not (durable.devices[device].accepted and has_forgotten(result))
    }
    running = {device: job for device, job in found.running.items() if device in devices}
    return replace(found, outcomes=outcomes, running=running)


def _with(durable: Durable, device: str, result: Result) -> Durable:
    standing = durable.devices[device]
    outcome = result if result.status.final else None
    return durable._replace(devices={**durable.devices, device: standing._replace(accepted=True, outcome=outcome)})


def _unknown_there(durable: Durable, device: str, result: Result, asked_at: float) -> Result:
    """The outcome for a device that was asked and knows nothing of the command.

    Once nobody may start it any more, that is what the device itself would say to the command: `expired`, and like it
    not knowing whether it ran, since its journal keeps a command no longer than that. Where it is known to have taken
    it, `interrupted`.
    """
    standing = durable.devices[device]
    expires = standing.sending.expires if standing.sending is not None else durable.expires
    if asked_at < expires + CLOCK_TOLERANCE:
        return result
    if standing.accepted:
        return replace(as_interrupted(result), finished=asked_at)
    words = (
        "it has expired and the device knows nothing of it; had it run, its answer was lost and nobody asked in time"
    )
    return replace(result, status=Status.EXPIRED, error=Error("", words, {UNKNOWN: True}), finished=asked_at)


def _check_place(durable: Durable, here: Place) -> None:
    place = durable.place
    if place.requester != here.requester:
        raise NotHere(
            f"{durable.id} was sent as {place.requester}, not as {here.requester}: add --as {place.requester}"
        )
    if place.prefix != here.prefix:
        raise NotHere(f"{durable.id} was sent under the prefix {place.prefix!r}: add --prefix {place.prefix!r}")
    if not place.same_broker(here):
        raise NotHere(f"{durable.id} was sent through the broker at {place.broker}: name it with --broker")
