from difflib import get_close_matches
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Meta, Raw, Struct, json

from outrider.controller.arguments import check, parse, split, split_call
from outrider.schema import CommandAbout, CommandSpec, Encoding, InvalidArguments


class Point(Struct):
    x: int
    y: int = 0


def calculate(x: Annotated[float, Meta(ge=0)], msg: str) -> None: ...


def paint(
    colour: Literal["red", "green"] = "red",
    times: Annotated[int, Meta(ge=1, le=9)] = 1,
    wet: bool = False,
    note: str | None = None,
    label: str | int = "",
) -> None: ...


def walk(path: list[int], to: Point | None = None, tags: dict[str, int] = {}) -> None: ...  # noqa: B006


def say(text: str) -> None: ...


def locate(to: Point) -> None: ...


def anything(value: Any) -> None: ...  # noqa: ANN401


def nothing() -> None: ...


SPECS = {each.__name__: CommandSpec(each) for each in (calculate, paint, walk, say, locate, anything, nothing)}


def read(command: str, *words: str) -> object:
    return parse(words, SPECS[command].about(), command)


@pytest.mark.parametrize(
    ("command", "words", "expected"),
    [
        pytest.param("calculate", ["5", "two words"], [5, "two words"], id="by position"),
        pytest.param("calculate", ["x=5", "msg=two words"], {"x": 5, "msg": "two words"}, id="by name"),
        pytest.param("calculate", ["5", "msg=hi"], {"x": 5, "msg": "hi"}, id="by position, then by name"),
        pytest.param("paint", ["green", "wet=true", "times=3"], {"colour": "green", "wet": True, "times": 3}, id="mix"),
        pytest.param("walk", ["[1]", 'tags={"a": 2}'], {"path": [1], "tags": {"a": 2}}, id="an array, then by name"),
        pytest.param("calculate", ["msg=a=b", "x=1"], {"msg": "a=b", "x": 1}, id="a value with an equals sign"),
        pytest.param("calculate", ["0", "a=b"], [0, "a=b"], id="text with an equals sign"),
        pytest.param("calculate", ['{"x": 5, "msg": "m"}'], {"x": 5, "msg": "m"}, id="a JSON object"),
        pytest.param("calculate", [' [5, "m"]'], [5, "m"], id="a JSON array"),
        pytest.param("calculate", [".5", "hi"], [0.5, "hi"], id="a number without its zero"),
        pytest.param("calculate", ["+5.", ".5"], [5.0, ".5"], id="a number with sign and point, and text like one"),
        pytest.param("paint", ["green", "times=007"], {"colour": "green", "times": 7}, id="zeros before an integer"),
        pytest.param("calculate", ["1e3", "5"], [1000.0, "5"], id="digits stay text where text is asked for"),
        pytest.param("calculate", ["0.5", '"q"'], [0.5, '"q"'], id="quotes within text stay"),
        pytest.param("calculate", ["1", ""], [1, ""], id="empty text"),
        pytest.param("paint", ["green", "3", "true"], ["green", 3, True], id="a choice, a number, a truth"),
        pytest.param("paint", ["times=1e0"], {"times": 1}, id="a whole number written as a float"),
        pytest.param("paint", ["note=null"], {"note": None}, id="null where null is allowed"),
        pytest.param("paint", ["note=true"], {"note": "true"}, id="text that looks like a truth"),
        pytest.param("paint", ['note={"a": 1}'], {"note": '{"a": 1}'}, id="text that looks like an object"),
        pytest.param("paint", ["label=5"], {"label": 5}, id="a number where it may be either"),
        pytest.param("paint", ["label=5.5"], {"label": "5.5"}, id="text where only whole numbers are not"),
        pytest.param("walk", ["[1, 2]"], [[1, 2]], id="an array for a parameter that is one"),
        pytest.param("walk", ["[2]", '{"x": 1}'], [[2], {"x": 1}], id="an array and an object by position"),
        pytest.param("walk", ["path=[1]", 'tags={"a": 2}'], {"path": [1], "tags": {"a": 2}}, id="arrays by name"),
        pytest.param("walk", ['{"path": [1]}'], {"path": [1]}, id="an object with all, the first is an array"),
        pytest.param("locate", ['{"x": 1}'], [{"x": 1}], id="an object for a parameter that is one"),
        pytest.param("locate", ['{"to": {"x": 1}}'], {"to": {"x": 1}}, id="an object with all, the first is an object"),
        pytest.param("say", ["[draft] hello"], ["[draft] hello"], id="text that begins like JSON"),
        pytest.param("say", ["{"], ["{"], id="a brace"),
        pytest.param("anything", ["5"], [5], id="untyped reads JSON"),
        pytest.param("anything", ["five"], ["five"], id="untyped reads text"),
        pytest.param("nothing", [], [], id="none"),
        pytest.param("paint", [], [], id="all left out"),
    ],
)
def test_words_are_read_by_the_schema(command: str, words: list[str], expected: object) -> None:
    assert read(command, *words) == expected


