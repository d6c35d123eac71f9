"""Two views of a game become one, whatever came twice, late, or in another order."""

from hypothesis import given
from hypothesis import strategies as some
from pong.score import Phase, Score


def _score(began: int, players: tuple[str, str], pings: int, changes: int, phase: Phase) -> Score:
    return Score("pong", players, 1000 + began, began, pings, changes, phase)


scores = some.builds(
    _score,
    some.integers(0, 2),
    some.sampled_from([("first", "second"), ("second", "first")]),
    some.integers(0, 4),
    some.integers(0, 3),
    some.sampled_from(Phase),
)


@given(scores, scores)
def test_merging_is_the_same_from_both_sides(one: Score, other: Score) -> None:
    assert one.merged(other) == other.merged(one)


@given(scores, scores, scores)
def test_merging_is_the_same_in_any_order(one: Score, two: Score, three: Score) -> None:
    assert one.merged(two).merged(three) == one.merged(two.merged(three))


@given(scores, scores)
def test_what_is_known_already_changes_nothing(one: Score, other: Score) -> None:
    both = one.merged(other)
    assert both.merged(other) == both
    assert both.merged(one) == both


def test_stop_counts_against_a_resume_of_the_same_moment() -> None:
    paused = _score(1, ("first", "second"), 3, 1, Phase.PAUSED)
    stopped, resumed = paused.changed(Phase.STOPPED), paused.changed(Phase.RUNNING)
    assert resumed.merged(stopped).phase is Phase.STOPPED


def test_turns_alternate_from_the_one_that_began() -> None:
    turns = [_score(1, ("second", "first"), pings, 0, Phase.RUNNING).turn for pings in range(4)]
    assert turns == ["second", "first", "second", "first"]
