"""What a script says that it needs: its inline metadata (PEP 723), and lists of requirements."""

import re
import tomllib
from collections.abc import Iterable
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

_BLOCK: Final = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
"""As PEP 723 has it."""


class Metadata(Struct, frozen=True, rename="kebab"):
    """The block `# /// script` of a script; tools' own tables in it are passed over."""

    dependencies: list[str] = []
    requires_python: str = ""


def metadata_of(text: str) -> Metadata:
    """What a script's block says; nothing where it has none.

    :raises ScriptRefused: the block is not well formed, or there are several.
    """
    lines = text.replace("\r\n", "\n")
    blocks = [block for block in _BLOCK.finditer(lines) if block["type"] == "script"]
    if not blocks:
        return Metadata()
    if len(blocks) > 1:
        raise ScriptRefused("the script has several blocks `# /// script`: keep one")
    content = "".join(line[2:] if line.startswith("# ") else line[1:] for line in blocks[0]["content"].splitlines(True))
    try:
        return convert(tomllib.loads(content), Metadata)
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ScriptRefused(f"the script's block `# /// script` is not well formed (PEP 723): {error}") from None


def check_python(requires: str, version: str) -> None:
    """See that a script can run on this version of Python.

    :raises ScriptRefused: it needs another one.
    """
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
