"""Whose a script is that was sent over HTTP: what a client's name becomes for the broker, and what stands in an id.

Where a hub has no tokens, clients have nothing but the names that they give. To the rest of the API all of them are the
same somebody, who may see everything, so what such a client runs is told apart by its id and left out there.
"""

import hashlib
import re
import secrets
from typing import Final

RUN: Final = "run-"
"""What the id of a script begins with that came by `/run-file` or `/run-json`, and no other id that the hub makes."""

LONGEST_CLIENT: Final = 1000
"""Characters that a client's name may have."""

_NAMED: Final = re.compile(r"client-[0-9a-f]{56}")


def behalf_of(client: str) -> str:
    """On whose behalf the client of this name sends, where there are no tokens.

    Any text has a name of its own that a message can carry: texts that differ by one blank are two owners.
    """
    return f"client-{hashlib.sha224(client.encode(errors='surrogatepass')).hexdigest()}"


def is_clients(behalf: str) -> bool:
    """Whether this is the name of a client without a token."""
    return _NAMED.fullmatch(behalf) is not None


def new_run(behalf: str) -> str:
    """An id for a script on this behalf: by chance, with a mark of its owner."""
    chance = secrets.token_hex(10)
    return f"{RUN}{chance}-{_mark(chance, behalf)}"


def is_run(id: str) -> bool:
    """Whether it is the id of such a script."""
    return id.startswith(RUN)


def run_of(id: str) -> str:
    """The id under which a client knows a script; those of its attempts after the first have a number behind it."""
    return id.partition("_")[0] if is_run(id) else id


def attempt(run: str, number: int) -> str:
    """The id of a script's attempt with this number, from 1: the first has the script's own."""
    return run if number == 1 else f"{run}_{number}"


def number_of(id: str) -> int:
    """Which attempt has this id."""
    number = id.partition("_")[2]
    return int(number) if number.isdecimal() and number.isascii() else 1


def is_of(id: str, behalf: str) -> bool:
    """Whether a script with this id is this owner's, if there is one.

    Nothing is looked up for it, so nobody can tell from an answer's time that there is one of another's.
    """
    chance, _, mark = id.removeprefix(RUN).partition("-")
    return is_run(id) and secrets.compare_digest(mark.encode(), _mark(chance, behalf).encode())


def _mark(chance: str, behalf: str) -> str:
    return hashlib.sha256(f"{chance} {behalf}".encode()).hexdigest()[:20]