@pytest.mark.parametrize(
    ("command", "words", "argument", "said"),
    [
        pytest.param("calculate", ["-5", "hi"], "x", "-5 is less than the minimum of 0", id="out of range"),
        pytest.param("calculate", ["five", "hi"], "x", "'five' is not of type 'number'", id="ill-typed"),
        pytest.param("calculate", ["NaN", "hi"], "x", "not of type", id="not a number"),
        pytest.param("calculate", ["Infinity", "hi"], "x", "not of type", id="infinite"),
        pytest.param("calculate", ["1e999", "hi"], "x", "not of type", id="too large for a float"),
        pytest.param("calculate", ["1" * 5000, "hi"], "x", "not of type", id="too many digits"),
        pytest.param("calculate", ["[" * 100_000, "hi"], "x", "not of type", id="deep"),
        pytest.param("calculate", ["x=5"], "msg", "missing: calculate takes x, msg", id="missing by name"),
        pytest.param("calculate", ["5"], "msg", "missing", id="missing by position"),
        pytest.param("calculate", [], "x", "missing", id="missing altogether"),
        pytest.param("calculate", ["y=5"], "y", "unknown argument 'y': calculate takes x, msg", id="unknown"),
        pytest.param("calculate", ["1", "mgs=m"], "mgs", "no argument 'mgs'; did you mean msg=?", id="misspelt"),
        pytest.param(
            "calculate", ["1", "mgs=m"], "mgs", "'mgs=m' is the value of 'msg', write msg= before", id="or not"
        ),
        pytest.param("calculate", ["x=1", "x=2", "msg=m"], "x", "given twice", id="twice"),
        pytest.param("calculate", ["1", "m", "2"], None, "3 arguments are too many", id="too many"),
        pytest.param("calculate", ["1", "x=2"], "x", "given twice", id="by position and by name"),
        pytest.param("calculate", ["1", "msg=m", "msg=n"], "msg", "given twice", id="twice behind one by position"),
        pytest.param("calculate", ["1", "msg=m", "y=2"], "y", "unknown argument 'y'", id="unknown behind known"),
        pytest.param("calculate", ["msg=m", "1"], None, "'1' has no name and stands behind", id="position behind name"),
        pytest.param("calculate", ["1", "m", "2", "x=1"], None, "3 arguments by position are", id="too many, named"),
        pytest.param("paint", ["green", "wet=maybe"], "wet", "not of type 'boolean'", id="ill-typed behind position"),
        pytest.param("calculate", ["{x: 5}"], None, "is not JSON", id="no JSON"),
        pytest.param("calculate", ["{" * 100_000], None, "is not JSON", id="no JSON, deep"),
        pytest.param("calculate", ["1", "\udcff"], None, "not UTF-8", id="bytes that are no text"),
        pytest.param("paint", ["blue"], "colour", "'blue' is not one of ['green', 'red']", id="no choice of those"),
        pytest.param("paint", ["times=0"], "times", "less than the minimum of 1", id="below"),
        pytest.param("paint", ["times=1.5"], "times", "not of type 'integer'", id="no whole number"),
        pytest.param("walk", ['[1, "b"]', "null"], "path", "[1]: 'b' is not of type 'integer'", id="inside an array"),
        pytest.param("nothing", ["5"], None, "nothing takes no arguments", id="none are taken"),
    ],
)
def test_an_error_names_the_argument(command: str, words: list[str], argument: str | None, said: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        read(command, *words)
    assert caught.value.argument == argument
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500
    if argument is not None:
        assert repr(argument) in str(caught.value)


def test_a_command_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidArguments, match="not UTF-8"):
        parse([], None, "\udcff")


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["5", "a b"], [5, "a b"]), (["x=5", "y=z"], {"x": 5, "y": "z"}), (['{"x": 1}'], {"x": 1}), ([], [])],
)
def test_without_a_description_words_are_read_as_they_look(words: list[str], expected: object) -> None:
    assert parse(words, None, "calculate") == expected


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": 5}, id="none"),
        pytest.param({"properties": []}, id="properties are no object"),
        pytest.param({"properties": {"x": {"minimum": "low"}}}, id="ill-typed limit"),
        pytest.param({"properties": {"x": {"$ref": "http://127.0.0.1:1/schema"}}}, id="a reference elsewhere"),
        pytest.param({"properties": {"x": {"$ref": "#/$defs/no"}}}, id="a reference to nothing"),
        pytest.param(
            {"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}}, id="a circle"
        ),
        pytest.param({"properties": {"x": True}}, id="a schema that is a truth"),
        pytest.param({"properties": {"x": {"anyOf": [{"type": "integer"}, True]}}}, id="a truth among others"),
    ],
)
def test_a_devices_nonsense_leaves_the_judgement_to_the_device(schema: dict[str, object]) -> None:
    about = CommandAbout(help="", arguments=schema, result={})
    assert parse(["5"], about, "f") == [5]
    check({"x": 5}, about, "f")


