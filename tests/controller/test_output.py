import io
import json as standard_json
import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Raw, json
from rich.console import Console, RenderableType

from outrider.controller.cli import schemas
from outrider.controller.cli.documentation import about_table, about_text, example
from outrider.controller.cli.live import LINES, Live
from outrider.controller.cli.output import (
    devices_table,
    duration,
    json_text,
    plain_result,
    printable,
    reply_line,
    summary_line,
)
from outrider.device import Reply
from outrider.schema import (
    About,
    CommandAbout,
    CommandSpec,
    Encoding,
    Error,
    Progress,
    Result,
    State,
    Status,
)


def shown(renderable: RenderableType | None) -> str:
    assert renderable is not None
    console = Console(file=io.StringIO(), width=1000, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def done(value: bytes, started: float | None = None, finished: float | None = None) -> Reply:
    result = Result(
        id="1",
        device="lamp-1",
        command="c",
        status=Status.DONE,
        value=Raw(value),
        started=started,
        finished=finished,
    )
    return Reply("lamp-1", result)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"5", "lamp-1  done  5"),
        (b'"two words"', "lamp-1  done  two words"),
        (b"null", "lamp-1  done"),
        (b'""', "lamp-1  done"),
        (b'{"a":[1,true]}', 'lamp-1  done  {"a": [1, true]}'),
        (b'"a\\nb"', "lamp-1  done\n    a\n    b"),
        (b'"[bold]x[/]\\u001b[2J\\r"', "lamp-1  done  [bold]x[/]\\u001b[2J\\u000d"),
        (b'"\xc3\xa4\xf0\x9f\x92\xa1"', "lamp-1  done  ä💡"),
        (b"\x93\x01\x02\x03", "lamp-1  done  (not JSON: b'\\x93\\x01\\x02\\x03')"),
    ],
)
def test_a_value_is_readable(value: bytes, expected: str) -> None:
    assert shown(reply_line(done(value), show_device=True)) == expected


def test_a_long_value_takes_several_lines() -> None:
    line = shown(reply_line(done(json.encode({"a": "x" * 100}), started=1.0, finished=1.5), show_device=True))
    assert line.splitlines() == ["lamp-1  done  (0.5 s)", "    {", f'      "a": "{"x" * 100}"', "    }"]


def test_the_device_may_be_left_out() -> None:
    assert shown(reply_line(done(b"5", started=1.0, finished=1.003), show_device=False)) == "done  5  (3 ms)"


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        ({"accepted": True}, "lamp-1  accepted"),
        ({"fraction": 0.251, "text": "of\n3 s"}, "lamp-1   25%  of\\u000a3 s"),
        ({"text": "begins"}, "lamp-1  begins"),
        ({"stream": "stdout", "data": "a\nlamp-2  done\n"}, "lamp-1  | a\n    | lamp-2  done"),
    ],
)
def test_progress_is_one_line_for_each_thing_said(progress: dict[str, object], expected: str) -> None:
    message = json.decode(json.encode({"id": "1", "device": "lamp-1", "seq": 0} | progress), type=Progress)
    assert shown(reply_line(Reply("lamp-1", message), show_device=True)) == expected


def test_progress_that_says_nothing_has_no_line() -> None:
    assert reply_line(Reply("lamp-1", Progress(id="1", device="lamp-1", seq=0)), show_device=True) is None


def test_a_result_in_json_has_its_value_decoded_and_leaves_out_what_is_not_set() -> None:
    result = Result(id="1", device="d", command="c", status=Status.DONE, value=Raw(b"[ 1 ]"))
    assert plain_result(result) == {"id": "1", "device": "d", "command": "c", "status": "done", "value": [1]}
    failed = Result(id="1", device="d", command="c", status=Status.FAILED, error=Error("error", "no", {"at": 1}))
    assert plain_result(failed)["error"] == {"code": "error", "message": "no", "details": {"at": 1}}


