"""Faults in words, and what a script does when."""

import asyncio
import contextlib
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.controller.faults import (
    Command,
    Cut,
    CutNow,
    Delay,
    Drop,
    Duplicate,
    FaultProxy,
    HalfOpen,
    HalfOpenNow,
    Heal,
    Hold,
    NewConnections,
    Release,
    Reorder,
    ScriptSyntax,
    Span,
    Throttle,
    play,
    read_line,
    read_script,
    timeline,
)
from outrider.device import ManualClock

LINES: dict[str, Command] = {
    "drop": Drop(),
    "drop PUBACK 3": Drop(packet="PUBACK", count=3),
    "drop 3 puback": Drop(packet="PUBACK", count=3),
    "DROP PUBACK to client 50%": Drop(packet="PUBACK", direction="to_client", chance=0.5),
    "drop PUBLISH topic devices/+/cmd skip 2 1": Drop(packet="PUBLISH", topic="devices/+/cmd", skip=2, count=1),
    'drop contains "two words" client lamp-*': Drop(contains=b"two words", client="lamp-*"),
    "drop topic '#' 1": Drop(topic="#", count=1),
    """drop contains '"c1"' """.strip(): Drop(contains=b'"c1"'),
    "delay 200ms": Delay(seconds=0.2),
    "delay 10ms..2s to broker": Delay(seconds=0.01, most=2.0, direction="to_broker"),
    "duplicate PUBLISH": Duplicate(packet="PUBLISH"),
    "duplicate new 1": Duplicate(as_new=True, count=1),
    "hold PUBACK": Hold(packet="PUBACK"),
    "reorder by 3": Reorder(by=3),
    "release": Release(),
    "cut": CutNow(),
    "cut fin client lamp-1": CutNow(client="lamp-1", reset=False),
    "cut PUBACK": Cut(packet="PUBACK", count=1),
    "cut to client": Cut(direction="to_client", count=1),
    "cut PUBLISH after 5": Cut(packet="PUBLISH", after=True, count=5),
    "half-open": HalfOpenNow(),
    "half-open to client client a": HalfOpenNow(ways="to_client", client="a"),
    "half-open PUBLISH": HalfOpen(packet="PUBLISH", count=1),
    "throttle 64kB/s to client": Throttle(rate=64_000, ways="to_client"),
    "throttle 1000": Throttle(rate=1000),
    "blackhole": NewConnections(door="blackhole"),
    "unanswered": NewConnections(door="unanswered"),
    "refuse for 5s": NewConnections(door="refuse"),
    "heal": Heal(),
}


@pytest.mark.parametrize("line", LINES)
def test_line_says_what_is_done(line: str) -> None:
    step = read_line(line)
    assert step is not None
    assert step.command == LINES[line]
    assert step.text == line


def test_script_says_when_and_leaves_out_comments() -> None:
    steps = read_script("# a train\n\nat 1.5s cut\n  every 3s..8s half-open for 2s  # a tunnel\nat 2m heal\n")
    assert [(step.at, step.every, step.lasts, step.text) for step in steps] == [
        (1.5, None, None, "cut"),
        (0.0, Span(3, 8), 2.0, "half-open for 2s"),
        (120.0, None, None, "heal"),
    ]


@pytest.mark.parametrize(
    ("line", "column", "said"),
    [
        ("drpo", 1, "'drpo' is no fault"),
        ("at 5s", 6, "the line ends; expected one of drop"),
        ("at 5 cut", 4, "'5' is no time"),
        ("every 8s..3s cut", 7, "ends before it begins"),
        ("every 0s cut", 7, "1 ms at least"),
        ("drop PUBAK", 6, "'PUBAK' does not fit; drop takes a packet as PUBACK"),
        ("drop 0", 6, "'0' is no number from 1"),
        ("drop 200%", 6, "write 50%"),
        ("drop PUBACK PUBACK", 13, "one too many"),
        ("drop to somewhere", 9, "expected client or broker"),
        ("drop topic a/#/b", 12, "no topic filter"),
        ("drop topic", 11, "the line ends; expected a topic filter"),
        ('drop contains "x', 15, "a quote does not close"),
        ("delay", 6, "the line ends; expected a time"),
        ("delay 5s..", 7, "'5s..' is no time"),
        ("cut for 5s", 5, "'for' does not fit; cut takes"),
        ("throttle fast", 10, "'fast' is no rate"),
        ("heal now", 6, "nothing follows heal"),
    ],
)
def test_line_that_cannot_be_read_names_the_place(line: str, column: int, said: str) -> None:
    with pytest.raises(ScriptSyntax, match=said) as caught:
        read_line(line)
    assert caught.value.column == column
    with pytest.raises(ScriptSyntax, match=f"line 3, column {column}: ") as caught:
        read_script(f"cut\n\n{line}\n")
    assert caught.value.line == 3
    assert str(caught.value).endswith("\n  " + " " * (column - 1) + "^")


WORDS = sorted(
    {word for line in LINES for word in line.split()} | {"at", "every", "1s..2s", "\u0663", "%", '"', "#", "9" * 12}
)


@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=5)), max_size=8).map(" ".join))
def test_no_text_breaks_the_reader(text: str) -> None:
    with contextlib.suppress(ScriptSyntax):
        read_script(text)


def test_timeline_is_in_order_and_the_seeds() -> None:
    steps = read_script("every 3s..8s half-open for 2s\nat 20s heal\nat 5s cut\nrefuse for 30s")
    first = list(islice(timeline(steps, 7), 40))
    assert first == list(islice(timeline(steps, 7), 40))
    assert first != list(islice(timeline(steps, 8), 40))
    assert [due.time for due in first] == sorted(due.time for due in first)
    assert [(due.time, due.undo) for due in first if due.place == 3] == [(0.0, False), (30.0, True)]
    turns = [due for due in first if due.place == 0]
    for before, after in pairwise(turns):
        assert after.undo != before.undo
        pause = after.time - before.time
        assert pause == pytest.approx(2) if after.undo else 3 <= pause <= 8


async def test_script_is_played_by_the_clock_it_is_given() -> None:
    clock, told = ManualClock(), list[tuple[float, str, bool]]()
    steps = read_script("at 2s refuse for 3s\nat 4s drop PUBACK for 1s\nat 6s throttle 1000\nat 7s heal")
    async with FaultProxy("mqtt://127.0.0.1:1") as proxy:
        playing = asyncio.create_task(
            play(
                proxy,
                steps,
                told=lambda step, undo: told.append((clock.monotonic(), step.text, undo)),
                now=clock.monotonic,
                sleep=clock.sleep,
            )
        )
        in_force: list[tuple[str, int, float | None]] = []
        for _ in range(8):
            await asyncio.sleep(0)
            in_force.append((proxy.door, len(proxy.rules), proxy.rate("to_client")))
            clock.advance(1)
        await playing
    assert told == [
        (2, "refuse for 3s", False),
        (4, "drop PUBACK for 1s", False),
        (5, "refuse for 3s", True),
        (5, "drop PUBACK for 1s", True),
        (6, "throttle 1000", False),
        (7, "heal", False),
    ]
    open_, refuse = ("open", 0, None), ("refuse", 0, None)
    assert in_force == [open_, open_, refuse, refuse, ("refuse", 1, None), open_, ("open", 0, 1000), open_]
