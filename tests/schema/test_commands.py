import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, cast
from uuid import UUID

import msgspec
import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, Raw, Struct

from outrider.schema import CommandSpec, Encoding, InvalidArguments, InvalidCommand, encode


class Job:
    pass


class Point(Struct):
    x: float
    y: float = 0.0


def calculate(job: Job, x: Annotated[float, Meta(ge=0)], msg: str = "hi", *, tags: list[str] = ["a"]) -> str:  # noqa: B006
    """Take x seconds.

    Then return msg.
    """
    return f"{job}{x}{msg}{tags}"


def draw(
    start: Point,
    kind: Literal["line", "dot"] = "line",
    width: Annotated[int, Meta(ge=1, le=9, description="pixels")] = 1,
    data: dict[str, list[float]] | None = None,
) -> Point | None:
    raise NotImplementedError(start, kind, width, data)


def ping() -> int:
    return 1


SPEC = CommandSpec(calculate, injectable=(Job,))
DRAW = CommandSpec(draw)


def given_as(value: object, encoding: Encoding) -> Raw:
    return Raw(encode(value, encoding))


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize(
    ("args", "expected"),
    cast(
        "list[tuple[object, dict[str, object]]]",
        [
            ([1], {"x": 1.0, "msg": "hi"}),
            ([1, "a"], {"x": 1.0, "msg": "a"}),
            ({"x": 1}, {"x": 1.0, "msg": "hi", "tags": ["a"]}),
            ({"msg": "a", "x": 0}, {"x": 0.0, "msg": "a", "tags": ["a"]}),
            ({"x": 1, "tags": []}, {"x": 1.0, "msg": "hi", "tags": []}),
        ],
    ),
)
def test_arguments_are_decoded(encoding: Encoding, args: object, expected: dict[str, object]) -> None:
    assert SPEC.arguments(given_as(args, encoding), encoding) == expected


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize(
    ("args", "argument", "words"),
    cast(
        "list[tuple[object, str | None, str]]",
        [
            ([], "x", "missing"),
            ({}, "x", "missing"),
            ({"x": 1, "y": 2}, "y", "unknown argument 'y' .it takes: x, msg, tags"),
            ([1, "a", []], None, "more than 2 positional arguments .it takes: x, msg; by name: tags"),
            (["a"], "x", "Expected float, got str"),
            ({"x": "a"}, "x", "Expected float, got str"),
            ({"x": True}, "x", "Expected float, got bool"),
            ({"x": None}, "x", "Expected float, got (null|None)"),
            ({"x": -1}, "x", "Expected float >= 0"),
            ([-0.5], "x", "Expected float >= 0"),
            (
                {"x": 1, "tags": ["a", 5]},
                "tags",
                r"Expected str, got int .at \[1\]|Expected str, got int .at \[\.\.\.\]",
            ),
            ("text", None, "must be an object .* or a list"),
            (5, None, "must be an object .* or a list"),
            (None, None, "must be an object .* or a list"),
        ],
    ),
)
def test_wrong_arguments_name_the_one_at_fault(
    encoding: Encoding, args: object, argument: str | None, words: str
) -> None:
    with pytest.raises(InvalidArguments, match=words) as caught:
        SPEC.arguments(given_as(args, encoding), encoding)
    assert caught.value.argument == argument


@pytest.mark.parametrize("kind", [datetime, date, time, timedelta, UUID, Decimal, bytes])
def test_text_of_the_wrong_form_is_refused_with_one_of_the_right_form(kind: type) -> None:
    def take(it: object) -> None: ...

    take.__annotations__["it"] = kind
    spec = CommandSpec(take)
    with pytest.raises(InvalidArguments, match="write it as ") as caught:
        spec.arguments(Raw(b'{"it": "no"}'), Encoding.JSON)
    written = str(caught.value).rpartition(" ")[2]
    assert isinstance(spec.arguments(Raw(msgspec.json.encode([written])), Encoding.JSON)["it"], kind)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_number_that_is_not_finite_is_refused(value: float) -> None:
    def take(x: float, deep: dict[str, list[Point]]) -> None: ...

    spec = CommandSpec(take)
    wrong: list[dict[str, object]] = [{"x": value, "deep": {}}, {"x": 1, "deep": {"a": [{"x": 1, "y": value}]}}]
    for args in wrong:
        with pytest.raises(InvalidArguments, match="not a finite number"):
            spec.arguments(given_as(args, Encoding.MSGPACK), Encoding.MSGPACK)


@dataclass
class Plain:
    x: float | list[float] = 0.0
    n: int | list[int] = 0
    inner: "Plain | None" = None