def test_the_counts_of_a_summary_are_in_the_protocols_order_and_add_up() -> None:
    outcomes = {
        name: Result(id="1", device=name, command="c", status=status)
        for name, status in (("a", Status.QUEUED), ("b", Status.DONE), ("c", Status.REJECTED), ("d", Status.DONE))
    }
    assert shown(summary_line(outcomes)) == "4 targets: 2 done, 1 rejected, 1 queued"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "under 1 ms"),
        (0.0004, "under 1 ms"),
        (0.0126, "13 ms"),
        (0.0996, "0.1 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (7200, "2 h"),
        (86400, "1 day"),
        (200_000, "2 days"),
    ],
)
def test_durations_are_for_people(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@given(st.text())
def test_what_is_printed_holds_no_control_character(text: str) -> None:
    for char in printable(text):
        assert char.isprintable() or char in "\u200c\u200d" or not printable(char).startswith("\\u")
    assert "\x1b" not in printable(text)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda each: st.lists(each, max_size=3)))
def test_json_for_a_terminal_is_json(value: object) -> None:
    assert standard_json.loads(json_text(value)) == value
    assert "\x9b" not in json_text(value)


def test_the_table_leaves_out_columns_that_all_have_empty() -> None:
    states = [
        State(device="lamp-1", status="ready", session=1, since=40.0, tags={"floor": 2, "lit": True}),
        State(device="lamp-2", status="lost", session=1, since=40.0),
    ]
    lines = shown(devices_table(states, {}, now=100.0)).splitlines()
    assert lines[0].split() == ["DEVICE", "STATUS", "SINCE", "TAGS"]
    assert lines[1].split() == ["lamp-1", "ready", "1", "min", "floor=2", "lit=true"]
    assert lines[2].split() == ["lamp-2", "lost"]


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (120, ["DEVICE", "STATUS", "SINCE", "GROUPS", "POOLS", "TAGS", "VERSIONS"]),
        (60, ["DEVICE", "STATUS", "SINCE", "GROUPS", "POOLS", "TAGS"]),
        (50, ["DEVICE", "STATUS", "SINCE", "GROUPS", "TAGS"]),
        (40, ["DEVICE", "STATUS", "SINCE", "GROUPS"]),
        (30, ["DEVICE", "STATUS", "SINCE"]),
    ],
)
def test_the_table_leaves_out_columns_that_have_no_room(width: int, columns: list[str]) -> None:
    tags: dict[str, str | int | float | bool] = {"room": "kitchen", "floor": 2, "maker": "somebody"}
    state = State(
        device="lamp-1",
        status="terminated",
        session=1,
        since=40.0,
        groups=["upstairs", "kitchen"],
        pools=["words"],
        tags=tags,
    )
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(devices_table([state], {"lamp-1": About(versions={"outrider": "0.1.0"}, commands={})}, now=100.0))
    header, *lines = console.export_text().splitlines()
    assert header.split() == columns
    assert lines[0].split()[:4] == ["lamp-1", "terminated", "1", "min"]
    assert len(lines) <= 4


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 0, "maximum": 9}, "integer, 0 to 9"),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, "number, above 0, below 1"),
        ({"type": "integer", "maximum": 9, "multipleOf": 3}, "integer, at most 9, a multiple of 3"),
        ({"type": "string", "minLength": 1, "maxLength": 4, "pattern": "^a"}, "text, 1 to 4 characters, matching ^a"),
        ({"type": "string", "contentEncoding": "base64"}, "bytes in base64"),
        ({"type": "string", "format": "date-time"}, "date-time"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, "list of text, at least 2 items"),
        ({"type": "array", "prefixItems": [{"type": "null"}, {}], "items": False}, "list (nothing; anything)"),
        ({"type": "object", "additionalProperties": {"type": "boolean"}}, "object of boolean"),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, "object (a: integer)"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer or nothing"),
        (
            {"type": ["integer", "string"], "minimum": 1, "minLength": 2},
            "integer, at least 1 or text, at least 2 characters",
        ),
        ({"enum": ["a", 1]}, '"a" or 1'),
        ({"const": None}, "null"),
        ({"$ref": "#/$defs/p", "$defs": {"p": {"type": "string"}}}, "text"),
        ({}, "anything"),
        (5, "something (its schema cannot be read)"),
        ({"minimum": "low"}, "something (its schema cannot be read)"),
        ({"type": "\x1b[2J"}, "\\u001b[2J"),
    ],
)
def test_a_schema_is_told_in_words(schema: object, words: str) -> None:
    assert schemas.words(schemas.read(schema)) == words


