"""A game as one of its players sees it: the score, whose turn it is, and when. Pure: time comes as an argument."""

from msgspec import Struct
from msgspec.structs import replace

from .score import Phase, Score

CATCH_UP = 0.5
"""Seconds that a game may be behind its schedule and still catch up, with shorter intervals."""

PATIENCE = 1.0
"""Seconds after which a player that says nothing is waited for."""


class Refused(Exception):
    """What was asked for makes no sense as the game stands; nothing was changed."""


class Kept(Struct, frozen=True):
    """What outlives the player's process: `due` in Unix seconds, `left` in seconds, `known` by the opponent."""

    score: Score
    known: Score | None
    due: float
    left: float


class Game:
    """One player's side of a game. All times are monotonic seconds.

    :ivar known: what the opponent is known to know; as long as that is not the score, it has to be told.
    :ivar due: when the next ping is, whoever's turn it is, while the game is running.
    :ivar left: what is left until then, while it is not.
    :ivar waits_for: why the opponent is waited for; empty while it is there.
    """

    def __init__(self, me: str, opponent: str, name: str) -> None:
        self.me = me
        self.opponent = opponent
        self.name = name
        self.score = Score(name, (me, opponent), 1, 0, phase=Phase.STOPPED)
        self.known: Score | None = self.score
        self.due = 0.0
        self.left = 0.0
        self.waits_for = ""
        self._beat = (0, 0.0)
        """A ping by its number, and when it came: what the schedule counts from."""

    @property
    def running(self) -> bool:
        """Whether it is neither paused nor stopped."""
        return self.score.phase is Phase.RUNNING

    @property
    def my_turn(self) -> bool:
        """Whether this player pings next."""
        return self.score.turn == self.me

    @property
    def told(self) -> bool:
        """Whether the opponent knows how the game stands."""
        return self.known == self.score

    @property
    def ping_is_out(self) -> bool:
        """Whether what is to be told is a ping, and not only how the game stands."""
        known = 0 if self.known is None or not self.known.same_game(self.score) else self.known.pings
        return not self.my_turn and known < self.score.pings

    def start(self, pong_time_ms: int, began: int, now: float) -> None:
        """Begin to play, with the first ping.

        :param began: Unix microseconds.
        """
        if self.score.phase is not Phase.STOPPED:
            raise Refused(f"{self} is {self.score.phase} already: stop it first")
        later = max(began, self.score.began + 1)  # also where the clock was put back
        self._become(Score(self.name, (self.me, self.opponent), pong_time_ms, later, pings=1), now)

    def pause(self, now: float) -> None:
        """Keep what is left of the interval until `resume`."""
        self._need(Phase.RUNNING)
        self._become(self.score.changed(Phase.PAUSED), now)

    def resume(self, now: float) -> None:
        """Go on from where it was paused."""
        self._need(Phase.PAUSED)
        self._become(self.score.changed(Phase.RUNNING), now)

    def stop(self, now: float) -> None:
        """End the game."""
        self._need(Phase.RUNNING, Phase.PAUSED)
        self._become(self.score.changed(Phase.STOPPED), now)

    def ping(self, now: float) -> None:
        """Play: from now on it is the opponent's turn."""
        self._become(replace(self.score, pings=self.score.pings + 1), now)

    def take(self, score: Score, now: float) -> None:
        """Hear from the opponent how the game stands."""
        self.known = score
        self._become(self.score.merged(score), now)

    def heard(self, score: Score, now: float) -> None:
        """Note that the opponent knows this; it may have needed a while to come back."""
        if self.score == score:
            self.known = score
            if not self.my_turn:
                self.due = max(self.due, now)

    def doubt(self, now: float) -> None:
        """The opponent lets us wait: tell it once more how the game stands, and expect its ping anew."""
        self.known = None
        self.due = now + self._interval

    def seconds_left(self, now: float) -> float:
        """Until the next ping; what was left of it, while the game is not running."""
        return max(self.due - now, 0.0) if self.running else self.left

    def kept(self, now: float, clock: float) -> Kept:
        """What to write down.

        :param clock: Unix seconds, which a restarted process still understands.
        """
        return Kept(self.score, self.known, clock + self.due - now, self.left)

    @classmethod
    def restored(cls, me: str, kept: Kept, now: float, clock: float) -> "Game":
        """The game as it was written down; the opponent is told so, unless the game is over."""
        (opponent,) = (player for player in kept.score.players if player != me)
        game = cls(me, opponent, kept.score.game)
        game.score = kept.score
        game.known = kept.known if kept.score.phase is Phase.STOPPED else None
        game.left = kept.left
        game.due = now + min(max(kept.due - clock, 0.0), game._interval)
        game._beat = (game.score.pings, game.due - game._interval)
        return game

    def __str__(self) -> str:
        return f"{self.name} between {self.me} and {self.opponent}"

    @property
    def _interval(self) -> float:
        return self.score.pong_time_ms / 1000

    def _need(self, *phases: Phase) -> None:
        if self.score.phase not in phases:
            wanted = " or ".join(phases)
            known = self.score.phase if self.score.began else "not being played"
            raise Refused(f"{self} is {known}, not {wanted}")

    def _become(self, score: Score, now: float) -> None:
        """Take over a score, and say when the next ping is due.

        A ping that came is one interval old when the next one is due. A paused one keeps its age.
        """
        old, self.score = self.score, score
        anew = not old.same_game(score)
        if anew or old.phase is not score.phase:
            self._beat = (score.pings, now)
        if anew or old.pings != score.pings:
            self.left = self._interval
            self.due = self._on_schedule(now) + self.left if self.my_turn else now + self.left
        elif old.phase is Phase.RUNNING and not self.running:
            self.left = max(self.due - now, 0.0)
        elif old.phase is not Phase.RUNNING and self.running:
            self.due = now + self.left

    def _on_schedule(self, now: float) -> float:
        """When the ping that has come now should have come.

        Each would else be late by what the one before needed on its way. So they are counted from one that came early,
        as none can before it was sent; and counted anew when the game is far behind, as after an outage.
        """
        number, at = self._beat
        should = at + (self.score.pings - number) * self._interval
        if not 0 <= now - should <= CATCH_UP:
            self._beat = (self.score.pings, should := now)
        return should
