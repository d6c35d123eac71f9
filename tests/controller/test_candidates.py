"""What completes in a target: the words that may stand at the cursor, and that each of them fits there."""

import time
from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outrider.controller.cli.candidates import Candidate, argument_candidates, candidates
from outrider.controller.targets import parse, resolve
from outrider.schema import CommandAbout, State


def state(id: str, status: str = "ready", **more: object) -> State:
    fields = {"device": id, "status": status, "session": 1, "since": 0.0} | more
    return State(**fields)  # type: ignore[arg-type]  # the fields are those of State


HOUSE = [
    state("lamp-1", groups=["kitchen", "lights"], tags={"room": "kitchen", "fw": "2.0", "watts": 40}, pools=["words"]),
    state("lamp-2", groups=["kitchen", "lights"], tags={"room": "kitchen", "fw": "2.1.3", "watts": 60.5}),
    state("lamp-10", "unready", groups=["hall", "lights"], tags={"room": "hall", "fw": "2.10", "smart": True}),
    state("oven", "lost", groups=["kitchen"], tags={"room": "kitchen", "watts": 9, "a name": "two words"}),
    state("radio", "terminated", groups=["attic"], tags={"room": "attic"}, pools=["songs"]),
]


def words(text: str) -> list[str]:
    return [each.text for each in candidates(HOUSE, text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("l", "lamp-1|lamp-10|lamp-2"),
        ("lamp-1", "lamp-1|lamp-10"),
        ("rad", "radio"),
        ("@", "@hall|@kitchen|@lights"),
        ("@k", "@kitchen"),
        ("al", "all"),
        ("any:", "any:words"),
        ("is:", "is:ready|is:unready|is:lost|is:terminated"),
        ("is:l", "is:lost"),
        ("ro", "room="),
        ("room", "room=|room!=|room<|room<=|room>|room>=|room in (|room not in ("),
        ("room ", "=|!=|<|<=|>|>=|in (|not in ("),
        ("room=", "hall|kitchen"),
        ("room==k", "kitchen"),
        ("room!", "!="),
        ("room!=k", "kitchen"),
        ("room = ", "hall|kitchen"),
        ("watts>=", "9|40|60.5"),
        ("fw<2.1", "2.10|2.1.3"),
        ("smart=", "true"),
        ("room in ", "("),
        ("room not ", "in ("),
        ("room in (", "hall|kitchen"),
        ("room in (hall,", "kitchen"),
        ("room in (hall ", ")"),
        ("room not in (hall, k", "kitchen"),
        ('"a', '"a name"='),
        ('"a name"=', '"two words"'),
        ('"a name"="tw', '"two words"'),
        ("'a name'='tw", "'two words'"),
        ("lamp-1,l", "lamp-10|lamp-2"),
        ("@kitchen,lamp-2 , l", "lamp-1|lamp-10"),
        ("lamp-1,any", ""),
        ("@kitchen ", "and|or|-"),
        ("@kitchen -", "-"),
        ("@kitchen - ov", "oven"),
        ("@kitchen - any", ""),
        ("room=kitchen and is:l", "is:lost"),
        ("room=kitchen or n", "not"),
        ("room=kitchen and not @h", "@hall"),
        ("not @h", "@hall"),
        ("(@h", "@hall"),
        ("(@hall or room=k", "kitchen"),
        ("(@hall ", "and|or|-|)"),
        ("lamp-1,oven ", "-"),
        ("any:words ", ""),
        ("nothing=", ""),
        ("room=kitchen)", ""),
        ("= =", ""),
        ("@hall,,", ""),
    ],
)
def test_what_may_stand_at_the_cursor_is_told(text: str, expected: str) -> None:
    assert words(text) == [word for word in expected.split("|") if word]


def test_empty_text_has_every_kind_of_word() -> None:
    found = words("")
    assert found[:5] == ["lamp-1", "lamp-10", "lamp-2", "oven", "radio"]
    assert {"@kitchen", "all", "any:words", "is:ready", "is:terminated", "room=", '"a name"='} <= set(found)
    assert "not" not in found


def test_empty_fleet_has_no_words() -> None:
    assert candidates([], "") == []
    assert candidates([], "lamp") == []


def test_help_says_status_and_how_many() -> None:
    helps = {each.text: each.help for each in candidates(HOUSE, "")}
    assert helps["lamp-10"] == "unready"
    assert helps["@kitchen"] == "group of 3 devices"
    assert helps["any:words"] == "any one of 1"
    assert helps["is:terminated"] == "1 device"
    assert helps["all"] == "4 devices"
    assert helps["room="] == "tag of 4 devices"
    assert {each.text: each.help for each in candidates(HOUSE, "room=")} == {"kitchen": "3 devices", "hall": "1 device"}


def test_candidate_that_needs_more_is_not_final() -> None:
    assert Candidate("room=", 0, "tag of 4 devices", final=False) in candidates(HOUSE, "ro")
    assert Candidate("kitchen", 5, "3 devices") in candidates(HOUSE, "room=")


def test_unprintable_values_are_left_out() -> None:
    states = [state("lamp-1", tags={"note": "\x1b[31mred", "ok": "fine", "bad\nkey": 1})]
    assert [each.text for each in candidates(states, "note=")] == []
    assert [each.text for each in candidates(states, "ok=")] == ["fine"]
    assert not any("bad" in each.text for each in candidates(states, ""))


