import itertools
import random
import threading
from collections.abc import Sequence

import pytest
from msgspec import Raw

from outrider.controller.hub import reading
from outrider.controller.hub.records import CommandQuery, EventQuery, EventRecord, Record, ResultQuery
from outrider.controller.hub.store import Store
from outrider.schema import Status
from tests.controller.hub.made import command, event, progress, result, state

NASTY = (
    "'; DROP TABLE events; --",
    '<script>alert("1")</script>',
    "%s {any} :name ? $1 \\",
    "zero\0byte",
    "‮ right to left \N{PILE OF POO} é",
    "",
)
"""Texts that are SQL, HTML, marks of parameters, and what PostgreSQL has no place for."""


def seqs(records: list[Record]) -> list[int]:
    return [record.seq for record in records]


def test_batch_of_all_kinds_is_read_back_as_it_was(store: Store) -> None:
    batch: list[Record] = [
        command(device="lamp-1", args=Raw(b'{"level":40}')),
        progress(text="half"),
        result(value=Raw(b"[1, 2]")),
        state(tags={"room": "kitchen", "floor": 2, "new": True, "load": 0.5}),
        event(key="e", subject="s", time=1.5, data=Raw(b'{"a": null}')),
    ]
    assert store.write(batch) == 5
    asked = store.commands(CommandQuery()).items[0]
    moved = store.progress("c1", requester="ada").items[0]
    answered = store.results(ResultQuery()).items[0]
    stood = store.states("lamp-1").items[0]
    told = store.events(EventQuery()).items[0]
    assert seqs([asked, moved, answered, stood, told]) == [1, 2, 3, 4, 5]
    values = [bytes(raw) for raw in (asked.args, answered.value, told.data) if raw is not None]
    assert values == [b'{"level":40}', b"[1, 2]", b'{"a": null}']
    assert stood.tags == {"room": "kitchen", "floor": 2, "new": True, "load": 0.5}
    assert stood.tags["new"] is True


@pytest.mark.parametrize(
    "record",
    [
        command(device="lamp-1"),
        command(group="kitchen"),
        progress(number=3),
        result(),
        state(),
        event(id="e1"),
    ],
    ids=lambda record: type(record).__name__,
)
def test_repeat_is_dropped_in_a_batch_and_later(store: Store, record: Record) -> None:
    assert store.write([record, record]) == 1
    assert store.write([record]) == 0


def test_who_counts_is_told_what_was_new(url: str) -> None:
    told: list[Sequence[Record]] = []
    with Store.open(url, stored=told.append) as store:
        store.write([result(), event(id="e1")])
        store.write([event(id="e1"), state(), event(id="e2"), result(), command(device="lamp-1")])
        store.write([result()])
    first, second, nothing = (sorted(type(record).__name__ for record in each) for each in told)
    assert first == ["EventRecord", "ResultRecord"]
    assert second == ["CommandRecord", "EventRecord", "StateRecord"]
    assert event(id="e2") in told[1]
    assert nothing == []


def test_first_result_stays(store: Store) -> None:
    store.write([result(status=Status.INTERRUPTED), result(status=Status.DONE)])
    assert store.write([result(status=Status.FAILED)]) == 0
    assert [each.status for each in store.results(ResultQuery()).items] == [Status.INTERRUPTED]


def test_same_id_of_another_requester_device_or_address_is_no_repeat(store: Store) -> None:
    assert (
        store.write(
            [
                command(device="lamp-1"),
                command(group="lamp-1"),
                command(device="lamp-2"),
                command(device="lamp-1", requester="bob"),
                command(device="lamp-1", behalf="eve"),
                result(),
                result(device="lamp-2"),
                result(requester="bob"),
            ]
        )
        == 8
    )


def test_command_without_an_id_is_never_a_repeat(store: Store) -> None:
    assert store.write([command("", device="lamp-1"), command("", device="lamp-1")]) == 2


def test_number_of_a_record_grows_and_is_never_given_again(store: Store) -> None:
    store.write([event(received=1.0), event(received=2.0)])
    store.prune(older_than=10.0)
    store.write([event(received=20.0)])
    assert seqs([*store.events(EventQuery()).items]) == [3]


def test_pages_stay_the_same_while_records_are_added(store: Store) -> None:
    store.write([event() for _ in range(7)])
    first = store.events(EventQuery(limit=3))
    store.write([event() for _ in range(5)])
    second = store.events(EventQuery(limit=3, cursor=first.next))
    store.write([event()])
    third = store.events(EventQuery(limit=3, cursor=second.next))
    assert [seqs([*page.items]) for page in (first, second, third)] == [[7, 6, 5], [4, 3, 2], [1]]
    assert third.next is None