values: dict[str, st.SearchStrategy[object]] = {
    "x": st.floats(0, 1e300, allow_nan=False) | st.integers(0, 2**53),
    "msg": st.text(st.characters(codec="utf-8")),
}


@given(st.fixed_dictionaries(values))
def test_what_was_typed_arrives_as_it_was_meant(meant: dict[str, object]) -> None:
    spec = SPECS["calculate"]
    x, msg = json.encode(meant["x"]).decode(), str(meant["msg"])
    for words in ([x, msg], [x, f"msg={msg}"], [f"x={x}", f"msg={msg}"], [json.encode(meant).decode()]):
        name, equals, _ = msg.partition("=")
        if words[-1] == msg and equals and get_close_matches(name, ("x", "msg")):  # which may be meant as a name
            continue
        arguments = parse(words, spec.about(), "calculate")
        assert spec.arguments(Raw(json.encode(arguments)), Encoding.JSON) == meant


@given(st.sampled_from(sorted(SPECS)), st.lists(st.text(max_size=12) | st.from_regex(r"[a-z]{1,5}=.*", fullmatch=True)))
@example("walk", ["[[[[["])
def test_any_words_are_arguments_or_an_error(command: str, words: list[str]) -> None:
    try:
        arguments = read(command, *words)
    except InvalidArguments:
        return
    json.encode(arguments)


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=8)))
def test_words_in_double_quotes_are_split_as_they_were_joined(words: list[str]) -> None:
    quoted = ('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words)
    assert split(" ".join(quoted)) == words


@given(st.text(max_size=30))
def test_any_line_is_split_or_an_error(line: str) -> None:
    try:
        split(line)
        split_call(line)
    except InvalidArguments as error:
        assert "must close" in str(error)  # noqa: PT017  # either is right


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('calculate 5 "two words"', ["calculate", "5", "two words"]),
        ("calculate x=5 msg='two words'", ["calculate", "x=5", "msg=two words"]),
        ('calculate {"x": 5, "msg": "a b"}', ["calculate", '{"x": 5, "msg": "a b"}']),
        ('walk [1, 2] {"x": 1}', ["walk", "[1, 2]", '{"x": 1}']),
        ("walk path=[1, 2]", ["walk", "path=[1, 2]"]),
        ("  ", []),
        ('say ""', ["say", ""]),
    ],
)
def test_a_line_is_split_into_words(line: str, expected: list[str]) -> None:
    assert split(line) == expected


@pytest.mark.parametrize("line", ['say "hello', "say 'hello", "say hello\\"])
def test_a_quote_that_does_not_close_is_an_error(line: str) -> None:
    with pytest.raises(InvalidArguments, match="must close"):
        split(line)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('calculate(5, "hello")', ("calculate", ["5", "hello"])),
        ("calculate(x=5, msg='a, b')", ("calculate", ["x=5", "msg=a, b"])),
        ('say("")', ("say", [""])),
        ('walk([1, 2], {"x": 1})', ("walk", ["[1, 2]", '{"x": 1}'])),
        ('say("a (b")', ("say", ["a (b"])),
        ('say("she said \\"x, y\\"")', ("say", ['she said "x, y"'])),
        ("calculate 5 hello", None),
        ('calculate 5 "(hello)"', None),
        ("", None),
    ],
)
def test_a_call_is_its_name_and_words(line: str, expected: tuple[str, list[str]] | None) -> None:
    assert split_call(line) == expected


@pytest.mark.parametrize("line", ["ping()", " ping ( ) "])
def test_a_call_without_arguments_has_no_words(line: str) -> None:
    assert split_call(line) == ("ping", [])


@pytest.mark.parametrize("line", ['say("hello)', "walk([1, 2)", "walk(1])"])
def test_a_call_that_does_not_close_is_an_error(line: str) -> None:
    with pytest.raises(InvalidArguments, match="must close"):
        split_call(line)
