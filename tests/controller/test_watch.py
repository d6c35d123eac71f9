"""The model of `outrider watch`, and how it is drawn: pure, so without a broker and without waiting."""

import string
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from rich.cells import cell_len

from outrider.controller.cli.board import View, page, snapshot
from outrider.controller.watch import (
    ASK_AGAIN,
    GIVEN_UP,
    JOBS,
    RECENT,
    REMEMBERED,
    SILENT,
    STILL_RUNNING,
    Board,
    Rank,
    Rate,
    Sort,
    natural,
)
from outrider.device import RunningJob
from outrider.schema import Error, Progress, Result, State, Status

NOW = 1_000_000.0


def state(id: str, status: str = "ready", session: int = 1, **tags: str | float | bool) -> State:
    statuses = {"ready", "unready", "lost", "terminated"}
    assert status in statuses
    return State(device=id, status=status, session=session, since=NOW - 100, tags=tags)  # type: ignore[arg-type]  # asserted


def progress(device: str, id: str, fraction: float | None = None, text: str | None = None, data: str = "") -> Progress:
    if data:
        return Progress(id=id, device=device, seq=0, stream="stdout", data=data)
    accepted = fraction is None and text is None
    return Progress(id=id, device=device, seq=0, accepted=accepted, fraction=fraction, text=text)


def result(device: str, id: str, status: Status = Status.DONE, command: str = "dim", value: str = "40") -> Result:
    error = None if status is Status.DONE else Error("error", "it broke")
    return Result(
        id=id,
        device=device,
        command=command,
        status=status,
        value=Raw(value.encode()),
        error=error,
        started=NOW - 2,
        finished=NOW - 1,
    )


def running(id: str, command: str = "calibrate", requester: str = "ann", fraction: float | None = None) -> RunningJob:
    return RunningJob(id, command, requester, "", NOW - 50, NOW - 50, fraction, None)


def board(*ids: str, **statuses: str) -> Board:
    made = Board(NOW)
    for id in ids:
        made.state(state(id), NOW, standing=True)
    for id, status in statuses.items():
        made.state(state(id.replace("_", "-"), status), NOW, standing=True)
    return made


def text_of(made: Board, view: View | None = None, *, width: int = 80, height: int = 24, now: float = NOW) -> list[str]:
    lines = page(made, view or View("mqtt://localhost"), now, width, height).lines
    assert len(lines) == height
    assert all(cell_len(line.plain) <= width for line in lines)
    return [line.plain.rstrip() for line in lines]


# Jobs


def test_a_job_begins_with_its_first_progress_and_ends_with_its_result() -> None:
    made = board("lamp-1")
    made.command("ann", "c1", "calibrate", NOW)
    assert made.totals(NOW).running == 0
    made.progress("ann", progress("lamp-1", "c1"), NOW + 1)
    made.progress("ann", progress("lamp-1", "c1", 0.5, "half"), NOW + 2)
    (job,) = made.devices["lamp-1"].jobs.values()
    assert (job.command, job.requester, job.fraction, job.text, job.since) == ("calibrate", "ann", 0.5, "half", NOW + 1)
    made.result("ann", result("lamp-1", "c1"), NOW + 3)
    assert made.totals(NOW + 3).running == 0
    assert made.devices["lamp-1"].last is not None


def test_progress_that_comes_after_the_result_begins_no_job() -> None:
    made = board("lamp-1")
    made.result("ann", result("lamp-1", "c1"), NOW)
    made.progress("ann", progress("lamp-1", "c1", 0.9), NOW + 1)
    made.told("lamp-1", [running("c1")], NOW, NOW + 1)
    assert made.totals(NOW + 1).running == 0


def test_the_same_id_of_two_requesters_is_two_jobs() -> None:
    made = board("lamp-1")
    made.progress("ann", progress("lamp-1", "c1"), NOW)
    made.progress("bob", progress("lamp-1", "c1"), NOW)
    made.result("ann", result("lamp-1", "c1"), NOW)
    assert list(made.devices["lamp-1"].jobs) == [("bob", "c1")]


