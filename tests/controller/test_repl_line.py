"""Lines of the REPL, whole ones and ones that are still being typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.controller.cli.line import Line, read
from outrider.controller.cli.typed import Place, Typed, typed
from outrider.controller.targets import TargetSyntax
from outrider.schema import InvalidArguments

SETS = (
    "lamp-1",
    "lamp-*",
    "@kitchen",
    "all",
    "is:ready",
    "room=kitchen",
    'name="two words"',
    "fw < 2.1",
    "room in (kitchen, hall)",
    "not room=hall",
    "(a,b)",
)
TARGETS = st.recursive(
    st.sampled_from(SETS),
    lambda parts: st.one_of(
        st.builds("({} and {})".format, parts, parts),
        st.builds("({}  or {})".format, parts, parts),
        st.builds("({} - {})".format, parts, parts),
    ),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", None),
        ("  # nothing", None),
        ("ping", Line("ping", ())),
        ("ping # now", Line("ping", ())),
        ("ping()", Line("ping", ())),
        ("say a#b", Line("say", ("a#b",))),
        ('say "a # b" # c', Line("say", ("a # b",))),
        ("say 'a # b'", Line("say", ("a # b",))),
        (r'say "a \" # b"', Line("say", ('a " # b',))),
        ('calculate 5 "two words"', Line("calculate", ("5", "two words"))),
        ('calculate(5, "two, words") # so', Line("calculate", ("5", "two, words"))),
        ('calculate x=5 msg="two words"', Line("calculate", ("x=5", "msg=two words"))),
        ('calculate(x=5, msg="two words")', Line("calculate", ("x=5", "msg=two words"))),
        ('set {"a": [1, 2], "b": "x y"} 5', Line("set", ('{"a": [1, 2], "b": "x y"}', "5"))),
        ('set values={"a": 1}', Line("set", ('values={"a": 1}',))),
        ('calculate(5, msg="two words")', Line("calculate", ("5", "msg=two words"))),
        ('send lamp-1 calculate(5, "hello")', Line("send", ("lamp-1", "calculate", "5", "hello"))),
        ('send lamp-1 calculate 5 "hello"', Line("send", ("lamp-1", "calculate", "5", "hello"))),
        ("send 'a b' ping", Line("send", ("a b", "ping"))),
        ("send lamp-1", Line("send", ("lamp-1",))),
        ("send", Line("send", ())),
        ("use", Line("use", ())),
        ("use()", Line("use", ())),
        ("use(lamp-1)", Line("use", ("lamp-1",))),
        ("use room=kitchen and fw<2.1", Line("use", ("room=kitchen and fw<2.1",))),
        ("use 'room=kitchen and fw<2.1'  # so", Line("use", ("room=kitchen and fw<2.1",))),
        ('use name="two words"', Line("use", ('name="two words"',))),
        ('use "a name"="two words"', Line("use", ('"a name"="two words"',))),
        (r'use "name=\"two words\""', Line("use", ('name="two words"',))),
        ("use (lamp-1, lamp-2) - lamp-1", Line("use", ("(lamp-1, lamp-2) - lamp-1",))),
        ("watch @kitchen - lamp-3", Line("watch", ("@kitchen - lamp-3",))),
        ("jobs not is:lost", Line("jobs", ("not is:lost",))),
        ("devices lamp-1, lamp-2", Line("devices", ("lamp-1, lamp-2",))),
        ("about lamp-1 dim", Line("about", ("lamp-1", "dim"))),
        ("about room=kitchen and fw<2", Line("about", ("room=kitchen and fw<2",))),
        ("about room=kitchen and fw<2 dim", Line("about", ("room=kitchen and fw<2", "dim"))),
        ("send room=kitchen and not is:lost dim 40", Line("send", ("room=kitchen and not is:lost", "dim", "40"))),
        ("send 'room=kitchen and fw<2' dim(40)", Line("send", ("room=kitchen and fw<2", "dim", "40"))),
        ("send lamp-1, lamp-2 ping", Line("send", ("lamp-1, lamp-2", "ping"))),
        ("send room in (kitchen, hall) use x", Line("send", ("room in (kitchen, hall)", "use", "x"))),
        ('send name="two words" ping', Line("send", ('name="two words"', "ping"))),
        ("send any:words say and go", Line("send", ("any:words", "say", "and", "go"))),
        ("cancel 2", Line("cancel", ("2",))),
        ("cancel(2)", Line("cancel", ("2",))),
        ("cancel [2]", Line("cancel", ("[2]",))),
        ("cancel a1b2 room=kitchen and fw<2", Line("cancel", ("a1b2", "room=kitchen and fw<2"))),
        ("results 3", Line("results", ("3",))),
    ],
)
def test_line_is_read_as(text: str, line: Line | None) -> None:
    assert read(text) == line


@pytest.mark.parametrize("text", ['say "a', "say 'a # b", 'calculate(5, "hello)', 'send lamp-1 say "a'])
def test_line_whose_quotes_do_not_close_is_refused(text: str) -> None:
    with pytest.raises(InvalidArguments, match="quote"):
        read(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("send room=kitchen and is:redy ping", "is no status"),
        ("send room=kitchen and", "the target ends"),
        ("send lamp-1 - ", "the target ends"),
        ("send @ ping", "group"),
        ("about room= dim and", "a value|the target ends|does not fit"),
    ],
)
def test_line_whose_target_cannot_be_read_is_refused(text: str, said: str) -> None:
    with pytest.raises(TargetSyntax, match=said):
        read(text)


@given(TARGETS)
def test_target_of_any_kind_ends_where_the_command_begins(target: str) -> None:
    assert read(f"send {target} dim 5") == Line("send", (target, "dim", "5"))
    assert read(f"send {target} dim(5)") == Line("send", (target, "dim", "5"))
    assert read(f"about {target}") == Line("about", (target,))
    assert read(f"use {target}") == Line("use", (target,))


def argument(
    beginning: str, command: str, *given: str, in_call: bool = False, quote: str = "", target: str | None = None
) -> Typed:
    word = "" if target is None else "send"
    return Typed(Place.ARGUMENT, beginning, word, target, command, given, in_call, quote)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", Typed(Place.WORD)),
        ("  ca", Typed(Place.WORD, "ca")),
        ("use", Typed(Place.WORD, "use")),
        ("use ", Typed(Place.TARGET, "", "use")),
        ("use room=kitchen and f", Typed(Place.TARGET, "room=kitchen and f", "use")),
        ("use 'room=kit", Typed(Place.TARGET, "room=kit", "use", quote="'")),
        ('use name="two', Typed(Place.TARGET, 'name="two', "use")),
        ("use(lam", Typed(Place.TARGET, "lam", "use")),
        ("jobs @", Typed(Place.TARGET, "@", "jobs")),
        ("send", Typed(Place.WORD, "send")),
        ("send ", Typed(Place.TARGET, "", "send")),
        ("send room=kit", Typed(Place.TARGET, "room=kit", "send")),
        ("send room=kitchen and ", Typed(Place.TARGET, "room=kitchen and ", "send")),
        ("send room=kitchen and is:r", Typed(Place.TARGET, "room=kitchen and is:r", "send")),
        ("send room in (kitchen, h", Typed(Place.TARGET, "room in (kitchen, h", "send")),
        ("send lamp-1, l", Typed(Place.TARGET, "lamp-1, l", "send")),
        ("send any:", Typed(Place.TARGET, "any:", "send")),
        ("send 'room=kitchen and f", Typed(Place.TARGET, "room=kitchen and f", "send", quote="'")),
        ("send lamp-1 ", Typed(Place.COMMAND, "", "send", "lamp-1")),
        ("send lamp-1 in", Typed(Place.COMMAND, "in", "send", "lamp-1")),
        ("send room=kitchen and fw<2 ca", Typed(Place.COMMAND, "ca", "send", "room=kitchen and fw<2")),
        ("send 'room=kitchen and fw<2' ca", Typed(Place.COMMAND, "ca", "send", "room=kitchen and fw<2")),
        ("send lamp-1 calculate 5 ", argument("", "calculate", "5", target="lamp-1")),
        ("send lamp-1 calculate(5, m", argument("m", "calculate", "5", in_call=True, target="lamp-1")),
        ("about lamp-1 ca", Typed(Place.COMMAND, "ca", "about", "lamp-1")),
        ("about lamp-1 calculate ", Typed(Place.NOTHING)),
        ("calculate ", argument("", "calculate")),
        ("calculate 5 he", argument("he", "calculate", "5")),
        ('calculate 5 "two wo', argument('"two wo', "calculate", "5", quote='"')),
        (r'calculate 5 "a \" b', argument(r'"a \" b', "calculate", "5", quote='"')),
        ('calculate "a b" x=', argument("x=", "calculate", '"a b"')),
        ('set {"a": 1, "b": 2} ', argument("", "set", '{"a": 1, "b": 2}')),
        ('set v={"a": [1, ', argument('v={"a": [1, ', "set", quote="{")),
        ("say :( ", argument("", "say", ":(")),
        ("calculate(", argument("", "calculate", in_call=True)),
        ('calculate(5, "a, b", m', argument("m", "calculate", "5", '"a, b"', in_call=True)),
        ("calculate(5, [1, ", argument("[1, ", "calculate", "5", in_call=True, quote="{")),
        ("calculate(5) ", Typed(Place.NOTHING)),
        ("cancel ", Typed(Place.ID, "", "cancel")),
        ("cancel 1", Typed(Place.ID, "1", "cancel")),
        ("cancel a1 @kit", Typed(Place.TARGET, "@kit", "cancel")),
        ("results a", Typed(Place.ID, "a", "results")),
        ("help ca", Typed(Place.COMMAND, "ca", "help")),
        ("exit ", Typed(Place.NOTHING)),
        ("calculate 5 # x", Typed(Place.NOTHING)),
    ],
)
def test_cursor_at_the_end_of_a_line_stands_at(text: str, at: Typed) -> None:
    assert typed(text) == at


WORDS = st.sampled_from(["5", "hello", '"two words"', "'a, b'", "x=1", 'm="a b"', '{"a": [1, 2]}', "[1, 2]", "a#b"])


@given(st.lists(WORDS, max_size=5), st.booleans())
def test_arguments_before_the_cursor_are_those_of_the_whole_line(words: list[str], in_call: bool) -> None:
    text = f"do({', '.join(words)}" if in_call else " ".join(("do", *words))
    whole = read(text + ")" if in_call else text)
    at = typed(text + ("," if in_call and words else "" if in_call else " "))
    assert whole is not None
    assert at.beginning == ""
    assert at.words() == whole.arguments


@given(st.text(alphabet="use snd lamp-1room=(),'\"{[<>@:#\\\t\n5", max_size=40))
def test_any_text_has_a_place_for_its_cursor(text: str) -> None:
    at = typed(text)
    assert text.endswith(at.beginning)


@given(TARGETS, st.integers(0, 200))
def test_cursor_within_a_target_is_in_the_target(target: str, cut: int) -> None:
    part = target[: cut % len(target) + 1]
    at = typed(f"use {part}")
    assert (at.place, at.beginning) == (Place.TARGET, part)
