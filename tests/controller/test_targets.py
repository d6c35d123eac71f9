from typing import Literal

import pytest

from outrider.controller.targets import Targets, resolve
from outrider.schema import InvalidName, State, UnknownTarget


def state(device: str, status: Literal["ready", "unready", "lost", "terminated"], *groups: str) -> State:
    return State(device=device, status=status, session=1, since=0.0, groups=list(groups))


FLEET = {
    each.device: each
    for each in (
        state("lamp-2", "unready", "kitchen"),
        state("lamp-1", "ready", "kitchen", "upstairs"),
        state("oven-1", "lost", "kitchen"),
        state("gone-1", "terminated", "kitchen", "attic"),
    )
}


def test_an_id_is_that_device() -> None:
    assert resolve("lamp-1", FLEET) == Targets(("lamp-1",))


def test_a_lost_device_is_still_a_target() -> None:
    assert resolve("oven-1", FLEET) == Targets(("oven-1",))


def test_a_terminated_device_by_id_is_known_to_be_gone() -> None:
    assert resolve("gone-1", FLEET) == Targets(("gone-1",), gone=frozenset(["gone-1"]))


def test_a_group_is_its_members_in_order_without_the_terminated() -> None:
    assert resolve("@kitchen", FLEET) == Targets(("lamp-1", "lamp-2", "oven-1"), group="kitchen")


@pytest.mark.parametrize("target", ["all", "@all"])
def test_all_is_every_device_but_the_terminated(target: str) -> None:
    assert resolve(target, FLEET) == Targets(("lamp-1", "lamp-2", "oven-1"), group="all")


def test_an_unknown_id_names_the_nearest() -> None:
    with pytest.raises(UnknownTarget, match="no device lmap-1 has been seen; did you mean lamp-1"):
        resolve("lmap-1", FLEET)


def test_an_unknown_id_without_a_near_one_names_some() -> None:
    with pytest.raises(UnknownTarget, match="known: gone-1, lamp-1, lamp-2, oven-1"):
        resolve("xyz", FLEET)


def test_an_unknown_group_names_the_nearest() -> None:
    with pytest.raises(UnknownTarget, match="did you mean @kitchen"):
        resolve("@kitchn", FLEET)


def test_a_group_of_terminated_devices_only_is_unknown() -> None:
    with pytest.raises(UnknownTarget, match="@attic"):
        resolve("@attic", FLEET)


def test_an_empty_target_says_what_to_give() -> None:
    with pytest.raises(UnknownTarget, match="empty; give a device's id, @group or all"):
        resolve("", FLEET)


def test_all_of_no_devices_says_how_to_start_one() -> None:
    with pytest.raises(UnknownTarget, match="outrider-device run"):
        resolve("all", {})


def test_all_of_terminated_devices_only_says_so() -> None:
    with pytest.raises(UnknownTarget, match="1 ended with terminate"):
        resolve("all", {"gone-1": FLEET["gone-1"]})


def test_an_id_where_none_is_known_says_so() -> None:
    with pytest.raises(UnknownTarget, match="none is known"):
        resolve("lamp-1", {})


@pytest.mark.parametrize("target", ["+", "#", "lamp/1", "lamp 1", "@", "@a/b", "x" * 65, "lämp", "lamp-1\n"])
def test_a_target_that_is_no_name_is_refused(target: str) -> None:
    with pytest.raises(InvalidName):
        resolve(target, FLEET)
