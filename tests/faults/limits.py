"""Scenarios of clocks that are set, disks that are full, journals and queues at their limits."""

from typing import Final

from outrider.device import answers, backlog
from tests.faults.network import RESULT
from tests.faults.scenario import Scenario
from tests.faults.steps import (
    answered,
    clock,
    device_killed,
    device_starts,
    disk,
    dropped,
    events_sent,
    fault,
    heal,
    let_go,
    limit,
    refuses_to_start,
    replay,
    runs,
    seen,
    send,
    send_hold,
    told_behind,
)

HOUR: Final = 3600.0
YEAR: Final = 365 * 86_400.0

CLOCKS: Final = (
    *(
        Scenario(
            name=f"clock_{words}_back_before_a_command_runs_it_once",
            fault=f"the device's clock is {shown} behind when a command and its duplicate come",
            script=(clock(-seconds), send(), replay()),
            then=(told_behind(seconds),),
        )
        for words, shown, seconds in (("an_hour", "an hour", HOUR), ("a_year", "a year", YEAR))
    ),
    *(
        Scenario(
            name=f"clock_{words}_back_between_a_command_and_its_duplicate_runs_once",
            fault=f"the device's clock is set back by {shown} between a command and its duplicate",
            script=(fault("requester", f"drop {RESULT} to client 1"), send(), runs(1), clock(-seconds)),
        )
        for words, shown, seconds in (("an_hour", "an hour", HOUR), ("a_year", "a year", YEAR))
    ),
    *(
        Scenario(
            name=f"clock_{words}_ahead_is_told_and_nothing_runs",
            fault=f"the device's clock is {shown} ahead when commands come",
            script=(clock(seconds), *(send("ping"), answered) * 3, send(), replay()),
            gets=("expired",) * 4,
            runs=0,
            says="ahead of the clocks of who asks",
        )
        for words, shown, seconds in (("an_hour", "an hour", HOUR), ("a_year", "a year", YEAR))
    ),
    *(
        Scenario(
            name=f"clock_{words}_forward_between_a_command_and_its_duplicate_repeats_the_result",
            fault=f"the device's clock is set forward by {shown} between a command and its duplicate",
            script=(fault("requester", f"drop {RESULT} to client 1"), send(), runs(1), clock(seconds)),
        )
        for words, shown, seconds in (("an_hour", "an hour", HOUR), ("a_year", "a year", YEAR))
    ),
    Scenario(
        name="clock_forward_while_others_are_refused_forgets_nothing",
        fault="the device's clock is a year ahead, and another command comes between a command and its duplicate",
        script=(send(), answered, clock(YEAR), send("plain"), answered, replay(), clock(-YEAR), replay()),
        gets=("done", "expired"),
        runs=1,
    ),
    Scenario(
        name="clock_forward_and_right_again_takes_commands",
        fault="the device's clock is a year ahead for a moment",
        script=(
            send("work"),
            answered,
            clock(YEAR),
            send("work"),
            answered,
            clock(-YEAR),
            send("work"),
            replay(),
        ),
        gets=("done", "expired", "done"),
        runs=2,
    ),
)

DISKS: Final = (
    Scenario(
        name="full_disk_rejects_as_busy_and_nothing_runs",
        fault="the disk is full",
        script=(disk(0), send(), send("plain"), answered, disk(-1)),
        gets=("rejected busy", "rejected busy"),
        runs=0,
        says="cannot be written",
        process=True,
    ),
    Scenario(
        name="full_disk_at_the_start_is_said_and_the_command_waits",
        fault="the disk is full when the device starts",
        script=(
            device_killed,
            send(),
            refuses_to_start("cannot be written", full=True),
            device_starts,
        ),
        process=True,
    ),
    Scenario(
        name="folder_that_cannot_be_written_is_said_and_the_command_waits",
        fault="the device may not write where its journal is to be",
        script=(
            device_killed,
            send(),
            refuses_to_start("cannot be made", journal="/proc/outrider/lamp-1.sqlite"),
            device_starts,
        ),
        process=True,
    ),
    Scenario(
        name="journal_locked_by_another_process_is_said_and_that_one_goes_on",
        fault="the device is started a second time",
        script=(refuses_to_start("this device runs already"), send()),
        process=True,
        slow=True,
    ),
    Scenario(
        name="full_disk_while_a_command_runs_gives_its_result",
        fault="the disk is full when a command ends",
        script=(send(seconds=0.5), runs(1), disk(0), answered, replay(), disk(-1)),
        process=True,
    ),
)

LIMITS: Final = (
    Scenario(
        name="full_journal_rejects_as_busy",
        fault="the journal holds as many commands as it may",
        script=(*(send(), answered) * 4,),
        gets=("done", "done", "done", "rejected busy"),
        runs=3,
        says="journal of lamp-1 is full",
        entries=3,
    ),
    Scenario(
        name="more_jobs_than_the_device_takes_are_busy",
        fault="more commands come than the device takes on",
        script=(
            send_hold(),
            *(send("plain"),) * 9,
            seen("requester", "PUBLISH", "passed", contains=b"busy", count=2),
            let_go,
        ),
        gets=("done",) * 8 + ("rejected busy",) * 2,
        runs=7,
    ),
    Scenario(
        name="full_outbox_of_the_device_takes_commands_later",
        fault="more answers wait for the broker than the device can keep",
        script=(
            limit(answers, "MOST_WAITING", 3),
            fault("device", "hold PUBACK to client"),
            *(step for count in (1, 2, 3) for step in (send(), runs(count))),
            *(send(),) * 3,
            seen("device", "PUBLISH", "passed", direction="to_client", count=9),
            heal("device"),
        ),
        gets=("done",) * 6,
        runs=6,
        then=(dropped("overrun"),),
    ),
    Scenario(
        name="full_events_fail_to_be_emitted_and_those_kept_are_sent",
        fault="a command emits an event while as many wait for the broker as the device keeps",
        script=(
            fault("device", "hold PUBACK to client"),
            *(step for count in (1, 2, 3) for step in (send("tell"), runs(count))),
            send("tell"),
            answered,
            heal("device"),
        ),
        gets=("done", "done", "done", "failed"),
        runs=3,
        says="keeps 3 events",
        then=(
            events_sent(3),
            seen("device", "PUBLISH", "passed", direction="to_broker", contains=b'"name":"told"', count=3),
            send("tell"),
            events_sent(4),
        ),
    ),
    Scenario(
        name="full_window_of_the_requester_holds_commands_back",
        fault="more commands wait for the broker's acknowledgement than the requester lets out",
        script=(
            limit(backlog, "MOST_PENDING", 3),
            fault("requester", "hold PUBACK to client"),
            *(send(),) * 6,
            runs(3),
            heal("requester"),
        ),
        gets=("done",) * 6,
        runs=6,
    ),
)
