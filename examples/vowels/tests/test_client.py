"""The client plays a text's letters, over HTTP and as a device over MQTT."""

from datetime import UTC, datetime
from pathlib import Path
from string import ascii_lowercase

import httpx
import pytest

from .processes import Hub, run, script

TEXT = "Is this letter a VOWEL? 123, ÄÖ! "


@pytest.mark.parametrize("way", ["http", "mqtt"])
def test_client_asks_for_each_letter_and_follows_some_up(way: str, hub: Hub, broker: str, tmp_path: Path) -> None:
    begun = datetime.now(UTC).isoformat()
    (tmp_path / "text.txt").write_text(TEXT * 8)
    target = ("--http", hub.url) if way == "http" else ("--broker", broker, "--to", hub.folder.name)
    words = ("-m", "vowels.client", str(tmp_path / "text.txt"), *target, "--followups", "0.4", "--seed", "5")
    code, said = run(tmp_path, script("python"), *words)
    assert code == 0, said
    found = httpx.get(f"{hub.url}/dashboard/range/{begun}/9999-12-31").json()
    expected = {each: TEXT.lower().count(each) * 8 for each in ascii_lowercase if each in TEXT.lower()}
    assert {each["symbol"]: each["count"] for each in found} == expected
    followups, requests = sum(each["followups"] for each in found), sum(expected.values())
    assert 0.2 * requests < followups < 0.6 * requests
    assert f"{followups:,} followed up" in said
    assert f"{requests + followups:,} requests" in said


@pytest.mark.parametrize("way", ["http", "mqtt"])
def test_client_says_that_nobody_answers(way: str, broker: str, tmp_path: Path) -> None:
    target = ("--http", "http://127.0.0.1:1") if way == "http" else ("--broker", broker, "--to", "nobody")
    (tmp_path / "text.txt").write_text("a")
    code, said = run(tmp_path, script("python"), "-m", "vowels.client", str(tmp_path / "text.txt"), *target)
    assert code == 1
    assert said.startswith("vowels: ")
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "target", [("--broker", "nope"), ("--broker", "mqtt://localhost:x"), ("--http", "http://localhost:x")]
)
def test_client_says_in_a_line_that_an_address_cannot_be(target: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a")
    code, said = run(tmp_path, script("python"), "-m", "vowels.client", str(tmp_path / "text.txt"), *target)
    assert (code, len(said.splitlines())) == (1, 1), said
    assert said.startswith("vowels: ")