def test_records_whose_ids_begin_so_are_left_out_of_pages(store: Store) -> None:
    ids = ["run-1", "a1", "run-2", "RUN-3", "ru", "run", "a2"]
    store.write([*(command(id, device="lamp-1") for id in ids), *(result(id) for id in ids)])
    kept = ["a2", "run", "ru", "RUN-3", "a1"]
    assert [each.id for each in store.commands(CommandQuery(but="run-")).items] == kept
    assert [each.id for each in store.results(ResultQuery(but="run-")).items] == kept
    assert store.commands(CommandQuery(id="run-1", but="run-")).items == []
    page = store.results(ResultQuery(but="run-", limit=2))
    assert [each.id for each in page.items] == kept[:2]
    assert [each.id for each in store.results(ResultQuery(but="run-", cursor=page.next)).items] == kept[2:]


def test_page_that_ends_with_the_last_record_has_no_next(store: Store) -> None:
    store.write([event() for _ in range(3)])
    assert store.events(EventQuery(limit=3)).next is None


def test_events_after_a_number_come_oldest_first(store: Store) -> None:
    store.write([event() for _ in range(5)])
    page = store.events(EventQuery(after=2, limit=2))
    assert (seqs([*page.items]), page.next) == ([3, 4], 4)
    assert seqs([*store.events(EventQuery(after=4, limit=2)).items]) == [5]


def test_events_are_found_by_what_they_are(store: Store) -> None:
    store.write(
        [
            event("a", 1.0, key="e", subject="s"),
            event("a", 2.0, key="f", device="lamp-2"),
            event("b", 3.0, subject="s"),
        ]
    )
    ask = {
        EventQuery(name="a"): [2, 1],
        EventQuery(name="a", key="e"): [1],
        EventQuery(subject="s"): [3, 1],
        EventQuery(device="lamp-2"): [2],
        EventQuery(since=2.0, until=3.0): [2],
        EventQuery(name="'a'"): [],
    }
    for query, expected in ask.items():
        assert seqs([*store.events(query).items]) == expected, query


def meant(query: EventQuery, rows: list[EventRecord]) -> list[int]:
    """The events that a query is about, by looking at every one, in its order."""
    found = [
        row.seq
        for row in rows
        if all(getattr(query, name) in (None, getattr(row, name)) for name in ("device", "name", "key", "subject"))
        and (query.since is None or row.time >= query.since)
        and (query.until is None or row.time < query.until)
        and (query.cursor is None or row.seq < query.cursor)
        and (query.after is None or row.seq > query.after)
    ]
    return sorted(found, reverse=query.after is None)


@pytest.mark.parametrize("near", [0, 3, 1000])
def test_events_are_found_near_and_far_by_any_of_their_properties(
    store: Store, monkeypatch: pytest.MonkeyPatch, near: int
) -> None:
    monkeypatch.setattr(reading, "NEXT", near)
    chance = random.Random(1)
    store.write(
        [
            event(
                chance.choice("ab"),
                float(chance.randrange(20)),
                device=chance.choice(("lamp-1", "lamp-2")),
                key=chance.choice(("e", "f", None)),
                subject=chance.choice(("s", None)),
            )
            for _ in range(60)
        ]
    )
    rows = store.events(EventQuery(limit=100)).items
    assert len(rows) == 60
    for device, name, key, subject, (since, until), (cursor, after) in itertools.product(
        (None, "lamp-1"),
        (None, "a"),
        (None, "e"),
        (None, "s"),
        ((None, None), (5.0, None), (5.0, 9.0)),
        ((None, None), (40, None), (None, 20), (1, None), (None, 60)),
    ):
        query = EventQuery(
            device=device,
            name=name,
            key=key,
            subject=subject,
            since=since,
            until=until,
            cursor=cursor,
            after=after,
            limit=4,
        )
        expected = meant(query, rows)
        page = store.events(query)
        assert [row.seq for row in page.items] == expected[:4], query
        assert page.next == (expected[3] if len(expected) > 4 else None), query


def test_commands_of_a_device_are_its_own_and_those_to_groups_that_it_answered(store: Store) -> None:
    store.write(
        [
            command("own", device="lamp-1"),
            command("other", device="lamp-2"),
            command("answered", group="all"),
            command("unanswered", group="all"),
            command("running", group="all"),
            result("answered"),
            result("unanswered", device="lamp-2"),
            progress("running"),
            result("own", requester="bob"),
        ]
    )
    assert [each.id for each in store.commands(CommandQuery(device="lamp-1")).items] == ["running", "answered", "own"]


