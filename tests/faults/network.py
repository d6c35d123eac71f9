"""Scenarios of the network: what is lost, doubled, late, in another order, cut, silent or slow."""

from typing import Final

from tests.faults.scenario import Scenario
from tests.faults.steps import (
    another_requester,
    answered,
    fault,
    heal,
    replay,
    runs,
    seen,
    send,
)

COMMAND: Final = 'PUBLISH topic +/devices/+/cmd/# contains "work"'
RESULT: Final = "PUBLISH topic +/devices/+/result/#"
ACCEPTED: Final = "PUBLISH topic +/devices/+/progress/#"

PACKETS: Final = (
    Scenario(
        name="duplicate_with_dup_runs_once",
        fault="the broker sends a command again, marked DUP",
        script=(fault("device", f"duplicate {COMMAND} to client"), send()),
    ),
    Scenario(
        name="duplicate_as_a_new_message_runs_once",
        fault="a command comes twice, as two messages",
        script=(fault("device", f"duplicate new {COMMAND} to client"), send()),
    ),
    Scenario(
        name="duplicate_long_after_the_result_runs_once",
        fault="a command comes again, five times, after it was answered",
        script=(send(), answered, replay(5)),
    ),
    Scenario(
        name="late_duplicate_of_stop_does_not_undo_start",
        fault="an older `stop` comes again after a `start`",
        script=(send("stop"), answered, send("start"), answered, replay(), send()),
        gets=("done",) * 3,
    ),
    Scenario(
        name="duplicate_result_counts_once",
        fault="a result comes twice",
        script=(fault("requester", f"duplicate new {RESULT} to client"), send(), send()),
        gets=("done", "done"),
        runs=2,
    ),
    Scenario(
        name="reordered_commands_run_once_each",
        fault="the second of two commands overtakes the first",
        script=(fault("device", f"reorder {COMMAND} to client 1"), send(times=2)),
        gets=("done", "done"),
        runs=2,
    ),
    Scenario(
        name="lost_puback_of_the_device_runs_once",
        fault="the device's acknowledgement of a command is lost",
        script=(fault("device", "drop PUBACK to broker 1"), send()),
    ),
    Scenario(
        name="connection_lost_with_the_puback_of_the_device_runs_once",
        fault="the device's acknowledgement of a command is lost with its connection",
        script=(fault("device", "cut PUBACK to broker"), send()),
    ),
    Scenario(
        name="lost_puback_of_the_requester_runs_once",
        fault="the broker's acknowledgement of a command is lost",
        script=(fault("requester", "drop PUBACK to client 1"), send()),
    ),
    Scenario(
        name="connection_lost_with_the_puback_of_the_requester_runs_once",
        fault="the broker's acknowledgement of a command is lost with the requester's connection",
        script=(fault("requester", "cut PUBACK to client"), send(seconds=0.3)),
    ),
    Scenario(
        name="result_before_the_puback_of_its_command_is_taken",
        fault="a result arrives before the broker's acknowledgement of its command",
        script=(fault("requester", "hold PUBACK to client"), send()),
    ),
    Scenario(
        name="command_lost_on_the_way_to_the_broker_runs_once",
        fault="a command is lost on the way to the broker",
        script=(fault("requester", f"drop {COMMAND} to broker 1"), send()),
    ),
    Scenario(
        name="command_lost_after_its_puback_runs_once",
        fault="the broker acknowledges a command and loses it",
        script=(fault("device", f"drop {COMMAND} to client 2"), send()),
    ),
    Scenario(
        name="accepted_lost_runs_once",
        fault="the word that a command was accepted is lost",
        script=(fault("requester", f"drop {ACCEPTED} to client 1"), send(seconds=1.0)),
    ),
    Scenario(
        name="result_lost_on_the_way_to_the_broker_is_given_again",
        fault="a result is lost on the way to the broker",
        script=(fault("device", f"drop {RESULT} to broker 1"), send()),
    ),
    Scenario(
        name="result_lost_after_its_puback_is_given_again",
        fault="the broker acknowledges a result and loses it",
        script=(fault("requester", f"drop {RESULT} to client 2"), send()),
    ),
    Scenario(
        name="connection_lost_with_the_result_is_given_again",
        fault="the device's connection ends with its result",
        script=(fault("device", f"cut {RESULT} to broker"), send()),
    ),
)

CONNECTIONS: Final = (
    Scenario(
        name="lost_connack_is_made_good_by_another_connection",
        fault="the broker's answer to the device's CONNECT is lost",
        script=(fault("device", "drop CONNACK 1", "cut"), send()),
    ),
    Scenario(
        name="lost_suback_is_made_good_by_another_connection",
        fault="the broker's answer to the device's SUBSCRIBE is lost after a reconnect",
        script=(fault("device", "drop SUBACK 1", "cut"), send()),
    ),
    Scenario(
        name="requester_away_while_the_result_comes_gets_it",
        fault="the requester is cut off while the result comes",
        script=(
            send(seconds=0.5),
            runs(1),
            fault("requester", "refuse", "cut"),
            seen("device", "PUBLISH", "passed", direction="to_broker", contains=b'"done"'),
            heal("requester"),
        ),
    ),
    Scenario(
        name="two_requesters_of_one_name_get_their_own_results",
        fault="two requesters have the same name",
        script=(another_requester, send(), send(by=1), send(), send(by=1)),
        gets=("done",) * 4,
        runs=4,
    ),
    *(
        Scenario(
            name=f"half_open_{way}_at_the_{side}_runs_once",
            fault=f"the {side}'s connection stands, and nothing passes {words}",
            script=(send(seconds=0.3), runs(1), fault(side, f"half-open {option}"), send()),
            gets=("done", "done"),
            runs=2,
        )
        for side in ("device", "requester")
        for way, option, words in (
            ("both_ways", "", "any more"),
            ("towards_the_broker", "to broker", "towards the broker"),
            ("from_the_broker", "to client", "from the broker"),
        )
    ),
    *(
        Scenario(
            name=f"blackholed_reconnect_of_the_{side}_runs_once",
            fault=f"the {side} loses its connection, and new ones are accepted and hear nothing for a while",
            script=(
                send(seconds=0.3),
                runs(1),
                fault(side, "blackhole", "cut"),
                seen(side, None, "blackholed"),
                send(),
                heal(side),
            ),
            gets=("done", "done"),
            runs=2,
        )
        for side in ("device", "requester")
    ),
    Scenario(
        name="slow_link_with_many_answers_gives_all",
        fault="30 answers of 1 kB over 10 kB/s, and the requester asks again meanwhile",
        script=(fault("device", "throttle 10kB/s to broker"), *(send(times=6, size=1000), answered) * 5),
        gets=("done",) * 30,
        runs=30,
        slow=True,
    ),
    Scenario(
        name="slow_link_with_a_large_answer_gives_it",
        fault="an answer takes longer than the connection may be silent: 100 kB over 25 kB/s",
        script=(fault("device", "throttle 25kB/s to broker"), send(size=100_000)),
        slow=True,
    ),
)
