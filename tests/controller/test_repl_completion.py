"""What the REPL completes, from a live fleet."""

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from outrider.controller.cli.completion import LineCompleter
from outrider.controller.cli.session import Session


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
    ],
)
async def test_completions_at_the_end_of_a_line_are(
    session: Session, target: str | None, text: str, completions: list[str]
) -> None:
    if target:
        await session.interpret(f"use {target}")
    completer = LineCompleter(session)
    document = Document(text)
    found = [each async for each in completer.get_completions_async(document, CompleteEvent(completion_requested=True))]
    assert [each.text for each in found] == completions
    for each in found:
        assert each.text.startswith(text[len(text) + each.start_position :])
