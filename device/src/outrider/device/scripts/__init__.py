"""Running scripts of others: locked in, with limits, and with a workspace for each owner.

What both sides know of it is in `contract`, which needs nothing more; `Scripts` needs the extra `scripts`.
"""

from typing import TYPE_CHECKING

from .contract import POOL, FileChunk, Limits, ScriptResult, WorkspaceFile

if TYPE_CHECKING:
    from .capability import Scripts

__all__ = ["POOL", "FileChunk", "Limits", "ScriptResult", "Scripts", "WorkspaceFile"]


def __getattr__(name: str) -> object:
    if name == "Scripts":
        from .capability import Scripts

        return Scripts
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
