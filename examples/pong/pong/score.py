"""What both players of a game know of it, and how two views of it become one. Pure."""

from enum import StrEnum
from typing import Annotated, Self

from msgspec import Meta, Struct
from msgspec.structs import replace

Name = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
"""Of a player, which is a device's id, or of a game."""

Milliseconds = Annotated[int, Meta(ge=1, le=86_400_000, description="milliseconds")]


class Phase(StrEnum):
    """How a game stands; of two changes that nobody can put in order the later one of this list counts."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Score(Struct, frozen=True):
    """A game. Players tell each other all of it, so it does not matter what was lost, or came twice, or late.

    :ivar players: the one that began first.
    :ivar began: Unix microseconds; tells one game from the next of the same name.
    :ivar pings: how many there were; whose turn it is follows from that.
    :ivar changes: how often somebody has paused, resumed or stopped it.
    """

    game: Name
    players: tuple[Name, Name]
    pong_time_ms: Milliseconds
    began: Annotated[int, Meta(ge=0)]
    pings: Annotated[int, Meta(ge=0)] = 0
    changes: Annotated[int, Meta(ge=0)] = 0
    phase: Phase = Phase.RUNNING

    @property
    def turn(self) -> str:
        """Who pings next."""
        return self.players[self.pings % 2]

    def same_game(self, other: Self) -> bool:
        """Whether it is the same game, and not an earlier or later one of the name."""
        return (self.began, self.players) == (other.began, other.players)

    def merged(self, other: Self) -> Self:
        """What somebody knows who has heard both. The order of merging does not matter."""
        if not self.same_game(other):
            return max(self, other, key=lambda score: (score.began, score.players))
        later = max(self, other, key=lambda score: (score.changes, list(Phase).index(score.phase)))
        return replace(later, pings=max(self.pings, other.pings))

    def changed(self, phase: Phase) -> Self:
        """The score after somebody has paused, resumed or stopped the game."""
        return replace(self, phase=phase, changes=self.changes + 1)
