"""What the hub's store costs: python -m benchmarks.store

Recording beside `sqlite3.executemany` of the same rows into the same table with the same keys, as many to a commit, in
a file that is set up alike. What is ours in between: repeats dropped, indexes to ask by, counts for summaries.

A summary over many events beside one over 10,000: of one key in a range whose edges cut a second, and of all keys.
"""

import argparse
import contextlib
import random
import sqlite3
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from msgspec import Raw
from rich.console import Console

from outrider.controller.hub.records import EventRecord
from outrider.controller.hub.rows import event_row
from outrider.controller.hub.store import Store

from . import report

RECORDING: Final = "events recorded on SQLite"
RANGE: Final = "summary of a key in a range"
ALL: Final = "summary of all keys"
INDEXED: Final = "the same, beside a table with our indexes"
NAMES: Final = (RECORDING, INDEXED, RANGE, ALL)

FEW: Final = 10_000
EVENTS: Final = 1_000_000
RECORDED: Final = 200_000
TOGETHER: Final = 5_000
"""Events in a batch."""
RATE: Final = 1000.0
"""Events a second, by their own times."""
KEYS: Final = 10
DEVICES: Final = 1000
ALIKE: Final = (
    "page_size=8192",
    "auto_vacuum=INCREMENTAL",
    "journal_mode=WAL",
    "synchronous=FULL",
    "wal_autocheckpoint=8192",
    "cache_size=-65536",
)
"""How `database.py` sets up a file."""
BEGAN: Final = 1_800_000_000.0


def events(seed: int) -> Iterator[EventRecord]:
    """Half of them telemetry, a quarter opens a subject that nobody had before, a quarter follows one up.

    Ids are as devices make them.
    """
    chance = random.Random(seed)
    lives = [f"{chance.getrandbits(64):016x}" for _ in range(DEVICES)]
    opened: list[str] = []
    number = 0
    while True:
        now = BEGAN + number / RATE
        name, subject = "temperature", None
        if number % 4 == 1:
            name, subject = "initial", f"{chance.getrandbits(128):032x}"
            opened.append(subject)
        elif number % 4 == 3:
            name, subject = "done", opened.pop(chance.randrange(max(0, len(opened) - 1000), len(opened)))
        device = chance.randrange(DEVICES)
        yield EventRecord(
            id=f"{lives[device]}-{number}",
            device=f"lamp-{device}",
            name=name,
            key=None if name == "done" else f"room-{chance.randrange(KEYS)}",
            subject=subject,
            time=now,
            data=Raw(b'{"celsius":21.5}'),
            received=now,
        )
        number += 1


def measure(console: Console, rounds: int, share: float = 1.0) -> list[report.Line]:
    """Measure all of it; `share` of the usual number of events."""
    return [
        *recording(rounds, max(TOGETHER, round(RECORDED * share))),
        *summaries(console, max(FEW, round(EVENTS * share)), 50),
    ]


def record(batches: Sequence[Sequence[EventRecord]]) -> float:
    """Events a second that the store takes."""
    with _store() as store:
        began = perf_counter()
        for batch in batches:
            store.write(batch)
        return sum(map(len, batches)) / (perf_counter() - began)


def insert(batches: Sequence[Sequence[EventRecord]], *, indexes: bool = False) -> float:
    """Rows a second that `executemany` takes."""
    rows = [[event_row(number, event) for number, event in enumerate(batch)] for batch in batches]
    with (
        tempfile.TemporaryDirectory(prefix="store-") as folder,
        contextlib.closing(sqlite3.connect(Path(folder, "raw.sqlite"), isolation_level=None)) as raw,
    ):
        for setting in ALIKE:
            raw.execute(f"PRAGMA {setting}")
        raw.execute(
            "CREATE TABLE events (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, device TEXT NOT NULL, name TEXT NOT NULL, "
            "key TEXT, subject TEXT, time DOUBLE NOT NULL, data TEXT, received DOUBLE NOT NULL, UNIQUE (device, id))"
        )
        if indexes:
            raw.execute("CREATE INDEX events_time ON events (name, key, time)")
            raw.execute("CREATE INDEX events_subject ON events (subject, key) WHERE subject IS NOT NULL")
        began = perf_counter()
        for some in rows:
            raw.execute("BEGIN IMMEDIATE")
            raw.executemany("INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", (row[1:] for row in some))
            raw.execute("COMMIT")
        return sum(map(len, rows)) / (perf_counter() - began)


