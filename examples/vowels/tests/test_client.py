"""The client plays a text's letters, over HTTP and as a device over MQTT."""

from pathlib import Path
from string import ascii_lowercase

import httpx
import pytest

from .conftest import StartHub
from .processes import run, script

TEXT = "Is this letter a VOWEL? 123, ÄÖ! "


@pytest.mark.parametrize("way", ["http", "mqtt"])
def test_client_asks_for_each_letter_and_follows_some_up(
    way: str, start_hub: StartHub, broker: str, tmp_path: Path
) -> None:
    hub = start_hub(f"load-{way}")
    (tmp_path / "text.txt").write_text(TEXT * 8)
    # A hub by its own name: others at this broker would answer as well.
    target = ("--http", hub.url) if way == "http" else ("--broker", broker, "--to", hub.folder.name)
    words = ("-m", "vowels.client", str(tmp_path / "text.txt"), *target, "--followups", "0.4", "--seed", "5")
    code, said = run(tmp_path, script("python"), *words)
    assert code == 0, said
    found = httpx.get(f"{hub.url}/dashboard/range/1970-01-01/9999-12-31").json()
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
