"""Hostile input: a rejected result where it names an id, else dropped and counted; nothing else changes."""

import json
import math
import secrets
import time
from pathlib import Path

import msgspec
import pytest

from tests.system.outsider import Outsider

DEEP = 10_000
LARGE = "x" * (256 * 1024)

pack = msgspec.msgpack.encode


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        pytest.param(b"", "invalid-message", id="nothing"),
        pytest.param(b"turn it on", "invalid-message", id="words"),
        pytest.param(b'["ping"]', "invalid-message", id="list"),
        pytest.param(b'"ping"', "invalid-message", id="string"),
        pytest.param(b'{"command": "ping"', "invalid-message", id="cut-short"),
        pytest.param(b'{"command": "ping"} {}', "invalid-message", id="trailing"),
        pytest.param(b"{}", "invalid-message", id="no-command"),
        pytest.param(b'{"command": 5}', "invalid-message", id="command-a-number"),
        pytest.param(b'{"command": ""}', "invalid-message", id="command-empty"),
        pytest.param(b'{"command": "%s"}' % (b"p" * 200), "invalid-message", id="command-long"),
        pytest.param(b'{"command": "\xff\xfe"}', "invalid-message", id="not-utf-8"),
        pytest.param('{"command": "ping"}'.encode("utf-16"), "invalid-message", id="utf-16"),
        pytest.param(b'\xef\xbb\xbf{"command": "ping"}', "invalid-message", id="byte-order-mark"),
        pytest.param(b'{"command": "ping", "args": ' + b"[" * DEEP + b"]" * DEEP + b"}", "invalid-message", id="deep"),
        pytest.param(b'{"a": ' * DEEP + b"1" + b"}" * DEEP, "invalid-message", id="deep-objects"),
        pytest.param(b'{"a":' * DEEP, "invalid-message", id="deep-and-cut-short"),
        pytest.param(
            b"\x82\xa7command\xa4ping\xa4args" + b"\x91" * DEEP + b"\xc0", "invalid-message", id="msgpack-deep"
        ),
        pytest.param(b"\x81\xa7command\xa4pi", "invalid-message", id="msgpack-cut-short"),
        pytest.param(b"\x81\xa7command\xa2\xff\xfe", "invalid-message", id="msgpack-not-utf-8"),
        pytest.param(b"\xdf\xff\xff\xff\xff", "invalid-message", id="msgpack-promises-much"),
        pytest.param(b"\x81\xc0\xc0", "invalid-message", id="msgpack-key-null"),
        pytest.param(json.dumps({"command": "ping", "trace": LARGE}).encode(), "too-large", id="large"),
        pytest.param(pack({"command": "ping", "args": [LARGE]}), "too-large", id="msgpack-large"),
        pytest.param(b"eyJhbGciOiJFZERTQSJ9.eyJjb21tYW5kIjoicGluZyJ9.c2ln", "unsupported", id="signed"),
    ],
)
async def test_broken_message_without_id_is_dropped_and_counted(
    outsider: Outsider, payload: bytes, reason: str
) -> None:
    await outsider.provoke(payload, dropped=reason)


@pytest.mark.parametrize(
    ("payload", "code", "says"),
    [
        pytest.param(b'{"id": "%s", "command": "ping"', "invalid-message", "cannot be read", id="cut-short"),
        pytest.param(b'{"id": "%s"}', "invalid-message", "command", id="no-command"),
        pytest.param(b'{"id": "%s", "command": "\xff"}', "invalid-message", "cannot be read", id="not-utf-8"),
        pytest.param(b'{"id": "%s", "command": "typed", "args": {"count": NaN}}', "invalid-message", "", id="NaN"),
        pytest.param(b'{"id": "%s", "command": "typed", "args": [Infinity]}', "invalid-message", "", id="Infinity"),
        pytest.param(
            b'{"id": "%s", "command": "ping", "args": ' + b"[" * DEEP + b"]" * DEEP + b"}",
            "invalid-message",
            "32 levels",
            id="deep",
        ),
        pytest.param(
            b'{"id": "%s", "command": "ping", "trace": "' + LARGE.encode() + b'"}', "too-large", "262,144", id="large"
        ),
        pytest.param(b"\x82\xa2id\xa8%s\xa7command\xa4pi", "invalid-message", "", id="msgpack-cut-short"),
        pytest.param(
            b"\x83\xa2id\xa8%s\xa7command\xa4ping\xa4args" + b"\x91" * DEEP + b"\xc0",
            "invalid-message",
            "32 levels",
            id="msgpack-deep",
        ),
        pytest.param(
            b"\x83\xa2id\xa8%s\xa7command\xa4ping\xa5trace\xdb\0\4\0\0" + LARGE.encode(),
            "too-large",
            "262,144",
            id="msgpack-large",
        ),
    ],
)
async def test_broken_message_with_an_id_is_rejected(outsider: Outsider, payload: bytes, code: str, says: str) -> None:
    id = secrets.token_hex(4)
    result = await outsider.provoke(payload.replace(b"%s", id.encode()), answer=id)
    assert result["status"] == "rejected"
    assert result["error"]["code"] == code
    assert says in result["error"]["message"]


