from pathlib import Path

import pytest

from outrider.controller import settings
from outrider.controller.settings import DEFAULT_BROKER, InvalidSettings, Settings, default_requester, load
from outrider.schema import InvalidAddress


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("OUTRIDER_BROKER", "OUTRIDER_PREFIX", "OUTRIDER_NAME", "OUTRIDER_HUB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = settings.config_path()
    path.parent.mkdir(parents=True)
    return path


def test_nothing_said_gives_the_defaults(config: Path) -> None:
    assert load() == Settings(DEFAULT_BROKER, "", None)


def test_the_file_is_used_where_nothing_else_is_said(config: Path) -> None:
    config.write_text('broker = "mqtt://file"\nprefix = "site"\nname = "ann"\n')
    assert load() == Settings("mqtt://file", "site", "ann")


def test_the_environment_comes_before_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('broker = "mqtt://file"\nprefix = "site"\nname = "ann"\n')
    monkeypatch.setenv("OUTRIDER_BROKER", "mqtt://env")
    monkeypatch.setenv("OUTRIDER_PREFIX", "elsewhere")
    monkeypatch.setenv("OUTRIDER_NAME", "bob")
    assert load() == Settings("mqtt://env", "elsewhere", "bob")


def test_hub_is_the_options_the_environments_or_the_files(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('hub = "http://file"\n')
    assert load().hub == "http://file"
    monkeypatch.setenv("OUTRIDER_HUB", "http://env")
    assert load().hub == "http://env"
    assert load(hub="http://option").hub == "http://option"


def test_url_that_cannot_be_used_is_refused_with_where_it_stands(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('broker = "mqtt://al:secret@one,:2"\n')
    with pytest.raises(InvalidAddress) as caught:
        load()
    assert str(caught.value).startswith(f"{config}: broker = 'mqtt://al@one,:2': host 2 of 2 is empty")
    monkeypatch.setenv("OUTRIDER_BROKER", "localhost")
    with pytest.raises(InvalidAddress, match=r"^OUTRIDER_BROKER: 'localhost' is not a broker's URL"):
        load()
    with pytest.raises(InvalidAddress, match=r"^'option' is not"):
        load(broker="option")


def test_every_kind_of_url_is_taken(config: Path) -> None:
    for url in ("ws://al:pw@h/x", "unix://al:pw@/run/m.sock", "mqtts://al:pw@one,two:1?ca=ca.pem"):
        assert load(broker=url) == Settings(url, "", "al")


def test_an_option_comes_before_all(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('broker = "mqtt://file"\n')
    monkeypatch.setenv("OUTRIDER_BROKER", "mqtt://env")
    assert load(broker="mqtt://option", prefix="p", requester="cyd") == Settings("mqtt://option", "p", "cyd")


def test_an_empty_prefix_option_takes_away_the_environments(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_PREFIX", "elsewhere")
    assert load(prefix="").prefix == ""


@pytest.mark.parametrize(
    ("content", "named"),
    [
        pytest.param("broker = ", "not TOML", id="no TOML"),
        pytest.param("broker = 5", "broker = 5", id="another type"),
        pytest.param('brocker = "mqtt://x"', "brocker", id="unknown key"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(config: Path, content: str, named: str) -> None:
    config.write_text(content)
    with pytest.raises(InvalidSettings) as caught:
        load()
    assert str(config) in str(caught.value)
    assert named in str(caught.value)


def test_a_file_that_is_no_text_is_named(config: Path) -> None:
    config.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidSettings, match="is not TOML"):
        load()


def test_a_file_that_cannot_be_read_is_named(config: Path) -> None:
    config.mkdir()
    with pytest.raises(InvalidSettings, match="cannot be read"):
        load()


def test_the_requester_is_the_brokers_user_first(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_NAME", "bob")
    assert default_requester("al ice") == "al-ice"
    assert default_requester(None) == "bob"


def test_the_requester_is_user_and_host_where_nobody_named_one(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host.example")
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    assert default_requester(None) == "ann-host-example"


def test_a_user_without_a_name_is_a_requester_too(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert default_requester(None).startswith("uid")
