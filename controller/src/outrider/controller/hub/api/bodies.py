"""What stands in requests and responses beside the hub's records and the protocol's messages."""

from typing import Annotated, Generic, Literal, TypeVar

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from outrider.controller.hub.owners import LONGEST_CLIENT
from outrider.device.scripts.contract import POOL, Limits
from outrider.schema import Error

T = TypeVar("T")

WAIT_LIMIT = 60.0
"""Seconds for which a request may wait for outcomes: many a proxy ends longer ones."""

Seconds = Annotated[float, Meta(ge=0.001, le=604_800)]
Wait = Annotated[float, Meta(ge=0, le=WAIT_LIMIT)]
TargetText = Annotated[str, Meta(min_length=1, max_length=4096)]
ShareText = Annotated[str, Meta(min_length=1, max_length=20, pattern=r"^\d+(\.\d+)?\s*%?$")]


def field(description: str) -> Meta:
    """What a field is for, in the OpenAPI document."""
    return Meta(description=description)


class Items(Struct, Generic[T], frozen=True):
    """All of what was asked for."""

    items: list[T]


class DevicePage(Struct, Generic[T], frozen=True):
    """Some of what was asked for."""

    items: list[T]
    next: Annotated[str | None, field("The cursor of the page that follows; null on the last one.")] = None


class Me(Struct, frozen=True):
    """Who the client is to the hub."""

    name: Annotated[str, field("The token's name; `local` on loopback without tokens.")]
    scopes: Annotated[list[str], field("What it may do: read, scripts, send, audit, admin.")]
    hub: Annotated[str, field("The requester that the hub is to the broker.")]


class TargetPreview(Struct, frozen=True):
    """What a target stands for now."""

    target: Annotated[str, field("As it was given.")]
    count: Annotated[int, field("How many devices it stands for.")]
    devices: Annotated[list[str], field("Their ids, in order. Of a pool, its members, of which one is asked.")]
    statuses: Annotated[dict[str, int], field("How many of them have which status.")]
    group: Annotated[str | None, field("Set where one message to this group reaches exactly these.")] = None
    pool: Annotated[str | None, field("Set where it means any one of the devices.")] = None


class PlanBody(Struct, frozen=True, forbid_unknown_fields=True):
    """How a rollout goes."""

    batch: Annotated[
        str, Meta(min_length=1, max_length=200, description="Sizes of the batches, as `5`, `10%` or `1,10%,50%`.")
    ]
    pause: Annotated[float, Meta(ge=0, le=604_800, description="Seconds between a batch and the next.")] = 0.0
    abort_on_failure: Annotated[
        ShareText | None, field("Failures, or percent of the devices judged, after which nothing more is sent.")
    ] = None
    minimum: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None, field("Devices judged before a percentage counts.")
    ] = None
    cancel_on_abort: Annotated[bool, field("Cancel what runs when it is aborted.")] = False
    settle: Annotated[Seconds, field("Seconds for which a batch waits for a device that says nothing.")] = 30.0
    working: Annotated[Seconds, field("Seconds for which a batch waits for a device that works on it.")] = 3600.0


class CommandBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A command to be sent."""

    target: Annotated[
        TargetText, field("Whom: a device's id, `a,b`, `lamp-*`, `@group`, `room=kitchen`, `any:pool`, `all`.")
    ]
    command: Annotated[str, Meta(min_length=1, max_length=128, description="The command's name.")]
    args: Annotated[
        dict[str, object] | list[object] | None, field("Its arguments, named (an object) or positional (an array).")
    ] = None
    wait: Annotated[Wait, field("Seconds to wait for the outcomes before answering 202.")] = 0.0
    timeout: Annotated[Seconds | None, field("Seconds it may run on a device.")] = None
    expires: Annotated[
        Seconds | None, field("Seconds in which a device may start it; by default 30, or `wait` where that is longer.")
    ] = None
    if_offline: Annotated[
        Literal["queue", "fail"] | None,
        field("`fail` sends nothing to who is away; `queue` also takes ids that were never seen."),
    ] = None
    limit: Annotated[ShareText | None, field("Send to so many of the devices only, chosen by chance.")] = None
    seed: Annotated[
        Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None, field("The same seed chooses the same devices.")
    ] = None
    plan: Annotated[PlanBody | None, field("Send in batches.")] = None


class OutcomeBody(Struct, frozen=True, omit_defaults=True):
    """What became of a command on one device, as far as it is known."""

    device: str
    status: Annotated[
        str,
        field(
            "Final: done, failed, rejected, cancelled, timed_out, expired, interrupted; else offline, queued, running."
        ),
    ]
    value: Annotated[Raw | UnsetType, field("What the command returned, where it is done.")] = UNSET
    error: Annotated[Error | None, field("Why it is not done.")] = None
    started: Annotated[float | None, field("Unix seconds, by the device's clock.")] = None
    finished: Annotated[float | None, field("Unix seconds, by the device's clock.")] = None
    fraction: Annotated[float | None, field("How far a running one is, from 0 to 1.")] = None
    text: Annotated[str | None, field("What a running one says of itself.")] = None


class RolloutBody(Struct, frozen=True):
    """How far a rollout is."""

    batch: Annotated[int, field("How many batches have begun.")]
    batches: Annotated[list[int], field("The sizes of all of them, where all devices are there; 100 at most.")]
    addressed: Annotated[int, field("Devices that it has been sent to.")]
    settled: Annotated[int, field("Those of them that are not waited for any more.")]
    in_flight: Annotated[list[str], field("The devices of the present batch that are waited for.")]
    failures: int
    judged: Annotated[int, field("Devices that did it, or failed.")]
    aborted: Annotated[str | None, field("Why nothing more is sent.")] = None


class CommandStatus(Struct, frozen=True, kw_only=True):
    """A command and its outcomes."""

    id: str
    command: str
    target: str
    args: Annotated[Raw, field("As they were sent; null where there were none.")]
    requester: Annotated[str, field("Who sent it: the hub, but for commands that others sent.")]
    behalf: Annotated[str, field("For whom: the token's name.")]
    issued: Annotated[float, field("Unix seconds.")]
    expires: Annotated[float | None, field("Unix seconds after which no device starts it any more.")] = None
    ended: Annotated[bool, field("Whether every device has its final outcome.")]
    count: Annotated[int, field("How many devices have an outcome or will have one.")]
    counts: Annotated[dict[str, int], field("How many of them have which status; they add up.")]
    outcomes: Annotated[list[OutcomeBody], field("Each device's, in order of their ids: a page of them.")]
    next: Annotated[str | None, field("The cursor of the page of outcomes that follows.")] = None
    rollout: Annotated[RolloutBody | None, field("How far the rollout is, where it is one that goes on.")] = None


class RunBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A script to be run."""

    code: Annotated[str | list[str], field("The script: a text, or its lines.")]
    client: Annotated[
        Annotated[str, Meta(min_length=1, max_length=LONGEST_CLIENT)] | None,
        field("Who sends it: needed where the hub has no tokens, and not looked at where it has."),
    ] = None
    script_name: Annotated[str, field("The name under which it is kept in the workspace; it ends in `.py`.")] = (
        "script.py"
    )
    args: Annotated[list[str], field("What `sys.argv` has after the script's name.")] = []
    stdin: Annotated[str, field("What it reads.")] = ""
    requirements: Annotated[list[str], field("Packages that it needs, as `httpx>=0.27`.")] = []
    infer_requirements: Annotated[bool, field("Install what it imports and the device has not.")] = True
    limits: Annotated[Limits | None, field("What it may use; by default 256 MiB, 60 s of processor time, …")] = None
    timeout: Annotated[Seconds | None, field("Seconds that it may take; by default what the device allows.")] = None
    target: Annotated[TargetText, field("The pool, or the one device, that runs it.")] = f"any:{POOL}"


class RunAccepted(Struct, frozen=True):
    """A script that will be run."""

    id: str


class RunStatus(Struct, frozen=True, kw_only=True):
    """What became of a script, as far as it is known."""

    id: str
    status: Literal["RUNNING", "COMPLETED", "CRASHED", "TIMED_OUT", "CANCELLED"]
    exit_code: Annotated[int | None, field("As a shell has it; null where it did not end, or did not begin.")] = None
    stdout: Annotated[str, field("What it wrote; what it has written so far while it runs.")] = ""
    stderr: Annotated[str, field("The same.")] = ""
    reason: Annotated[str | None, field("In words, where it is not COMPLETED.")] = None
    killed_by: Annotated[str | None, field("The limit or the signal that ended it.")] = None
    device: Annotated[str | None, field("Where it runs.")] = None
    duration: Annotated[float | None, field("Seconds.")] = None
    peak_memory: Annotated[int | None, field("Bytes that it had at once.")] = None
    submitted: Annotated[float, field("Unix seconds.")]
    started: Annotated[float | None, field("Unix seconds, by the device's clock.")] = None
    finished: Annotated[float | None, field("Unix seconds, by the device's clock.")] = None


class FunctionBody(Struct, frozen=True):
    """A function of the hub's plugins."""

    name: str
    help: str
    arguments: Annotated[dict[str, object], field("JSON Schema of its arguments, an object.")]
    result: Annotated[dict[str, object], field("JSON Schema of what it returns.")]


class FunctionValue(Struct, frozen=True):
    """What a function returned."""

    value: Raw


class Health(Struct, frozen=True):
    """That the hub's process answers."""

    status: str


class Readiness(Struct, frozen=True):
    """Whether the hub can do its work."""

    ready: bool
    broker: Annotated[bool, field("Whether the connection to the broker stands.")]
    recorder: Annotated[bool, field("Whether the recorder's connection stands.")]
    store: Annotated[bool, field("Whether the database takes what is written.")]
