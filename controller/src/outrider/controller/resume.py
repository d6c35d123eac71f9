"""Going on with a command that stands in the durable outbox, in the process that sent it or in another one."""

import math
import time

from outrider.device import DEFAULT_WAIT, Invoker
from outrider.schema import Command, Decoder

from .course import AtOnce, Patience
from .dispatch import Dispatch
from .durable import Durable, Record, Sending
from .roster import Roster
from .targets import Targets

_COMMAND = Decoder(Command)


def resumed(durable: Durable, wait: float | None, *, roster: Roster, invoker: Invoker, record: Record) -> Dispatch:
    """The command on its way again. Outcomes that are known come first; devices that nothing was sent to get nothing.

    :param wait: seconds to wait for final answers; None and `math.inf` as in `Fleet.dispatch`.
    """
    sendings: dict[Sending, list[str]] = {}
    for device in durable.open:
        if (sending := durable.devices[device].sending) is not None:
            sendings.setdefault(sending, []).append(device)
    payload = next((sending.payload for sending in sendings), None)
    message = Command(id=durable.id, command=durable.command) if payload is None else _COMMAND.decode(payload)[0]
    invocation = invoker.resume(message)
    invocation.recall(standing.outcome for standing in durable.devices.values() if standing.outcome is not None)
    for sending, those in sendings.items():
        accepted = frozenset(device for device in those if durable.devices[device].accepted)
        invoker.send_again(invocation, those, sending.payload, sending.expires, accepted=accepted)
    now, left = time.monotonic(), durable.expires - time.time()
    patience = Patience(
        until=now + (DEFAULT_WAIT if wait is None else wait),
        lost_too=wait is not None and wait != math.inf,
        taken_by=math.inf,  # where it has expired, who is there still says so
    )
    devices = tuple(durable.devices)
    return Dispatch(
        invocation,
        Targets(devices),
        AtOnce(devices, None, invocation, roster.states, patience, left_out=devices),
        roster=roster,
        invoker=invoker,
        left_out=frozenset(),
        endless=wait == math.inf,
        expires=left,
        record=record,
    )