def test_default_of_an_argument_stands_beside_the_reference_to_its_type() -> None:
    scene = {"enum": ["day", "night"], "description": "How a room is lit."}
    schema = {
        "type": "object",
        "properties": {"scene": {"$ref": "#/$defs/Scene", "default": "day"}},
        "$defs": {"Scene": scene},
    }
    read = schemas.read(schema)
    assert read is not None
    assert read.properties["scene"].default == "day"
    assert schemas.words(read.properties["scene"]) == '"day" or "night"'


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}] * 50}}},
        {"type": "string", "minLength": 10**12},
        {"type": "array", "minItems": 10**12, "items": {"type": "array", "minItems": 10**12}},
    ],
)
def test_a_schema_without_end_is_told_and_tried_within_bounds(schema: object) -> None:
    read = schemas.read(schema)
    assert len(schemas.words(read)) < 100_000
    assert len(json_text(schemas.example(read))) < 100_000


def command(properties: Mapping[str, object], *required: str) -> CommandAbout:
    return CommandAbout(
        help="Do [red]it\x1b[2J.\nMore.", arguments={"properties": properties, "required": required}, result={}
    )


def test_a_line_to_try_gives_what_is_needed() -> None:
    number, text = {"type": "number", "minimum": 5}, {"type": "string"}
    assert example("c", command({"a": number, "b": text, "c": text}, "a", "b")) == "c 5 hello"
    assert example("c", command({"a": number, "b": text}, "b")) == """c '{"b": "hello"}'"""
    assert example("c", command({"a": {"enum": ["two words"]}}, "a")) == "c 'two words'"
    assert example("c", command({"a": {"type": "array"}}, "a")) == """c '{"a": [null]}'"""
    assert example("c", command({})) == "c"


def test_a_line_to_try_writes_times_and_the_like_as_devices_read_them() -> None:
    def take(
        at: Annotated[datetime, Meta(tz=True)], on: date, long: timedelta, id: UUID, price: Decimal, raw: bytes
    ) -> None:
        pass

    spec = CommandSpec(take)
    properties = cast("dict[str, object]", spec.arguments_schema["properties"])
    values = [schemas.example(schemas.read(each)) for each in properties.values()]
    assert spec.arguments(Raw(json.encode(values)), Encoding.JSON)["raw"] == b"hello"


def test_documentation_shows_what_devices_say_as_it_is() -> None:
    about = About(versions={}, commands={"c": command({"a": {"default": 1}}), "start": command({})})
    assert shown(about_table(about)).splitlines() == [
        "c [a]  Do [red]it\\u001b[2J.",
        "",
        "start  Do [red]it\\u001b[2J.",
    ]
    lines = shown(about_text(about, "c", device="lamp-1")).splitlines()
    assert lines[:3] == ["c [a]", "  Do [red]it\\u001b[2J.", "  More."]
    assert "  a  anything, default 1" in lines


def test_progress_at_the_foot_is_bounded() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=40)
    targets = [f"lamp-{number}" for number in range(LINES + 5)]
    with Live(console, targets) as live:
        for target in targets[1:]:
            live.take(Reply(target, Progress(id="1", device=target, seq=0, fraction=0.5)))
        live.take(Reply(targets[0], Result(id="1", device=targets[0], command="c", status=Status.DONE)))
        text = shown(live.lines()).splitlines()
    assert re.fullmatch(r"lamp-1  [━╸╺]+ +50%", text[0].strip())
    assert text[LINES] == "… and 4 more"
    assert text[LINES + 1].endswith(f"1 of {len(targets)} answered: 1 done")
