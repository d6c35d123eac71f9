"""What becomes of a command: run once, watched, bounded, cancelled, answered in kind."""

import asyncio
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import Meet
from tests.system.outsider import Outsider, RunningDevice, decoded

# Answers


async def test_answer_comes_in_the_encoding_asked_in(each_outsider: Outsider) -> None:
    await each_outsider.ask("steps", [2], id="a")
    await each_outsider.ask("dance", id="b")
    await each_outsider.peer.round_trip()
    first = {"json": b"{", "msgpack": b"\x87"}[each_outsider.encoding]
    answers = [each for each in each_outsider.peer.messages if each.topic.endswith(each_outsider.name)]
    answers = [each for each in answers if "/cmd/" not in each.topic]
    assert len(answers) == 6
    kinds = {each.payload[:1] == b"{" for each in answers}
    assert kinds == {first == b"{"}


@pytest.mark.parametrize("args", [[7, 1.5, ["a"]], {"count": 7, "ratio": 1.5, "names": ["a"]}])
async def test_arguments_are_given_by_position_or_by_name(each_outsider: Outsider, args: object) -> None:
    result = await each_outsider.ask("typed", args)
    assert result["value"] == {"count": 7, "ratio": 1.5, "names": ["a"], "exact": False}


async def test_result_is_complete(outsider: Outsider) -> None:
    before = time.time()
    result = await outsider.ask("ping", id="a")
    assert set(result) == {"id", "device", "command", "status", "value", "started", "finished"}
    assert (result["id"], result["device"], result["command"], result["status"]) == ("a", "bench", "ping", "done")
    assert int(before) <= result["value"] <= time.time()
    assert before <= result["started"] <= result["finished"] <= time.time()


async def test_result_is_retained(outsider: Outsider, meet: Meet) -> None:
    result = await outsider.ask("ping", id="late")
    later = await meet(outsider.device, name=outsider.name)
    assert await later.result("late") == result
    assert later.peer.messages[0].retain


async def test_command_of_nobody_is_answered_on_the_bare_topic(each_outsider: Outsider) -> None:
    device = each_outsider.device
    id = await each_outsider.start("calculate", [0.15, "m"], topic=device.topic("cmd"))
    result = await each_outsider.result(id, topic=device.topic("result"))
    assert result["status"] == "done"
    assert not each_outsider.progress(id)  # nobody to tell
    assert len(each_outsider.results(id)) == 1


async def test_from_tells_the_requester_on_the_bare_topic(outsider: Outsider) -> None:
    topic = outsider.device.topic("cmd")
    id = await outsider.start("calculate", [0.15, "m"], topic=topic, **{"from": outsider.name})
    assert (await outsider.result(id))["status"] == "done"
    assert outsider.progress(id)[0]["accepted"] is True


async def test_missing_id_is_made_up(outsider: Outsider) -> None:
    count = len(outsider.peer.messages)
    where = outsider.device.topic("result", outsider.name)
    await outsider.send(b'{"command": "ping"}')
    await outsider.send(b'{"command": "ping"}')
    await outsider.peer.wait_for(lambda _: len(ids(outsider, where, count)) == 2)
    one, other = ids(outsider, where, count)
    assert one
    assert other
    assert one != other


def ids(outsider: Outsider, topic: str, after: int) -> list[str]:
    return [decoded(each.payload)["id"] for each in outsider.peer.messages[after:] if each.topic == topic]


# Progress


async def test_accepted_is_told_only_where_the_result_takes_over_100_ms(outsider: Outsider) -> None:
    await outsider.ask("calculate", [0, "m"], id="quick")
    await outsider.ask("calculate", [0.15, "m"], id="slow")
    await outsider.peer.round_trip()
    assert outsider.progress("quick") == []
    accepted = outsider.progress("slow")[0]
    assert accepted == {"id": "slow", "device": "bench", "seq": 0, "accepted": True}


