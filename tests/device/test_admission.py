import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.device import ping
from outrider.device.admission import Admission, Registration, Situation
from outrider.device.journal import CLOCK_TOLERANCE
from outrider.schema import Code, Command, CommandSpec, Status
from outrider.schema.messages import MAX_EXPIRY

DATA = Registration(CommandSpec(ping, name="work"), ping)
INLINE = Registration(CommandSpec(ping), ping, inline=True)
CONTROL = Registration(CommandSpec(ping, name="start"), ping, control=True, inline=True)
QUESTION = Registration(CommandSpec(ping, name="stats"), ping, idempotent=True, control=True, inline=True)
COMMANDS = {"work": DATA, "ping": INLINE, "start": CONTROL, "stats": QUESTION}
RULES = Admission("lamp-1", frozenset(["kitchen"]), COMMANDS, max_jobs=3)
NOW = 1_700_000_000.0


def refused(command: Command, situation: Situation) -> tuple[Status, str] | None:
    refusal = RULES.refusal(command, COMMANDS.get(command.command), situation)
    return refusal and (refusal.status, refusal.code)


def test_command_on_a_ready_device_may_run() -> None:
    assert refused(Command(command="work"), Situation(NOW, "ready")) is None


def test_question_is_answered_however_late_it_is() -> None:
    """So that a device says what is wrong with its clock."""
    situation = Situation(NOW, "ready")
    assert refused(Command(command="stats", expires=NOW - 3600), situation) is None
    assert refused(Command(command="start", expires=NOW - 3600), situation) == (Status.EXPIRED, "")
    assert refused(Command(command="ping", expires=NOW - 3600), situation) == (Status.EXPIRED, "")


@pytest.mark.parametrize(
    ("late", "words"), [(31, "31 s"), (119, "119 s"), (3570, "60 min"), (7300, "2 h"), (86400 * 1106, "1106 days")]
)
def test_how_late_a_command_is_is_said_in_words(late: float, words: str) -> None:
    refusal = RULES.refusal(Command(command="work", expires=NOW - late), DATA, Situation(NOW, "ready"))
    assert refusal is not None
    assert refusal.message.startswith(f"expired {words} before it arrived, by the clock of lamp-1")


def test_unknown_command_is_rejected_with_the_known_ones_named() -> None:
    refusal = RULES.refusal(Command(command="nope"), None, Situation(NOW, "ready"))
    assert refusal is not None
    assert (refusal.status, refusal.code) == (Status.REJECTED, Code.UNKNOWN_COMMAND)
    assert "ping, start, stats, work" in refusal.message


def test_only_control_commands_run_in_unready() -> None:
    assert refused(Command(command="work"), Situation(NOW, "unready")) == (Status.REJECTED, Code.NOT_READY)
    assert refused(Command(command="ping"), Situation(NOW, "unready")) == (Status.REJECTED, Code.NOT_READY)
    assert refused(Command(command="start"), Situation(NOW, "unready")) is None


def test_nothing_runs_once_terminated() -> None:
    assert refused(Command(command="start"), Situation(NOW, "terminated")) == (Status.REJECTED, Code.NOT_READY)


def test_busy_holds_back_jobs_only() -> None:
    busy = Situation(NOW, "ready", jobs=3)
    assert refused(Command(command="work"), busy) == (Status.REJECTED, Code.BUSY)
    assert refused(Command(command="ping"), busy) is None
    assert refused(Command(command="start"), busy) is None
    assert refused(Command(command="work"), Situation(NOW, "ready", jobs=2)) is None


def test_command_at_its_limit_is_busy_and_others_are_not() -> None:
    one_at_a_time = DATA._replace(max_parallel=1)
    rules = Admission("lamp-1", frozenset(), {"work": one_at_a_time, "rest": DATA}, max_jobs=3)
    situation = Situation(NOW, "ready", jobs=1, alike=1)
    refusal = rules.refusal(Command(command="work"), one_at_a_time, situation)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (Status.REJECTED, Code.BUSY)
    assert refusal.message == "lamp-1 runs 1 work of at most 1 already; try again when one has ended"
    assert rules.refusal(Command(command="rest"), DATA, situation) is None
    assert rules.refusal(Command(command="work"), one_at_a_time, Situation(NOW, "ready", jobs=1)) is None


def test_full_journal_holds_back_all_but_control_commands() -> None:
    full = Situation(NOW, "ready", journal_full=True)
    assert refused(Command(command="work"), full) == (Status.REJECTED, Code.BUSY)
    assert refused(Command(command="start"), full) is None


def test_command_for_another_is_rejected_and_for_a_group_is_not() -> None:
    for to, expected in {
        "lamp-2": (Status.REJECTED, Code.INVALID_MESSAGE),
        "cellar": (Status.REJECTED, Code.INVALID_MESSAGE),
        "lamp-1": None,
        "kitchen": None,
        "all": None,
    }.items():
        assert refused(Command(command="work", to=to), Situation(NOW, "ready")) == expected


@given(st.floats(1, 2e9), st.floats(1, 2e9), st.none() | st.floats(0, 2e9))
def test_what_is_past_its_expiry_never_runs(now: float, expires: float, issued: float | None) -> None:
    command = Command(command="work", issued=issued, expires=expires)
    outcome = refused(command, Situation(now, "ready"))
    if now - expires > CLOCK_TOLERANCE:
        assert outcome is not None
    begins = now + CLOCK_TOLERANCE if issued is None else issued
    if expires > begins + MAX_EXPIRY:
        assert outcome == (Status.REJECTED, Code.INVALID_MESSAGE)
    elif now - expires > CLOCK_TOLERANCE:
        assert outcome == (Status.EXPIRED, "")
    else:
        assert outcome is None


@given(st.floats(0, 1000), st.floats(-CLOCK_TOLERANCE, 1000))
def test_what_the_journal_has_forgotten_is_expired_whatever_the_clock_says(forgotten: float, later: float) -> None:
    command = Command(command="work", expires=NOW + later)
    outcome = refused(command, Situation(NOW, "ready", forgotten_until=NOW + forgotten))
    assert outcome == ((Status.EXPIRED, "") if NOW + later <= NOW + forgotten else None)
