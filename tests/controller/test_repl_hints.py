"""Help as one types, and how the prompt and the toolbar look: pure."""

import pytest
from prompt_toolkit.formatted_text import StyleAndTextTuples, fragment_list_to_text
from prompt_toolkit.utils import get_cwidth

from outrider.controller.cli.hints import hint
from outrider.controller.cli.toolbar import cut, message, shortened, toolbar
from outrider.controller.cli.typed import typed
from outrider.schema import CommandAbout, State

TURN = CommandAbout(
    help="Turn the gear.\nA second line.",
    arguments={
        "type": "object",
        "properties": {
            "direction": {"enum": ["left", "right"]},
            "speed": {"type": "integer", "minimum": 0, "maximum": 9, "default": 1},
            "fast": {"type": "boolean", "default": False},
            "label": {"type": "string", "description": "what to call it"},
        },
        "required": ["direction"],
        "additionalProperties": False,
    },
    result={},
)
BROKEN = CommandAbout(help="", arguments={"type": 5, "properties": 3}, result={})
COMMANDS = {"turn": TURN, "tune": TURN, "broken": BROKEN, "terminate": CommandAbout("End it.", {}, {})}
STATES = {
    id: State(device=id, status="ready", session=1, since=0.0, groups=[group], pools=["tools"], tags={"room": group})
    for id, group in (("lamp-1", "kitchen"), ("lamp-2", "kitchen"), ("gear-1", "yard"))
}
USAGE = "turn direction [speed] [fast] [label]  Turn the gear."


def text_of(line: StyleAndTextTuples) -> str:
    return fragment_list_to_text(line)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("tu", []),  # turn or tune
        ("tur", [USAGE]),
        ("turn", [USAGE]),
        ("x", []),
        ("us", ["use [TARGET]  Send what follows to these devices; alone: to none."]),
        ("turn ", [USAGE, 'direction  "left" or "right"']),
        ("turn le", [USAGE, 'direction  "left" or "right"']),
        ("turn up", [USAGE, "argument 'direction': 'up' is not one of ['left', 'right']"]),
        ("turn up ", [USAGE, "argument 'direction': 'up' is not one of ['left', 'right']"]),
        ("turn left ", [USAGE, "speed  integer, 0 to 9, default 1"]),
        ("turn left 5", [USAGE, "speed  integer, 0 to 9, default 1"]),
        ("turn left -", [USAGE, "speed  integer, 0 to 9, default 1"]),
        ("turn left 12", [USAGE, "argument 'speed': 12 is greater than the maximum of 9"]),
        ("turn left fa", [USAGE, "speed  integer, 0 to 9, default 1"]),
        ("turn left fast=", [USAGE, "fast  boolean, default false"]),
        ("turn left fast=tr", [USAGE, "fast  boolean, default false"]),
        ("turn left fast=no", [USAGE, "argument 'fast': 'no' is not of type 'boolean'"]),
        ("turn(left, 3, ", [USAGE, "fast  boolean, default false"]),
        ("turn(left, 3, true, ", [USAGE, "label  text: what to call it"]),
        ('turn left 3 true "two wo', [USAGE, "label  text: what to call it"]),
        ("turn left 3 true x y", [USAGE, "5 arguments are too many: turn takes direction, speed, fast, label"]),
        ("turn left speed=3 ", [USAGE]),
        ("turn left speed=3 speed=4", [USAGE, "argument 'speed' is given twice"]),
        ("broken 5 ", ["broken  "]),
        ("terminate", ["terminate  End it.", "ends the devices in use; to leave the REPL: quit"]),
        ("send lamp-1 tur", [USAGE]),
        ("send lamp-1 turn left 12", [USAGE, "argument 'speed': 12 is greater than the maximum of 9"]),
        ("help tur", [USAGE]),
        ("turn # le", []),
    ],
)
def test_help_on_what_is_typed_says(text: str, lines: list[str]) -> None:
    assert [text_of(line) for line in hint(typed(text), COMMANDS, STATES)] == lines


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("use lamp-1", "lamp-1, ready"),
        ("use @kitchen", "2 devices: lamp-1, lamp-2"),
        ("use room=kitchen or @yard", "3 devices: gear-1, lamp-1, lamp-2"),
        ("use 'room=kitchen", "2 devices: lamp-1, lamp-2"),
        ("use any:tools", "one of 3: gear-1, lamp-1, lamp-2"),
        ("use lamp-9", "no device lamp-9 has been seen"),
        ("use room=attic", "stands for no device"),
        ("send is:redy ", "the target is not well formed at column 1: 'is:redy' is no status"),
        ("watch @kitchen and", None),
        ("jobs ", None),
    ],
)
def test_help_on_a_target_says_what_it_stands_for(text: str, said: str | None) -> None:
    _, *lines = (text_of(line) for line in hint(typed(text), COMMANDS, STATES))
    assert (lines[0].startswith(said) and len(lines) == 1) if said else not lines


@pytest.mark.parametrize(
    ("columns", "prompt"),
    [(100, "room=kitchen and fw<2.1 and not… [1 of 2 ready]> "), (40, "room=kitchen… [1/2]> ")],
)
def test_prompt_with_a_long_target_leaves_room_to_type(columns: int, prompt: str) -> None:
    target = "room=kitchen and fw<2.1 and not is:lost"
    parts = message(target, ["ready", "lost"], group=True, lost=False, columns=columns)
    assert text_of(parts) == prompt


def test_prompt_without_broker_says_so() -> None:
    assert text_of(message("lamp-1", ["ready"], group=False, lost=True, columns=80)) == "lamp-1 [no broker]> "
    assert text_of(message(None, [], group=False, lost=True, columns=80)) == "outrider [no broker]> "


@pytest.mark.parametrize("text", ["short", "x" * 200, "灯" * 100, "e\u0301" * 100, ""])
def test_text_is_shortened_to_columns(text: str) -> None:
    for width in range(1, 120, 7):
        assert get_cwidth(shortened(text, width)) <= width
        assert get_cwidth(text_of(cut([("", text), ("bold", text)], width))) <= width


def test_help_gives_way_where_the_terminal_is_low() -> None:
    lines = hint(typed("turn left"), COMMANDS, STATES)
    assert text_of(toolbar(lines, [], 200, 24)).count("\n") == 1
    assert toolbar(lines, [], 200, 3) == []
