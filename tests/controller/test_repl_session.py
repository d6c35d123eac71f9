"""What lines of the REPL do, without a terminal, against real devices."""

import re

import pytest

from outrider.controller.cli.exits import exit_code
from outrider.controller.cli.session import Session
from outrider.schema import LocalError


async def test_command_called_like_an_own_word_is_reached_by_send(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    await session.interpret("use gear-1")
    assert session.target == "gear-1"
    sent = await session.interpret("send gear-1 use x")
    assert sent is not None
    assert await sent.ended()
    assert "used x" in capsys.readouterr().out
    assert session.target == "gear-1"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("use lamp-9", "no device lamp-9 has been seen; did you mean lamp-"),
        ("use @kitchn", "did you mean @kitchen?"),
        ("use lamp-1 lamp-2", "'lamp-2' does not fit; expected"),
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
    ],
)
async def test_line_that_cannot_be_done_says_what_to_write(session: Session, line: str, said: str) -> None:
    with pytest.raises(LocalError, match=re.escape(said)) as caught:
        await session.interpret(line)
    assert exit_code(caught.value) == 2
