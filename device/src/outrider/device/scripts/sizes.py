"""Sizes as people write them."""

import re
from typing import Final

_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


def size(text: str) -> int:
    """Bytes: `256M`, `1G`, `64K`, or a plain number; units are binary, and `MB` or `MiB` mean the same.

    :raises ValueError: it is none.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,3})?)\s*([kmg]?)(?:i?b)?", text.strip(), re.IGNORECASE | re.ASCII)
    if found is None:
        raise ValueError(f"{text!r} is no size: write it as 256M or 1G")
    return int(float(found[1]) * _UNITS[found[2].upper()])
