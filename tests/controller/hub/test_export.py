import csv
import json
import tracemalloc

import pytest
from msgspec import Raw

from outrider.controller.hub import export
from outrider.controller.hub.export import comma_separated, ndjson
from outrider.controller.hub.records import Record
from outrider.controller.hub.store import Store
from tests.controller.hub.made import command, event, progress, result, state


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few records are read in several questions, as many are."""
    monkeypatch.setattr(export, "AT_ONCE", 7)


def test_export_has_every_record_once_kind_by_kind_oldest_first(store: Store) -> None:
    batch: list[Record] = [event(received=1.0) for _ in range(20)]
    batch += [progress(), state(), result(), command(device="lamp-1")]
    store.write(batch)
    assert [record.seq for record in store.export()] == [24, 21, 23, 22, *range(1, 21)]
    assert [record.seq for record in store.export(["event"])] == [*range(1, 21)]


def test_export_of_a_range_includes_since_and_not_until(store: Store) -> None:
    store.write([event(received=float(second)) for second in range(30)])
    assert [record.received for record in store.export(["event"], 10.0, 15.0)] == [10.0, 11.0, 12.0, 13.0, 14.0]
    assert len(list(store.export(["event"], until=15.0))) == 15


def test_records_stored_meanwhile_do_not_disturb_an_export(store: Store) -> None:
    store.write([event() for _ in range(10)])
    coming = store.export(["event"])
    first = next(coming)
    store.write([event() for _ in range(3)])
    assert [first.seq, *(record.seq for record in coming)] == [*range(1, 14)]


def test_ndjson_is_a_document_a_line_with_its_type(store: Store) -> None:
    store.write([event(key="e", data=Raw(b'{"a": "x\\ny"}')), command(device="lamp-1")])
    lines = [json.loads(line) for line in b"".join(ndjson(store.export())).splitlines()]
    assert [(line["type"], line["seq"]) for line in lines] == [("command", 2), ("event", 1)]
    assert lines[1]["data"] == {"a": "x\ny"}


def test_csv_has_a_heading_for_each_kind_and_reads_back(store: Store) -> None:
    store.write([event(key='say "hi",\nyou', data=Raw(b'{"a": 1}')), result(value=Raw(b"-5"))])
    text = b"".join(comma_separated(store.export())).decode()
    rows = list(csv.reader(text.splitlines(keepends=True)))
    assert [row[:1] for row in rows] == [["type"], ["result"], [], ["type"], ["event"]]
    told = dict(zip(rows[3], rows[4], strict=True))
    assert (told["key"], told["data"], told["subject"]) == ('say "hi",\nyou', '{"a": 1}', "")
    assert dict(zip(rows[0], rows[1], strict=True))["value"] == "-5"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_csv_text_that_a_spreadsheet_would_run_is_quoted(store: Store, text: str) -> None:
    store.write([event(key=text)])
    (_, row) = csv.reader(b"".join(comma_separated(store.export())).decode().splitlines())
    assert f"'{text}" in row


def test_export_takes_no_more_memory_for_more_records(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "AT_ONCE", 100)
    store.write([event(key="e", data=Raw(b'"' + b"x" * 1000 + b'"')) for _ in range(4000)])
    for _ in ndjson(store.export(until=0.0)):
        pass
    tracemalloc.start()
    size = sum(map(len, ndjson(store.export())))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 4_000_000
    assert peak < size / 4
