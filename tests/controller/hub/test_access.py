from concurrent.futures import ThreadPoolExecutor

import pytest

from outrider.controller.hub.store import IdempotencyConflict, Store, Token, TokenExists


def test_token_is_found_by_its_digest(store: Store) -> None:
    store.add_token("ann", "d1", ["read", "send"], created=1.0, expires=9.0)
    assert store.token("d1") == Token(name="ann", scopes=["read", "send"], created=1.0, expires=9.0)
    assert store.token("d2") is None
    assert store.token("' OR '1'='1") is None


def test_second_token_of_a_name_or_digest_is_refused(store: Store) -> None:
    store.add_token("ann", "d1", ["read"])
    for name, digest in (("ann", "d2"), ("ben", "d1")):
        with pytest.raises(TokenExists, match=f"a token {name} already"):
            store.add_token(name, digest, ["admin"])
    assert [token.scopes for token in store.tokens()] == [["read"]]


def test_token_that_is_removed_is_found_no_more(store: Store) -> None:
    store.add_token("ben", "d2", [])
    store.add_token("ann", "d1", [])
    assert [token.name for token in store.tokens()] == ["ann", "ben"]
    assert store.remove_token("ann") is True
    assert store.remove_token("ann") is False
    assert [token.name for token in store.tokens()] == ["ben"]


def test_idempotency_key_stands_for_its_first_command(store: Store) -> None:
    assert store.remember("ann", "k", "digest", "c1") is None
    assert store.remember("ann", "k", "digest", "c2") == "c1"
    assert store.remember("ben", "k", "digest", "c3") is None


def test_idempotency_key_with_another_request_is_a_conflict(store: Store) -> None:
    store.remember("ann", "k", "digest", "c1")
    with pytest.raises(IdempotencyConflict, match="key k was used for another request"):
        store.remember("ann", "k", "other", "c2")


def test_idempotency_key_used_at_once_by_many_stands_for_one_command(store: Store) -> None:
    def command_of(number: int) -> str:
        return store.remember("ann", "k", "d", f"c{number}") or f"c{number}"

    with ThreadPoolExecutor(8) as threads:
        kept = list(threads.map(command_of, range(8)))
    assert len(set(kept)) == 1


def test_idempotency_keys_are_forgotten_by_age(store: Store) -> None:
    store.remember("ann", "old", "d", "c1", created=1.0)
    store.remember("ann", "new", "d", "c2", created=9.0)
    store.prune(older_than=5.0)
    assert store.remember("ann", "old", "d", "c3") is None
    assert store.remember("ann", "new", "d", "c3") == "c2"
