"""What a file in a workspace may be called."""

from fnmatch import fnmatchcase
from typing import Final

from .refusals import ScriptRefused

LONGEST: Final = 100
"""Characters of a file's or a folder's name."""

DEEPEST: Final = 8
"""Names in a path, the file's with them."""


def parts_of(name: str) -> tuple[str, ...]:
    """A file's path, name by name: it leads nowhere but into the workspace.

    :raises ScriptRefused: it says what is wrong.
    """
    parts = tuple(name.split("/"))
    if not name:
        raise ScriptRefused("a file without a name: give it one, as in script.py")
    if any(part in (".", "..") for part in parts) or not all(parts):
        raise ScriptRefused(f"{shown(name)} is no file's name: write it as folder/script.py, without .. and leading /")
    if any(not character.isprintable() for character in name):
        raise ScriptRefused(f"{shown(name)} has characters that cannot be printed: leave them out")
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        raise ScriptRefused(f"{shown(name)} is no text that can be encoded: use letters and digits") from None
    if max(len(part) for part in parts) > LONGEST or longest > 255:  # bytes, NAME_MAX of Linux
        raise ScriptRefused(f"{shown(name)} is too long: a name has at most {LONGEST} characters")
    if len(parts) > DEEPEST:
        raise ScriptRefused(f"{shown(name)} lies too deep: a path has at most {DEEPEST} names")
    return parts


def sent_parts_of(name: str) -> tuple[str, ...]:
    """The same for a file that somebody sends, to whatever device.

    :raises ScriptRefused: it says what is wrong.
    """
    parts = parts_of(name)
    if any(part.startswith(".") for part in parts):
        raise ScriptRefused(f"{shown(name)} is hidden: a name that is sent cannot begin with a dot")
    return parts


def check_upload(name: str, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The path of a file that is sent to a device, name by name.

    :param patterns: what its last name must look like there, as `*.py`.
    :raises ScriptRefused: it says what is wrong.
    """
    parts = sent_parts_of(name)
    if not any(fnmatchcase(parts[-1], pattern) for pattern in patterns):
        raise ScriptRefused(f"{shown(name)} is not taken here: this device takes {', '.join(patterns)}")
    return parts


def shown(name: str) -> str:
    """A name as it stands in a sentence: with what cannot be printed escaped, and not too long."""
    return repr(name if len(name) <= LONGEST else f"{name[:LONGEST]}…")
