from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from msgspec import Raw

from outrider.device import Entry, Key, MemoryJournal, Stage
from outrider.device.journal import CLOCK_TOLERANCE
from outrider.schema import Encoding, Result, Status


def result(entry: Entry) -> Result:
    return Result(id=entry.key.id, device="d", command="c", status=Status.DONE, finished=1.0)


class JournalMachine(RuleBasedStateMachine):
    """A journal against a plain model: what must be remembered is, what may be forgotten is accounted for."""

    entries = Bundle("entries")

    def __init__(self) -> None:
        super().__init__()
        self.journal = MemoryJournal()
        self.now = 1000.0
        self.all: list[Entry] = []

    @rule(target=entries, number=st.integers(0, 10**9), lasts=st.floats(-50, 200), stated=st.booleans())
    def accept(self, number: int, lasts: float, stated: bool) -> Entry:
        key = Key("r", "", f"{len(self.all)}-{number}")
        entry = Entry(key, b"", Encoding.JSON, expires=self.now + lasts, stated=stated)
        self.journal.accept(entry)
        self.all.append(entry)
        return entry

    @rule(entry=entries)
    def finish(self, entry: Entry) -> None:
        if entry.stage < Stage.FINISHED:
            self.journal.finished(entry, result(entry))

    @rule(entry=entries)
    def deliver(self, entry: Entry) -> None:
        if entry.stage is Stage.FINISHED:
            self.journal.delivered(entry)

    @rule(seconds=st.floats(-100, 300))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.journal.prune(self.now)

    @invariant()
    def remembers_what_it_must(self) -> None:
        for entry in self.all:
            if self.journal.find(entry.key) is None:
                assert entry.stage is Stage.DELIVERED
                assert not entry.stated or entry.expires <= self.journal.dropped_until
            else:
                assert self.journal.find(entry.key) is entry

    @invariant()
    def undelivered_are_those_finished(self) -> None:
        kept = [entry for entry in self.all if self.journal.find(entry.key)]
        assert list(self.journal.undelivered()) == [entry for entry in kept if entry.stage is Stage.FINISHED]


TestJournal = JournalMachine.TestCase


def test_entry_leaves_only_after_expiry_and_tolerance() -> None:
    journal = MemoryJournal(linger=0.0)
    entry = Entry(Key("r", "", "a"), b"", Encoding.JSON, expires=100.0, stated=True)
    journal.accept(entry)
    journal.finished(entry, result(entry))
    journal.delivered(entry)
    journal.prune(100.0 + CLOCK_TOLERANCE)
    assert journal.find(entry.key) is entry
    journal.prune(100.1 + CLOCK_TOLERANCE)
    assert journal.find(entry.key) is None
    assert journal.dropped_until == 100.0


def test_entry_that_may_leave_lingers_as_long_as_there_is_room() -> None:
    journal = MemoryJournal(max_entries=30, linger=600.0)
    for id in "abc":
        entry = Entry(Key("r", "", id), b"", Encoding.JSON, expires=100.0, stated=True)
        journal.accept(entry)
        journal.finished(entry, result(entry))
        journal.delivered(entry)
    journal.prune(101.0 + CLOCK_TOLERANCE)
    assert len(journal) == 2  # fewer than a tenth of its size
    assert journal.dropped_until == 100.0
    journal.prune(701.0 + CLOCK_TOLERANCE)
    assert len(journal) == 0


def test_entry_stays_beyond_its_expiry_until_its_answer_is_delivered() -> None:
    journal = MemoryJournal()
    entry = Entry(Key("r", "", "a"), b"", Encoding.JSON, expires=100.0, stated=True)
    journal.accept(entry)
    journal.prune(10_000.0)
    assert journal.find(entry.key) is entry
    journal.finished(entry, result(entry))
    journal.prune(20_000.0)
    assert journal.find(entry.key) is entry
    journal.delivered(entry)
    journal.prune(30_000.0)
    assert journal.find(entry.key) is None


@given(st.lists(st.tuples(st.floats(0, 1e10), st.integers(0, 2**60)), min_size=1))
def test_sessions_only_grow_whatever_the_clock_does(connects: list[tuple[float, int]]) -> None:
    journal = MemoryJournal()
    before = 0
    for now, above in connects:
        session = journal.next_session(now, above)
        assert session > before
        assert session > above
        assert session >= int(now * 1e6)
        before = session


def test_full_journal_says_so() -> None:
    journal = MemoryJournal(max_entries=1)
    assert not journal.full
    journal.accept(Entry(Key("r", "", "a"), b"", Encoding.JSON, expires=100.0, stated=True))
    assert journal.full


def test_journal_is_full_by_the_bytes_of_its_results_too() -> None:
    journal = MemoryJournal(max_bytes=100)
    entry = Entry(Key("r", "", "a"), b"", Encoding.JSON, expires=100.0, stated=True)
    journal.accept(entry)
    large = Result(id="a", device="d", command="c", status=Status.DONE, value=Raw(b"1" * 100), finished=1.0)
    journal.finished(entry, large)
    assert journal.full
    journal.delivered(entry)
    journal.prune(1000.0)
    assert not journal.full
