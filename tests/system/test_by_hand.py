"""A device driven by hand with mosquitto_pub and mosquitto_sub, as docs/protocol.md shows it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from docs import generate
from docs.generate import Line
from outrider.controller.broker import find_mosquitto

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"

VARYING = ("started", "finished", "session", "since", "about", "fraction", "text")
"""Times, counts and digests, which differ from run to run."""


@pytest.fixture(autouse=True)
def _clients() -> None:
    for program in ("mosquitto_pub", "mosquitto_sub"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt install mosquitto-clients")
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")


async def test_device_driven_by_hand_answers_as_the_page_shows() -> None:
    shown = steps_of(generate.block(PROTOCOL.read_text(), "transcript"))
    typed = await generate.transcript()
    assert [command for command, _ in shown] == [command for command, _ in typed]
    for (command, expected), (_, came) in zip(shown, typed, strict=True):
        # The order between topics is left open: a ping's answer may overtake progress or not.
        assert sorted(map(steady, came)) == sorted(map(steady, expected)), command
    while_it_calculates = [line.topic.rpartition("/")[2] for line in typed[4][1] if "/result" in line.topic]
    assert while_it_calculates == ["bob", "ann"], "the ping was answered after the calculation"


def steps_of(block: str) -> list[tuple[str, list[Line]]]:
    steps: list[tuple[str, list[Line]]] = []
    for row in block.splitlines():
        if row.startswith("$ "):
            steps.append((row[2:], []))
        elif not row.startswith("```"):
            topic, _, payload = row.partition(" ")
            steps[-1][1].append(Line(topic, payload))
    return steps


def steady(line: Line) -> str:
    """What of a line is the same in every run."""
    message: dict[str, Any] = json.loads(line.payload)
    for key in VARYING:
        if key in message:
            message[key] = "…"
    if re.fullmatch("[0-9a-f]{16}", str(message.get("id"))):
        message["id"] = "…"
    if isinstance(message.get("value"), int):
        message["value"] = "…"
    return f"{line.topic} {json.dumps(message)}"
