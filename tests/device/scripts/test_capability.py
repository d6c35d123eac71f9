"""Where a device that allows scripts has its requesters' files."""

import pytest

from outrider.device.address import Address
from outrider.device.scripts.capability import folder_of

HERE = "mqtt://localhost:1883"


@pytest.mark.parametrize(
    ("device", "prefix", "broker"),
    [
        ("lamp", "", "mqtt://localhost:1884"),
        ("lamp", "", "mqtt://broker.example:1883"),
        ("lamp", "", "unix:///run/a.sock"),
        ("lamp", "", "unix:///run/b.sock"),
        ("lamp", "site", HERE),
        ("lamp-1", "", HERE),
    ],
)
def test_devices_of_one_name_have_folders_of_their_own(device: str, prefix: str, broker: str) -> None:
    others = {("lamp", "", HERE), ("lamp", "", "unix:///run/c.sock"), ("site", "lamp", HERE)}
    assert folder_of(device, prefix, Address.parse(broker)) not in {
        folder_of(device, prefix, Address.parse(broker)) for device, prefix, broker in others
    }


def test_folder_is_the_same_after_a_restart() -> None:
    folders = {
        folder_of("lamp", "", Address.parse(broker)) for broker in (HERE, "mqtt://user:password@localhost", f"{HERE}")
    }
    assert folders == {"lamp+" + folder_of("lamp", "", Address.parse(HERE)).partition("+")[2]}
