"""Scenarios of devices and brokers that die, come back, or are somebody else."""

from typing import Final

from tests.faults.network import COMMAND, RESULT
from tests.faults.scenario import Scenario
from tests.faults.stage import Where
from tests.faults.steps import (
    answered,
    broker_back,
    broker_killed,
    device_back,
    device_dies,
    device_killed,
    device_returns,
    device_starts,
    fault,
    heal,
    let_go,
    runs,
    seen,
    send,
    send_hold,
    session_dropped,
    state,
    taken_over,
)

BIRTH: Final = "PUBLISH topic +/devices/+/state"

SIDES: Final[tuple[tuple[Where, str], ...]] = (("requester", "is_not_believed"), ("device", "is_healed"))
"""Who gets a will late, and what comes of it."""

DEVICES: Final = (
    Scenario(
        name="device_killed_after_it_ran_gives_its_result_later",
        fault="the device is killed after it ran and before its result left",
        script=(
            fault("device", f"hold {RESULT}"),
            send(),
            seen("device", "PUBLISH", "held"),
            device_killed,
            heal("device"),
            device_back,
        ),
        process=True,
    ),
    Scenario(
        name="device_killed_while_it_ran_is_interrupted",
        fault="the device is killed in the middle of a command",
        script=(send(seconds=30.0), runs(1), device_killed, device_back),
        gets=("interrupted",),
        process=True,
    ),
    Scenario(
        name="device_killed_while_it_ran_runs_an_idempotent_command_again",
        fault="the device is killed in the middle of an idempotent command",
        script=(send("again", seconds=1.0), runs(1), device_killed, device_back),
        runs=2,
        process=True,
    ),
    Scenario(
        name="device_killed_before_a_command_reached_it_runs_it_once",
        fault="the device is killed while a command is on its way to it",
        script=(
            fault("device", f"hold {COMMAND} to client"),
            send(),
            seen("device", "PUBLISH", "held"),
            device_killed,
            heal("device"),
            device_back,
        ),
        process=True,
    ),
    Scenario(
        name="device_killed_before_a_command_started_runs_it_once",
        fault="the device is killed while an accepted command waits for a thread",
        script=(
            send_hold(),
            send("plain"),
            seen("requester", "PUBLISH", "passed", direction="to_client", contains=b'"accepted":true', count=2),
            device_killed,
            device_back,
            let_go,
        ),
        gets=("interrupted", "done"),
        process=True,
    ),
    Scenario(
        name="device_restarted_without_its_broker_session_runs_once",
        fault="the device is killed with a command in its queue, and the broker drops its session",
        script=(device_killed, send(), session_dropped, device_starts),
        process=True,
    ),
    *(
        Scenario(
            name=f"will_after_the_next_birth_{result}",
            fault=f"the will of a lost connection comes to the {side} after the next birth",
            script=(
                fault(side, f"hold {BIRTH} to client contains lost"),
                device_returns,
                seen(side, "PUBLISH", "held"),
                send(),
                answered,
                heal(side),
                send(),
            ),
            gets=("done", "done"),
            runs=2,
            then=(state("ready"),),
        )
        for side, result in SIDES
    ),
    Scenario(
        name="death_before_the_birth_is_made_good_by_the_next_one",
        fault="a device connects, and dies before it has said that it is there",
        script=(
            device_dies,
            state("lost"),
            fault("device", f"hold {BIRTH} to broker"),
            device_starts,
            seen("device", "PUBLISH", "held"),
            send(),
            device_dies,
            heal("device"),
            device_back,
        ),
        process=True,
    ),
    Scenario(
        name="takeover_and_death_before_the_birth_is_made_good",
        fault="another client takes the device's session over, and dies before its birth",
        script=(send(seconds=0.5), runs(1), taken_over, send()),
        gets=("done", "done"),
        runs=2,
    ),
)

BROKERS: Final = (
    Scenario(
        name="broker_back_empty_while_a_command_waits_in_it_runs_once",
        fault="the broker dies with a command in its queue, and comes back without states, sessions and queues",
        script=(device_killed, send(), broker_killed, broker_back, device_starts),
        process=True,
        own_broker=True,
    ),
    Scenario(
        name="broker_back_empty_while_a_command_runs_gives_its_result",
        fault="the broker dies while a command runs, and comes back empty",
        script=(send(seconds=0.5), runs(1), broker_killed, broker_back),
        own_broker=True,
    ),
    Scenario(
        name="broker_gone_while_the_result_comes_gives_it_later",
        fault="a command finishes while there is no broker",
        script=(
            send(seconds=0.3),
            runs(1),
            broker_killed,
            seen("device", None, "unreachable"),
            broker_back,
        ),
        own_broker=True,
    ),
    Scenario(
        name="broker_back_empty_without_the_result_runs_once",
        fault="the broker dies after a command ran and before its result was passed on, and comes back empty",
        script=(
            fault("requester", f"hold {RESULT}"),
            send(),
            seen("requester", "PUBLISH", "held"),
            broker_killed,
            heal("requester"),
            broker_back,
        ),
        own_broker=True,
    ),
)