def test_the_last_printed_line_is_the_message_of_a_job() -> None:
    made = board("lamp-1")
    made.progress("ann", progress("lamp-1", "c1", data="one\ntwo\n"), NOW)
    assert [job.text for job in made.devices["lamp-1"].jobs.values()] == ["two"]


def test_a_device_that_comes_back_with_jobs_is_asked_for_them() -> None:
    made = board("lamp-1")
    made.command("ann", "c1", "calibrate", NOW)
    made.progress("ann", progress("lamp-1", "c1"), NOW)
    assert made.to_ask(NOW, ["lamp-1"]) == []
    made.state(state("lamp-1", "lost"), NOW + 1)
    assert made.totals(NOW + 1).running == 1
    assert made.to_ask(NOW + 1, ["lamp-1"]) == []
    made.state(state("lamp-1", session=2), NOW + 2)
    assert made.to_ask(NOW + 2, ["lamp-1"]) == ["lamp-1"]
    assert made.to_ask(NOW + 3, ["lamp-1"]) == []
    assert made.to_ask(NOW + 2 + ASK_AGAIN, ["lamp-1"]) == ["lamp-1"]
    made.told("lamp-1", [], NOW + 3 + ASK_AGAIN, NOW + 4 + ASK_AGAIN)
    assert made.totals(NOW + 30).running == 0


def test_a_job_without_a_name_is_asked_for_and_told() -> None:
    made = board("lamp-1")
    made.progress("ann", progress("lamp-1", "c1", 0.5), NOW)
    assert made.to_ask(NOW, ["lamp-1"]) == ["lamp-1"]
    made.told("lamp-1", [running("c1", fraction=0.1), running("c2", "update")], NOW, NOW + 1)
    jobs = [(job.command, job.fraction) for job in made.devices["lamp-1"].jobs.values()]
    assert jobs == [("calibrate", 0.5), ("update", None)]
    assert made.to_ask(NOW + ASK_AGAIN, ["lamp-1"]) == []


def test_a_job_that_began_after_the_question_is_not_ended_by_the_answer() -> None:
    made = board("lamp-1")
    made.progress("ann", progress("lamp-1", "c1"), NOW + 2)
    made.told("lamp-1", [], NOW + 1, NOW + 3)
    assert made.totals(NOW + 3).running == 1


def test_a_silent_job_is_asked_for_and_at_last_given_up() -> None:
    made = board("lamp-1")
    made.command("ann", "c1", "calibrate", NOW)
    made.progress("ann", progress("lamp-1", "c1"), NOW)
    assert made.to_ask(NOW + SILENT - 1, ["lamp-1"]) == []
    assert made.to_ask(NOW + SILENT, ["lamp-1"]) == ["lamp-1"]
    made.give_up(NOW + GIVEN_UP - 1)
    assert made.totals(NOW).running == 1
    made.give_up(NOW + GIVEN_UP)
    assert made.totals(NOW).running == 0


def test_a_device_that_ends_has_no_jobs_left() -> None:
    made = board("lamp-1")
    made.progress("ann", progress("lamp-1", "c1"), NOW)
    made.state(state("lamp-1", "terminated"), NOW)
    assert made.totals(NOW).running == 0


def test_questions_to_devices_are_neither_jobs_nor_results() -> None:
    made = board("lamp-1")
    made.command("ann", "q1", "jobs", NOW)
    made.result("ann", result("lamp-1", "q1", command="jobs"), NOW)
    totals = made.totals(NOW)
    assert (totals.commands, totals.results, totals.running, made.devices["lamp-1"].last) == (0, 0, 0, None)


