"""What a script says that it needs: its inline metadata (PEP 723), and lists of requirements."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct, ValidationError, convert
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from .refusals import ScriptRefused

MOST: Final = 100
"""Requirements of one script."""

LONGEST: Final = 300
"""Characters of a requirement."""

LARGEST: Final = 8_000
"""Characters of a script's block: tomllib takes time with the square of some, 0.15 s for these."""

_OPENING: Final = re.compile(r"# /// ([a-zA-Z0-9-]+)")
_CLOSING: Final = "# ///"


class Metadata(Struct, frozen=True, rename="kebab"):
    """The block `# /// script` of a script; tools' own tables in it are passed over."""

    dependencies: list[str] = []
    requires_python: str = ""


def metadata_of(text: str) -> Metadata:
    """What a script's block says; nothing where it has none.

    :raises ScriptRefused: the block is not well formed, or there are several.
    """
    contents = [content for type, content in blocks_of(text.replace("\r\n", "\n")) if type == "script"]
    if not contents:
        return Metadata()
    if len(contents) > 1:
        raise ScriptRefused("the script has several blocks `# /// script`: keep one")
    content = "".join(f"{line[2:]}\n" for line in contents[0])
    if len(content) > LARGEST:
        raise ScriptRefused(f"the script's block `# /// script` is too long: it may have {LARGEST:,} characters")
    try:
        return convert(tomllib.loads(content), Metadata)
    except (tomllib.TOMLDecodeError, ValidationError, RecursionError) as error:
        raise ScriptRefused(f"the script's block `# /// script` is not well formed (PEP 723): {error}") from None


def blocks_of(text: str) -> Iterator[tuple[str, list[str]]]:
    """Type and lines of each block, as the regular expression of PEP 723 finds them, which takes too long with some.

    A block lies in comments that follow each other, of which each line is `#` or begins with `# `. There it goes from
    the first line that opens one to the last that closes one, with a line or more in between.
    """
    type, lines, closed = "", list[str](), 0
    for line in (*text.split("\n"), ""):
        if line != "#" and not line.startswith("# "):
            if closed:
                yield type, lines[:closed]
            type, lines, closed = "", [], 0
        elif type:
            if line == _CLOSING:
                closed = len(lines)
            lines.append(line)
        elif opening := _OPENING.fullmatch(line):
            type = opening[1]


def check_python(requires: str, version: str) -> None:
    """See that a script can run on this version of Python.

    :raises ScriptRefused: it needs another one.
    """
    if len(requires) > LONGEST:
        raise ScriptRefused(f"requires-python = {requires[:60]!r}… is too long for a range of versions")
    try:
        good = SpecifierSet(requires).contains(version, prereleases=True)
    except InvalidSpecifier:
        raise ScriptRefused(f"requires-python = {requires!r} is no range of versions, as in '>=3.11'") from None
    if not good:
        raise ScriptRefused(f"the script requires Python {requires}, and this device has {version}")


def check_requirements(requirements: Iterable[str]) -> tuple[str, ...]:
    """Requirements in one way of writing, sorted, each once: names with versions, and nothing that leads elsewhere.

    :raises ScriptRefused: one is no requirement, or names a place instead of a package.
    """
    checked: set[str] = set()
    for text in requirements:
        if len(text) > LONGEST:
            raise ScriptRefused(f"{text[:60]!r}… is too long for a requirement")
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            raise ScriptRefused(
                f"{text!r} is no requirement: write a package's name, as httpx or httpx>=0.28"
            ) from None
        if requirement.url is not None:
            raise ScriptRefused(f"{text!r} names a place: only packages of this device's index are installed")
        checked.add(str(requirement))
    if len(checked) > MOST:
        raise ScriptRefused(f"{len(checked)} requirements are too many: a script may have {MOST}")
    return tuple(sorted(checked))


def name_of(requirement: str) -> str:
    """The package's name in a requirement that was checked, in one way of writing."""
    return canonicalize_name(Requirement(requirement).name)
