"""Targets: the grammar, what each part stands for, and the laws between them."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.controller.grammar import DEEPEST, LONGEST, TargetSyntax
from outrider.controller.plan import Share
from outrider.controller.selection import (
    All,
    And,
    Compare,
    Difference,
    Glob,
    Group,
    Id,
    In,
    Is,
    Not,
    Or,
    Selection,
    Union,
    compare,
    equals,
)
from outrider.controller.targets import Targets, parse, require_seen, resolve, sample
from outrider.schema import NoMember, State, UnknownTarget


def state(id: str, status: str = "ready", **more: object) -> State:
    fields = {"device": id, "status": status, "session": 1, "since": 0.0} | more
    return State(**fields)  # type: ignore[arg-type]  # the fields are those of State


def fleet(*states: State) -> dict[str, State]:
    return {each.device: each for each in states}


HOUSE = fleet(
    state("lamp-1", groups=["kitchen", "lights"], tags={"room": "kitchen", "fw": "2.0", "watts": 40}, pools=["words"]),
    state("lamp-2", groups=["kitchen", "lights"], tags={"room": "kitchen", "fw": "2.1.3", "watts": 60.5}),
    state("lamp-10", "unready", groups=["hall", "lights"], tags={"room": "hall", "fw": "2.10", "smart": True}),
    state("oven", "lost", groups=["kitchen"], tags={"room": "kitchen", "fw": "v1.9rc1", "name": "two words"}),
    state("radio", "terminated", groups=["kitchen"], tags={"room": "kitchen"}),
)


def ids(target: str, states: Mapping[str, State] = HOUSE) -> list[str]:
    return list(resolve(target, states).devices)


@pytest.mark.parametrize(
    ("target", "devices"),
    [
        ("lamp-1", "lamp-1"),
        ("lamp-2,lamp-1", "lamp-1 lamp-2"),
        (" lamp-2 , lamp-1,lamp-2 ", "lamp-1 lamp-2"),
        ("lamp-?", "lamp-1 lamp-2"),
        ("lamp-*", "lamp-1 lamp-10 lamp-2"),
        ("lamp-[!2]", "lamp-1"),
        ("*", "lamp-1 lamp-10 lamp-2 oven"),
        ("@kitchen", "lamp-1 lamp-2 oven"),
        ("@all", "lamp-1 lamp-10 lamp-2 oven"),
        ("all", "lamp-1 lamp-10 lamp-2 oven"),
        ("@kitchen - lamp-1", "lamp-2 oven"),
        ("all - @kitchen - lamp-10, oven", ""),
        ("@kitchen,lamp-10 - lamp-1,oven", "lamp-10 lamp-2"),
        ("all - (@kitchen - oven)", "lamp-10 oven"),
        ("room=kitchen", "lamp-1 lamp-2 oven"),
        ("room==kitchen", "lamp-1 lamp-2 oven"),
        ("room=kit*", "lamp-1 lamp-2 oven"),
        ("room!=kitchen", "lamp-10"),
        ("watts!=40", "lamp-10 lamp-2 oven"),
        ("fw<2.1", "lamp-1 oven"),
        ("fw >= 2.1", "lamp-10 lamp-2"),
        ("fw > 2.9", "lamp-10"),
        ("fw=2.1.3", "lamp-2"),
        ("fw=2.0.0", "lamp-1"),
        ("watts<=60.5", "lamp-1 lamp-2"),
        ("watts>50", "lamp-2"),
        ("smart=true", "lamp-10"),
        ('name="two words"', "oven"),
        ("room in (hall, 'kitchen') and is:ready", "lamp-1 lamp-2"),
        ("room not in (hall)", "lamp-1 lamp-2 oven"),
        ("room=kitchen and fw<2.1", "lamp-1 oven"),
        ("room=hall or is:lost", "lamp-10 oven"),
        ("not room=kitchen", "lamp-10"),
        ("not not is:lost", "oven"),
        ("is:ready or is:lost and room=hall", "lamp-1 lamp-2"),
        ("(is:ready or is:unready) and room=hall", "lamp-10"),
        ("room=kitchen and fw<2.1 - oven", "lamp-1"),
        ("(room=hall),(is:lost)", "lamp-10 oven"),
        ("room=hall,lamp-1", "lamp-1 lamp-10"),
        ("lamp-1, (is:lost and all)", "lamp-1 oven"),
        ("is:terminated", "radio"),
        ("room=kitchen and is:terminated", "radio"),
        ("radio", "radio"),
        ("'lamp-1'", "lamp-1"),
        ("nobody", "nobody"),
        ("lamp-1,nobody", "lamp-1 nobody"),
    ],
)
def test_target_stands_for_these_devices(target: str, devices: str) -> None:
    if not devices:
        with pytest.raises(UnknownTarget):
            ids(target)
    else:
        assert ids(target) == devices.split()


@pytest.mark.parametrize(
    ("target", "column", "said"),
    [
        ("lamp-1,", 8, "the target ends; expected a device's id"),
        ("lamp-1 lamp-2", 8, "'lamp-2' does not fit; commas join devices (a,b), and/or join conditions"),
        ("room=kitchen fw<2", 14, "'fw' does not fit; commas join devices (a,b), and/or join conditions"),
        ("owner=a@b", 8, "'@b' does not fit; names and values with such signs go in quotes"),
        ('lamp"1"', 5, "'\"1\"' does not fit; names and values with such signs go in quotes"),
        ("@kitchen -lamp-3", 10, "blank on both sides of the minus"),
        ("lamp/1", 1, "'lamp/1' is not well formed"),
        ("@", 1, "not well formed"),
        ("(lamp-1", 8, "the target ends; expected"),
        ("lamp-1)", 7, "')' does not fit"),
        ("room=", 6, "expected a value"),
        ("room=two words", 10, "'words' does not fit"),
        ("room<>5", 6, "'>' does not fit; expected a value"),
        ("room='kitchen", 6, "a quote does not close"),
        ("lamp-[1", 6, "a bracket does not close"),
        ("fw<2 and lamp-1, lamp-2", 16, "a list does not mix with and, or, not"),
        ("lamp-1, lamp-2 and fw<2", 16, "a list does not mix with and, or, not"),
        ("is:broken", 1, "is no status: is:ready"),
        ("any:words,lamp-1", 1, "stands alone"),
        ("not any:words", 5, "stands alone"),
        ("any:", 1, "not well formed"),
        ("room in kitchen", 9, "expected ("),
        ("room in ()", 10, "expected a value"),
        ("lamp.*", 1, "is no glob"),
        ("lamp-1!", 7, "'!' does not belong here"),
        ("- lamp-1", 3, "'lamp-1' does not fit"),
        ("a\nb\x1b[2Jc", 3, "does not fit"),
        ("(" * (DEEPEST + 1) + "a" + ")" * (DEEPEST + 1), DEEPEST + 1, "more than 50"),
        ("not " * (DEEPEST + 1) + "a", 4 * DEEPEST + 1, "more than 50"),
    ],
)
def test_syntax_error_names_the_column_and_what_is_expected(target: str, column: int, said: str) -> None:
    with pytest.raises(TargetSyntax) as caught:
        parse(target)
    words = str(caught.value)
    assert caught.value.column == column
    assert f"column {column}" in words
    assert said in words
    assert words.splitlines()[-1].strip() == "^"
    assert "\x1b" not in words


@pytest.mark.parametrize("target", ["", "   ", "\t\n"])
def test_empty_target_says_what_to_give(target: str) -> None:
    with pytest.raises(TargetSyntax, match=r"^the target is empty; give a device's id, a list a,b"):
        parse(target)


def test_target_over_the_length_is_refused() -> None:
    with pytest.raises(TargetSyntax, match="characters"):
        parse("a" * (LONGEST + 1))


def test_caret_stands_under_the_place_also_in_a_long_target() -> None:
    with pytest.raises(TargetSyntax) as caught:
        parse(",".join(f"lamp-{n}" for n in range(100)) + " ?? oops!")
    _, shown, caret = str(caught.value).splitlines()
    assert shown[caret.index("^") :].startswith("?? oops")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("@kitchn", "did you mean @kitchen"),
        ("lmap-*", "no device's id matches lmap-*; did you mean lamp-"),
        ("room=kitchn", "no device has room=kitchn; room is hall, kitchen"),
        ("rom=kitchen", "none has a tag rom; did you mean room"),
        ("is:ready and is:lost", "no device matches is:ready and is:lost"),
        ("lamp-1 - lamp-*", "no device matches lamp-1 - lamp-*"),
    ],
)
def test_target_that_matches_nobody_says_what_there_is(target: str, said: str) -> None:
    with pytest.raises(UnknownTarget) as caught:
        resolve(target, HOUSE)
    assert said in str(caught.value)


def test_a_fleet_of_nobody_says_how_to_start_a_device() -> None:
    for target in ("all", "lamp-*", "@kitchen", "room=kitchen"):
        with pytest.raises(UnknownTarget, match=r"no device is there; start one: outrider-device run"):
            resolve(target, {})
        with pytest.raises(UnknownTarget, match=r"no device is there \(1 ended with terminate\)"):
            resolve(target, fleet(state("radio", "terminated")))


def test_group_is_asked_as_one_only_where_exactly_its_members_are_meant() -> None:
    assert resolve("@kitchen", HOUSE).group == "kitchen"
    assert resolve("(@kitchen)", HOUSE).group == "kitchen"
    assert resolve("all", HOUSE).group == "all"
    for other in ("@kitchen - oven", "@kitchen,oven", "lamp-*", "not is:lost", "lamp-1", "room=kitchen"):
        assert resolve(other, HOUSE).group is None


def test_terminated_and_unseen_devices_are_told_apart() -> None:
    targets = resolve("radio,lamp-1,nobody", HOUSE)
    assert targets == Targets(("lamp-1", "nobody", "radio"), gone=frozenset({"radio"}), unseen=frozenset({"nobody"}))
    with pytest.raises(UnknownTarget, match="no device nobody has been seen; known: lamp-1"):
        require_seen(targets, HOUSE)
    with pytest.raises(UnknownTarget, match="no device lmap-1 has been seen; did you mean lamp-1"):
        require_seen(resolve("lmap-1", HOUSE), HOUSE)
    assert require_seen(resolve("radio", HOUSE), HOUSE).devices == ("radio",)


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ("words", "no member of any:words is ready (members: 1 lost)"),
        ("word", "no member of any:word is ready: no device is in this pool; did you mean any:words?"),
    ],
)
def test_pool_of_which_nobody_is_there_says_so(pool: str, said: str) -> None:
    with pytest.raises(NoMember) as raised:
        resolve(f"any:{pool}", fleet(state("lamp-1", "lost", pools=["words"]), state("lamp-2")))
    assert str(raised.value) == said


def test_pool_stands_for_its_members_that_are_there() -> None:
    house = HOUSE | fleet(state("lamp-3", "lost", pools=["words"]), state("lamp-4", "unready", pools=["words"]))
    assert resolve("any:words", house) == Targets(("lamp-1", "lamp-4"), pool="words")


@pytest.mark.parametrize(
    ("tag", "value", "order"),
    [
        ("2.10", "2.9", 1),
        ("2.1", "2.1.0", 0),
        ("v1.9rc1", "1.9", -1),
        ("1.0.dev3", "1.0a1", -1),
        (2.5, "10", -1),
        (3, "3.0", 0),
        (10**400, "1e300", 1),
        ("-5", "3", -1),
        ("1e3", "999", 1),
        ("kitchen", "hall", 1),
        ("2.1", "beta", -1),
        (True, "true", 0),
    ],
)
def test_values_compare_as_numbers_as_versions_else_as_text(tag: str | float, value: str, order: int) -> None:
    assert compare(tag, value) == order


def test_equality_knows_booleans_and_globs() -> None:
    assert equals(True, "true")
    assert not equals(True, "1")
    assert not equals(1, "true")
    assert equals("kitchen", "k*n")
    assert not equals("kitchen", "k?n")
    assert equals("a[1]", "a[1]")


def test_sample_is_of_the_devices_and_the_same_for_a_seed() -> None:
    targets = resolve("all", HOUSE)
    one = sample(targets, Share.parse("50%"), seed=1)
    assert one == sample(targets, Share.parse("50%"), seed=1)
    assert len(one.devices) == 2
    assert one.group is None
    assert {sample(targets, Share.parse("1"), seed=n).devices for n in range(50)} == {(id,) for id in targets.devices}
    assert sample(targets, Share.parse("99"), seed=1).devices == targets.devices


NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,8}", fullmatch=True)
VALUES = st.one_of(NAMES, st.sampled_from(["2.1", "two words", 'quo"ted', "a\\b", "true", "not", "in", "", "1.0rc1"]))
KEYS = st.one_of(NAMES, st.sampled_from(["a key", "and", "is:odd", "fw.version"]))
LEAVES: st.SearchStrategy[Selection] = st.one_of(
    st.builds(Id, st.one_of(NAMES, st.sampled_from(["and", "in", "-", "-x", "all-of"]))),
    st.builds(Glob, st.sampled_from(["lamp-*", "*", "lamp-[1-3]", "?x"])),
    st.builds(Group, NAMES.filter(lambda name: name != "all")),
    st.just(All()),
    st.builds(Is, st.sampled_from(["ready", "unready", "lost", "terminated"])),
    st.builds(Compare, KEYS, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), VALUES),
    st.builds(In, KEYS, st.lists(VALUES, min_size=1, max_size=3).map(tuple)),
)


def several(
    kind: type[And | Or | Union | Difference], parts: st.SearchStrategy[Selection]
) -> st.SearchStrategy[Selection]:
    """Two or three parts, none of the same kind: that would be one longer list."""

    def build(found: list[Selection]) -> Selection:
        return kind(tuple(found))

    return st.lists(parts.filter(lambda part: not isinstance(part, kind)), min_size=2, max_size=3).map(build)


SELECTIONS = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        st.builds(Not, parts),
        *(several(kind, parts) for kind in (And, Or, Union, Difference)),
    ),
    max_leaves=8,
)


@given(SELECTIONS)
def test_target_that_is_written_reads_as_itself(selection: Selection) -> None:
    assert parse(str(selection)) == selection


@given(st.one_of(st.text(), st.text("ab-,()=<>!@*?[]'\" notrdi:y"), SELECTIONS.map(str)))
@settings(max_examples=400)
def test_any_text_is_a_target_or_a_syntax_error(text: str) -> None:
    try:
        selection = parse(text)
    except TargetSyntax as error:
        column = error.column
    else:
        assert parse(str(selection)) == selection
        return
    assert 1 <= column <= len(text) + 1


IDS = [f"d{n}" for n in range(6)]


def some_state(id: str, status: str, groups: set[str], room: str, fw: str | None) -> State:
    return state(id, status, groups=sorted(groups), tags={"room": room} | ({"fw": fw} if fw else {}))


def by_id(states: list[State]) -> dict[str, State]:
    return fleet(*states)


STATES = st.lists(
    st.builds(
        some_state,
        st.sampled_from(IDS),
        st.sampled_from(["ready", "unready", "lost", "terminated"]),
        st.sets(st.sampled_from(["a", "b"])),
        st.sampled_from(["x", "y"]),
        st.sampled_from([None, "1.0", "2.0"]),
    ),
    max_size=6,
).map(by_id)
TARGETS: st.SearchStrategy[Selection] = st.recursive(
    st.one_of(
        st.builds(Id, st.sampled_from(IDS)),
        st.builds(Glob, st.sampled_from(["d*", "d[0-2]"])),
        st.builds(Group, st.sampled_from(["a", "b"])),
        st.just(All()),
        st.builds(Is, st.sampled_from(["ready", "lost"])),
        st.builds(Compare, st.just("room"), st.sampled_from(["=", "!="]), st.sampled_from(["x", "y"])),
        st.builds(Compare, st.just("fw"), st.sampled_from(["<", ">=", "!="]), st.sampled_from(["1.5", "2"])),
    ),
    lambda parts: st.one_of(st.builds(Not, parts), *(several(kind, parts) for kind in (And, Or, Union, Difference))),
    max_leaves=5,
)


def members(selection: Selection, states: Mapping[str, State]) -> set[str]:
    try:
        return set(resolve(selection, states).devices)
    except UnknownTarget:
        return set()


@given(TARGETS, TARGETS, STATES)
def test_sets_obey_their_laws(one: Selection, other: Selection, states: Mapping[str, State]) -> None:
    a, b = members(one, states), members(other, states)
    assert members(Union((one, other)), states) == members(Or((one, other)), states) == a | b
    assert members(And((one, other)), states) == a & b
    assert members(Difference((one, other)), states) == a - b
    assert members(Difference((one, one)), states) == set()
    universe = members(All(), states)
    assert members(Not(one), states) == universe - a
    assert members(Not(And((one, other))), states) == members(Or((Not(one), Not(other))), states)
    assert members(Not(Or((one, other))), states) == members(And((Not(one), Not(other))), states)


@given(TARGETS, STATES)
def test_devices_come_once_in_order_and_a_group_only_where_it_reaches_exactly_them(
    selection: Selection, states: Mapping[str, State]
) -> None:
    try:
        targets = resolve(selection, states)
    except UnknownTarget:
        return
    assert list(targets.devices) == sorted(set(targets.devices))
    assert targets.unseen == {id for id in targets.devices if id not in states}
    if targets.group is not None:
        reached = {
            id
            for id, each in states.items()
            if each.status != "terminated" and (targets.group == "all" or targets.group in each.groups)
        }
        assert set(targets.devices) == reached


@given(st.lists(NAMES, unique=True, min_size=1), st.integers(1, 20), st.integers(), st.randoms())
def test_sample_is_a_part_of_the_right_size_whatever_the_order(
    devices: Sequence[str], count: int, seed: int, chance: object
) -> None:
    targets = Targets(tuple(sorted(devices)), group="all")
    found = sample(targets, Share(count), seed)
    assert set(found.devices) <= set(devices)
    assert len(found.devices) == min(count, len(devices))
    assert sample(Targets(tuple(reversed(targets.devices))), Share(count), seed).devices == found.devices
