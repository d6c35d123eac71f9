"""The model's answers."""

from collections import Counter
from string import ascii_lowercase

import pytest
from vowels.model import Model

ROUNDS = 4000


@pytest.mark.parametrize("symbol", ascii_lowercase)
def test_letter_is_judged_rightly_nine_times_out_of_ten_and_y_by_a_coin(symbol: str) -> None:
    model = Model(seed=1)
    said = Counter(model.guess(symbol) for _ in range(ROUNDS))
    expected = 0.5 if symbol == "y" else 0.9 if symbol in "aeiou" else 0.1
    assert said[True] / ROUNDS == pytest.approx(expected, abs=0.03)


def test_same_seed_gives_the_same_answers() -> None:
    first, second, other = Model(7), Model(7), Model(8)
    text = "whether this is a vowel yes or no" * 10
    answers = [first.guess(each) for each in text]
    assert answers == [second.guess(each) for each in text]
    assert answers != [other.guess(each) for each in text]