def test_nothing_grows_without_a_bound() -> None:
    made = board("lamp-1")
    for at in range(REMEMBERED + 100):
        made.command("ann", f"c{at}", "dim", NOW)
        made.result("ann", result("lamp-1", f"c{at}"), NOW)
    for at in range(JOBS + 100):
        made.progress("ann", progress("lamp-1", f"j{at}"), NOW)
    assert len(made.devices["lamp-1"].jobs) == JOBS
    sizes = [len(vars(made)[name]) for name in ("_names", "_ended")]
    assert sizes == [REMEMBERED, REMEMBERED]
    for unknown in range(100):
        made.progress("ann", progress(f"never-{unknown}", "c1"), NOW)
        made.result("ann", result(f"never-{unknown}", "c1"), NOW)
    assert set(made.devices) == {"lamp-1"}


DEVICES = ("lamp-1", "lamp-2")
Happening = tuple[str, str, str, str]
happenings = st.lists(
    st.tuples(
        st.sampled_from(("command", "progress", "result", "standing", "told", "state")),
        st.sampled_from(DEVICES),
        st.sampled_from(("ann", "bob", "")),
        st.sampled_from(("c1", "c2", "c3")),
    ),
    max_size=60,
)


@given(happenings)
@settings(deadline=None)
def test_jobs_and_counts_are_right_in_any_order_and_with_repeats(events: list[Happening]) -> None:
    made = board(*DEVICES)
    begun: set[tuple[str, str, str]] = set()
    ended: set[tuple[str, str, str]] = set()
    news = Counter[str]()
    now, session = NOW, 1
    for what, device, requester, id in events:
        now += 0.01
        key = device, requester, id
        match what:
            case "command":
                made.command(requester, id, "dim", now)
            case "progress":
                made.progress(requester, progress(device, id, 0.5), now)
                begun |= {key} - ended
            case "result" | "standing":
                news[what] += key not in ended
                made.result(requester, result(device, id), now, standing=what == "standing")
                begun.discard(key)
                ended.add(key)
            case "told":
                made.told(device, [running(id, requester=requester)], now, now)
                begun = {each for each in begun if each[0] != device or each == key} | ({key} - ended)
            case _:
                session += 1
                made.state(state(device, session=session), now)
        jobs = {(id, *key) for id, row in made.devices.items() for key in row.jobs}
        assert jobs == begun
        totals = made.totals(now)
        assert totals.running == len(begun)
        assert sum(totals.ended.values()) == news["result"]
        assert sum(totals.statuses.values()) == len(DEVICES)
    for device, requester, id in list(begun):
        made.result(requester, result(device, id), now)
    assert made.totals(now).running == 0
    assert not any(row.jobs for row in made.devices.values())


# Rates


def test_a_rate_is_that_of_the_window() -> None:
    rate = Rate(10.0, NOW)
    assert rate.per_second(NOW) == 0
    rate.add(NOW, 5)
    assert rate.per_second(NOW) == 5  # of less than a second it says nothing
    assert rate.per_second(NOW + 5) == 1
    assert rate.per_second(NOW + 9) == pytest.approx(5 / 9)
    assert rate.per_second(NOW + 11) == 0
    assert rate.count(NOW + 11) == 0


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5)), max_size=100))
def test_a_rate_counts_what_is_in_its_window(steps: list[tuple[float, int]]) -> None:
    rate, now, events = Rate(10.0, NOW), NOW, list[tuple[float, int]]()
    for pause, count in steps:
        now += pause
        rate.add(now, count)
        events.append((now, count))
        surely = sum(count for at, count in events if now - at < 9.5)
        perhaps = sum(count for at, count in events if now - at <= 10.5)
        assert surely <= rate.count(now) <= perhaps


# The order


def test_ids_are_ordered_as_people_count() -> None:
    assert sorted(["lamp-10", "lamp-2", "2-a", "lamp-02", "a"], key=natural) == [
        "2-a",
        "a",
        "lamp-02",
        "lamp-2",
        "lamp-10",
    ]


@given(st.lists(st.text(alphabet=string.ascii_letters + string.digits + "-_", min_size=1, max_size=6), max_size=20))
def test_any_ids_can_be_ordered(ids: list[str]) -> None:
    assert sorted(sorted(ids, key=natural)) == sorted(ids)


