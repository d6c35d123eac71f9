"""Games of real players on a real broker."""

import re
import signal
import subprocess
import sys
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from outrider.schema import CommandFailed

from .conftest import Stage, until


def _times(log: str, words: str) -> list[float]:
    """When lines with these words were written."""
    return [datetime.fromisoformat(line.split()[0]).timestamp() for line in log.splitlines() if re.search(words, line)]


def test_players_ping_each_other_in_turn_at_the_interval(playing: Stage) -> None:
    assert "first: turns with second is running, 40 ms" in playing.pong("start", "40", "--game", "turns")
    playing.until_pinged("first", "second", 20, game="turns")
    first, second = playing.log("first"), playing.log("second")
    between = "turns between second and first"
    assert f"{between}: ping 1 from first: pong" in second
    assert f"{between}: ping 2 to first" in second
    mine = "\n".join(line for line in first.splitlines() if " turns between" in line)
    assert re.search(r"ping 1 to second\n.* pong from second\n.* ping 2 from second: pong\n.* ping 3 to second", mine)
    sent = _times(first + second, r" turns .*ping \d+ to")
    assert abs(median(later - earlier for earlier, later in pairwise(sorted(sent))) - 0.04) < 0.005
    playing.pong("stop", "--game", "turns")


def test_pings_are_kept_on_their_schedule(playing: Stage) -> None:
    playing.pong("start", "10", "--game", "schedule")
    playing.until_pinged("first", "second", 300, game="schedule")
    playing.pong("stop", "--game", "schedule")
    sent = sorted(_times(playing.log("first") + playing.log("second"), r" schedule .*ping \d+ to"))
    # The best of three stretches: a machine that is busy for a while makes the schedule begin anew.
    took = [sent[begin + 100] - sent[begin] for begin in (0, 100, 200)]
    assert min(abs(seconds - 1) for seconds in took) < 0.25, took


def test_pause_and_resume_keep_what_was_left_and_the_interval(playing: Stage) -> None:
    game = ("--game", "held")
    playing.pong("start", "3000", *game)
    assert "is paused, 3000 ms" in playing.pong("pause", *game)
    playing.until_logged("second", "held between second and first: paused by first")
    (left,) = re.findall(r"held .* paused, (\d+) ms left", playing.log("first"))
    assert len(re.findall(r"is paused, 3000 ms, 1 pings, second pings in \d+ ms", playing.status("held"))) == 2
    assert "is running, 3000 ms" in playing.pong("resume", *game)
    playing.until_logged("first", "held between first and second: ping 2 from second: pong")
    (resumed,) = _times(playing.log("first"), r"held .*second: running, 3000 ms")[1:]
    (pinged,) = _times(playing.log("first"), r"held .* ping 2 from second")
    assert abs(pinged - resumed - int(left) / 1000) < 0.3
    playing.pong("stop", *game)


def test_pause_holds_whoever_is_asked(playing: Stage) -> None:
    game = ("--game", "asked")
    playing.pong("start", "30", *game)
    assert "second: asked with first is paused" in playing.pong("pause", *game, "--between", "second", "first")
    playing.until_logged("first", "asked between first and second: paused by second")
    pings = playing.pings("second", "first", "asked")
    assert "first: asked with second is running" in playing.pong("resume", *game)
    playing.until_pinged("second", "first", game="asked")
    assert playing.pings("second", "first", "asked") > pings
    playing.pong("stop", *game)


def test_stop_ends_the_game_and_leaves_the_players(playing: Stage) -> None:
    game = ("--game", "ended")
    playing.pong("start", "30", *game)
    assert "is stopped" in playing.pong("stop", *game)
    playing.until_logged("second", "ended between second and first: stopped by first")
    playing.all_there("first", "second")
    assert "is running, 20 ms" in playing.pong("start", "20", *game)
    playing.until_pinged("first", "second", game="ended")
    playing.pong("stop", *game)


def test_command_that_makes_no_sense_says_so_and_changes_nothing(playing: Stage) -> None:
    game = ("--game", "wrong")
    for command in ("pause", "resume", "stop"):
        said = playing.pong(command, *game, fails=True)
        assert "wrong between first and second is not being played" in said, said
    assert playing.status("wrong") == ""
    playing.pong("start", "86400000", *game)
    before = re.sub(r" in \d+ ms", "", playing.status("wrong"))
    assert "is running already: stop it first" in playing.pong("start", "5", *game, fails=True)
    other_side = playing.pong("start", "5", *game, "--between", "second", "first", fails=True)
    assert "is running already" in other_side
    assert "is running, not paused" in playing.pong("resume", *game, fails=True)
    assert re.sub(r" in \d+ ms", "", playing.status("wrong")) == before
    playing.pong("pause", *game)
    assert "is paused, not running" in playing.pong("pause", *game, fails=True)
    assert "is paused already" in playing.pong("start", "5", *game, fails=True)
    playing.pong("stop", *game)
    assert "is stopped, not running or paused" in playing.pong("stop", *game, fails=True)
    itself = playing.pong("start", "5", *game, "--between", "first", "first", fails=True)
    assert "cannot play against itself" in itself
    assert ">= 1" in playing.pong("start", "0", *game, fails=True)
    assert "Traceback" not in playing.output


