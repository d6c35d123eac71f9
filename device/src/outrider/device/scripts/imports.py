"""The program that tells what scripts import: reading what others wrote takes time and memory, which end with it.

It is run by its path, in a process of its own, and needs the standard library only. It reads a JSON list of texts and
writes one of the names of modules.
"""

import ast
import json
import resource
import sys
from collections.abc import Iterable, Iterator
from typing import Final

MEMORY: Final = 512 << 20
"""Bytes; Python's parser takes about a thousand for each byte of some texts."""

CPU: Final = 5
"""Seconds."""

MOST: Final = 500
"""Names of modules; a script with more is taken for none that a person wrote."""

LONGEST: Final = 200
"""Characters of a name."""


def imported(texts: Iterable[str]) -> set[str]:
    """The names that texts import, with what is imported from each; one that is not Python has none."""
    found: set[str] = set()
    for text in texts:
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError):
            continue
        found.update(name for name in _names(tree) if len(name) <= LONGEST)
    return found


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=str(module), level=0, names=names):
                # What is imported from a namespace may be a module of it: `from google.cloud import storage`.
                yield from (f"{module}.{each.name}" for each in names)
            case _:
                pass


def main() -> None:
    """Read, and write."""
    for what, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, CPU), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(what, (most, most))
    json.dump(sorted(imported(json.load(sys.stdin.buffer)))[:MOST], sys.stdout)


if __name__ == "__main__":
    main()
