"""A game from both sides, on a network that loses, repeats and reorders, with players that are killed."""

import pytest
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pong.game import Game, Refused
from pong.score import Phase, Score

NAMES = ("first", "second")
CHANGES = {
    "pause": ((Phase.RUNNING,), Phase.PAUSED),
    "resume": ((Phase.PAUSED,), Phase.RUNNING),
    "stop": ((Phase.RUNNING, Phase.PAUSED), Phase.STOPPED),
}
names = some.sampled_from(NAMES)


class TwoPlayers(RuleBasedStateMachine):
    """Whatever happens, nobody pings twice in a turn, and in the end both know the same."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.games = {"first": Game("first", "second", "pong"), "second": Game("second", "first", "pong")}
        self.mail: list[tuple[str, Score]] = []
        self.sent: set[tuple[int, tuple[str, str], int, str]] = set()

    @rule(name=names, milliseconds=some.integers(1, 5000))
    def start(self, name: str, milliseconds: int) -> None:
        game, before = self.games[name], self.games[name].score
        try:
            game.start(milliseconds, 5, self.now)
        except Refused:
            assert before.phase is not Phase.STOPPED
            assert game.score == before
        else:
            assert before.phase is Phase.STOPPED
            assert (game.score.phase, game.score.pong_time_ms) == (Phase.RUNNING, milliseconds)
            assert game.ping_is_out

    @rule(name=names, command=some.sampled_from(list(CHANGES)))
    def change(self, name: str, command: str) -> None:
        game = self.games[name]
        before, kept = game.score, game.kept(self.now, 0)
        allowed, after = CHANGES[command]
        try:
            getattr(game, command)(self.now)
        except Refused:
            assert before.phase not in allowed
            assert game.kept(self.now, 0) == kept
        else:
            assert before.phase in allowed
            assert game.score == before.changed(after)

    @rule(name=names)
    def tell(self, name: str) -> None:
        if not self.games[name].told:
            self.mail.append((self.games[name].opponent, self.games[name].score))

    @rule(name=names)
    def ping(self, name: str) -> None:
        game = self.games[name]
        if game.running and game.my_turn and game.told:
            self.now = max(self.now, game.due)
            game.ping(self.now)
            self.sent.add((game.score.began, game.score.players, game.score.pings, name))

    @precondition(lambda self: bool(self.mail))
    @rule(data=some.data(), keep=some.booleans(), answered=some.booleans())
    def deliver(self, data: some.DataObject, keep: bool, answered: bool) -> None:
        at = data.draw(some.integers(0, len(self.mail) - 1))
        name, score = self.mail[at] if keep else self.mail.pop(at)
        game = self.games[name]
        game.take(score, self.now)
        if answered:
            self.games[game.opponent].heard(score, self.now)

    @precondition(lambda self: bool(self.mail))
    @rule()
    def lose(self) -> None:
        self.mail.clear()

    @rule(seconds=some.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=names, seconds=some.floats(0, 10))
    def kill(self, name: str, seconds: float) -> None:
        game = self.games[name]
        if not game.score.began:  # never played: nothing was written down
            return
        kept = game.kept(self.now, 5000)
        self.now += seconds
        again = Game.restored(name, kept, self.now, 5000 + seconds)
        assert again.score == game.score
        assert again.seconds_left(self.now) <= game.seconds_left(self.now) + 1e-6
        self.games[name] = again

    @rule(name=names)
    def doubt(self, name: str) -> None:
        self.games[name].doubt(self.now)

    @invariant()
    def nobody_pings_twice_in_a_turn(self) -> None:
        for began, players, pings, name in self.sent:
            assert players[(pings - 1) % 2] == name, (began, pings)

    @invariant()
    def nothing_is_left_for_longer_than_an_interval(self) -> None:
        for game in self.games.values():
            assert -1e-6 <= game.seconds_left(self.now) <= game.score.pong_time_ms / 1000 + 1e-6

    def teardown(self) -> None:
        """Once the network works again, both know the same after each has told the other."""
        for _ in range(2):
            for game in self.games.values():
                if not game.told:
                    self.games[game.opponent].take(game.score, self.now)
                    game.heard(game.score, self.now)
        first, second = self.games.values()
        if first.score.began or second.score.began:
            assert first.score == second.score
            assert first.told
            assert second.told
            assert first.my_turn != second.my_turn


TestTwoPlayers = TwoPlayers.TestCase


def _started(milliseconds: int, now: float = 0.0) -> tuple[Game, Game]:
    first, second = Game("first", "second", "pong"), Game("second", "first", "pong")
    first.start(milliseconds, 1, now)
    return first, second


@given(some.floats(0, 0.999), some.floats(0, 1000))
def test_pause_keeps_what_was_left_of_the_interval(played: float, paused: float) -> None:
    first, second = _started(1000)
    second.take(first.score, 0.0)
    second.pause(played)
    assert second.left == pytest.approx(1 - played)
    assert second.seconds_left(played + paused) == second.left
    second.resume(played + paused)
    assert second.due == pytest.approx(1 + paused)
    assert second.score.pong_time_ms == 1000


def test_ping_that_comes_during_a_pause_waits_a_whole_interval_after_it() -> None:
    first, second = _started(1000)
    first.pause(0.1)
    second.take(first.score, 0.2)
    assert (second.score.phase, second.left) == (Phase.PAUSED, 1.0)


def test_killed_player_goes_on_with_what_is_left_by_the_clock() -> None:
    first, second = _started(1000)
    second.take(first.score, 0.0)
    kept = second.kept(0.3, 5000.3)
    assert Game.restored("second", kept, 77.0, 5000.5).due == pytest.approx(77.5)
    assert Game.restored("second", kept, 77.0, 6000.0).due == pytest.approx(77.0)
    assert Game.restored("second", kept, 77.0, 0.0).due == pytest.approx(78.0)  # its clock was put back


@given(some.lists(some.floats(0.0005, 0.03), min_size=50, max_size=200))
def test_late_pings_do_not_add_up(delays: list[float]) -> None:
    first, second = _started(40)
    now, sides, sent = 0.0, (second, first), [0.0]
    for number, delay in enumerate(delays):
        game = sides[number % 2]
        game.take(sides[(number + 1) % 2].score, now + delay)
        now = max(game.due, now + delay)
        game.ping(now)
        sent.append(now)
    drift = sent[-1] - 0.04 * len(delays)
    assert abs(drift) <= 0.07  # of two pings, not of each


def test_outage_begins_the_schedule_anew() -> None:
    first, second = _started(100)
    second.take(first.score, 0.0)
    second.ping(0.1)
    first.take(second.score, 0.1)
    first.ping(0.2)
    second.take(first.score, 7.0)
    assert second.due == pytest.approx(7.1)


def test_new_game_counts_against_what_comes_late_of_the_old_one() -> None:
    first, second = _started(1000)
    old = first.score
    first.stop(0.5)
    first.start(2000, 1, 0.6)  # the clock stands still
    second.take(first.score, 0.7)
    second.take(old, 0.8)
    assert second.score == first.score
    assert second.score.pong_time_ms == 2000


def test_player_that_has_lost_its_files_learns_the_game_from_its_opponent() -> None:
    first, second = _started(1000)
    second.take(first.score, 0.0)
    first.heard(first.score, 0.0)
    assert first.told
    forgetful = Game("second", "first", "pong")
    first.doubt(3.0)
    assert first.ping_is_out
    forgetful.take(first.score, 3.0)
    assert forgetful.score == first.score
    assert (forgetful.my_turn, forgetful.due) == (True, 4.0)


def test_late_answer_is_no_reason_to_wait_anew_at_once() -> None:
    first, _ = _started(10)
    first.heard(first.score, 5.0)
    assert first.due == 5.0
