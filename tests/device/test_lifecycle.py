from typing import Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statemachine.exceptions import TransitionNotAllowed

from outrider.device.lifecycle import Lifecycle

Event = Literal["start", "stop", "terminate"]
EVENTS: tuple[Event, ...] = get_args(Event)
NEXT = {
    ("unready", "start"): "ready",
    ("unready", "stop"): "unready",
    ("ready", "start"): "ready",
    ("ready", "stop"): "unready",
    ("unready", "terminate"): "terminated",
    ("ready", "terminate"): "terminated",
}


@given(st.sampled_from(["unready", "ready"]), st.lists(st.sampled_from(EVENTS)))
def test_any_sequence_follows_the_table_and_tells_each_change(initial: str, events: list[Event]) -> None:
    told: list[str] = []
    lifecycle = Lifecycle(initial, told.append)
    status, expected = initial, list[str]()
    for event in events:
        following = NEXT.get((status, event))
        if following is None:
            with pytest.raises(TransitionNotAllowed):
                lifecycle.apply(event)
        else:
            lifecycle.apply(event)
            if following != status:
                expected.append(following)
            status = following
        assert lifecycle.status == status
    assert told == expected


def test_beginning_is_no_change() -> None:
    told: list[str] = []
    assert Lifecycle("ready", told.append).status == "ready"
    assert told == []
