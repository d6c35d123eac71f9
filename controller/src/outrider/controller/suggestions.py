"""Words that help on after a name that nobody knows."""

import difflib
from collections.abc import Iterable
from typing import Final

SHOWN: Final = 5
"""Names listed where none is near."""


def nearest(name: str, known: Iterable[str], *, mark: str = "") -> str:
    """The nearest of the known names, or what there is, to stand behind an error's words.

    :param mark: stands before each name, as the @ of groups.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"; did you mean {', '.join(mark + each for each in near)}?"
    if not names:
        return "; none is known"
    some = ", ".join(mark + each for each in names[:SHOWN])
    return f"; known: {some}{', …' if len(names) > SHOWN else ''}"
