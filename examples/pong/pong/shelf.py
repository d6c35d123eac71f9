"""Where a player keeps its games: a file for each, in the state folder, for when it is killed and comes back."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import msgspec
from platformdirs import user_state_path

from .game import Game, Kept
from .score import Phase

logger = logging.getLogger("pong")

REMEMBERED = 86_400.0
"""Seconds for which a game that is over is remembered, so that nothing which comes late begins it again."""


class Shelf:
    """The games of one player, under `$XDG_STATE_HOME/pong`."""

    def __init__(self, player: str) -> None:
        self._player = player
        self._folder = user_state_path("pong") / player
        self._folder.mkdir(parents=True, exist_ok=True)

    def put(self, game: Game) -> None:
        """Write a game down. A file is replaced as a whole, so a kill leaves the old one or the new one.

        Where that fails the log says so, and the game goes on: its opponent knows it, too.
        """
        path = self._path(game.opponent, game.name)
        fresh = path.with_suffix(".new")
        try:
            fresh.write_bytes(msgspec.json.encode(game.kept(monotonic(), time.time())))
            fresh.replace(path)
        except OSError as error:
            logger.error("%s cannot be written: %s", path, error.strerror)  # noqa: TRY400 - the words say it

    def games(self) -> Iterator[Game]:
        """All that were written down."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                kept = msgspec.json.decode(path.read_bytes(), type=Kept)
            except msgspec.MsgspecError as error:
                logger.warning("%s cannot be read (%s): its opponent knows the game", path, error)
                continue
            if kept.score.phase is Phase.STOPPED and time.time() - path.stat().st_mtime > REMEMBERED:
                path.unlink()
            else:
                yield Game.restored(self._player, kept, monotonic(), time.time())

    def _path(self, opponent: str, game: str) -> Path:
        return self._folder / f"{opponent}.{game}.json"  # neither has a dot