def test_where_all_fit_what_goes_on_does_not_move_rows() -> None:
    made = board("a", "b", "c")
    made.progress("ann", progress("c", "c1"), NOW)
    assert made.order(NOW, room=3) == ["a", "b", "c"]
    assert made.order(NOW, room=2) == ["c", "a", "b"]


def test_what_goes_on_comes_first_and_leaves_late() -> None:
    made = board("a", "b", "c", "d", e="lost", f="terminated")
    made.progress("ann", progress("d", "c1"), NOW)
    made.result("ann", result("c", "c2"), NOW)
    assert made.order(NOW) == ["d", "c", "e", "a", "b", "f"]
    made.result("ann", result("d", "c1"), NOW + 5)
    assert [made.devices["d"].rank(NOW + 5 + past) for past in (0, STILL_RUNNING, RECENT)] == [
        Rank.RUNNING,
        Rank.RECENT,
        Rank.QUIET,
    ]
    made.state(state("a", "lost"), NOW + 100)
    assert made.order(NOW + 100) == ["a", "e", "b", "c", "d", "f"]
    assert made.devices["a"].rank(NOW + 100 + RECENT) is Rank.LOST


def test_rows_are_sorted_as_asked() -> None:
    made = board("a", "b", c="lost")
    made.result("ann", result("b", "c1"), NOW)
    assert made.order(NOW, by=Sort.DEVICE) == ["a", "b", "c"]
    assert made.order(NOW, by=Sort.STATE) == ["c", "a", "b"]
    assert made.order(NOW, by=Sort.RESULT) == ["b", "a", "c"]
    assert made.order(NOW, ["c", "never", "a"], by=Sort.DEVICE) == ["a", "c"]


# How it looks


def test_at_80_columns_there_are_states_bars_and_last_results() -> None:
    made = board("lamp-1", "lamp-2", scale_1="lost")
    made.command("ann", "c1", "calibrate", NOW)
    made.progress("ann", progress("lamp-1", "c1", 0.5, "round 5"), NOW)
    made.result("ann", result("lamp-2", "c2"), NOW)
    lines = text_of(made, height=12)
    assert lines[1].startswith("3 devices: 2 ready, 1 lost  ━━━")
    assert lines[2] == "1 job running   1.0 commands/s   1.0 results/s   1 done"
    assert lines[4].split() == ["DEVICE", "STATE", "JOB", "LAST", "RESULT"]
    device, status, command, bar, percent = lines[5].split()
    assert (device, status, command, percent) == ("lamp-1", "ready", "calibrate", "50%")
    assert bar.count("━") == pytest.approx(len(bar) / 2, abs=0.5)
    assert lines[6].split() == ["lamp-2", "ready", "done", "dim", "40", "0", "s"]
    assert lines[7].split() == ["scale-1", "lost"]
    assert lines[-1].startswith("q quit")


@pytest.mark.parametrize("length", [1, 8, 16, 32, 64])
def test_at_80_columns_no_id_pushes_out_jobs_or_results(length: int) -> None:
    made = board("x" * length, gone="terminated")
    lines = text_of(made)
    assert {"DEVICE", "STATE", "JOB", "LAST"} <= set(lines[4].split())


def test_at_200_columns_there_is_more() -> None:
    made = Board(NOW)
    made.state(state("lamp-1", room="kitchen"), NOW, standing=True)
    made.progress("ann", progress("lamp-1", "c1", 0.25, "a quarter"), NOW)
    view = View("mqtt://localhost", versions={"lamp-1": "firmware 2.1"})
    lines = text_of(made, view, width=200)
    header = "DEVICE STATE SINCE JOB MESSAGE LAST RESULT PER MIN TAGS VERSIONS"
    assert lines[4].split() == header.split()
    assert "a quarter" in lines[5]
    assert lines[5].endswith("room=kitchen  firmware 2.1")
    assert lines[5].split()[:5] == ["lamp-1", "ready", "1", "min", "c1"]