def insert_indexed(batches: Sequence[Sequence[EventRecord]]) -> float:
    """The same where the table has the indexes that ours has."""
    return insert(batches, indexes=True)


def recording(rounds: int, count: int) -> list[report.Line]:
    """The sides take turns; the figures are medians."""
    sides = (record, insert, insert_indexed)
    figures: dict[Callable[[Sequence[Sequence[EventRecord]]], float], list[float]] = {side: [] for side in sides}
    for number in range(rounds):
        batches = list(_batches(number, count))
        for side in sides if number % 2 else sides[::-1]:
            figures[side].append(side(batches))
    ours = median(figures[record])
    return [
        report.Line(RECORDING, "events/s", ours, median(figures[insert]), goal=0.5),
        report.Line(INDEXED, "events/s", ours, median(figures[insert_indexed])),
    ]


def summaries(console: Console, many: int, calls: int) -> list[report.Line]:
    """How many summaries a second there are over many events, and over few."""
    questions: dict[str, Callable[[Store, int], object]] = {
        RANGE: lambda store, count: store.summary(
            "initial", key="room-1", since=BEGAN + 1.2345, until=BEGAN + count / RATE - 1.2345
        ),
        ALL: lambda store, count: store.summary("initial"),
    }
    figures: dict[str, dict[int, list[float]]] = {name: {FEW: [], many: []} for name in questions}
    with _store() as few, _store() as filled:
        for batch in _batches(0, FEW):
            few.write(batch)
        began = perf_counter()
        for number, batch in enumerate(_batches(0, many), 1):
            filled.write(batch)
            if number * TOGETHER % 1_000_000 == 0:
                pace = number * TOGETHER / (perf_counter() - began)
                console.print(f"{number * TOGETHER:,} events stored, {pace:,.0f} events/s until here")
        for name, question in questions.items():
            for store, count in ((few, FEW), (filled, many)) * 5:
                began = perf_counter()
                for _ in range(calls):
                    question(store, count)
                figures[name][count].append(calls / (perf_counter() - began))
    return [
        report.Line(name, "1/s", median(sides[many]), median(sides[FEW]), goal=0.5) for name, sides in figures.items()
    ]


@contextlib.contextmanager
def _store() -> Generator[Store]:
    with (
        tempfile.TemporaryDirectory(prefix="store-") as folder,
        Store.open(f"sqlite:///{folder}/hub.sqlite") as store,
    ):
        yield store


def _batches(seed: int, count: int) -> Iterator[list[EventRecord]]:
    coming = islice(events(seed), count)
    while batch := list(islice(coming, TOGETHER)):
        yield batch


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description="Measure the hub's store.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side; the figures are medians (5)")
    parser.add_argument("--recorded", type=int, default=RECORDED, help=f"events recorded in a round ({RECORDED:,})")
    parser.add_argument("--events", type=int, default=EVENTS, help=f"events to sum up ({EVENTS:,})")
    parser.add_argument("--calls", type=int, default=50, help="summaries in a round (50)")
    options = parser.parse_args()
    console = Console()
    lines = [*recording(options.rounds, options.recorded), *summaries(console, options.events, options.calls)]
    console.print(report.table(lines, "The hub's store on SQLite, beside executemany and beside 10,000 events"))


if __name__ == "__main__":
    main()
