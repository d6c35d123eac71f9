"""The account at the end of a soak: what was asked, what was executed, and what the controllers were told.

Three witnesses that know nothing of each other: the lines of the executions, the lines of what was sent, and the
durable outboxes, in which each device's final answer stands.
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct, field

from outrider.controller.durable import Durable, DurableOutbox
from outrider.device import value_of
from outrider.device.invocation import has_forgotten
from outrider.schema import Result, Status

from . import controller, device, layout
from .device import Execution

RUNS = {
    Status.DONE: (1, 1),
    Status.FAILED: (1, 1),
    Status.TIMED_OUT: (1, 1),
    Status.CANCELLED: (0, 1),
    Status.INTERRUPTED: (0, 1),
    Status.REJECTED: (0, 0),
    Status.EXPIRED: (0, 0),
}
"""How often a command that is not idempotent was executed at least and at most, by its final answer."""


class Account(Struct):
    """What came of it. `commands` are by what they were sent to, `statuses` one for each device that was asked.

    The status `forgotten` is an `expired` that says that nothing is known: asked for too late, it may have run.

    :ivar untold: the `forgotten` ones that had run.
    :ivar open: devices without a final status, `twice` and `wrong`: commands executed twice, answers that are not true.
    """

    commands: Counter[str] = field(default_factory=Counter[str])
    statuses: Counter[str] = field(default_factory=Counter[str])
    executions: int = 0
    repeated: int = 0
    untold: list[str] = field(default_factory=list[str])
    open: list[str] = field(default_factory=list[str])
    twice: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])

    @property
    def kept(self) -> bool:
        """Whether every promise was."""
        return not (self.open or self.twice or self.wrong)


def account(folder: Path) -> Account:
    """Judge every command of a soak whose files are in `folder`."""
    result = Account()
    executed: dict[str, list[Execution]] = defaultdict(list)
    for execution in device.read(layout.executions_file(folder)):
        executed[execution.id].append(execution)
        result.executions += 1
    for name in layout.CONTROLLERS:
        sent = {line.id: line for line in controller.read(layout.sent_file(folder, name))}
        for durable in _written_down(layout.outbox_file(folder, name)):
            sent.pop(durable.id, None)
            _judge(result, name, durable, executed.pop(durable.id, []))
        result.wrong += [f"{line.id} was sent by {name} and stands in no outbox" for line in sent.values()]
    result.wrong += [f"{id} was executed and stands in no outbox" for id in executed]
    return result


def _written_down(path: Path) -> Iterator[Durable]:
    with DurableOutbox(path) as outbox, sqlite3.connect(path) as sql:
        ids = [id for (id,) in sql.execute("SELECT id FROM commands ORDER BY issued")]
        for id in ids:
            durable = outbox.find(id)
            assert durable is not None
            yield durable
    sql.close()


def _judge(result: Account, requester: str, durable: Durable, executions: list[Execution]) -> None:
    target = {"@": "group", "a": "pool"}[durable.target[0]] if durable.target[0] in "@a" else "single"
    result.commands[target] += 1
    idempotent = durable.command == "again"
    by_device: dict[str, list[Execution]] = defaultdict(list)
    for execution in executions:
        by_device[execution.device].append(execution)
    if idempotent:
        result.repeated += sum(len(those) > 1 for those in by_device.values())
    elif target == "pool" and len(executions) > 1:
        result.twice.append(f"{durable.id} was executed by {_words(executions)}")
    for name, standing in durable.devices.items():
        mine = by_device.pop(name, [])
        answer = standing.outcome
        what = f"{durable.id} ({durable.command}, {durable.target}) on {name}"
        if answer is None or not answer.status.final:
            result.statuses["none"] += 1
            result.open.append(f"{what} has no final status; it was executed {len(mine)} times")
            continue
        forgotten = has_forgotten(answer)
        result.statuses["forgotten" if forgotten else answer.status] += 1
        least, most = (0, 1) if forgotten else RUNS[answer.status]
        if forgotten and mine:
            result.untold.append(what)
        if len(mine) > 1 and not idempotent:
            result.twice.append(f"{what} was executed {len(mine)} times")
        elif len(mine) < least or (len(mine) > most and not (idempotent and most)):
            words = "" if answer.error is None else f" ({answer.error.message})"
            result.wrong.append(f"{what} is {answer.status}{words} and was executed {len(mine)} times")
        result.wrong += [f"{what}: {error}" for error in _untrue(answer, mine, requester)]
    result.wrong += [f"{durable.id} was executed by {name}, which was not asked" for name in by_device]


def _untrue(answer: Result, executions: list[Execution], requester: str) -> Iterator[str]:
    if answer.status is Status.DONE and (value := value_of(answer)) not in [each.mark for each in executions]:
        yield f"{value!r} is what none of its executions returned"
    if any(each.requester != requester for each in executions):
        yield f"it was executed for {executions[0].requester}, and {requester} had sent it"


def _words(executions: Iterable[Execution]) -> str:
    return ", ".join(execution.device for execution in executions)
