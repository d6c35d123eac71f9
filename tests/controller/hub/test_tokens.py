"""What the hub remembers of tokens, and how long."""

import pytest

from outrider.controller.hub.store import Store
from outrider.controller.hub.tokens import REMEMBERED, Scope, Tokens, make_token


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("jump", [REMEMBERED, -REMEMBERED, -86_400.0, 86_400.0])
async def test_removed_token_is_refused_soon_whatever_the_clock_does(store: Store, jump: float) -> None:
    clock = Clock()
    tokens = Tokens(store, clock=clock)
    token = make_token(store, "ci", [Scope.READ])
    assert (client := await tokens.client(token)) is not None
    assert client.name == "ci"
    assert await tokens.exist()
    store.remove_token("ci")
    clock.now += jump
    assert await tokens.client(token) is None
    assert not await tokens.exist()


async def test_token_is_good_until_it_expires(store: Store) -> None:
    clock = Clock()
    tokens = Tokens(store, clock=clock)
    token = make_token(store, "ci", [Scope.READ], expires=clock.now + 1.0)
    assert await tokens.client(token) is not None
    clock.now += 1.0
    assert await tokens.client(token) is None
