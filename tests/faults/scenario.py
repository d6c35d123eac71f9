"""A scenario: a fault, what is sent meanwhile, and what must come of it."""

from dataclasses import dataclass

from tests.brokers import STARTED
from tests.faults.steps import Step


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One row of the table.

    :ivar name: condition and expectation, as tests are named.
    :ivar fault: the condition in words, for the page.
    :ivar script: what happens, in this order; all outcomes are waited for afterwards.
    :ivar gets: the outcome of each command that was sent, in order, with its code where it is rejected.
    :ivar runs: how often commands have run in all, by a file outside of what is tried.
    :ivar says: what the last outcome's message says.
    :ivar then: what happens after the outcomes and is checked by itself.
    :ivar process: the device is a process of its own.
    :ivar entries: the size of its journal, kept in memory then.
    :ivar own_broker: the scenario does something to the broker.
    :ivar brokers: those that behave as the scenario needs it.
    """

    name: str
    fault: str
    script: tuple[Step, ...]
    gets: tuple[str, ...] = ("done",)
    runs: int = 1
    says: str = ""
    then: tuple[Step, ...] = ()
    process: bool = False
    entries: int | None = None
    own_broker: bool = False
    brokers: tuple[str, ...] = STARTED
    slow: bool = False

    @property
    def outcomes(self) -> str:
        """What the requester gets, in words."""
        words: list[str] = []
        for word in dict.fromkeys(self.gets):
            status, _, code = word.partition(" ")
            count = self.gets.count(word)
            shown = f"`{status}`" + (f" (`{code}`)" if code else "")
            words.append(shown if len(self.gets) == 1 else f"{count} times {shown}")
        return ", ".join(words)