def test_what_does_not_fit_is_summed_up() -> None:
    ids = [f"kiosk-{number}" for number in range(1000)]
    made = board(*ids)
    for id in ids[500:510]:
        made.state(state(id, "lost"), NOW - 1000, standing=True)
    made.progress("ann", progress("kiosk-900", "c1", 0.5), NOW + 100)
    view = View("mqtt://localhost")
    lines = text_of(made, view, now=NOW + 100)
    assert lines[5].split()[:2] == ["kiosk-900", "ready"]
    assert [line.split()[0] for line in lines[6:16]] == ids[500:510]
    assert lines[-2] == "… and 983 more: 983 ready"
    view.offset = 10
    lines = text_of(made, view, now=NOW + 100)
    assert lines[-2] == "… and 983 more (10 above): 974 ready, 9 lost; 1 of them busy"
    view.offset = 10_000
    lines = text_of(made, view, now=NOW + 100)
    assert lines[-3].split()[0] == "kiosk-999"
    made.result("ann", result("kiosk-900", "c1"), NOW + 101)
    view.offset = 10
    assert "busy" not in text_of(made, view, now=NOW + 101)[-2]


@pytest.mark.parametrize("width", [1, 10, 20, 40, 80, 81, 120, 200, 500])
@pytest.mark.parametrize("height", [1, 3, 6, 10, 50])
def test_it_fits_every_terminal(width: int, height: int) -> None:
    made = board(*(f"device-with-a-rather-long-name-{number}" for number in range(20)))
    for id in made.devices:
        made.progress("ann", progress(id, "c1", 0.5, "日本語" * 30), NOW)
        made.result("ann", result(id, "c2", Status.FAILED), NOW)
    for view in (
        View("b"),
        View("b", typing="x" * 300),
        View("b", lost=(NOW, "it is gone " * 50)),
        View("b", back=NOW),
    ):
        text_of(made, view, width=width, height=height)


def test_what_devices_say_cannot_act_upon_the_terminal() -> None:
    made = board("lamp-1")
    evil = "\x1b[2J\nlamp-2  ready"
    made.command("ann", "c1", evil, NOW)
    made.progress("ann", progress("lamp-1", "c1", 0.5, evil), NOW)
    made.result("ann", result("lamp-1", "c2", command=evil, value='"\\u001b[31mred"'), NOW)
    made.state(state("lamp-1", tag=evil), NOW)
    for line in text_of(made, width=300):
        assert line.isprintable()


def test_a_lost_broker_and_its_return_are_said() -> None:
    made = board("lamp-1")
    lost = View("mqtt://localhost", lost=(NOW - 12, "closed by the broker"))
    assert text_of(made, lost, width=120)[3].strip().startswith("the broker is lost since 12 s: closed by the broker")
    assert text_of(made, View("mqtt://localhost", back=NOW - 1))[3].strip() == "the broker is back"
    assert text_of(made, View("mqtt://localhost", deaf=["commands"]))[3].startswith(
        "the broker lets you hear no commands"
    )


def test_without_devices_it_says_what_to_do() -> None:
    assert "start one: outrider-device run" in text_of(Board(NOW))[5]
    made = board("lamp-1")
    nothing = View("mqtt://localhost", target="@hall", filter="is:lost", shown=frozenset(), unseen=("lamp-9",))
    lines = text_of(made, nothing)
    assert lines[5] == "none of 1 devices matches @hall and is:lost yet"
    assert lines[-2] == "not seen yet: lamp-9"


def test_a_snapshot_has_all_devices_and_no_empty_lines() -> None:
    made = board(*(f"lamp-{number}" for number in range(300)))
    lines = [line.plain.rstrip() for line in snapshot(made, View("mqtt://localhost"), NOW, 200)]
    assert len(lines) == 304
    assert all(lines)
    assert lines[-1].startswith("lamp-299")


def test_devices_whose_states_were_cleared_are_forgotten() -> None:
    made = board("a", "b")
    version = made.version
    made.keep({"b"})
    assert (list(made.devices), made.version > version) == (["b"], True)