def test_results_of_a_client_are_those_of_its_commands_whichever_came_first(store: Store) -> None:
    store.write([command("a", behalf="ann", device="lamp-1"), command("b", behalf="ben", device="lamp-1")])
    store.write([result("a"), result("b"), result("late"), result("nobody")])
    store.write([command("late", behalf="ann", group="all"), command("nobody", device="lamp-1")])
    store.write([command("later", behalf="ann", device="lamp-1"), result("later")])
    assert [each.id for each in store.results(ResultQuery(behalf="ann")).items] == ["later", "late", "a"]
    assert [each.id for each in store.results(ResultQuery(behalf="ben")).items] == ["b"]
    assert store.results(ResultQuery(behalf="ann", requester="other")).items == []


def test_results_are_found_by_what_they_are(store: Store) -> None:
    store.write(
        [
            result("a", received=1.0),
            result("b", device="lamp-2", received=2.0),
            result("c", status=Status.FAILED, received=3.0),
        ]
    )
    ask = {
        ResultQuery(id="a"): ["a"],
        ResultQuery(device="lamp-1"): ["c", "a"],
        ResultQuery(status=Status.FAILED): ["c"],
        ResultQuery(since=2.0, until=3.0): ["b"],
        ResultQuery(requester="ada", limit=1): ["c"],
    }
    for query, expected in ask.items():
        assert [each.id for each in store.results(query).items] == expected, query


def test_progress_of_one_requester_and_device_comes_in_order(store: Store) -> None:
    store.write([progress(number=number, device=device) for number in range(3) for device in ("lamp-1", "lamp-2")])
    store.write([progress(number=0, requester="bob")])
    page = store.progress("c1", requester="ada", device="lamp-1", limit=2)
    assert [each.number for each in page.items] == [0, 1]
    assert page.next is not None
    rest = store.progress("c1", requester="ada", device="lamp-1", after=page.next)
    assert [each.number for each in rest.items] == [2]


@pytest.mark.parametrize("text", NASTY)
def test_text_of_a_device_is_kept_and_found_whatever_it_is(store: Store, text: str) -> None:
    kept = text.replace("\0", "␀")
    store.write(
        [
            event(key=text, subject=text, time=1.0),
            event("ack", subject=text, time=2.0),
            command(text, requester=text, behalf=text, device=text or "lamp-1", name=text),
            progress(text=text),
            state(tags={"note": text}),
        ]
    )
    assert store.summary("initial", key=text)[0].followups == {"ack": 1}
    assert [summary.key for summary in store.summary("initial")] == [kept]
    assert [each.subject for each in store.events(EventQuery(subject=text, key=text)).items] == [kept]
    assert store.series("initial", key=text, since=0, until=9, step=1)[0].count == 1
    assert len(store.commands(CommandQuery(command=text, requester=text, behalf=text)).items) == 1
    assert store.progress("c1", requester="ada").items[0].text == kept
    assert store.states("lamp-1").items[0].tags == {"note": text}
    assert store.names() == ["ack", "initial"]


def test_text_too_long_for_an_index_is_told_apart_by_its_digest(store: Store) -> None:
    one, other = "x" * 100_000 + "1", "x" * 100_000 + "2"
    store.write([event(key=one, subject=one), event(key=other, subject=other), event("ack", subject=one)])
    assert store.summary("initial", key=one)[0].followups == {"ack": 1}
    assert store.summary("initial", key=other)[0].followups == {}
    assert {len(summary.key or "") for summary in store.summary("initial")} == {256}


def test_number_too_great_for_a_column_is_stored_as_the_greatest(store: Store) -> None:
    store.write([progress(number=10**30)])
    assert store.progress("c1", requester="ada").items[0].number == 2**63 - 1


def test_data_that_is_not_utf_8_does_not_stop_the_batch(store: Store) -> None:
    assert store.write([event(data=Raw(b'"\xff"')), event()]) == 2


def test_threads_that_write_and_read_at_once_lose_nothing(store: Store) -> None:
    def write(device: str) -> None:
        for number in range(20):
            store.write([event(id=f"{number}-{each}", device=device, key="e", time=each) for each in range(10)])
            store.summary("initial")

    threads = [threading.Thread(target=write, args=(f"lamp-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.summary("initial")[0].count == 800
