"""The configurations in mosquitto/ against what `outrider broker` starts."""

from pathlib import Path

import pytest

from outrider.controller.broker import MOSQUITTO_SETTINGS

FOLDER = Path(__file__).parent.parent / "mosquitto"


def settings(text: str) -> set[str]:
    """Return the settings of a configuration, without comments and listeners."""
    lines = {line.strip() for line in text.splitlines()}
    return {line for line in lines if line and not line.startswith(("#", "listener"))}


@pytest.mark.parametrize("name", ["development.conf", "compose.conf"])
def test_configuration_has_the_settings_of_the_broker_command(name: str) -> None:
    assert settings((FOLDER / name).read_text()) == settings(MOSQUITTO_SETTINGS)


def test_development_listens_on_loopback_only() -> None:
    lines = (FOLDER / "development.conf").read_text().splitlines()
    assert [line for line in lines if line.startswith("listener")] == ["listener 1883 127.0.0.1"]
