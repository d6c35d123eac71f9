"""API tokens: who a client of the hub is, and what it may do.

A token is shown once, when it is made; the hub keeps its digest only. It is 256 random bits, so a plain SHA-256 is
enough: there is nothing to guess.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from outrider.schema import LocalError, check_name

from .owners import is_clients, is_run
from .store import Store

PREFIX: Final = "outrider_"
"""What a token begins with, so that people and scanners for secrets know one when they see it."""

REMEMBERED: Final = 5.0
"""Seconds for which the database's answer about a token holds: so long a removed one may still work."""

MOST_REMEMBERED: Final = 10_000
"""Tokens of which an answer is remembered, wrong ones among them."""


class Scope(StrEnum):
    """What a token allows. `admin` allows everything, who sends also runs scripts, and who sends or audits also reads.

    `scripts` alone allows to run scripts and to see what became of one's own, and nothing else.
    """

    READ = "read"
    SCRIPTS = "scripts"
    SEND = "send"
    AUDIT = "audit"
    ADMIN = "admin"


def with_implied(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """Scopes, and those that come with them."""
    given = frozenset(scopes)
    if Scope.ADMIN in given:
        return frozenset(Scope)
    if Scope.SEND in given:
        given |= {Scope.SCRIPTS}
    return given | {Scope.READ} if given - {Scope.SCRIPTS} else given


class InvalidToken(LocalError, ValueError):
    """A token that cannot be made: its name is taken or not well formed, or it would allow nothing."""


class Client(NamedTuple):
    """Who asks the hub: a token's name, or `local` on loopback without tokens.

    :ivar scopes: all that it has, also those that came with another.
    """

    name: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether it has this scope."""
        return scope in self.scopes

    def may_audit(self, id: str) -> bool:
        """Whether it may see the command with this id, although that is another's.

        Without tokens everybody is the same client, so scripts that came under a name are left out.
        """
        return Scope.AUDIT in self.scopes and not (self.name == LOCAL.name and is_run(id))


LOCAL: Final = Client("local", frozenset(Scope))
"""Whoever reaches a hub on loopback that has no tokens."""


def digest_of(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def make_token(
    store: Store,
    name: str,
    scopes: Sequence[Scope],
    *,
    expires: float | None = None,
    clock: Callable[[], float] = time.time,
) -> str:
    """Make a token, keep its digest, and return it: nobody can find it out later.

    :param expires: Unix seconds after which it is refused; None: never.
    :raises InvalidName: the name is none that a command can carry.
    :raises InvalidToken: no scope, or the name is taken.
    """
    check_name(name, "token's name")
    if not scopes:
        raise InvalidToken("a token needs a scope: " + ", ".join(Scope))
    if name == LOCAL.name or is_clients(name) or any(each.name == name for each in store.tokens()):
        raise InvalidToken(f"there is a token {name} already: choose another name, or remove it first")
    token = PREFIX + secrets.token_urlsafe(32)
    implied = with_implied(scopes)
    store.add_token(name, digest_of(token), [each for each in Scope if each in implied], expires=expires)
    return token


class Tokens:
    """Tells clients by their tokens, with a memory so short that a removed token soon stops to work.

    :param clock: Unix seconds.
    """

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, tuple[Client | None, float]] = {}
        self._any: tuple[bool, float] = (False, 0.0)

    async def client(self, token: str) -> Client | None:
        """Whose token this is; None where it is unknown or has expired.

        :raises StoreUnavailable: the database cannot be asked.
        """
        digest, now = digest_of(token), self._clock()
        if (known := self._known.get(digest)) is not None and _holds(known[1], now):
            return known[0]
        found = await asyncio.to_thread(self._store.token, digest)
        client, until = None, now + REMEMBERED
        if found is not None and (found.expires is None or now < found.expires):
            client = Client(found.name, with_implied(Scope(scope) for scope in found.scopes))
            until = min(until, found.expires or until)
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[digest] = (client, until)
        return client

    async def exist(self) -> bool:
        """Whether there is any token, so that everybody needs one.

        :raises StoreUnavailable: the database cannot be asked.
        """
        there, until = self._any
        if not _holds(until, now := self._clock()):
            there = bool(await asyncio.to_thread(self._store.tokens))
            self._any = (there, now + REMEMBERED)
        return there


def _holds(until: float, now: float) -> bool:
    """Whether an answer is good still; none is for longer, where the clock has gone back."""
    return now < until <= now + REMEMBERED
