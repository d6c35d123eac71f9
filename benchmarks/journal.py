"""What the journal costs a command: python -m benchmarks.journal

Microseconds for each command until it is accepted, so that it may run, and until its result is kept, so that it may be
sent; where commands come one by one, and where 50 come together and share a commit.
"""

import contextlib
import tempfile
from collections.abc import Generator
from pathlib import Path
from statistics import median
from time import perf_counter, time

from msgspec import Raw
from rich.console import Console
from rich.table import Table

from outrider.device.journal import Entry, Journal, Key, digest
from outrider.device.journal_file import JournalFile, Synchronous
from outrider.device.memory_journal import MemoryJournal
from outrider.device.sqlite_journal import SqliteJournal
from outrider.schema import Command, Encoding, Result, Status

KINDS: dict[str, Synchronous | None] = {"memory": None, "normal": "normal", "full": "full"}
BATCHES = (1, 50)
ROUNDS = 5


def measure(journal: Journal, count: int, together: int) -> tuple[float, float]:
    """Seconds for each of `count` commands to be accepted, and to be finished."""
    accepting = finishing = 0.0
    for first in range(0, count, together):
        now = time()
        commands = [
            Command(id=f"{now}-{number}", command="dim", args=Raw(b'{"level":40}'), from_="ada", expires=now + 60)
            for number in range(first, first + together)
        ]
        entries = [
            Entry(
                Key("ada", "", command.id or ""),
                digest(command),
                Encoding.JSON,
                expires=now + 60,
                stated=True,
                command=command,
            )
            for command in commands
        ]
        results = [
            Result(id=entry.key.id, device="lamp-1", command="dim", status=Status.DONE, value=Raw(b"40"), finished=now)
            for entry in entries
        ]
        began = perf_counter()
        for entry in entries:
            journal.accept(entry)
            journal.started(entry)
        journal.commit()
        accepted = perf_counter()
        for entry, result in zip(entries, results, strict=True):
            journal.finished(entry, result)
        journal.commit()
        finishing += perf_counter() - accepted
        accepting += accepted - began
        for entry in entries:
            journal.delivered(entry)  # goes with the next commit
    return accepting / count, finishing / count


@contextlib.contextmanager
def opened(synchronous: Synchronous | None) -> Generator[Journal]:
    """A new journal: in memory, or in a file that is deleted."""
    if synchronous is None:
        yield MemoryJournal()
        return
    with (
        tempfile.TemporaryDirectory(prefix="journal-") as folder,
        contextlib.closing(JournalFile(Path(folder, "journal.sqlite"), synchronous=synchronous)) as file,
        contextlib.closing(SqliteJournal(file, "lamp-1")) as journal,
    ):
        yield journal


def main() -> None:
    shown = Table(title="Journal, µs a command", title_justify="left")
    for heading in ("journal", "together", "to accept", "to finish"):
        shown.add_column(heading, justify="left" if heading == "journal" else "right")
    for name, synchronous in KINDS.items():
        for together in BATCHES:
            count = 5000 if synchronous != "full" else 200 * together
            figures: list[tuple[float, float]] = []
            for _ in range(ROUNDS):
                with opened(synchronous) as journal:
                    figures.append(measure(journal, count, together))
            accept, finish = (median(column) * 1e6 for column in zip(*figures, strict=True))
            shown.add_row(name, str(together), f"{accept:,.1f}", f"{finish:,.1f}")
    Console().print(shown)


if __name__ == "__main__":
    main()
