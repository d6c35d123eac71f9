"""The REPL as a terminal loop, driven on a pseudo-terminal, against real devices."""

import re
from pathlib import Path

from outrider.controller.broker import BrokerProcess
from tests.controller.conftest import Open, Setting, until_ready, write_gear
from tests.processes import Processes, script
from tests.terminals import CTRL_C, CTRL_D, CTRL_U, ENTER, TAB, UP, open_terminal


async def test_answers_arrive_while_typing_and_each_has_its_tag(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("use lamp-1" + ENTER)
        await terminal.wait_for_line(r"lamp-1 \[ready\]> ?")
        terminal.type('calculate 1.2 "slow one"' + ENTER)
        await terminal.wait_for(r"^\[1\] lamp-1 calculate 1\.2 \"slow one\" .*accepted|%")
        terminal.type('calculate(0.4, "quick one")' + ENTER)
        await terminal.wait_for(r"^\[2\] lamp-1 calculate\(0\.4, \"quick one\"\) .* \d+%  0\.\d of 0\.4 s")
        terminal.type("pi")
        await terminal.wait_for(r"^\[2\] lamp-1  done  quick one")
        await terminal.wait_for_line(r"lamp-1 \[ready\]> pi")
        terminal.type("ng")
        await terminal.wait_for(r"^\[1\] lamp-1  done  slow one  \(1\.\d s\)")
        await terminal.wait_for_line(r"lamp-1 \[ready\]> ping")
        terminal.type(ENTER)
        await terminal.wait_for(r"^\[3\] lamp-1  done  \d+")
        assert re.findall(r"^\[\d\]", terminal.text, re.MULTILINE) == ["[2]", "[1]", "[3]"]
        terminal.type(CTRL_D)
        assert await terminal.wait() == 0


async def test_prompt_follows_the_state_while_typing(open_repl: Open, setting: Setting) -> None:
    async with open_repl() as terminal, setting.fleet() as fleet:
        terminal.type("use lamp-2" + ENTER)
        await terminal.wait_for_line(r"lamp-2 \[ready\]> ?")
        terminal.type("pin")
        await terminal.wait_for_line(r"lamp-2 \[ready\]> pin")
        await fleet.call("lamp-2", "stop")
        await terminal.wait_for_line(r"lamp-2 \[unready\]> pin")
        terminal.type(CTRL_U + "use @kitchen" + ENTER)
        await terminal.wait_for_line(r"@kitchen \[1 of 2 ready\]> ?")
        terminal.type("start" + ENTER)
        await terminal.wait_for(r"^\[1\] 2 targets: 2 done")
        await terminal.wait_for_line(r"@kitchen \[2 of 2 ready\]> ?")
        terminal.type("use" + ENTER)
        await terminal.wait_for_line("outrider> ?")


async def test_mistakes_are_explained_and_the_prompt_comes_back(open_repl: Open) -> None:
    async with open_repl() as terminal:
        for typed, said in (
            ("use lamp-9", "error: no device lamp-9"),
            ("use lamp-1", ""),
            ("clculate 1 x", "error: lamp-1 has no command clculate; did you mean calculate"),
            ("calculate fast x", "error: lamp-1: argument 'x'"),
            ("calculate(1", "error: .*"),
            ('calculate 1 "x', "error: No closing quotation"),
            ("help clculate", "did you mean calculate"),
        ):
            terminal.type(typed + ENTER)
            await terminal.wait_for(said)
            await terminal.wait_for_line(r"(outrider|lamp-1 \[ready\])> ?")
        terminal.type("exit()" + ENTER)
        assert await terminal.wait() == 0


async def test_ctrl_c_clears_the_line_and_says_how_to_leave_when_there_is_none(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("use lam")
        await terminal.wait_for_line("outrider> use lam")
        terminal.type(CTRL_C)
        await terminal.wait_for_line("outrider> ?")
        assert "Ctrl-D or exit leaves" not in terminal.text
        terminal.type(CTRL_C)
        await terminal.wait_for("Ctrl-D or exit leaves")
        await terminal.wait_for_line("outrider> ?")


async def test_tab_completes_devices_commands_arguments_and_values(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("use ge" + TAB)
        await terminal.wait_for_line("outrider> use gear-1")
        terminal.type(ENTER)
        await terminal.wait_for_line(r"gear-1 \[ready\]> ?")
        terminal.type("tu" + TAB)
        await terminal.wait_for_line(r"gear-1 \[ready\]> turn")
        terminal.type(" " + TAB)
        await terminal.wait_for("speed= +integer, 0 to 9")
        terminal.type("sp" + TAB)
        await terminal.wait_for_line(r"gear-1 \[ready\]> turn .*speed=")
        terminal.type("3 dir" + TAB)
        await terminal.wait_for_line(r"gear-1 \[ready\]> turn .*speed=3 direction=")
        terminal.type("le" + TAB)
        await terminal.wait_for_line(r"gear-1 \[ready\]> turn .*direction=left")


async def test_history_is_kept_between_sessions(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("use lamp-1" + ENTER)
        await terminal.wait_for_line(r"lamp-1 \[ready\]> ?")
        terminal.type(CTRL_D)
        assert await terminal.wait() == 0
    async with open_repl() as terminal:
        terminal.type(UP)
        await terminal.wait_for_line("outrider> use lamp-1")


async def test_cancel_takes_the_tag(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("send lamp-1 calculate 30 long" + ENTER)
        await terminal.wait_for(r"^\[1\] lamp-1 calculate 30 long .*(accepted|%)")
        terminal.type("cancel 1" + ENTER)
        await terminal.wait_for(r"^\[1\] cancelling it on lamp-1")
        await terminal.wait_for(r"^\[1\] lamp-1  cancelled")


async def test_leaving_says_what_goes_on(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("send lamp-1 calculate 2 bye" + ENTER)
        await terminal.wait_for(r"^\[1\] .*(accepted|%)")
        terminal.type("exit" + ENTER)
        assert await terminal.wait() == 0
        assert re.search(r"^\[1\] lamp-1 .*calculate 2 bye goes on", terminal.text, re.MULTILINE)


async def test_pasted_lines_are_run_one_after_the_other(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("\x1b[200~use lamp-1\ncalculate 0.1 one\ncalculate 0 two\x1b[201~" + ENTER)
        await terminal.wait_for(r"^\[1\] lamp-1  done  one")
        await terminal.wait_for(r"^\[2\] lamp-1  done  two")


async def test_what_a_device_says_cannot_move_the_cursor(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("send gear-1 tell" + ENTER)
        await terminal.wait_for(r"^\[1\] gear-1  done  .u001b\[31mred")
        assert re.search(r"^\[1\] gear-1  \| one.u001b\[2J$", terminal.text, re.MULTILINE)
        assert "outrider> send gear-1 tell" in terminal.text


async def test_lost_broker_is_told_and_answers_come_in_when_it_is_back(
    restartable_broker: BrokerProcess, spawn: Processes, tmp_path: Path
) -> None:
    setting = Setting(restartable_broker.address, "", spawn)
    write_gear(tmp_path)
    spawn(script("outrider-device"), "run", "gear:gear", "--broker", setting.address, cwd=tmp_path)
    await until_ready(setting, ["gear-1"])
    go = tmp_path / "go"
    async with open_terminal(script("outrider"), "repl", env=setting.environment(tmp_path)) as terminal:
        await terminal.wait_for_line("outrider> ?")
        terminal.type("use gear-1" + ENTER)
        await terminal.wait_for_line(r"gear-1 \[ready\]> ?")
        terminal.type(f"hold {go}" + ENTER)
        await terminal.wait_for(r"^\[1\] gear-1 hold .*accepted")
        terminal.type("turn le")
        await restartable_broker.stop()
        await terminal.wait_for("lost the broker")
        await terminal.wait_for_line(r"gear-1 \[no broker\]> turn le")
        terminal.type("ft" + ENTER)
        await terminal.wait_for(r"^\[2\] gear-1 turn left +waits for the broker")
        await restartable_broker.start()
        await terminal.wait_for("the broker is back", timeout=20)
        await terminal.wait_for(r"^\[2\] gear-1  done  left 1 False", timeout=20)
        go.touch()
        await terminal.wait_for(r"^\[1\] gear-1  done  held")


async def test_device_that_is_killed_shows_as_lost(
    setting: Setting, open_repl: Open, unique: str, spawn: Processes
) -> None:
    id = f"lost-{unique}"
    lamp = spawn(
        *(script("outrider-device"), "run", "--id", id, "--ready"),
        *setting.at,
    )
    await until_ready(setting, [id])
    async with open_repl() as terminal:
        terminal.type(f"use {id}" + ENTER)
        await terminal.wait_for_line(rf"{id} \[ready\]> ?")
        terminal.type("calculate 30 x" + ENTER)
        await terminal.wait_for(r"^\[1\] .*(accepted|%)")
        lamp.kill()
        await terminal.wait_for_line(rf"{id} \[lost\]> ?")
        await terminal.wait_for(rf"^\[1\] {id}  running  .* lost")


async def test_long_target_is_used_and_shortened_in_the_prompt(open_repl: Open) -> None:
    async with open_repl(columns=60) as terminal:
        terminal.type("use (room=shop and fw<2.1) or 'no such room'=x or @kitchen" + ENTER)
        await terminal.wait_for_line(r"\(room=shop and fw<2… \[3 of 3 ready\]> ?")
        terminal.type("ping" + ENTER)
        await terminal.wait_for(r"^\[1\] 3 targets: 3 done")


async def test_help_stands_below_the_line_while_it_is_typed(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("use room=shop")
        await terminal.wait_for(r"^use \[TARGET\]  Send what")
        await terminal.wait_for(r"^gear-1, ready$")
        terminal.type(ENTER)
        await terminal.wait_for_line(r"room=shop \[1 of 1 ready\]> ?")
        terminal.type("turn left 1")
        await terminal.wait_for(r"^turn direction \[speed\] \[fast\]  Turn the gear\.$")
        await terminal.wait_for(r"^speed  integer, 0 to 9, default 1$")
        terminal.type("2")
        await terminal.wait_for(r"^argument 'speed': 12 is greater than the maximum of 9$")
        await terminal.wait_for_line(r"room=shop .*> turn left 12")


async def test_help_and_bars_stand_below_each_other(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("use lamp-1" + ENTER + "calculate 30 long" + ENTER)
        await terminal.wait_for(r"^\[1\] lamp-1 calculate 30 long .* \d+%")
        terminal.type("calculate 5")
        await terminal.wait_for(r"^calculate x msg .*\nx  number, at least 0\n\[1\] lamp-1 calculate 30 long .*%")
        await terminal.wait_for_line(r"lamp-1 \[ready\]> calculate 5( .*)?")
        terminal.type(CTRL_U + "cancel 1" + ENTER)
        await terminal.wait_for(r"^\[1\] lamp-1  cancelled")


async def test_narrow_terminal_shows_prompt_help_and_bars(open_repl: Open) -> None:
    async with open_repl(columns=40, lines=20) as terminal:
        terminal.type("use lamp-1 or room=shop" + ENTER)
        await terminal.wait_for_line(r"lamp-1 or ro… \[2/2\]> ?")
        terminal.type("calculate 3 hello" + ENTER)
        await terminal.wait_for(r"^\[1\] lamp-1… calcula….*%")
        terminal.type("calculate 1")
        await terminal.wait_for(r"^calculate x msg  Take x seconds, .*…$")
        await terminal.wait_for(r"^\[1\] 2 targets: 1 done, 1 rejected")
        await terminal.wait_for_line(r"lamp-1 or ro… \[2/2\]> calculate 1.*")


async def test_watch_takes_the_terminal_and_gives_it_back(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("use lamp-1" + ENTER + "calculate 1.5 meanwhile" + ENTER + "watch @kitchen" + ENTER)
        await terminal.wait_for("^q quit")
        await terminal.wait_for(r"^2 devices: 2 ready")
        await terminal.wait_for(r"^lamp-1 +ready .*done calculate meanwhile")
        assert "[1] lamp-1" not in terminal.text
        terminal.type("q")
        await terminal.wait_for_line(r"lamp-1 \[ready\]> ?")
        await terminal.wait_for(r"^\[1\] lamp-1  done  meanwhile")
        terminal.type("watch" + ENTER)
        await terminal.wait_for(r"^\d devices: 3 ready")
        terminal.type(CTRL_C)
        await terminal.wait_for_line(r"lamp-1 \[ready\]> ?")
        terminal.type("ping" + ENTER)
        await terminal.wait_for(r"^\[2\] lamp-1  done  \d+")


async def test_terminate_asks_first_and_quit_leaves_devices_alone(
    setting: Setting, open_repl: Open, unique: str, spawn: Processes
) -> None:
    id = f"ends-{unique}"
    lamp = spawn(script("outrider-device"), "run", "--id", id, "--ready", *setting.at)
    await until_ready(setting, [id])
    async with open_repl() as terminal:
        terminal.type(f"use {id}" + ENTER)
        await terminal.wait_for_line(rf"{id} \[ready\]> ?")
        for no in ("n", ENTER, CTRL_C, CTRL_D):
            terminal.type("terminate" + ENTER)
            await terminal.wait_for_line(r".*Terminate\? \[y/N\] ?")
            terminal.type("x" + no)
            await terminal.wait_for_line(rf"{id} \[ready\]> ?")
        await terminal.wait_for("(?s)(not terminated; nothing was sent.*){4}")
        terminal.type("quit" + ENTER)
        assert await terminal.wait() == 0
    assert lamp.running
    async with open_repl() as terminal:
        terminal.type(f"use {id}" + ENTER + "terminate" + ENTER)
        await terminal.wait_for_line(r".*Terminate\? \[y/N\] ?")
        terminal.type("y")
        await terminal.wait_for(rf"^\[1\] {id}  done  terminated")
        await terminal.wait_for_line(rf"{id} \[terminated\]> ?")
        assert await lamp.wait() == 0


async def test_large_answer_is_cut_and_says_where_the_rest_is(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("send gear-1 much 250000" + ENTER)
        await terminal.wait_for(r"… and 246,\d{3} characters more; all of it: outrider results", 20)
        await terminal.wait_for_line("outrider> ?")


async def test_jobs_and_errors_of_questions_come_beside_what_is_typed(open_repl: Open) -> None:
    async with open_repl() as terminal:
        terminal.type("send lamp-1 calculate 30 long" + ENTER)
        await terminal.wait_for(r"^\[1\] .*(accepted|%)")
        terminal.type("jobs" + ENTER + "pi")
        await terminal.wait_for(r"^\w+ +lamp-1 +calculate +tester")
        terminal.type(CTRL_U + "cancel nobody" + ENTER + "pi")
        await terminal.wait_for("^error: no device runs nobody", 20)
        await terminal.wait_for_line("outrider> pi")
        terminal.type(CTRL_U + "cancel 1" + ENTER)
        await terminal.wait_for(r"^\[1\] lamp-1  cancelled")


async def test_terminal_echoes_no_key_while_answers_are_printed(open_repl: Open) -> None:
    async with open_repl() as terminal:
        await terminal.wait_for_line("outrider> ?")
        terminal.echoed = False
        for tag in range(1, 21):
            terminal.type("send all ping" + ENTER)
            await terminal.wait_for(rf"^\[{tag}\] \d+ targets?: ")
        assert not terminal.echoed
        terminal.type("exit" + ENTER)
        assert await terminal.wait() == 0
        assert terminal.echoed
