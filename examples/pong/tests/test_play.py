"""Games of real players on a real broker."""

import re
import signal
from datetime import datetime
from itertools import pairwise
from statistics import median

from .conftest import Stage, until


def _times(log: str, words: str) -> list[float]:
    """When lines with these words were written."""
    return [datetime.fromisoformat(line.split()[0]).timestamp() for line in log.splitlines() if re.search(words, line)]


def test_players_ping_each_other_in_turn_at_the_interval(playing: Stage) -> None:
    assert "first: pong with second is running, 40 ms" in playing.pong("start", "40")
    playing.until_pinged("first", "second", 20)
    first, second = playing.log("first"), playing.log("second")
    between = "pong between second and first"
    assert f"{between}: ping 1 from first: pong" in second
    assert f"{between}: ping 2 to first" in second
    assert re.search(r"ping 1 to second\n.* pong from second\n.* ping 2 from second: pong\n.* ping 3 to second", first)
    sent = _times(first + second, r"ping \d+ to")
    assert abs(median(later - earlier for earlier, later in pairwise(sorted(sent))) - 0.04) < 0.005


def test_pause_and_resume_keep_what_was_left_and_the_interval(playing: Stage) -> None:
    playing.pong("start", "3000")
    playing.until_pinged("second", "first", 1)
    assert "is paused, 3000 ms" in playing.pong("pause")
    playing.until_logged("second", "paused by first")
    (left,) = re.findall(r"paused, (\d+) ms left", playing.log("first"))
    status = playing.pong("status")
    assert len(re.findall(r"is paused, 3000 ms, 1 pings, second pings in \d+ ms", status)) == 2
    assert "resume" not in playing.log("second")
    assert "is running, 3000 ms" in playing.pong("resume")
    playing.until_logged("first", "ping 2 from second: pong")
    (resumed,) = _times(playing.log("first"), r"second: running, 3000 ms")[1:]
    (pinged,) = _times(playing.log("first"), r"ping 2 from second")
    assert abs(pinged - resumed - int(left) / 1000) < 0.2


def test_pause_holds_whoever_is_asked(playing: Stage) -> None:
    playing.pong("start", "30")
    assert "second: pong with first is paused" in playing.pong("pause", "--between", "second", "first")
    playing.until_logged("first", "paused by second")
    pings = playing.pings("second", "first")
    assert "first: pong with second is running" in playing.pong("resume")
    playing.until_pinged("second", "first")
    assert playing.pings("second", "first") > pings


def test_stop_ends_the_game_and_leaves_the_players(playing: Stage) -> None:
    playing.pong("start", "30")
    assert "is stopped" in playing.pong("stop")
    playing.until_logged("second", "stopped by first")
    playing.all_there("first", "second")
    assert "is running, 20 ms" in playing.pong("start", "20")
    playing.until_pinged("first", "second")


def test_command_that_makes_no_sense_says_so_and_changes_nothing(playing: Stage) -> None:
    assert playing.pong("status") == "nobody plays\n"
    for command in ("pause", "resume", "stop"):
        said = playing.pong(command, fails=True)
        assert "pong between first and second is not being played" in said, said
    playing.pong("start", "86400000")
    before = re.sub(r" in \d+ ms", "", playing.pong("status"))
    assert "is running already: stop it first" in playing.pong("start", "5", fails=True)
    assert "is running already" in playing.pong("start", "5", "--between", "second", "first", fails=True)
    assert "is running, not paused" in playing.pong("resume", fails=True)
    assert re.sub(r" in \d+ ms", "", playing.pong("status")) == before
    playing.pong("pause")
    assert "is paused, not running" in playing.pong("pause", fails=True)
    assert "is paused already" in playing.pong("start", "5", fails=True)
    playing.pong("stop")
    assert "is stopped, not running or paused" in playing.pong("stop", fails=True)
    assert "cannot play against itself" in playing.pong("start", "5", "--between", "first", "first", fails=True)
    assert ">= 1" in playing.pong("start", "0", fails=True)
    assert "Traceback" not in playing.output


def test_many_games_go_on_side_by_side(playing: Stage) -> None:
    playing.player("third")
    playing.all_there("third")
    playing.pong("start", "20")
    playing.pong("start", "25", "--game", "other")
    playing.pong("start", "30", "--between", "third", "first")
    playing.until_pinged("first", "second", 10)
    playing.until_pinged("second", "first", 10, game="other")
    playing.until_pinged("first", "third", 10)
    playing.pong("pause", "--game", "other")
    status = playing.pong("status")
    assert "first: pong with second is running, 20 ms" in status
    assert "first: other with second is paused, 25 ms" in status
    assert "first: pong with third is running, 30 ms" in status
    playing.until_pinged("first", "second", 10)


def test_killed_player_is_waited_for_and_goes_on_when_it_is_back(stage: Stage) -> None:
    stage.broker()
    stage.player("first")
    second = stage.player("second")
    stage.all_there("first", "second")
    stage.pong("start", "200")
    stage.until_pinged("second", "first", 3)
    second.kill()
    second.wait()
    stage.until_logged("first", "waits for second: ")
    pings = stage.pings("first", "second")
    assert re.search(r"first: pong with second is running, 200 ms.* waits for second: ", stage.pong("status"))
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


def test_player_that_is_not_there_is_named(playing: Stage) -> None:
    assert "nobody" in playing.pong("start", "50", "--between", "nobody", "first", fails=True)
    said = playing.pong("start", "50", "--between", "first", "nobody")
    assert re.search("waits for nobody: .*no such device has been seen", said), said


def test_only_its_players_move_a_game(playing: Stage) -> None:
    playing.pong("start", "86400000")
    score = '{"game": "pong", "players": ["first", "second"], "pong_time_ms": 5, "began": 9000000000000000, "pings": 7}'
    playing.spawn("outrider.controller.cli.main", "send", "second", "ping", f"[{score}]", "--as", "mallory")
    until(lambda: "mallory does not play pong" in playing.output, "it was refused")
    assert "86400000 ms, 1 pings" in playing.pong("status")
