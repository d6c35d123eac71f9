"""What a device's owner grants to scripts, and on which brokers."""

import os
from pathlib import Path

import pytest

from outrider.device import Address, Device
from outrider.device.scripts import POOL, Limits, Scripts
from outrider.device.scripts.capability import check_broker
from outrider.device.scripts.contract import MIB
from outrider.device.scripts.interpreter import Interpreter, check_folders, find_interpreter
from outrider.device.scripts.places import place
from outrider.device.scripts.refusals import InsecureBroker, NoInterpreter, ScriptRefused, UnreachableFolder
from outrider.device.scripts.settings import granted
from outrider.device.scripts.sizes import size

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="platform: only root gives scripts another user")


def test_what_is_left_at_its_default_is_lowered_to_what_the_device_grants() -> None:
    assert granted(Limits(cpu=5), Limits(memory=64 * MIB)) == Limits(memory=64 * MIB, cpu=5)


def test_limit_over_the_greatest_is_refused_with_its_name_and_the_greatest() -> None:
    with pytest.raises(ScriptRefused, match=r"limits\.processes 100 .* at most 64"):
        granted(Limits(processes=100), Limits())


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://localhost",
        "mqtt://127.0.0.1:1883",
        "mqtt://127.8.8.8",
        "ws://[::1]:9001/mqtt",
        "unix:///run/mosquitto.sock",
        "mqtt://localhost:1,127.0.0.1:2",
        "mqtts://ann:secret@broker.example",
        "wss://broker.example/mqtt?cert=a.pem&key=b.pem",
    ],
)
def test_broker_here_or_with_credentials_is_taken(url: str) -> None:
    check_broker(Address.parse(url))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mqtt://broker.example", "without TLS"),
        ("mqtt://ann:secret@broker.example", "without TLS"),
        ("ws://192.168.1.2/mqtt", "without TLS"),
        ("mqtts://broker.example", "without credentials"),
        ("mqtts://ann@broker.example", "without credentials"),
        ("wss://broker.example/mqtt?ca=ca.pem", "without credentials"),
        ("mqtt://localhost:1,broker.example:2", "without TLS"),
        ("mqtt://localhost.example.com", "without TLS"),
        ("mqtt://0.0.0.0", "without TLS"),
    ],
)
def test_other_broker_is_refused_with_what_to_do(url: str, says: str) -> None:
    with pytest.raises(InsecureBroker) as refused:
        check_broker(Address.parse(url))
    assert says in str(refused.value)
    assert "mqtts://USER:PASSWORD@HOST" in str(refused.value)
    assert "secret" not in str(refused.value)


async def test_device_of_a_module_refuses_such_a_broker_too() -> None:
    lamp = Device("lamp", pools=["lamps"])
    Scripts().include_in(lamp)
    assert lamp.pools == ("lamps", POOL)
    assert {"run_script", "fetch_file", "list_files", "purge"} < set(lamp.commands)
    with pytest.raises(InsecureBroker):
        await lamp.serve("mqtt://broker.example")


@pytest.mark.parametrize(
    ("text", "bytes"), [("1", 1), ("64K", 65536), ("256M", 256 * MIB), ("256MiB", 256 * MIB), ("1.5g", 1536 * MIB)]
)
def test_size_is_read(text: str, bytes: int) -> None:
    assert size(text) == bytes


@pytest.mark.parametrize("text", ["", "M", "-1M", "1T", "much", "1 000", "٣M"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="256M"):
        size(text)


def test_interpreter_says_what_it_is() -> None:
    found = find_interpreter(None, None)
    assert found.version.startswith("3.")
    assert found.platform.startswith("linux")


@pytest.mark.parametrize("path", ["/nowhere/python3", "/bin/false", "/bin/echo", "/etc/passwd"])
def test_what_is_no_interpreter_is_refused_with_its_path(path: str) -> None:
    with pytest.raises(NoInterpreter, match=path):
        find_interpreter(path, None)


def test_interpreter_beside_private_files_is_refused(tmp_path: Path) -> None:
    interpreter = Interpreter(str(tmp_path / "bin" / "python3"), "3.11", "linux", "cpython-311", [str(tmp_path)])
    check_folders(interpreter, (Path("/var/lib/outrider"),))
    with pytest.raises(NoInterpreter, match="scripts could read"):
        check_folders(interpreter, (tmp_path / "state",))
    with pytest.raises(NoInterpreter, match="installed in /, and"):
        check_folders(Interpreter("/python3", "3.11", "linux", "cpython-311", ["/"]), ())


@ROOT
def test_interpreter_that_the_scripts_user_cannot_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to("/usr/bin/python3")
    tmp_path.chmod(0o700)
    with pytest.raises(NoInterpreter, match="65534"):
        find_interpreter(str(tmp_path / "python3"), 65534)


def test_folder_is_under_the_state_of_an_ordinary_user(state_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUTRIDER_SCRIPTS")
    assert place(None, None) == state_home / "outrider" / "scripts"


@ROOT
def test_folder_of_root_is_one_that_the_scripts_user_can_reach(
    tmp_path: Path, script_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    assert place(None, 65534) == script_folder
    monkeypatch.delenv("OUTRIDER_SCRIPTS")
    assert place(None, 65534).is_relative_to("/var/lib/outrider/scripts")
    assert place(script_folder, 65534) == script_folder
    with pytest.raises(UnreachableFolder, match="65534"):
        place(tmp_path / "here", 65534)
