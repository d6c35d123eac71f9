"""What becomes of each message: a record, nothing, or a refusal that names its reason."""

import json
from collections.abc import Mapping

import msgspec
import pytest
from msgspec import Raw

from outrider.controller.hub.records import (
    CommandRecord,
    EventRecord,
    ProgressRecord,
    Record,
    ResultRecord,
    StateRecord,
)
from outrider.controller.hub.transcript import Transcript
from outrider.device import Message
from outrider.schema import InvalidMessage, Status, Topics
from outrider.schema.codec import MAX_RESULT

NOW = 1_764_000_000.5
EVENT = {"id": "e1", "device": "lamp-1", "name": "initial", "time": 1.5}
RESULT = {"id": "r1", "device": "lamp-1", "command": "dim", "status": "done"}


def record(
    topic: str, payload: bytes | Mapping[str, object], *, retain: bool = False, prefix: str = ""
) -> Record | None:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Transcript(Topics(prefix)).record(Message(topic, data, retain, False), NOW)


def test_command_to_a_device_names_the_requester_of_its_topic() -> None:
    said: dict[str, object] = {
        "id": "c1",
        "command": "dim",
        "args": {"level": 40},
        "from": "bob",
        "behalf": "page",
        "issued": 1.0,
        "expires": 2.0,
        "timeout": 3.0,
        "trace": "00-1-2-01",
    }
    assert record("devices/lamp-1/cmd/alice", said) == CommandRecord(
        id="c1",
        requester="alice",
        behalf="page",
        device="lamp-1",
        command="dim",
        args=Raw(b'{"level": 40}'),
        issued=1.0,
        expires=2.0,
        timeout=3.0,
        trace="00-1-2-01",
        received=NOW,
    )


def test_command_typed_by_hand_is_recorded_with_what_it_says() -> None:
    assert record("devices/lamp-1/cmd", {"command": "ping", "from": "bob"}) == CommandRecord(
        requester="bob", device="lamp-1", command="ping", received=NOW
    )
    assert record("groups/all/cmd", {"command": "ping"}) == CommandRecord(group="all", command="ping", received=NOW)


def test_progress_result_state_and_event_are_recorded() -> None:
    assert record(
        "devices/lamp-1/progress/alice", {"id": "c1", "device": "lamp-1", "seq": 3, "fraction": 0.5, "text": "half"}
    ) == ProgressRecord(id="c1", requester="alice", device="lamp-1", number=3, fraction=0.5, text="half", received=NOW)
    assert record(
        "devices/lamp-1/result", {**RESULT, "status": "failed", "error": {"code": "error", "message": "no"}}
    ) == ResultRecord(
        id="r1",
        device="lamp-1",
        command="dim",
        status=Status.FAILED,
        error=Raw(b'{"code":"error","message":"no"}'),
        received=NOW,
    )
    state = {"device": "lamp-1", "status": "ready", "session": 7, "since": 1.0, "groups": ["g"], "tags": {"room": 1}}
    assert record("devices/lamp-1/state", state, retain=True) == StateRecord(
        device="lamp-1", status="ready", session=7, since=1.0, groups=["g"], tags={"room": 1}, received=NOW
    )
    assert record(
        "site/devices/lamp-1/event/initial", {**EVENT, "key": "k", "subject": "s", "data": [1, None]}, prefix="site"
    ) == EventRecord(
        id="e1", device="lamp-1", name="initial", key="k", subject="s", time=1.5, data=Raw(b"[1, null]"), received=NOW
    )


@pytest.mark.parametrize(
    ("topic", "payload", "retain"),
    [
        ("devices/lamp-1/state", b"", False),
        ("devices/lamp-1/result/alice", b"", True),
        ("devices/lamp-1/cmd", b'{"command":"ping"}', True),
        ("devices/lamp-1/about", b"{}", True),
        ("weather", b"{}", False),
        ("devices/lamp-1/event/a/b", b"{}", False),
        ("devices/" + "x" * 65 + "/state", b"{}", False),
    ],
)
def test_nothing_is_recorded_of_what_is_cleared_stored_or_not_ours(topic: str, payload: bytes, retain: bool) -> None:
    assert record(topic, payload, retain=retain) is None