def test_ten_thousand_devices_complete_at_typing_speed() -> None:
    states = [
        state(f"lamp-{n}", groups=[f"g{n % 50}", "lights"], tags={"room": f"r{n % 20}", "serial": n})
        for n in range(10_000)
    ]
    candidates(states, "@g1 and room=")  # the parser is made once
    for text in ("", "lamp-99", "@g1 and room=", "serial=", ",".join(f"lamp-{n}" for n in range(1_000)) + ",lamp-9"):
        began = time.perf_counter()
        assert candidates(states, text)
        assert time.perf_counter() - began < 1, text


NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True).filter(lambda name: name != "all")
TEXTS = st.one_of(NAMES, st.text(max_size=6), st.sampled_from(["two words", "and", "@home", "2.1", "a*", "[x", 'q"']))
STATES = st.lists(
    st.builds(
        state,
        NAMES,
        st.sampled_from(["ready", "unready", "lost", "terminated"]),
        groups=st.lists(NAMES, max_size=2),
        pools=st.lists(NAMES, max_size=1),
        tags=st.dictionaries(
            TEXTS, st.one_of(TEXTS, st.integers(-99, 99), st.booleans(), st.floats(-9, 9)), max_size=2
        ),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda state: state.device,
)
BEGINNINGS = st.sampled_from(
    ["", "@x - ", "lamp,", "room=a and ", "not ", "(", "(a or ", "room=a or not (", "is:ready - (", "a,b - c,"]
)


def by_id(states: list[State]) -> Mapping[str, State]:
    return {each.device: each for each in states}


@settings(deadline=None)
@given(states=STATES, before=BEGINNINGS, data=st.data())
def test_each_candidate_begins_as_typed(states: list[State], before: str, data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from(candidates(states, before) or [Candidate("", len(before), "")]))
    text = before + whole.text[: data.draw(st.integers(0, len(whole.text)))]
    for each in candidates(states, text):
        assert (text[: each.begin] + each.text).startswith(text)


@settings(deadline=None)
@given(states=STATES, text=st.text(alphabet="ab1-_@:=!<>(),*[]\"'\\ \t", max_size=20))
@example(states=[state("lamp")], text='"')
@example(states=[state("lamp")], text="[")
def test_any_text_has_candidates_that_begin_as_typed_or_none(states: list[State], text: str) -> None:
    for each in candidates(states, text):
        assert (text[: each.begin] + each.text).startswith(text)


@settings(deadline=None)
@given(states=STATES, before=BEGINNINGS)
def test_final_candidate_ends_a_target_that_can_be_read(states: list[State], before: str) -> None:
    closing = ")" * before.count("(")
    for each in candidates(states, before):
        if each.final:
            parse(before[: each.begin] + each.text + closing)


@settings(deadline=None)
@given(states=STATES)
def test_single_word_resolves_to_devices(states: list[State]) -> None:
    for each in candidates(states, ""):
        if each.final and not each.help.startswith("0 "):
            assert resolve(each.text, by_id(states)).devices
        elif each.text.endswith("="):
            for value in candidates(states, each.text):
                assert resolve(each.text + value.text, by_id(states)).devices


@settings(deadline=None)
@given(states=STATES, data=st.data())
def test_id_completed_stands_for_its_device(states: list[State], data: st.DataObject) -> None:
    device = data.draw(st.sampled_from([each.device for each in states]))
    typed = device[: data.draw(st.integers(0, len(device)))]
    found = [each.text for each in candidates(states, typed) if resolve_one(each.text, states) == [device]]
    assert found or device in ("and", "or", "not", "in", "-")  # these go in quotes, so they do not begin as typed


def resolve_one(text: str, states: list[State]) -> list[str]:
    try:
        return list(resolve(text, by_id(states)).devices)
    except ValueError:
        return []


COMMAND = CommandAbout(
    help="",
    arguments={
        "type": "object",
        "properties": {
            "level": {"type": "integer", "minimum": 0, "maximum": 100},
            "mode": {"enum": ["fast", "by hand", 3], "default": "fast"},
            "wait": {"anyOf": [{"type": "boolean"}, {"type": "null"}], "default": None},
            "name": {"type": "string", "default": "Bob"},
        },
        "required": ["level"],
    },
    result={},
)


@pytest.mark.parametrize(
    ("given", "text", "expected"),
    [
        ([], "", "level=|mode=|wait=|name="),
        ([], "l", "level="),
        ([], "level=", ""),
        (["5"], "", "fast|by hand|3|mode=|wait=|name="),
        (["5", "fast"], "", "true|false|wait=|name="),
        (["5", "fast", "true"], "", "Bob|name="),
        (["5"], "by", "by hand"),
        (["5", "mode=fast"], "", "wait=|name="),
        (["mode=fast"], "", "level=|wait=|name="),
        (["mode=fast"], "mode=", "fast|by hand|3"),
        ([], "wait=f", "false"),
        ([], "name=", "Bob"),
        ([], "no=", ""),
        (["1", "2", "3", "4"], "", ""),
    ],
)
def test_arguments_have_their_free_names_and_listed_values(given: list[str], text: str, expected: str) -> None:
    found = [each.text for each in argument_candidates(COMMAND, given, text)]
    assert found == [each for each in expected.split("|") if each]


def test_argument_that_is_not_as_json_schema_says_has_no_candidates() -> None:
    assert argument_candidates(CommandAbout(help="", arguments={"properties": 5}, result={}), [], "") == []
