"""What lines of the REPL do, without a terminal, against real devices."""

import asyncio
import re

import pytest

from outrider.controller import Fleet
from outrider.controller.cli.exits import exit_code
from outrider.controller.cli.sent import Question, Sent
from outrider.controller.cli.session import Session
from outrider.controller.cli.words import Declined
from outrider.schema import LocalError, Status
from tests.controller.conftest import Setting
from tests.controller.test_results import claim
from tests.peers import Connect, Peer
from tests.processes import until


async def test_command_called_like_an_own_word_is_reached_by_send(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    await session.interpret("use gear-1")
    assert session.target == "gear-1"
    sent = await session.interpret("send gear-1 use x")
    assert isinstance(sent, Sent)
    assert await sent.ended()
    assert "used x" in capsys.readouterr().out
    assert session.target == "gear-1"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("use lamp-9", "no device lamp-9 has been seen; did you mean lamp-"),
        ("use @kitchn", "did you mean @kitchen?"),
        ("use lamp-1 lamp-2", "'lamp-2' does not fit; commas join devices (a,b)"),
        ("ping", "use lamp-1"),
        ("devcies", "did you mean devices?"),
        ("send lamp-1", "send TARGET COMMAND"),
        ("send lamp-1 pong", "lamp-1 has no command pong; did you mean ping"),
        ("send lamp-1 calculate 1", "argument 'msg' is missing"),
        ("send lamp-1 calculate -1 x", "argument 'x': -1"),
        ("send lamp-1 calculate(1, 2, 3)", "too many"),
        ("send gear-1 turn up", "argument 'direction'"),
        ('send lamp-1 calculate 1 "x', "quotes must close"),
        ("about", "about lamp-1"),
        ("about lamp-1 pong", "did you mean ping"),
        ("help ping", "use lamp-1"),
        ("exit now", "too many"),
        ("use room=attic", "no device has room=attic"),
        ("use room=", "the target ends"),
        ("jobs lamp-9", "no device lamp-9"),
        ("watch lamp-9", "no device lamp-9"),
        ("send room=shop and turn left", "no device matches room=shop and turn"),
        ("cancel", "jobs shows the ids"),
        ("cancel no/id", "is no command's id"),
        ("cancel abc lamp-9", "no device lamp-9"),
        ("results no/id", "is no command's id"),
        ("results 1 2", "too many"),
    ],
)
async def test_line_that_cannot_be_done_says_what_to_write(session: Session, line: str, said: str) -> None:
    with pytest.raises(LocalError, match=re.escape(said)) as caught:
        await session.interpret(line)
    assert exit_code(caught.value) == 2


@pytest.mark.parametrize(
    ("target", "devices"),
    [
        ("lamp-1, lamp-2", ["lamp-1", "lamp-2"]),
        ("lamp-*", ["lamp-1", "lamp-2"]),
        ("'lamp-* - lamp-2'", ["lamp-1"]),
        ("@kitchen", ["lamp-1", "lamp-2"]),
        ("room=shop and fw<2.1", ["gear-1"]),
        ("not @yard", ["lamp-1", "lamp-2"]),
        ("is:ready", ["gear-1", "lamp-1", "lamp-2"]),
        ("any:tools", ["gear-1"]),
        ("all", ["gear-1", "lamp-1", "lamp-2"]),
    ],
)
async def test_target_of_every_kind_is_used_and_sent_to(session: Session, target: str, devices: list[str]) -> None:
    await session.interpret(f"use {target}")
    assert sorted(state.device for state in session.states) == devices
    used = await session.interpret("ping")
    named = await session.interpret(f"send {target} ping")
    for sent in (used, named):
        assert isinstance(sent, Sent)
        assert await sent.ended()
        assert sorted(sent.dispatch.outcomes) == devices


async def test_pool_in_flight_counts_one_outcome(session: Session) -> None:
    sent = await session.interpret("send any:tools turn left")
    assert isinstance(sent, Sent)
    assert sent.count == 1
    assert await sent.ended()