@define
class Attributes:
    x: float = 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_number_that_is_not_finite_is_refused_wherever_it_stands(value: float) -> None:
    def take(
        plain: Plain | None = None,
        decimal: Decimal | None = None,
        keys: dict[float, int] | None = None,
        deep: dict[str, dict[float, int]] | None = None,
        attributes: Attributes | None = None,
    ) -> None: ...

    spec = CommandSpec(take)
    wrong: list[dict[str, object]] = [
        {"plain": {"x": value}},
        {"plain": {"inner": {"x": [value]}}},
        {"decimal": str(value)},
        {"decimal": "sNaN"},
        {"keys": {value: 1}},
        {"deep": {"a": {value: 1}}},
        {"attributes": {"x": value}},
    ]
    for args in wrong:
        with pytest.raises(InvalidArguments, match="not a finite number") as caught:
            spec.arguments(given_as(args, Encoding.MSGPACK), Encoding.MSGPACK)
        assert caught.value.argument in args
    fine: dict[str, object] = {"plain": {"inner": {}}, "decimal": "1e999", "keys": {0.5: 1}, "attributes": {"x": 1}}
    taken = spec.arguments(given_as(fine, Encoding.MSGPACK), Encoding.MSGPACK)
    assert (taken["plain"], taken["decimal"], taken["attributes"]) == (
        Plain(inner=Plain()),
        Decimal("1e999"),
        Attributes(1),
    )


def test_integer_of_more_than_64_bits_is_refused_wherever_it_stands() -> None:
    def take(plain: Plain | None = None, keys: dict[int, int] | None = None) -> None: ...

    large = b"9" * 30
    for args in (
        b'{"plain":{"n":%b}}' % large,
        b'{"plain":{"inner":{"n":[%b]}}}' % large,
        b'{"keys":{"%b":1}}' % large,
    ):
        with pytest.raises(InvalidArguments, match="more than 64 bits"):
            CommandSpec(take).arguments(Raw(args), Encoding.JSON)


@pytest.mark.parametrize(
    "text", [b'{"x":NaN}', b'{"x":Infinity}', b'{"x":1e999}', b'{"x":-1e999}', b'{"x":1', b'{"x":"\xff"}']
)
def test_json_that_is_no_number_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidArguments):
        SPEC.arguments(Raw(text), Encoding.JSON)


def test_integer_of_thousands_of_digits_is_refused() -> None:
    def take(n: int) -> None: ...

    with pytest.raises(InvalidArguments):
        CommandSpec(take).arguments(Raw(b"[" + b"9" * 4000 + b"]"), Encoding.JSON)


def test_nested_struct_union_and_literal_are_checked() -> None:
    assert DRAW.arguments(Raw(b'{"start":{"x":1}}'), Encoding.JSON)["start"] == Point(1.0)
    for args in (b'{"start":{"x":1},"kind":"circle"}', b'{"start":{"y":1}}', b'[{"x":1},"dot",10]'):
        with pytest.raises(InvalidArguments):
            DRAW.arguments(Raw(args), Encoding.JSON)


def test_command_without_parameters_takes_nothing() -> None:
    spec = CommandSpec(ping)
    for args in (UNSET, Raw(b"{}"), Raw(b"[]"), Raw(b" { } ")):
        assert spec.arguments(args, Encoding.JSON) == {}
    with pytest.raises(InvalidArguments, match="it takes: none"):
        spec.arguments(Raw(b"[1]"), Encoding.JSON)
    with pytest.raises(InvalidArguments, match="unknown argument 'a'"):
        spec.arguments(Raw(b'{"a":1}'), Encoding.JSON)


def test_default_is_not_shared_between_calls() -> None:
    first = SPEC.arguments(Raw(b'{"x":1}'), Encoding.JSON)["tags"]
    first.append("b")
    assert SPEC.arguments(Raw(b'{"x":1}'), Encoding.JSON)["tags"] == ["a"]


def test_schema_help_and_parameters_come_from_the_function() -> None:
    assert SPEC.name == "calculate"
    assert SPEC.help == "Take x seconds.\n\nThen return msg."
    assert SPEC.parameters == ("x", "msg", "tags")
    assert SPEC.positional == 2
    assert SPEC.injected == {"job": Job}
    assert SPEC.result_schema == {"type": "string"}
    assert SPEC.arguments_schema["required"] == ["x"]
    assert SPEC.arguments_schema["additionalProperties"] is False
    assert SPEC.arguments_schema["properties"] == {
        "x": {"type": "number", "minimum": 0},
        "msg": {"type": "string", "default": "hi"},
        "tags": {"type": "array", "items": {"type": "string"}, "default": ["a"]},
    }