def test_many_games_go_on_side_by_side(playing: Stage) -> None:
    playing.pong("start", "20", "--game", "one")
    playing.pong("start", "25", "--game", "two")
    playing.pong("start", "30", "--game", "one", "--between", "third", "first")
    playing.until_pinged("first", "second", 10, game="one")
    playing.until_pinged("second", "first", 10, game="two")
    playing.until_pinged("first", "third", 10, game="one")
    playing.pong("pause", "--game", "two")
    assert "first: one with second is running, 20 ms" in playing.status("one")
    assert "first: one with third is running, 30 ms" in playing.status("one")
    assert "first: two with second is paused, 25 ms" in playing.status("two")
    playing.until_pinged("first", "second", 10, game="one")
    for arguments in (("one",), ("two",), ("one", "--between", "third", "first")):
        playing.pong("stop", "--game", *arguments)


def test_player_that_is_not_there_is_named(playing: Stage) -> None:
    assert "nobody" in playing.pong("start", "50", "--between", "nobody", "first", fails=True)
    said = playing.pong("start", "50", "--between", "first", "nobody")
    assert re.search("waits for nobody: .*no such device has been seen", said), said
    playing.pong("stop", "--between", "first", "nobody")


def test_only_its_players_move_a_game(playing: Stage) -> None:
    playing.pong("start", "86400000", "--game", "safe")
    score = {"game": "safe", "players": ["first", "second"], "pong_time_ms": 5, "began": 9 * 10**15, "pings": 7}
    with pytest.raises(CommandFailed, match="mallory does not play safe"):
        playing.call("mallory", "second", "ping", score)
    assert "86400000 ms, 1 pings" in playing.status("safe")
    assert playing.call("anybody", "second", "ping") == "pong"
    playing.pong("stop", "--game", "safe")


@pytest.mark.parametrize("program", [(sys.executable, "-m", "pong"), (str(Path(sys.executable).with_name("pong")),)])
def test_program_is_run_as_a_script_and_as_a_module(playing: Stage, program: tuple[str, ...]) -> None:
    command = [*program, "pause", "--game", "unknown"]
    done = subprocess.run(command, env=playing.environment, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pong: first: unknown between first and second is not being played" in done.stderr


def test_killed_player_is_waited_for_and_goes_on_when_it_is_back(stage: Stage) -> None:
    stage.broker()
    stage.player("first")
    second = stage.player("second")
    stage.all_there("first", "second")
    stage.pong("start", "50")
    stage.until_pinged("second", "first", 3)
    second.kill()
    second.wait()
    stage.until_logged("first", "waits for second: ")
    pings = stage.pings("first", "second")
    assert re.search(r"first: pong with second is running, 50 ms.* waits for second: ", stage.pong("status"))
    stage.player("second")
    stage.until_logged("first", "second is back")
    stage.until_pinged("first", "second", 3)
    assert stage.pings("first", "second") > pings
    assert "waits" not in stage.pong("status")
    numbers = [int(number) for number in re.findall(r"ping (\d+) from first", stage.log("second"))]
    assert numbers == [number for number in range(1, numbers[-1] + 1) if number % 2], numbers


def test_game_that_both_lost_their_player_of_goes_on(stage: Stage) -> None:
    stage.broker()
    players = [stage.player("first"), stage.player("second")]
    stage.all_there("first", "second")
    stage.pong("start", "100")
    stage.until_pinged("second", "first", 3)
    for player in players:
        player.send_signal(signal.SIGTERM)
        assert player.wait() == 0
    pings = stage.pings("first", "second")
    stage.player("first")
    stage.player("second")
    until(lambda: stage.pings("first", "second") > pings + 3, stage.log("first"))
    assert "goes on, running after" in stage.log("first")


def test_paused_game_is_paused_after_a_kill(stage: Stage) -> None:
    stage.broker()
    stage.player("first")
    second = stage.player("second")
    stage.all_there("first", "second")
    stage.pong("start", "100")
    stage.until_pinged("second", "first", 2)
    second.kill()
    second.wait()
    said = stage.pong("pause")
    assert re.search("is paused.*waits for second", said), said
    stage.player("second")
    stage.until_logged("second", "paused by first")
    assert "is running, 100 ms" in stage.pong("resume")
    stage.until_pinged("second", "first")


def test_game_survives_a_restart_of_the_broker(stage: Stage) -> None:
    broker = stage.broker()
    stage.player("first")
    stage.player("second")
    stage.all_there("first", "second")
    stage.pong("start", "50")
    stage.until_pinged("first", "second")
    broker.terminate()
    broker.wait()
    until(lambda: "waits for" in stage.log("first") + stage.log("second"), "somebody waits")
    stage.broker()
    stage.until_pinged("first", "second", 10)
    stage.until_pinged("second", "first", 10)
