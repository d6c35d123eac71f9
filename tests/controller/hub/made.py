"""Records for tests, with what a test does not care about filled in."""

import itertools

from msgspec import Raw

from outrider.controller.hub.records import CommandRecord, EventRecord, ProgressRecord, ResultRecord, StateRecord
from outrider.schema import Status

_numbers = itertools.count(1)


def fresh() -> str:
    """An id that no other record has."""
    return f"n{next(_numbers)}"


def event(
    name: str = "initial",
    time: float = 0.0,
    *,
    id: str | None = None,
    device: str = "lamp-1",
    key: str | None = None,
    subject: str | None = None,
    data: Raw | None = None,
    received: float = 0.0,
) -> EventRecord:
    return EventRecord(
        id=fresh() if id is None else id,
        device=device,
        name=name,
        key=key,
        subject=subject,
        time=time,
        data=data,
        received=received,
    )


def command(
    id: str = "c1",
    *,
    requester: str = "ada",
    behalf: str = "",
    device: str | None = None,
    group: str | None = None,
    name: str = "dim",
    args: Raw | None = None,
    received: float = 0.0,
) -> CommandRecord:
    return CommandRecord(
        id=id,
        requester=requester,
        behalf=behalf,
        device=device,
        group=group,
        command=name,
        args=args,
        received=received,
    )


def result(
    id: str = "c1",
    *,
    requester: str = "ada",
    device: str = "lamp-1",
    status: Status = Status.DONE,
    value: Raw | None = None,
    received: float = 0.0,
) -> ResultRecord:
    return ResultRecord(
        id=id, requester=requester, device=device, command="dim", status=status, value=value, received=received
    )


def progress(
    id: str = "c1", number: int = 0, *, requester: str = "ada", device: str = "lamp-1", text: str | None = None
) -> ProgressRecord:
    return ProgressRecord(id=id, requester=requester, device=device, number=number, text=text, received=0.0)


def state(
    device: str = "lamp-1",
    *,
    session: int = 1,
    status: str = "ready",
    since: float = 0.0,
    tags: dict[str, str | int | float | bool] | None = None,
) -> StateRecord:
    return StateRecord(device=device, status=status, session=session, since=since, tags=tags or {}, received=0.0)
