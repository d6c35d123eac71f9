"""Scenarios of clocks that are set, disks that are full, journals and queues at their limits."""

from typing import Final

from tests.faults.network import COMMAND, RESULT
from tests.faults.scenario import Scenario
from tests.faults.steps import clock, disk, fault, heal, let_go, replay, runs, seen, send, send_hold, told_behind, answered

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
        name="full_journal_takes_commands_again_when_older_ones_have_expired",
        fault="the journal was full, and what is in it has expired",
        script=(*(send(expires=30.0), answered) * 3, clock(100.0), send(expires=200.0)),
        gets=("done",) * 4,
        runs=4,
        entries=3,
    ),
    Scenario(
        name="more_jobs_than_the_device_takes_are_busy",
        fault="more commands come than the device takes on",
        script=(send_hold(), *(send("plain"),) * 9, seen("requester", "PUBLISH", "passed", contains=b"busy", count=2), let_go),
        gets=("done",) * 8 + ("rejected busy",) * 2,
        runs=7,
    ),
)
_ = (COMMAND, heal)
