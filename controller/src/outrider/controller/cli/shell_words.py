"""A shell's command line as far as it is typed: its words as the program would get them, and the one at the cursor.

Of a shell's language this reads quotes and backslashes. What has to be expanded stays as it is typed.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

_PIECE: Final = re.compile(
    r"""
    (?P<blank>[ \t\n]+)
    | '(?P<single>[^']*)(?P<single_end>'|\Z)
    | "(?P<double>(?:[^"\\]|\\.|\\\Z)*)(?P<double_end>"|\Z)
    | \\(?P<escaped>.|\Z)
    | (?P<plain>[^ \t\n'"\\]+)
    """,
    re.VERBOSE | re.DOTALL,
)


class Word(NamedTuple):
    """The word at the cursor.

    :ivar raw: as it is typed; `text` is what the program would get.
    :ivar quote: the quote that is open at its end, else empty.
    """

    raw: str = ""
    text: str = ""
    quote: str = ""

    def completed(self, text: str) -> str:
        """What is typed, and what is missing to `text`, which begins with what the program would get by now."""
        return self.raw + _quoted(text[len(self.text) :], self.quote)


def split(line: str) -> tuple[Sequence[str], Word]:
    """The words before the cursor, which is at the end of `line`, and the word at it."""
    words: list[str] = []
    word: Word | None = None
    for piece in _PIECE.finditer(line):
        if piece["blank"]:
            words += [word.text] if word else []
            word = None
            continue
        before = word or Word()
        text, quote = _plain(piece)
        word = Word(before.raw + piece[0], before.text + text, quote)
    return words, word or Word()


def _plain(piece: re.Match[str]) -> tuple[str, str]:
    """What a piece stands for, and the quote that it leaves open."""
    if piece["single"] is not None:
        return piece["single"], "" if piece["single_end"] else "'"
    if piece["double"] is not None:
        return re.sub(r"""\\(["$`\\])""", r"\1", piece["double"]), "" if piece["double_end"] else '"'
    return piece["plain"] or piece["escaped"] or "", ""


def _quoted(text: str, quote: str) -> str:
    match quote:
        case "'":
            return text.replace("'", r"'\''")
        case '"':
            return re.sub(r'(["$`\\])', r"\\\1", text)
        case _:
            return re.sub(r"([^\w@%+:,./=-])", r"\\\1", text)