def test_messagepack_is_recorded_as_json() -> None:
    packed = msgspec.msgpack.encode({**RESULT, "value": {"level": 40, "raw": b"ab"}})
    found = record("devices/lamp-1/result/alice", packed)
    assert isinstance(found, ResultRecord)
    assert found.value == Raw(b'{"level":40,"raw":"YWI="}')
    packed = msgspec.msgpack.encode({**RESULT, "error": {"code": "error", "message": "no", "details": {"x": [1.5]}}})
    found = record("devices/lamp-1/result/alice", packed)
    assert isinstance(found, ResultRecord)
    assert found.error == Raw(b'{"code":"error","message":"no","details":{"x":[1.5]}}')


def deep(levels: int) -> bytes:
    return b'{"id":"e1","device":"lamp-1","name":"initial","time":1,"data":' + b"[" * levels + b"]" * levels + b"}"


def event(data: bytes) -> bytes:
    return b'{"id":"e1","device":"lamp-1","name":"initial","time":1,"data":' + data + b"}"


NAN = float("nan")


@pytest.mark.parametrize(
    ("topic", "payload", "code"),
    [
        ("devices/lamp-1/event/initial", b"no json", "invalid-message"),
        ("devices/lamp-1/event/initial", b'{"id":"e1","device"', "invalid-message"),
        ("devices/lamp-1/event/initial", b"eyJhbGciOiJFZERTQSJ9.e30.x", "unsupported"),
        ("devices/lamp-1/event/initial", deep(32), "invalid-message"),
        ("devices/lamp-1/event/initial", event(b'"' + b"x" * 300_000 + b'"'), "too-large"),
        ("devices/lamp-1/event/initial", event(b"NaN"), "invalid-message"),
        ("devices/lamp-1/event/initial", event(b"1e999"), "invalid-message"),
        ("devices/lamp-1/event/initial", event(b"9" * 5000), "invalid-message"),
        ("devices/lamp-1/event/initial", event(b'"\xff"'), "invalid-message"),
        ("devices/lamp-1/event/initial", event(b'"\\ud800"'), "invalid-message"),
        ("devices/lamp-1/event/initial", msgspec.msgpack.encode({**EVENT, "data": [NAN]}), "invalid-message"),
        ("devices/lamp-1/event/initial", msgspec.msgpack.encode({**EVENT, "data": {"x": -1e400}}), "invalid-message"),
        ("devices/lamp-1/event/initial", msgspec.msgpack.encode({**EVENT, "time": NAN}), "invalid-message"),
        (
            "devices/lamp-1/event/initial",
            msgspec.msgpack.encode({**EVENT, "data": msgspec.msgpack.Ext(1, b"x")}),
            "invalid-message",
        ),
        ("devices/lamp-1/event/initial", msgspec.msgpack.encode({**EVENT, "data": {None: 1}}), "invalid-message"),
        ("devices/lamp-2/event/initial", json.dumps(EVENT).encode(), "unauthorized"),
        ("devices/lamp-1/event/other", json.dumps(EVENT).encode(), "invalid-message"),
        ("devices/lamp-2/result/alice", json.dumps(RESULT).encode(), "unauthorized"),
        ("devices/lamp-1/result/alice", json.dumps({**RESULT, "status": "dancing"}).encode(), "invalid-message"),
        (
            "devices/lamp-1/result/alice",
            msgspec.msgpack.encode({**RESULT, "error": {"code": "error", "message": "", "details": {"x": NAN}}}),
            "invalid-message",
        ),
        (
            "devices/lamp-1/result/alice",
            json.dumps({**RESULT, "value": "x" * MAX_RESULT}).encode(),
            "too-large",
        ),
        ("devices/lamp-1/progress/alice", b'{"id":"c1","device":"lamp-2","seq":0}', "unauthorized"),
        ("devices/lamp-1/progress/alice", b'{"id":"c1","device":"lamp-1","seq":1e2}', "invalid-message"),
        ("devices/lamp-1/progress/alice", b'{"id":"c1","device":"lamp-1","seq":%d}' % 2**63, "invalid-message"),
        ("devices/lamp-1/state", b'{"device":"lamp-2","status":"ready","session":1,"since":1}', "unauthorized"),
        ("devices/lamp-1/state", b'{"device":"lamp-1","status":"ready","session":1e99,"since":1}', "invalid-message"),
        ("devices/lamp-1/cmd/alice", b'{"id":"c1"}', "invalid-message"),
        ("devices/lamp-1/cmd/alice", b'{"command":7}', "invalid-message"),
        ("groups/all/cmd", b'{"command":"ping","args":[1e999]}', "invalid-message"),
    ],
)
def test_hostile_and_malformed_messages_are_refused_by_code(topic: str, payload: bytes, code: str) -> None:
    with pytest.raises(InvalidMessage) as refusal:
        record(topic, payload)
    assert refusal.value.code == code
