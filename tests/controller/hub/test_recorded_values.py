"""Whatever a message may hold: what becomes a record of it can be stored, and read again, on every database."""

import secrets
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from outrider.controller.hub.records import EventQuery, EventRecord
from outrider.controller.hub.store import Store
from outrider.controller.hub.transcript import Transcript
from outrider.device import Message
from outrider.schema import InvalidMessage, Topics

TRANSCRIPT = Transcript(Topics())
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300) | st.sampled_from(["\0", "a\0b", "x" * 3000])
numbers = st.integers() | st.floats() | st.sampled_from([2**63, -(2**64), 10**400, 1e308])
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
times = st.floats(0, 1e11) | numbers
names = st.text("abcXYZ019_-", min_size=1, max_size=64).filter(lambda name: name != "all")


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def message(topic: str, fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.tuples(st.just(topic), st.fixed_dictionaries({}, optional=fields))


messages = st.one_of(
    message(
        "devices/{device}/event/tick",
        {"key": optional(texts), "subject": optional(texts), "data": values},
    ),
    message("devices/{device}/result/alice", {"value": values, "error": values, "started": times, "finished": times}),
    message(
        "devices/{device}/progress/alice",
        {"seq": st.integers(0), "fraction": numbers, "text": texts, "stream": texts, "data": texts},
    ),
    message("devices/{device}/state", {"tags": values, "about": texts, "groups": st.lists(names), "since": times}),
    message(
        "devices/{device}/cmd/alice",
        {"args": values, "behalf": names, "issued": times, "expires": times, "timeout": times, "trace": texts},
    ),
)


@given(messages, st.booleans())
def test_whatever_becomes_a_record_can_be_stored(
    shared: Store, message: tuple[str, dict[str, Any]], packed: bool
) -> None:
    device = secrets.token_hex(8)
    topic, said = message
    whole = {
        "id": device,
        "device": device,
        "name": "tick",
        "time": 1.0,
        "command": "dim",
        "status": "done",
        "seq": 0,
        **({"status": "ready", "session": 1, "since": 1.0} if topic.endswith("state") else {}),
        **said,
    }
    try:
        payload = msgspec.msgpack.encode(whole) if packed else msgspec.json.encode(whole)
    except OverflowError:  # MessagePack has no such integers
        return
    try:
        record = TRANSCRIPT.record(Message(topic.format(device=device), payload, False, False), 1.0)
    except InvalidMessage:
        return
    assert record is not None
    assert shared.write([record]) == 1
    assert shared.write([record]) == 0
    if isinstance(record, EventRecord):
        (stored,) = shared.events(EventQuery(device=device)).items
        assert (stored.id, stored.time, stored.data) == (record.id, record.time, record.data)
        if stored.data is not None:
            msgspec.json.decode(stored.data)
