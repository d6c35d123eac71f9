"""One of each thing that the API takes or gives, for its OpenAPI document."""

from typing import Final

from msgspec import Raw

from outrider.controller.hub.records import (
    Bucket,
    CommandRecord,
    EventRecord,
    ProgressRecord,
    ResultRecord,
    StateRecord,
    Summary,
)
from outrider.controller.results import DeviceJob, Jobs
from outrider.device import RunningJob
from outrider.schema import About, CommandAbout, State, Status

from .bodies import (
    CommandBody,
    CommandStatus,
    FunctionBody,
    FunctionValue,
    Health,
    Me,
    OutcomeBody,
    PlanBody,
    Readiness,
    RolloutBody,
    RunAccepted,
    RunBody,
    RunStatus,
    TargetPreview,
)

_AT: Final = 1_764_072_000.0
_ID: Final = "5f0c2a9e41d7b386"
_EVENT: Final = "b1f0c2a9e41d7b38"

DEVICE: Final = State(
    device="lamp-1",
    status="ready",
    session=1_764_071_990_123_456,
    since=_AT - 10,
    groups=["kitchen"],
    tags={"room": "kitchen", "fw": "2.1"},
    about="9c1f03b7a2d4e6f8",
)

ABOUT: Final = About(
    versions={"lamp": "2.1"},
    commands={
        "dim": CommandAbout(
            help="Set the brightness in percent and return it.",
            arguments={
                "type": "object",
                "properties": {"level": {"type": "integer", "minimum": 0, "maximum": 100}},
                "required": ["level"],
            },
            result={"type": "integer"},
            idempotent=True,
        )
    },
)

STATE_RECORD: Final = StateRecord(
    seq=17, device="lamp-1", status="lost", session=1_764_071_990_123_456, since=_AT, received=_AT + 0.004
)

PREVIEW: Final = TargetPreview("@kitchen", 2, ["lamp-1", "lamp-2"], {"ready": 1, "lost": 1}, group="kitchen")

COMMAND: Final = CommandBody(target="@kitchen", command="dim", args={"level": 40}, wait=5)

ROLLOUT: Final = CommandBody(
    target="room=kitchen",
    command="calibrate",
    args=[10],
    plan=PlanBody(batch="1,10%,50%", pause=60, abort_on_failure="5%"),
)

STATUS: Final = CommandStatus(
    id=_ID,
    command="dim",
    target="@kitchen",
    args=Raw(b'{"level":40}'),
    requester="hub",
    behalf="ci",
    issued=_AT,
    expires=_AT + 30,
    ended=False,
    count=2,
    counts={"done": 1, "running": 1},
    outcomes=[
        OutcomeBody("lamp-1", "done", value=Raw(b"40"), started=_AT + 0.01, finished=_AT + 0.02),
        OutcomeBody("lamp-2", "running", fraction=0.4, text="2 of 5"),
    ],
    next=None,
    rollout=RolloutBody(1, [1, 1], 2, 1, ["lamp-2"], 0, 1, None),
)

COMMAND_RECORD: Final = CommandRecord(
    seq=18,
    id=_ID,
    requester="hub",
    behalf="ci",
    group="kitchen",
    command="dim",
    args=Raw(b'{"level":40}'),
    issued=_AT,
    expires=_AT + 30,
    received=_AT + 0.003,
)

PROGRESS_RECORD: Final = ProgressRecord(
    seq=19, id=_ID, requester="hub", device="lamp-2", number=3, fraction=0.4, text="2 of 5", received=_AT + 1
)

RESULT_RECORD: Final = ResultRecord(
    seq=20,
    id=_ID,
    requester="hub",
    device="lamp-1",
    command="dim",
    status=Status.DONE,
    value=Raw(b"40"),
    started=_AT + 0.01,
    finished=_AT + 0.02,
    received=_AT + 0.03,
)

JOBS: Final = Jobs(
    running=(DeviceJob("lamp-2", RunningJob(_ID, "calibrate", "hub", "ci", _AT, _AT, 0.4, "2 of 5")),),
    told=("lamp-2",),
    away=("lamp-3",),
    untold={},
)

EVENT_RECORD: Final = EventRecord(
    seq=21,
    id=_EVENT,
    device="lamp-1",
    name="initial",
    key="e",
    subject="3f0c2a9e-41d7-4386-9c1f-03b7a2d4e6f8",
    time=_AT,
    data=Raw(b'{"level":40}'),
    received=_AT + 0.002,
)

SUMMARY: Final = Summary(name="initial", key="e", count=3, earliest=_AT, latest=_AT + 9, followups={"closed": 2})

BUCKET: Final = Bucket(key="e", time=_AT - _AT % 60, count=3)

RUN: Final = RunBody(
    client="ada", script_name="hello.py", code="import sys\nprint('hello', sys.argv[1])", args=["world"]
)

RUN_LINES: Final = RunBody(
    client="ada", script_name="where.py", code=["import os", "os.chdir('/')", "print(os.getcwd())"], timeout=30
)

RUN_FORM: Final = {"file": "print('hello')", "client": "ada", "args": ["world"], "timeout": 30}

_RUN_ID: Final = "run-5f0c2a9e41d7b3865f0c-9c1f03b7a2d4e6f89c1f"

RUN_ACCEPTED: Final = RunAccepted(_RUN_ID)

RUN_STATUS: Final = RunStatus(
    id=_RUN_ID,
    status="COMPLETED",
    exit_code=0,
    stdout="hello world\n",
    device="lamp-1",
    duration=0.034,
    peak_memory=9_371_648,
    submitted=_AT,
    started=_AT + 0.01,
    finished=_AT + 0.05,
)

FUNCTION: Final = FunctionBody(
    name="lookup",
    help="Return what is known of a word.",
    arguments={"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    result={"type": "string"},
)

VALUE: Final = FunctionValue(Raw(b'"a fruit"'))

ME: Final = Me("ci", ["read", "send"], "hub")

HEALTH: Final = Health("ok")

READY: Final = Readiness(ready=True, broker=True, recorder=True, store=True)
