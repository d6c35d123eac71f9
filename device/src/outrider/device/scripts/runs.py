"""The scripts that run now: whose they are, and which file each of them is run from."""

import secrets
from collections import Counter

Path = tuple[str, ...]
"""Of a file in a workspace, name by name."""


class Runs:
    """Which scripts run, by their owner's folder.

    Two scripts of one name and owner may run at once. The interpreter reads its script some time after that was
    written, so the second one, where it is another text, gets a file of its own until it has ended.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._texts: dict[tuple[str, Path], tuple[bytes, int]] = {}

    def of(self, owner: str) -> int:
        """How many scripts of an owner run."""
        return self._counts[owner]

    def begin(self, owner: str, main: Path, text: bytes) -> Path:
        """Note that one begins; return the file that it is to be run from."""
        self._counts[owner] += 1
        known, count = self._texts.get((owner, main), (text, 0))
        if known != text:
            return (*main[:-1], f".{secrets.token_hex(16)}.py")
        self._texts[owner, main] = (text, count + 1)
        return main

    def end(self, owner: str, main: Path, place: Path) -> bool:
        """Note that one has ended; return whether its own file may take the place of `main` now."""
        self._counts[owner] -= 1
        if not self._counts[owner]:
            del self._counts[owner]
        if place != main:
            return (owner, main) not in self._texts
        text, count = self._texts.pop((owner, main))
        if count > 1:
            self._texts[owner, main] = (text, count - 1)
        return False
