"""A player: any number of games at once, whatever the network between it and its opponents."""

import asyncio
import contextlib
import logging
import time
from time import monotonic
from typing import Literal

from msgspec import Struct, to_builtins

from .game import PATIENCE, Game, Refused
from .score import Milliseconds, Name, Phase, Score
from .shelf import Shelf
from .transport import NotDone, Transport

AGAIN = 0.25
"""Seconds after which a player that could not be asked is asked again."""

HEARD_WITHIN = PATIENCE + 0.2
"""Seconds in which the opponent should have heard what somebody has changed, before the answer says it has not."""

logger = logging.getLogger("pong")


class View(Struct, frozen=True):
    """A game as its player sees it; `turn` is who pings next, `left_ms` in how many milliseconds."""

    player: str
    opponent: str
    game: str
    phase: Phase
    pong_time_ms: int
    pings: int
    turn: str
    left_ms: float
    waits_for: str
    """Why it waits for the opponent; empty while it does not."""


class Player:
    """What a player does when it is asked, and by itself when an interval is over.

    Its public methods but `run` are commands: over MQTT and over HTTP they are the same.
    """

    def __init__(self, name: str, transport: Transport, shelf: Shelf) -> None:
        self.name = name
        self.commands = (self.ping, self.tell, self.play, self.pause, self.resume, self.finish, self.games)
        self._transport = transport
        self._shelf = shelf
        self._games = {(game.opponent, game.name): game for game in shelf.games()}
        self._tasks: dict[Game, asyncio.Task[None]] = {}
        self._heard = asyncio.Condition()

    async def run(self) -> None:
        """Play until cancelled; games that were written down go on."""
        try:
            for game in self._games.values():
                logger.info("%s: goes on, %s after %d pings", game, game.score.phase, game.score.pings)
                self._go_on(game)
            await asyncio.Event().wait()
        finally:
            for task in self._tasks.values():
                task.cancel()

    async def ping(self, score: Score | None = None) -> Literal["pong"]:
        """Answer `pong` at once; of a game's ping, ping back when the interval is over."""
        if score is not None:
            self._take(score)
        return "pong"

    async def tell(self, score: Score) -> None:
        """Hear from the opponent that a game was paused, resumed or stopped."""
        self._take(score)

    async def play(self, opponent: Name, pong_time_ms: Milliseconds, game: Name = "pong") -> View:
        """Start a game: ping the opponent, which pings back after so many milliseconds, and so on."""
        if opponent == self.name:
            raise Refused(f"{self.name} cannot play against itself")
        mine = self._game(opponent, game)
        mine.start(pong_time_ms, time.time_ns() // 1000, monotonic())
        return await self._changed(mine)

    async def pause(self, opponent: Name, game: Name = "pong") -> View:
        """Pause a game; what is left of the interval is kept."""
        mine = self._game(opponent, game)
        mine.pause(monotonic())
        return await self._changed(mine)

    async def resume(self, opponent: Name, game: Name = "pong") -> View:
        """Go on from where a game was paused."""
        mine = self._game(opponent, game)
        mine.resume(monotonic())
        return await self._changed(mine)

    async def finish(self, opponent: Name, game: Name = "pong") -> View:
        """Stop a game; both players stay up."""
        mine = self._game(opponent, game)
        mine.stop(monotonic())
        return await self._changed(mine)

    async def games(self) -> list[View]:
        """How all games of this player stand."""
        return [self._view(game) for game in self._games.values()]

    # What is heard and asked for

    def _game(self, opponent: str, name: str) -> Game:
        return self._games.get((opponent, name)) or Game(self.name, opponent, name)

    def _take(self, score: Score) -> None:
        if self.name not in score.players or len(set(score.players)) == 1:
            raise Refused(f"{self.name} does not play this game: {' and '.join(score.players)} do")
        (opponent,) = (player for player in score.players if player != self.name)
        game = self._game(opponent, score.game)
        before = game.score
        game.take(score, monotonic())
        if game.score == before:  # it came twice, or late
            if not game.told:
                self._go_on(game)
            return
        self._is_back(game)
        if not before.same_game(game.score):
            logger.info("%s: started by %s, %d ms", game, opponent, score.pong_time_ms)
        if game.score.pings > before.pings or not before.same_game(game.score):
            logger.info("%s: ping %d from %s: pong", game, game.score.pings, opponent)
        if game.score.phase is not before.phase and before.same_game(game.score):
            logger.info("%s: %s by %s", game, game.score.phase, opponent)
        self._go_on(game)

    async def _changed(self, game: Game) -> View:
        """Play on after somebody has changed a game, and say what has become of it once the opponent knows."""
        left = f", {game.left * 1000:.0f} ms left" if game.score.phase is Phase.PAUSED else ""
        logger.info("%s: %s%s, %d ms", game, game.score.phase, left, game.score.pong_time_ms)
        self._go_on(game)
        with contextlib.suppress(TimeoutError):  # then it is waited for, and the view says so
            async with asyncio.timeout(HEARD_WITHIN), self._heard:
                await self._heard.wait_for(lambda: game.told)
        return self._view(game)

    def _view(self, game: Game) -> View:
        score = game.score
        return View(
            player=self.name,
            opponent=game.opponent,
            game=game.name,
            phase=score.phase,
            pong_time_ms=score.pong_time_ms,
            pings=score.pings,
            turn=score.turn,
            left_ms=round(game.seconds_left(monotonic()) * 1000, 3),
            waits_for=game.waits_for,
        )

    # What a player does by itself

    def _go_on(self, game: Game) -> None:
        """Write down how a game stands, and play on from there."""
        self._games[game.opponent, game.name] = game
        self._shelf.put(game)
        if (task := self._tasks.get(game)) is not None:
            task.cancel()
        self._tasks[game] = asyncio.create_task(self._play(game), name=str(game))

    async def _play(self, game: Game) -> None:
        """Do what is next, until somebody changes the game, which begins this anew."""
        while game.running or not game.told:
            try:
                await self._do_next(game)
            except NotDone as error:
                self._wait_for(game, str(error))
                await asyncio.sleep(AGAIN)
            except Exception as error:  # nobody awaits this task: it would end without a word, and the game with it
                why = f"{type(error).__name__}: {error}"
                if game.waits_for != why:
                    logger.exception("%s: a fault of this player", game)
                self._wait_for(game, why)
                await asyncio.sleep(AGAIN)

    async def _do_next(self, game: Game) -> None:
        if not game.told:
            await self._tell(game)
        elif game.my_turn:
            await asyncio.sleep(game.due - monotonic())
            game.ping(monotonic())
            self._shelf.put(game)
        else:
            await asyncio.sleep(game.due + PATIENCE - monotonic())
            self._wait_for(game, "its ping is overdue")
            game.doubt(monotonic())

    async def _tell(self, game: Game) -> None:
        """Tell the opponent how the game stands: with a ping, where that is what it does not know yet.

        :raises NotDone: it does not know it now.
        """
        score, command = game.score, "ping" if game.ping_is_out else "tell"
        if command == "ping" and not game.waits_for:
            logger.info("%s: ping %d to %s", game, score.pings, game.opponent)
        loop = asyncio.get_running_loop()
        patience = loop.call_later(PATIENCE, self._wait_for, game, "it does not answer")
        try:
            answer = await self._transport.ask(game.opponent, command, to_builtins(score))
        finally:
            patience.cancel()
        if answer != ("pong" if command == "ping" else None):
            raise NotDone(f"it is no player: it answers {command} with {str(answer)[:80]!r}")
        if command == "ping":
            logger.info("%s: pong from %s", game, game.opponent)
        self._is_back(game)
        game.heard(score, monotonic())
        self._shelf.put(game)
        async with self._heard:
            self._heard.notify_all()

    def _wait_for(self, game: Game, why: str) -> None:
        if not game.waits_for:
            logger.warning("%s: waits for %s: %s", game, game.opponent, why)
        game.waits_for = why

    def _is_back(self, game: Game) -> None:
        if game.waits_for:
            logger.info("%s: %s is back", game, game.opponent)
            game.waits_for = ""