def test_schema_of_structs_keeps_their_definitions() -> None:
    properties = DRAW.arguments_schema["properties"]
    assert properties["start"] == {"$ref": "#/$defs/Point"}  # type: ignore[index]
    assert "Point" in DRAW.arguments_schema["$defs"]  # type: ignore[operator]
    assert properties["width"]["description"] == "pixels"  # type: ignore[index]


def no_annotation(x) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001  # what the test is about
    raise NotImplementedError


def star(*x: int) -> None:
    raise NotImplementedError


def stars(**x: int) -> None:
    raise NotImplementedError


def positional_only(x: int, /) -> None:
    raise NotImplementedError


def unresolved(x: "NoSuchType") -> None:  # type: ignore[name-defined]  # noqa: F821
    raise NotImplementedError


UNCLEAR: list[tuple[Callable[..., object], str]] = [
    (no_annotation, "'x' has no annotation"),
    (star, "instead of"),
    (stars, "instead of"),
    (positional_only, "positional only"),
    (unresolved, "cannot be resolved"),
]


@pytest.mark.parametrize(("function", "words"), UNCLEAR)
def test_signature_that_does_not_say_enough_is_refused(function: Callable[..., object], words: str) -> None:
    with pytest.raises(InvalidCommand, match=words):
        CommandSpec(function)


def test_type_that_no_message_can_carry_is_refused() -> None:
    def take(x: Callable[[], int]) -> None: ...

    with pytest.raises(InvalidCommand, match="take"):
        CommandSpec(take)


@pytest.mark.parametrize("name", ["a b", "all", "x" * 65])
def test_command_name_must_be_well_formed(name: str) -> None:
    with pytest.raises(InvalidCommand, match="cannot be called"):
        CommandSpec(ping, name=name)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def takes_path(file: Path) -> None:
    raise NotImplementedError(file)


def gives_path() -> Path:
    raise NotImplementedError


def may_have_job(level: int, job: "Job | None" = None) -> None:
    raise NotImplementedError(level, job)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (takes_path, "command 'takes_path', parameter 'file': .*Path'> is not supported; use numbers, text"),
        (gives_path, "command 'gives_path', its result: .*Path'> is not supported"),
        (may_have_job, "parameter 'job': .*is annotated just `Job`"),
    ],
)
def test_type_that_no_message_carries_is_named_with_its_place(function: Callable[..., object], words: str) -> None:
    with pytest.raises(InvalidCommand, match=words) as raised:
        CommandSpec(function, injectable=(Job,))
    assert "\n" not in str(raised.value)


def test_struct_as_default_is_another_one_for_each_call() -> None:
    def plot(start: Point = Point(1.0)) -> None:  # noqa: B008
        raise NotImplementedError(start)

    spec = CommandSpec(plot)
    first = spec.arguments(UNSET, Encoding.JSON)["start"]
    first.x = 9.0
    assert spec.arguments(UNSET, Encoding.JSON)["start"] == Point(1.0)


@given(JSON_VALUES, st.sampled_from(Encoding))
def test_any_arguments_are_taken_or_refused_alike_in_both_encodings(value: object, encoding: Encoding) -> None:
    try:
        SPEC.arguments(given_as(value, encoding), encoding)
        taken = True
    except InvalidArguments:
        taken = False
    assert taken == fits(value)


@given(st.floats(0, 1e300), st.text(), st.sampled_from(Encoding))
def test_by_name_and_by_position_mean_the_same(x: float, msg: str, encoding: Encoding) -> None:
    named = SPEC.arguments(given_as({"x": x, "msg": msg}, encoding), encoding)
    positional = SPEC.arguments(given_as([x, msg], encoding), encoding)
    assert named == {**positional, "tags": ["a"]}
    assert msgspec.json.encode(named["msg"]) == msgspec.json.encode(msg)


def number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def fits(value: object) -> bool:
    """The rule that SPEC stands for, written out."""
    if isinstance(value, list):
        items = cast("list[object]", value)
        return 1 <= len(items) <= 2 and number(items[0]) and all(isinstance(item, str) for item in items[1:])
    if not isinstance(value, dict):
        return False
    named = cast("dict[str, object]", value)
    tags = named.get("tags", [])
    return (
        named.keys() <= {"x", "msg", "tags"}
        and number(named.get("x"))
        and isinstance(named.get("msg", ""), str)
        and isinstance(tags, list)
        and all(isinstance(tag, str) for tag in cast("list[object]", tags))
    )
