"""What the REPL completes, from a live fleet."""

import time

import pytest
from prompt_toolkit.completion import CompleteEvent, Completion
from prompt_toolkit.document import Document

from outrider.controller.cli.completion import LineCompleter
from outrider.controller.cli.sent import Sent
from outrider.controller.cli.session import Session
from outrider.schema import State
from tests.controller.conftest import Setting


@pytest.mark.parametrize(
    ("target", "text", "completions"),
    [
        (None, "de", ["devices"]),
        (None, "use lamp-", ["lamp-1", "lamp-2"]),
        (None, "use @", ["@kitchen", "@yard"]),
        (None, "use al", ["all"]),
        (None, "use lamp-1 ", ["and", "or", "-"]),
        (None, "send gear-1 t", ["tell", "terminate", "turn"]),
        (None, "send gear-1 turn ", ["left", "right", "direction=", "speed=", "fast="]),
        (None, "send gear-1 turn(speed=1, d", ["direction="]),
        (None, "send nobody t", []),
        (None, "pi", []),
        ("gear-1", "tu", ["turn"]),
        ("gear-1", "us", ["use"]),
        ("gear-1", "turn d", ["direction="]),
        ("gear-1", "turn direction=left ", ["speed=", "fast="]),
        ("gear-1", "turn(direction=left, f", ["fast="]),
        ("gear-1", "turn(left, 2, ", ["true", "false", "fast="]),
        ("gear-1", "turn left 2 f", ["false", "fast="]),
        ("gear-1", "turn left fast=true ", ["speed="]),
        ("gear-1", "turn left speed=2 fast=t", ["true"]),
        ("gear-1", "turn left 2 true ", []),
        ("gear-1", "turn fast=", ["true", "false"]),
        ("gear-1", 'use "le', []),
        ("gear-1", "help tu", ["turn"]),
        ("gear-1", "help us", ["use"]),
        ("gear-1", "about gear-1 tu", ["turn"]),
        ("gear-1", "# tu", []),
        ("@kitchen", "calculate ", ["x=", "msg="]),
        ("all", "t", ["tell", "terminate", "turn"]),
        ("gear-1", 'turn "le', []),
        ("gear-1", "pair ", ["gear-1", "lamp-1", "lamp-2", "device=", "mode="]),
        ("gear-1", "pair device=lam", ["lamp-1", "lamp-2"]),
        ("gear-1", "pair lamp-1 ", ["both", '"one way"', "mode="]),
        ("gear-1", "pair lamp-1 mode=b", ["both"]),
        ("gear-1", 'use {"a": [1, ', []),
        (None, "use any:", ["any:tools"]),
        (None, "use is:r", ["is:ready"]),
        (None, "use ro", ["room="]),
        (None, "use room=", ["shop"]),
        (None, "use @yard and room=", ["shop"]),
        (None, "use 'room=sh", ["shop"]),
        (None, "use (@yard or l", ["lamp-1", "lamp-2"]),
        (None, "devices @k", ["@kitchen"]),
        (None, "jobs lamp-1,l", ["lamp-2"]),
        (None, "watch @kitchen - lamp-", ["lamp-1", "lamp-2"]),
        (None, "about @yard - g", ["gear-1"]),
        (None, "send room=", ["shop"]),
        (None, "send room=shop and fw<", ["2.0"]),
        (None, "send room=shop and fw<2.1 tu", ["turn"]),
        (None, "send 'room=shop and is:re", ["is:ready"]),
        (None, "send 'room=shop and is:ready' turn ri", ["right"]),
        (None, "send any:tools turn(left, 2, f", ["false", "fast="]),
        (None, "cancel someid @y", ["@yard"]),
        (None, "results x", []),
    ],
)
async def test_completions_at_the_end_of_a_line_are(
    session: Session, target: str | None, text: str, completions: list[str]
) -> None:
    if target:
        await session.interpret(f"use {target}")
    found = await _completions(session, text)
    assert [each.text for each in found] == completions
    for each in found:
        assert each.text.startswith(text[len(text) + each.start_position :])


async def _completions(session: Session, text: str) -> list[Completion]:
    completer = LineCompleter(session)
    event = CompleteEvent(completion_requested=True)
    return [each async for each in completer.get_completions_async(Document(text), event)]


async def test_cancel_completes_tags_in_flight_here_and_ids_of_what_runs_anywhere(
    session: Session, setting: Setting
) -> None:
    async with setting.fleet() as fleet:
        elsewhere = fleet.dispatch("lamp-2", "calculate", [30, "elsewhere"])
        await elsewhere.sent()
        sent = await session.interpret("send lamp-1 calculate 30 here")
        assert isinstance(sent, Sent)
        found = {each.text: each.display_meta_text for each in await _completions(session, "cancel ")}
        assert found["1"] == "lamp-1 calculate 30 here"
        assert found[elsewhere.id] == "calculate on lamp-2"
        assert sent.dispatch.id not in found
        assert [each.text for each in await _completions(session, "cancel 1")] == ["1"]
        assert await session.interpret("cancel 1") is None
        assert not await sent.ended()
        elsewhere.cancel()
        async for _ in elsewhere.each(object):
            pass


async def test_completion_among_a_thousand_devices_takes_a_moment(session: Session) -> None:
    states = session.fleet.roster.states
    digest = states["lamp-1"].about
    many = {
        id: State(device=id, status="ready", session=1, since=0.0, tags={"room": f"r{at % 9}"}, about=digest)
        for at, id in enumerate(f"many-{at:04}" for at in range(1000))
    }
    assert isinstance(states, dict)
    states.update(many)
    await session.interpret("use lamp-1")
    assert await _completions(session, "calc")
    began = time.perf_counter()
    assert len(await _completions(session, "use ")) > 1000
    assert len(await _completions(session, "use many-00")) == 100
    assert len(await _completions(session, "use room=r1 and room=")) == 10
    assert time.perf_counter() - began < 1
