"""What is kept of games on the disk."""

import os
import time
from pathlib import Path

import pytest
from pong.game import Game
from pong.score import Phase
from pong.shelf import REMEMBERED, Shelf


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "pong" / "first"


def _game(name: str) -> Game:
    game = Game("first", "second", name)
    game.start(1000, 1, time.monotonic())
    return game


def test_game_is_found_again_as_it_was(folder: Path) -> None:
    game = _game("one")
    game.pause(time.monotonic())
    Shelf("first").put(game)
    (found,) = Shelf("first").games()
    assert (found.score, found.left, found.opponent) == (game.score, game.left, "second")
    assert [path.name for path in folder.iterdir()] == ["second.one.json"]


def test_broken_file_is_told_of_and_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf("first")
    shelf.put(_game("one"))
    shelf.put(_game("two"))
    (folder / "second.one.json").write_text("{")
    assert [game.name for game in Shelf("first").games()] == ["two"]
    assert "second.one.json cannot be read" in caplog.text


def test_game_that_was_over_long_ago_is_forgotten(folder: Path) -> None:
    shelf = Shelf("first")
    for name in ("recent", "old"):
        game = _game(name)
        game.stop(time.monotonic())
        shelf.put(game)
    long_ago = time.time() - REMEMBERED - 1
    os.utime(folder / "second.old.json", (long_ago, long_ago))
    (found,) = Shelf("first").games()
    assert (found.name, found.score.phase) == ("recent", Phase.STOPPED)
    assert not (folder / "second.old.json").exists()


def test_disk_that_cannot_be_written_does_not_end_the_game(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf("first")
    (folder / "second.one.new").mkdir()
    shelf.put(_game("one"))
    assert "second.one.new cannot be written" in caplog.text or "second.one.json cannot be written" in caplog.text
