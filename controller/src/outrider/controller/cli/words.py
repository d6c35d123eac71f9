"""The REPL's own words: how each is used and what it does."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from outrider.schema import LocalError

from .terminal import printable


class UsageError(LocalError, ValueError):
    """A line that says nothing the REPL could do."""


class Declined(LocalError):
    """The user was asked and said no."""


class Leave(Exception):
    """The line asks to leave."""


class OwnWord(NamedTuple):
    """How one of the REPL's own words is used, and what it does."""

    usage: str
    help: str


OWN_WORDS: Final[Mapping[str, OwnWord]] = {
    "use": OwnWord("use [TARGET]", "Send what follows to these devices; alone: to none."),
    "devices": OwnWord("devices [TARGET]", "Show who is there, or what a target stands for."),
    "about": OwnWord("about [TARGET [COMMAND]]", "Show what the devices of a target can do."),
    "send": OwnWord("send TARGET COMMAND [ARGUMENTS]", "Send a command elsewhere, or one called like a word."),
    "jobs": OwnWord("jobs [TARGET]", "Show what runs, on all devices or these, for anybody."),
    "results": OwnWord("results [TAG|ID]", "Show the last results, or what became of a command."),
    "cancel": OwnWord("cancel TAG|ID [TARGET]", "End a command of yours, as in cancel 2."),
    "watch": OwnWord("watch [TARGET]", "Show a live table of what goes on, until q."),
    "help": OwnWord("help [COMMAND]", "Show the commands, or all about one."),
    "exit": OwnWord("exit", "Leave the REPL, as Ctrl-D. Devices and commands go on."),
    "quit": OwnWord("quit", "Leave the REPL, as exit. What ends devices: terminate."),
}
"""The REPL's own words. They go before a device's commands; `send` reaches those."""

TERMINATE: Final = "terminate"
"""The devices' command that ends them, which is no way to leave the REPL."""


def at_most(count: int, word: str, arguments: Sequence[str]) -> Sequence[str]:
    """The words behind one of the REPL's own.

    :raises UsageError: they are more than it takes.
    """
    if len(arguments) > count:
        raise UsageError(f"{len(arguments)} words behind {word} are too many: write {OWN_WORDS[word].usage}")
    return arguments


def nobody_for(word: str) -> UsageError:
    """Why a command goes nowhere where no target is in use."""
    nearest = difflib.get_close_matches(word, OWN_WORDS, n=1, cutoff=0.7)
    if nearest:
        return UsageError(f"{printable(word)} is no word of the REPL; did you mean {nearest[0]}?")
    command = printable(word)
    return UsageError(
        f"whom is {command} for? First: use lamp-1 (devices shows who is there), or: send lamp-1 {command}"
    )


def unknown_command(command: str, target: str, known: Sequence[str]) -> UsageError:
    """What is said of a command that a target has not: the nearest ones."""
    near = difflib.get_close_matches(command, [*known, *OWN_WORDS], n=3, cutoff=0.5)
    if near:
        words = f"did you mean {', '.join(map(printable, near))}?"
    else:
        words = f"it has: {', '.join(sorted(map(printable, set(known) - set(OWN_WORDS))))}"
    return UsageError(f"{target} has no command {printable(command)}; {words}")