async def test_hostile_bytes_from_each_kind_of_requester(each_outsider: Outsider) -> None:
    await each_outsider.provoke(b"\x00\x01\x02", dropped="invalid-message")
    await each_outsider.provoke({"command": "ping", "args": nested(100)}, dropped="invalid-message")
    await each_outsider.provoke({"command": "ping", "trace": LARGE}, dropped="too-large")
    rejected = await each_outsider.provoke({"id": "mine", "command": "dance"}, answer="mine")
    assert rejected["error"]["code"] == "unknown-command"


async def test_unknown_envelope_field_is_ignored(each_outsider: Outsider) -> None:
    result = await each_outsider.ask("ping", priority="high", hops=[1, {"deep": None}])
    assert result["status"] == "done"


async def test_unknown_command_is_rejected_with_those_there_are(outsider: Outsider) -> None:
    result = await outsider.provoke({"id": "a", "command": "dance"}, answer="a")
    assert result["command"] == "dance"
    assert result["error"]["code"] == "unknown-command"
    assert "calculate" in result["error"]["message"]


@pytest.mark.parametrize(
    ("command", "args", "argument"),
    [
        ("calculate", {}, "x"),
        ("calculate", None, "x"),
        ("calculate", {"x": 1}, "msg"),
        ("calculate", [1], "msg"),
        ("calculate", [], "x"),
        ("calculate", {"x": 0, "msg": "m", "loud": True}, "loud"),
        ("calculate", {"x": 0, "msg": "m", "job": {}}, "job"),
        ("calculate", [0, "m", "extra"], None),
        ("calculate", {"x": "1", "msg": "m"}, "x"),
        ("calculate", {"x": True, "msg": "m"}, "x"),
        ("calculate", {"x": None, "msg": "m"}, "x"),
        ("calculate", {"x": 0, "msg": 5}, "msg"),
        ("calculate", {"x": -1, "msg": "m"}, "x"),
        ("calculate", [-0.001, "m"], "x"),
        ("typed", {"count": 101}, "count"),
        ("typed", {"count": -1}, "count"),
        ("typed", {"count": 1.5}, "count"),
        ("typed", {"count": 1, "names": ["a", 2]}, "names"),
        ("typed", {"count": 1, "names": "a"}, "names"),
        ("typed", {"count": 1, "exact": 1}, "exact"),
        ("typed", [1, 0.5, ["a"], True], None),
        ("typed", "1", None),
        ("typed", 1, None),
        ("ping", [1], None),
        ("ping", {"loud": True}, "loud"),
        ("start", {"now": True}, "now"),
        ("cancel", {}, "id"),
        ("cancel", {"id": 5}, "id"),
        ("result", [], "id"),
    ],
)
@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_arguments_that_do_not_fit_are_rejected(
    outsider: Outsider, encoding: str, command: str, args: object, argument: str | None
) -> None:
    outsider.encoding = encoding
    given = {} if args is None else {"args": args}
    result = await outsider.provoke({"id": "a", "command": command, **given}, answer="a")
    assert (result["status"], result["error"]["code"]) == ("rejected", "invalid-arguments")
    if argument is not None:
        assert result["error"]["details"] == {"argument": argument}
        assert repr(argument) in result["error"]["message"]


@pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf])
async def test_number_that_is_not_finite_is_rejected(outsider: Outsider, x: float) -> None:
    outsider.encoding = "msgpack"
    result = await outsider.provoke({"id": "a", "command": "calculate", "args": {"x": x, "msg": "m"}}, answer="a")
    assert (result["status"], result["error"]["code"]) == ("rejected", "invalid-arguments")
    assert result["error"]["details"] == {"argument": "x"}


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1" + b"0" * 4000])
async def test_number_over_what_a_float_holds_is_rejected(outsider: Outsider, number: bytes) -> None:
    payload = b'{"id": "a", "command": "calculate", "args": {"x": ' + number + b', "msg": "m"}}'
    result = await outsider.provoke(payload, answer="a")
    assert result["status"] == "rejected"
    assert result["error"]["code"] in ("invalid-arguments", "invalid-message")


@pytest.mark.parametrize("field", ["timeout", "expires", "issued"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, "soon", True, 1e300, [1]])
async def test_time_that_is_none_is_an_invalid_message(outsider: Outsider, field: str, value: object) -> None:
    outsider.encoding = "msgpack"
    result = await outsider.provoke({"id": "a", "command": "ping", field: value}, answer="a")
    assert (result["status"], result["error"]["code"]) == ("rejected", "invalid-message")
    assert field in result["error"]["message"]


async def test_timeout_of_zero_is_an_invalid_message(outsider: Outsider) -> None:
    result = await outsider.provoke({"id": "a", "command": "ping", "timeout": 0}, answer="a")
    assert result["error"]["code"] == "invalid-message"


# Wrong ids


@pytest.mark.parametrize("id", ["", "two words", "a/b", "a+b", "#", "ä", "x" * 65, "a\n", "a\0", 5, [], {}])
@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_message_with_a_bad_id_is_dropped(outsider: Outsider, encoding: str, id: object) -> None:
    outsider.encoding = encoding
    await outsider.provoke({"id": id, "command": "ping"}, dropped="invalid-message")


@pytest.mark.parametrize("field", ["from", "behalf"])
@pytest.mark.parametrize("name", ["", "two words", "a/b", "+", "x" * 65, "all", 5])
async def test_bad_name_in_the_envelope_is_an_invalid_message(outsider: Outsider, field: str, name: object) -> None:
    result = await outsider.provoke({"id": "a", "command": "ping", field: name}, answer="a")
    assert (result["status"], result["error"]["code"]) == ("rejected", "invalid-message")


@pytest.mark.parametrize("name", ["all", "a/b", "#"])
async def test_bad_requester_on_the_bare_topic_gets_its_answer_on_the_bare_one(outsider: Outsider, name: str) -> None:
    where = outsider.device.topic("result")
    topic = outsider.device.topic("cmd")
    result = await outsider.provoke(
        {"id": "a", "command": "ping", "from": name}, topic=topic, answer="a", answer_topic=where
    )
    assert result["error"]["code"] == "invalid-message"


@pytest.mark.parametrize("to", ["another", "garage", "", "bench/../x", "x" * 64])
async def test_command_meant_for_another_is_an_invalid_message(outsider: Outsider, to: str) -> None:
    result = await outsider.provoke({"id": "a", "command": "start", "to": to}, answer="a")
    assert (result["status"], result["error"]["code"]) == ("rejected", "invalid-message")


@pytest.mark.parametrize("to", ["bench", "kitchen", "all"])
async def test_command_for_the_device_or_a_group_of_its_is_taken(outsider: Outsider, to: str) -> None:
    assert (await outsider.ask("ping", to=to))["status"] == "done"


@pytest.mark.parametrize("requester", ["two words", "a/b", "all", "x" * 65, "", "ä", "*"])
@pytest.mark.parametrize("at", ["device", "group"])
async def test_command_on_a_topic_of_nobody_is_dropped(outsider: Outsider, at: str, requester: str) -> None:
    topic = outsider.device.topic("cmd", requester) if at == "device" else outsider.device.group("all/cmd", requester)
    await outsider.provoke({"id": "a", "command": "ping"}, topic=topic, dropped="topic")


