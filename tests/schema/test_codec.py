import contextlib
import math
from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.schema import (
    MAX_DEPTH,
    MAX_SIZE,
    Code,
    Command,
    Decoder,
    Encoding,
    InvalidMessage,
    State,
    check_limits,
    encode,
)
from outrider.schema.codec import MAX_SIZED, check_nesting, find_id

COMMAND = Decoder(Command)
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=40)
IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


def depth(value: object) -> int:
    if isinstance(value, dict):
        inner = list(cast("dict[str, object]", value).values())
    elif isinstance(value, list):
        inner = cast("list[object]", value)
    else:
        return 0
    return 1 + max(map(depth, inner), default=0)


def nested(levels: int, encoding: Encoding) -> bytes:
    if encoding is Encoding.JSON:
        return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"
    return b"\x81\xa1a" + b"\x91" * (levels - 2) + b"\x90"


@given(st.dictionaries(st.text(), TREES), st.sampled_from(Encoding))
def test_depth_bound_is_exact(value: dict[str, object], encoding: Encoding) -> None:
    payload = encode(value, encoding)
    actual = depth(value)
    assert check_limits(payload, max_depth=actual) is encoding
    with pytest.raises(InvalidMessage, match="levels deep"):
        check_limits(payload, max_depth=actual - 1)


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 10_000, 100_000])
def test_message_nested_too_deep_is_refused(encoding: Encoding, levels: int) -> None:
    assert check_limits(nested(MAX_DEPTH, encoding)) is encoding
    with pytest.raises(InvalidMessage, match="levels deep"):
        check_limits(nested(levels, encoding))


@pytest.mark.parametrize("encoding", Encoding)
def test_brackets_inside_text_are_no_levels(encoding: Encoding) -> None:
    payload = encode({"a": '[{"\\' * 1000, "b": '\\"[[['}, encoding)
    assert check_limits(payload) is encoding


@pytest.mark.parametrize(
    "value",
    cast(
        "list[object]",
        [
            *(sign * 2**bits for bits in (0, 6, 7, 8, 15, 16, 31, 32, 63) for sign in (1, -1)),
            *("x" * length for length in (*range(33), 255, 256, 65_535, 65_536)),
            *(b"\x91" * length for length in (0, 1, 255, 256, 65_535, 65_536)),
            *(msgspec.msgpack.Ext(5, b"\x91" * length) for length in (0, 1, 2, 3, 4, 8, 16, 17, 256, 65_536)),
            *([number] * length for number in (1, 300, True, None, 0.5, "x") for length in (0, 15, 16, 65_536)),
            *(dict.fromkeys(map(str, range(length)), -9) for length in (0, 15, 16, 9_000, 65_536)),
            [1, "x", 2, b"x", [], 300, 1.5],
        ],
    ),
    ids=lambda value: f"{type(value).__name__}-{str(value)[:9]}",
)
def test_depth_bound_is_exact_behind_each_kind_of_value_in_messagepack(value: object) -> None:
    deep: object = []
    for _ in range(40):
        deep = [deep]
    payload = encode({"a": [value, deep, value], "b": 1}, Encoding.MSGPACK)
    check_limits(payload, max_size=len(payload), max_depth=43)
    with pytest.raises(InvalidMessage, match="levels deep"):
        check_limits(payload, max_size=len(payload), max_depth=42)


@pytest.mark.parametrize("value", cast("list[object]", [[], [1], {}, {"a": 1}, b"", b"x", "x" * 32]), ids=repr)
def test_messagepack_has_a_limit_of_what_is_walked_one_by_one(value: object) -> None:
    """Each takes a microsecond for which nothing else runs on the event loop."""
    within = MAX_SIZED - 2  # the map and the list around them count, too
    check_nesting(encode({"a": [value] * within}, Encoding.MSGPACK), Encoding.MSGPACK)
    with pytest.raises(InvalidMessage, match="more than 10,000 arrays, maps, binaries and long strings") as caught:
        check_nesting(encode({"a": [value] * (within + 1)}, Encoding.MSGPACK), Encoding.MSGPACK)
    assert caught.value.code == Code.INVALID_MESSAGE


@pytest.mark.parametrize("cut", range(1, 60))
def test_broken_messagepack_is_left_to_the_decoder(cut: int) -> None:
    value: dict[str, object] = {"a": [[]] * 40, "b": [300, 1.5, "x" * 40]}
    payload = encode(value, Encoding.MSGPACK)
    assert check_limits(payload[:-cut]) is Encoding.MSGPACK