async def test_progress_counts_from_0_within_the_job(each_outsider: Outsider) -> None:
    for id in ("a", "b"):
        await each_outsider.ask("steps", [3], id=id)
        await each_outsider.peer.round_trip()
        progress = each_outsider.progress(id)
        assert [each["seq"] for each in progress] == list(range(6))
        assert [each.get("data") for each in progress] == [None, "line 0\n", None, "line 1\n", None, "line 2\n"]
        assert progress[2] == {"id": id, "device": "bench", "seq": 2, "fraction": 1 / 3, "text": "step 1"}
        assert progress[1] == {"id": id, "device": "bench", "seq": 1, "stream": "stdout", "data": "line 0\n"}


# The same id again


async def test_same_command_again_is_not_run_again_and_gets_the_stored_result(
    each_outsider: Outsider, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    first = await each_outsider.ask("mark", [str(marks)], id="again")
    for _ in range(3):
        count = len(each_outsider.peer.messages)
        await each_outsider.start("mark", [str(marks)], id="again")
        assert await each_outsider.result("again", after=count) == first
    assert marks.read_text() == "ran\n"


async def test_repeat_of_a_running_command_is_accepted_again_and_runs_once(outsider: Outsider, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    args = [str(marks), 0.6]
    await outsider.start("mark_after", args, id="slow")
    await outsider.running("slow")
    await outsider.start("mark_after", args, id="slow")
    await outsider.peer.wait_for(lambda _: len(outsider.progress("slow")) == 2)
    assert [(each["seq"], each["accepted"]) for each in outsider.progress("slow")] == [(0, True), (1, True)]
    assert (await outsider.result("slow"))["status"] == "done"
    await outsider.peer.round_trip()
    assert len(outsider.results("slow")) == 1
    assert marks.read_text() == "ran\n"


async def test_many_repeats_at_once_run_once(outsider: Outsider, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    message = outsider.encode({"id": "burst", "command": "mark", "args": [str(marks)]})
    for _ in range(50):
        outsider.peer.send(outsider.cmd, message)
    await outsider.peer.round_trip()
    assert (await outsider.result("burst"))["status"] == "done"
    assert (await outsider.ask("ping"))["status"] == "done"
    assert marks.read_text() == "ran\n"


async def test_same_id_of_another_requester_is_another_command(
    outsider: Outsider, bench: RunningDevice, meet: Meet, tmp_path: Path
) -> None:
    bob = await meet(bench)
    marks = tmp_path / "marks"
    await outsider.ask("mark", [str(marks), "ann"], id="same")
    assert (await bob.ask("mark", [str(marks), "bob"], id="same"))["value"] == "bob"
    for_carol = {"id": "same", "command": "mark", "args": [str(marks), "carol"], "behalf": "carol"}
    count = len(bob.peer.messages)
    await bob.send(for_carol)
    assert (await bob.result("same", after=count))["value"] == "carol"
    assert marks.read_text() == "ann\nbob\ncarol\n"


async def test_late_duplicate_of_start_does_not_undo_stop(outsider: Outsider) -> None:
    await outsider.ask("start", id="first")
    await outsider.ask("stop", id="second")
    count = len(outsider.peer.messages)
    await outsider.start("start", id="first")
    assert (await outsider.result("first", after=count))["value"] == "ready"  # as it was then
    assert (await outsider.ask("ping"))["error"]["code"] == "not-ready"
    await outsider.ask("start")
    assert (await outsider.ask("ping"))["status"] == "done"


async def test_duplicate_of_a_rejected_command_does_not_run_after_start(outsider: Outsider, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    await outsider.ask("stop")
    first = await outsider.ask("mark", [str(marks)], id="early")
    assert first["error"]["code"] == "not-ready"
    await outsider.ask("start")
    count = len(outsider.peer.messages)
    await outsider.start("mark", [str(marks)], id="early")
    assert await outsider.result("early", after=count) == first
    assert not marks.exists()


# What runs meanwhile


async def test_new_messages_are_handled_while_jobs_run_up_to_the_bound(outsider: Outsider) -> None:
    jobs = [await outsider.start("calculate", [20, "m"], timeout=20) for _ in range(20)]
    ping = await outsider.ask("ping")
    assert ping["status"] == "done", "ping takes no job"
    busy = await outsider.ask("calculate", [0, "m"])
    assert (busy["status"], busy["error"]["code"]) == ("rejected", "busy")
    running = (await outsider.ask("jobs"))["value"]
    assert {each["id"] for each in running} == set(jobs)
    assert (await outsider.ask("start"))["value"] == "ready"
    assert (await outsider.ask("stats"))["value"]["jobs"] == 20
    for id in jobs:
        assert (await outsider.ask("cancel", [id]))["value"] is True
        result = await outsider.result(id)
        assert result["status"] == "cancelled"
        assert result["finished"] - result["started"] < 5
    assert (await outsider.ask("jobs"))["value"] == []
    assert (await outsider.ask("calculate", [0, "m"]))["status"] == "done"


async def test_control_commands_do_not_wait_behind_plain_functions(outsider: Outsider) -> None:
    jobs = [await outsider.start("hold", [20]) for _ in range(5)]  # of which two may run
    await outsider.running(jobs[-1])
    listed = {each["id"]: each for each in (await outsider.ask("jobs"))["value"]}
    assert [listed[id]["started"] is not None for id in jobs] == [True, True, False, False, False]
    assert listed[jobs[0]]["requester"] == outsider.name
    assert (await outsider.ask("ping"))["status"] == "done"
    for id in reversed(jobs):
        await outsider.ask("cancel", {"id": id})
        assert (await outsider.result(id))["status"] == "cancelled"
    assert "started" not in await outsider.result(jobs[-1])


async def test_stop_lets_running_jobs_finish_and_cancels_those_that_wait(outsider: Outsider) -> None:
    slow = await outsider.start("calculate", [0.6, "m"])
    held = [await outsider.start("hold", [0.5]) for _ in range(2)]
    waiting = [await outsider.start("hold", [0.5]) for _ in range(3)]
    await outsider.running(waiting[-1])
    assert (await outsider.ask("stop"))["value"] == "unready"
    for id in waiting:
        result = await outsider.result(id)
        assert result["status"] == "cancelled"
        assert "started" not in result
    assert (await outsider.ask("ping"))["error"]["code"] == "not-ready"
    assert not outsider.results(slow)
    for id in (slow, *held):
        assert (await outsider.result(id))["status"] == "done"
    await outsider.ask("start")


async def test_readiness_is_judged_at_receipt_in_order(outsider: Outsider, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    batch = [
        ("stop", None),
        ("mark", "a"),
        ("start", None),
        ("mark", "b"),
        ("stop", None),
        ("mark", "c"),
        ("start", None),
    ]
    names = [secrets.token_hex(4) for _ in batch]
    for id, (command, word) in zip(names, batch, strict=True):
        args = {} if word is None else {"args": [str(marks), word]}
        outsider.peer.send(outsider.cmd, outsider.encode({"id": id, "command": command, **args}))
    statuses = [(await outsider.result(id))["status"] for id in names]
    # `b` was accepted; whether it had started when stop came is the device's luck.
    assert statuses[1::4] == ["rejected", "rejected"]
    assert statuses[3] in ("done", "cancelled")
    assert set(statuses[::2]) == {"done"}


# Bounds


@pytest.mark.parametrize("command", ["calculate", "hold"])
async def test_timeout_stops_a_job(outsider: Outsider, command: str) -> None:
    args = [20, "m"] if command == "calculate" else [20]
    result = await outsider.ask(command, args, timeout=0.2)
    assert result["status"] == "timed_out"
    assert "0.2 s" in result["error"]["message"]
    assert 0.2 <= result["finished"] - result["started"] < 2


async def test_plain_function_that_ignores_its_timeout_is_timed_out_when_it_returns(
    outsider: Outsider, tmp_path: Path
) -> None:
    until = tmp_path / "until"
    id = await outsider.start("stubborn", [str(until)], timeout=0.15)
    await outsider.running(id)
    await asyncio.wait_for(still_running(outsider, id, 0.3), 5)
    assert not outsider.results(id)
    until.touch()
    assert (await outsider.result(id))["status"] == "timed_out"


async def test_plain_function_that_ignores_cancel_keeps_its_slot_until_it_returns(
    outsider: Outsider, tmp_path: Path
) -> None:
    until = tmp_path / "until"
    stubborn = [await outsider.start("stubborn", [str(until)]) for _ in range(2)]
    waiting = await outsider.start("hold", [0])
    await outsider.running(waiting)
    for id in stubborn:
        assert (await outsider.ask("cancel", [id]))["value"] is True
    listed = {each["id"]: each["started"] for each in (await outsider.ask("jobs"))["value"]}
    assert set(listed) == {*stubborn, waiting}
    assert listed[waiting] is None
    assert not any(outsider.results(id) for id in (*stubborn, waiting))
    until.touch()
    for id in stubborn:
        result = await outsider.result(id)
        assert (result["status"], result["value"]) == ("done", "returned")
    assert (await outsider.result(waiting))["status"] == "done"


async def test_job_that_waits_for_a_thread_past_its_expires_is_expired(outsider: Outsider, tmp_path: Path) -> None:
    until = tmp_path / "until"
    for _ in range(2):
        await outsider.start("stubborn", [str(until)])
    expires = time.time() - 29.7  # the clocks may differ by 30 s
    id = await outsider.start("hold", [0], expires=expires)
    await outsider.running(id)
    while (await outsider.ask("stats"))["value"]["clock"] <= expires + 30:
        assert not outsider.results(id)
    until.touch()
    result = await outsider.result(id)
    assert result["status"] == "expired"
    assert "started" not in result


async def test_async_function_that_ignores_cancel_ends_as_it_returns(outsider: Outsider, tmp_path: Path) -> None:
    until = tmp_path / "until"
    id = await outsider.start("deaf", [str(until)])
    await outsider.running(id)
    assert (await outsider.ask("cancel", [id]))["value"] is True
    assert (await outsider.ask("ping"))["status"] == "done"
    until.touch()
    assert (await outsider.result(id))["status"] == "done"


async def still_running(outsider: Outsider, id: str, seconds: float) -> None:
    """Return once a job has run for so long, by the device's own clock."""
    while True:
        running = {each["id"]: each for each in (await outsider.ask("jobs"))["value"]}
        clock = (await outsider.ask("stats"))["value"]["clock"]
        if clock - running[id]["started"] >= seconds:
            return


async def test_result_over_the_size_limit_fails(each_outsider: Outsider) -> None:
    assert (await each_outsider.ask("letters", [250_000]))["status"] == "done"
    result = await each_outsider.ask("letters", [262_144])
    assert (result["status"], result["error"]["code"]) == ("failed", "too-large")
    assert "value" not in result
    assert (await each_outsider.ask("ping"))["status"] == "done"


@pytest.mark.parametrize("kind", ["object", "cycle", "surrogate"])
async def test_value_that_no_message_can_carry_fails(each_outsider: Outsider, kind: str) -> None:
    result = await each_outsider.ask("unsendable", [kind])
    assert (result["status"], result["error"]["code"]) == ("failed", "internal")
    assert "unsendable" in result["error"]["message"]
    assert (await each_outsider.ask("ping"))["status"] == "done"


@pytest.mark.parametrize("where", ["fail", "fail_in_thread"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("ValueError", "ValueError: the lamp is broken"),
        ("TimeoutError", "TimeoutError: by its own clock"),
        ("SystemExit", "SystemExit: 3"),
        ("KeyboardInterrupt", "KeyboardInterrupt"),
        ("StopIteration", "StopIteration"),
        ("GeneratorExit", "GeneratorExit"),
    ],
)
async def test_command_that_raises_fails_and_the_device_goes_on(
    outsider: Outsider, where: str, kind: str, message: str
) -> None:
    for bound in (1e9, 5):
        result = await outsider.ask(where, [kind], timeout=bound)
        assert (result["status"], result["error"]["code"]) == ("failed", "error")
        assert message in result["error"]["message"]
        assert (await outsider.ask("ping"))["status"] == "done"


@pytest.mark.parametrize("where", ["fail", "fail_in_thread"])
async def test_command_that_cancels_itself_is_cancelled(outsider: Outsider, where: str) -> None:
    result = await outsider.ask(where, ["CancelledError"])
    assert result["status"] == "cancelled"
    assert (await outsider.ask("ping"))["status"] == "done"


# One's own jobs and results


async def test_cancel_reaches_ones_own_jobs_only(outsider: Outsider, bench: RunningDevice, meet: Meet) -> None:
    bob = await meet(bench)
    id = await outsider.start("calculate", [20, "m"])
    await outsider.running(id)
    assert (await bob.ask("cancel", [id]))["value"] is False
    assert (await outsider.ask("cancel", [id], behalf="carol"))["value"] is False
    assert [each["id"] for each in (await bob.ask("jobs"))["value"]] == [id]
    assert (await outsider.ask("cancel", [id]))["value"] is True
    assert (await outsider.result(id))["status"] == "cancelled"


async def test_cancel_works_after_the_sender_is_gone(outsider: Outsider, bench: RunningDevice, meet: Meet) -> None:
    id = await outsider.start("calculate", [20, "m"])
    await outsider.running(id)
    await outsider.peer.drop()
    again = await meet(bench, name=outsider.name)
    assert (await again.ask("cancel", [id]))["value"] is True
    assert (await again.result(id))["status"] == "cancelled"


async def test_cancel_of_an_unknown_id_succeeds_and_changes_nothing(outsider: Outsider) -> None:
    for id in ("unheard-of", "", "two words", "x" * 1000):
        result = await outsider.ask("cancel", [id])
        assert (result["status"], result["value"]) == ("done", False)


async def test_cancel_of_a_finished_job_changes_nothing(outsider: Outsider) -> None:
    first = await outsider.ask("calculate", [0, "m"], id="over")
    assert (await outsider.ask("cancel", ["over"]))["value"] is False
    assert (await outsider.ask("result", ["over"]))["value"] == first


async def test_result_is_told_to_its_owner_only(each_outsider: Outsider, bench: RunningDevice, meet: Meet) -> None:
    bob = await meet(bench)
    first = await each_outsider.ask("typed", [7], id="mine")
    assert (await each_outsider.ask("result", ["mine"]))["value"] == first
    assert (await bob.ask("result", ["mine"]))["value"] is None
    assert (await each_outsider.ask("result", ["mine"], behalf="carol"))["value"] is None
    assert (await each_outsider.ask("result", ["unheard-of"]))["value"] is None
    rejected = await each_outsider.ask("typed", [], id="wrong")
    assert (await each_outsider.ask("result", ["wrong"]))["value"] == rejected


async def test_result_of_a_json_command_can_be_asked_for_in_messagepack(outsider: Outsider) -> None:
    first = await outsider.ask("typed", [7], id="mine")
    outsider.encoding = "msgpack"
    assert (await outsider.ask("result", ["mine"]))["value"] == first


async def test_about_is_what_the_retained_about_says(each_outsider: Outsider) -> None:
    about: dict[str, Any] = (await each_outsider.ask("about"))["value"]
    device = each_outsider.device
    retained = await each_outsider.peer.wait_for_topic(device.topic("about"))
    assert retained.retain
    assert retained.json() == about
    assert {"start", "stop", "terminate", "cancel", "jobs", "result", "about", "stats", "ping"} < set(about["commands"])
    calculate = about["commands"]["calculate"]
    assert calculate["help"].startswith("Take x seconds")
    assert calculate["arguments"]["required"] == ["x", "msg"]
    assert calculate["arguments"]["properties"]["x"] == {"type": "number", "minimum": 0}
    assert calculate["result"] == {"type": "string"}
    assert about["commands"]["ping"]["idempotent"] is True
    assert "bench" not in str(about["commands"]["ping"]), "nothing of one device alone"


async def test_stats_count(outsider: Outsider) -> None:
    before = await outsider.stats()
    await outsider.ask("ping")
    await outsider.ask("dance")
    after = await outsider.stats()
    assert after["ended"]["done"] == before["ended"]["done"] + 2  # the ping, and the first stats
    assert after["ended"]["rejected"] == before["ended"].get("rejected", 0) + 1
    assert abs(after["clock"] - time.time()) < 5
    assert 0 < before["uptime"] < after["uptime"]
    assert after["protocol"] == 5
    assert after["session"] == outsider.states()[-1]["session"]