async def test_jobs_results_and_cancel_answer_for_any_id(
    session: Session, setting: Setting, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Fleet(setting.address, requester="other", prefix=setting.prefix) as fleet:
        elsewhere = fleet.dispatch("lamp-1", "calculate", [30, "x"])
        await elsewhere.sent()
        assert await _answered(session, "jobs @kitchen")
        assert elsewhere.id in session.jobs
        assert not await _answered(session, f"results {elsewhere.id}")
        assert "lamp-1  running" in capsys.readouterr().out
        assert await _answered(session, f"cancel {elsewhere.id}")
        assert "lamp-1  cancelled" in capsys.readouterr().out
        assert not await _answered(session, f"results {elsewhere.id}")
        assert "lamp-1  cancelled" in capsys.readouterr().out


async def test_results_takes_the_tag_of_what_has_ended(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    sent = await session.interpret("send lamp-1 calculate 0 over")
    assert isinstance(sent, Sent)
    assert await sent.ended()
    capsys.readouterr()
    assert await _answered(session, "results 1")
    assert "lamp-1  done  over" in capsys.readouterr().out
    assert await _answered(session, "results")
    assert "over" in capsys.readouterr().out


async def test_cancel_says_of_those_that_answered_that_they_do_not_run_it_where_others_are_silent(
    session: Session,
    setting: Setting,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("outrider.controller.results.ANSWER_WAIT", 1.0)
    peer = await connect(Peer(setting.address))
    await claim(peer, setting.prefix, "silent-1", "ready")
    await until(lambda: "silent-1" in session.fleet.roster.states)
    try:
        assert not await _answered(session, "cancel nobody")
    finally:  # the other tests' fleet is this one
        await peer.publish(f"{setting.prefix}/devices/silent-1/state", b"", retain=True)
        await until(lambda: "silent-1" not in session.fleet.roster.states)
    said = capsys.readouterr().out
    assert "silent-1: no answer" in said
    assert "no device that answered runs nobody: it has ended, or" in said


async def test_question_that_nobody_can_answer_raises_why(session: Session) -> None:
    with pytest.raises(LocalError, match="no device runs nobody"):
        await _answered(session, "cancel nobody")


async def test_cancelling_a_tag_of_a_pool_reaches_the_member_that_took_it(session: Session, setting: Setting) -> None:
    sent = await session.interpret(f"send any:tools hold /nowhere/{setting.prefix}")
    assert isinstance(sent, Sent)
    await until(lambda: sent.progress, 10)
    await session.interpret("cancel 1")
    assert not await sent.ended()
    assert sent.dispatch.outcomes["gear-1"].status is Status.CANCELLED


async def test_terminate_asks_and_sends_nothing_on_no(setting: Setting) -> None:
    asked: list[str] = []

    async def no(question: str) -> bool:
        asked.append(question)
        return False

    async with setting.fleet() as fleet, asyncio.TaskGroup() as tasks:
        session = Session(fleet, tasks, show=print, confirm=no)
        for line in ("send lamp-1 terminate", "send @kitchen terminate", "send any:tools terminate()"):
            with pytest.raises(Declined, match="nothing was sent"):
                await session.interpret(line)
        assert [re.findall(r"ends (.*), until", question)[0] for question in asked] == [
            "lamp-1",
            "2 devices: lamp-1, lamp-2",
            "gear-1",
        ]
        assert all("quit leaves the REPL" in question for question in asked)
        assert not session.in_flight
        session.close()


async def test_terminate_is_not_sent_to_devices_that_were_not_asked_about(setting: Setting) -> None:
    async with setting.fleet() as fleet, asyncio.TaskGroup() as tasks:
        states = fleet.roster.states
        assert isinstance(states, dict)
        hidden = states.pop("lamp-2")

        async def yes(question: str) -> bool:
            states["lamp-2"] = hidden
            return True

        session = Session(fleet, tasks, show=print, confirm=yes)
        with pytest.raises(LocalError, match="other devices by now; nothing was sent"):
            await session.interpret("send @kitchen terminate")
        session.close()


async def _answered(session: Session, line: str) -> bool:
    question = await session.interpret(line)
    assert isinstance(question, Question)
    return await question.ended()
