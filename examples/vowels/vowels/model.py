"""The model whose answers the service gives: right nine times out of ten."""

from random import Random
from typing import Final

VOWELS: Final = frozenset("aeiou")
WRONG: Final = 0.1
"""How many of the answers are inverted."""


class Model:
    """Guesses whether a letter is a vowel.

    :param seed: the same seed gives the same answers to the same letters in the same order.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._random = Random(seed)

    def guess(self, symbol: str) -> bool:
        vowel = symbol in VOWELS or (symbol == "y" and self._random.random() < 0.5)
        return vowel != (self._random.random() < WRONG)