async def test_command_to_another_device_or_group_changes_nothing(outsider: Outsider) -> None:
    for topic in ("devices/bench2/cmd", "devices/BENCH/cmd", "groups/garage/cmd", "groups/all", "devices//cmd"):
        await outsider.provoke({"id": "a", "command": "stop"}, topic=f"{outsider.device.prefix}/{topic}")


async def test_from_that_differs_from_the_topic_is_unauthorized(each_outsider: Outsider) -> None:
    result = await each_outsider.provoke({"id": "a", "command": "stop", "from": "mallory"}, answer="a")
    assert (result["status"], result["error"]["code"]) == ("rejected", "unauthorized")
    assert "mallory" in result["error"]["message"]


async def test_from_that_differs_without_an_id_is_dropped(outsider: Outsider) -> None:
    await outsider.provoke({"command": "stop", "from": "mallory"}, dropped="unauthorized")


async def test_from_that_agrees_with_the_topic_is_taken(outsider: Outsider) -> None:
    assert (await outsider.ask("ping", **{"from": outsider.name}))["status"] == "done"


# Refused for what it says


@pytest.mark.parametrize("command", ["ping", "start", "calculate"])
async def test_what_has_expired_does_not_run(outsider: Outsider, command: str) -> None:
    message = {"id": "a", "command": command, "expires": time.time() - 60, "args": {"x": 0, "msg": "m"}}
    if command != "calculate":
        del message["args"]
    result = await outsider.provoke(message, answer="a")
    assert result["status"] == "expired"


async def test_clock_of_the_requester_may_be_half_a_minute_behind(outsider: Outsider) -> None:
    assert (await outsider.ask("ping", expires=time.time() - 20))["status"] == "done"


async def test_expires_over_a_week_after_issued_is_an_invalid_message(outsider: Outsider) -> None:
    now, week = time.time(), 7 * 86_400
    for times in (
        {"issued": now, "expires": now + week + 1},
        {"expires": now + week + 60},
        {"issued": 0, "expires": now},
    ):
        id = secrets.token_hex(4)
        result = await outsider.provoke({"id": id, "command": "ping", **times}, answer=id)
        assert (result["status"], result["error"]["code"]) == ("rejected", "invalid-message")
    assert (await outsider.ask("ping", issued=now, expires=now + week))["status"] == "done"


async def test_same_id_with_other_arguments_is_an_invalid_message(outsider: Outsider, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    id = await outsider.start("mark", [str(marks), "first"])
    first = await outsider.result(id)
    for command, args in (("mark", [str(marks), "second"]), ("calculate", [0, "m"]), ("mark", None)):
        given = {} if args is None else {"args": args}
        result = await outsider.provoke({"id": id, "command": command, **given}, answer=id)
        assert (result["status"], result["error"]["code"]) == ("rejected", "invalid-message")
    assert await outsider.ask("result", [id], id="ask") == {**await outsider.result("ask"), "value": first}
    assert marks.read_text() == "first\n"


# Where others speak on the device's own topics


@pytest.mark.parametrize("payload", [b"", b"broken", b"{}", b'{"device":"bench","status":"dancing","session":1}'])
async def test_device_heals_its_state(outsider: Outsider, payload: bytes) -> None:
    topic = outsider.device.topic("state")
    before = [message.payload for message in outsider.peer.messages if message.topic == topic][-1]
    count = len(outsider.peer.messages)
    await outsider.send(payload, topic=topic, retain=True)
    await outsider.peer.wait_for(lambda message: message.topic == topic and message.payload == before, after=count)
    assert (await outsider.ask("ping"))["status"] == "done"


async def test_answers_of_others_do_not_come_back_as_commands(outsider: Outsider) -> None:
    for level in ("result", f"result/{outsider.name}", f"progress/{outsider.name}", "event/door", "about/x"):
        topic = outsider.device.topic(level)
        count = len(outsider.peer.messages)
        await outsider.send({"id": "a", "command": "stop"}, topic=topic)
        assert (await outsider.ask("ping"))["status"] == "done"
        assert not outsider.states(after=count)


def nested(levels: int) -> object:
    value: object = []
    for _ in range(levels):
        value = [value]
    return value