def test_message_over_the_size_limit_is_too_large() -> None:
    payload = b'{"id":"a1","command":"' + b"x" * MAX_SIZE + b'"}'
    with pytest.raises(InvalidMessage) as caught:
        COMMAND.decode(payload)
    assert (caught.value.code, caught.value.id) == (Code.TOO_LARGE, "a1")


def test_limit_itself_is_allowed() -> None:
    payload = b'{"a":"' + b"x" * (MAX_SIZE - 8) + b'"}'
    assert len(payload) == MAX_SIZE
    check_limits(payload)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    with contextlib.suppress(InvalidMessage):
        COMMAND.decode(payload)


@given(IDS, st.dictionaries(st.text(), TREES, max_size=3), st.sampled_from(Encoding), st.data())
def test_id_is_found_in_what_is_cut_short(
    id: str, args: dict[str, object], encoding: Encoding, data: st.DataObject
) -> None:
    payload = encode({"id": id, "command": "x", "args": args}, encoding)
    whole = len(encode({"id": id}, encoding))
    cut = data.draw(st.integers(whole, len(payload)))
    assert find_id(payload[:cut]) == id


def test_id_inside_arguments_is_not_taken_for_the_commands() -> None:
    assert find_id(b'{"command":"x","args":{"id":"inner"},"id":5') is None


@pytest.mark.parametrize("payload", [b'{"id":"a b"}', b'{"id":"' + b"x" * 65 + b'"}', b"\x81\xa2id\xa3a b", b"", b"[]"])
def test_id_that_is_not_well_formed_is_not_found(payload: bytes) -> None:
    assert find_id(payload) is None


def test_signed_message_is_unsupported() -> None:
    with pytest.raises(InvalidMessage) as caught:
        COMMAND.decode(b"eyJhbGciOiJFZERTQSJ9.e30.sig")
    assert caught.value.code == Code.UNSUPPORTED


@pytest.mark.parametrize("payload", [b"", b"hello", b"[1]", b"5", b"\xc0", b"\x91\x01", b'"x"', b"\xff\xfe"])
def test_what_is_no_object_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidMessage, match="neither"):
        COMMAND.decode(payload)


def test_white_space_before_json_is_fine() -> None:
    assert COMMAND.decode(b'\n {"command":"ping"}')[0].command == "ping"


def test_unknown_envelope_field_is_ignored() -> None:
    assert COMMAND.decode(b'{"command":"ping","priority":9}')[0].command == "ping"


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""},
        {"id": "a b"},
        {"id": "x" * 65},
        {"id": 5},
        {"command": ""},
        {"command": "x" * 129},
        {"from": "a/b"},
        {"behalf": "a b"},
        {"issued": -1},
        {"expires": "soon"},
        {"expires": 1e12},
        {"timeout": 0},
        {"timeout": -1},
        {"expires": float("nan")},
        {"timeout": float("inf")},
    ],
)
def test_ill_formed_envelope_field_is_refused(fields: dict[str, object]) -> None:
    for encoding in Encoding:
        value = {"id": "a1", "command": "ping", **fields}
        if encoding is Encoding.JSON and not all(
            math.isfinite(each) for each in fields.values() if isinstance(each, float)
        ):
            continue  # JSON has no such numbers
        with pytest.raises(InvalidMessage):
            COMMAND.decode(encode(value, encoding))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_tag_that_is_no_number_is_refused(number: float) -> None:
    state = {"device": "lamp-1", "status": "ready", "session": 1, "since": 0, "tags": {"watts": number}}
    with pytest.raises(InvalidMessage):
        Decoder(State).decode(encode(state, Encoding.MSGPACK))


def test_broken_message_names_its_id() -> None:
    with pytest.raises(InvalidMessage) as caught:
        COMMAND.decode(b'{"id":"a1","command":')
    assert caught.value.id == "a1"


def test_json_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(InvalidMessage):
        COMMAND.decode(b'{"command":"\xff\xfe"}')


def test_value_goes_through_both_encodings() -> None:
    for encoding in Encoding:
        payload = encode(Command(command="x", args=msgspec.Raw(encode([1, "a"], encoding))), encoding)
        command, found = COMMAND.decode(payload)
        assert found is encoding
        assert isinstance(command.args, msgspec.Raw)
        assert bytes(command.args) == encode([1, "a"], encoding)
