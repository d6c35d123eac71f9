"""Times as people type them."""

import re
import time
from datetime import datetime

import typer

from .options import seconds


def moment(text: str) -> float:
    """Unix seconds: `2026-11-25`, `2026-11-25T14:30`, Unix seconds, or how long ago, `2h`. A parser for options."""
    if re.fullmatch(r"\d{9,11}(\.\d+)?", text):
        return float(text)
    if re.fullmatch(r"[\d.]+\s*[a-z]+", text):
        return time.time() - seconds(text)
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"{text!r} is no time: write 2026-11-25, 2026-11-25T14:30, Unix seconds, or 2h for two hours ago"
        ) from None
