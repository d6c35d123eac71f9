"""What `run_script` and its companions take and give: the same for who sends scripts and for who runs them."""

import re
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

POOL: Final = "scripts"
"""Every device that allows scripts is in this pool."""

MIB: Final = 1024 * 1024

LEAST_MEMORY: Final = 16 * MIB
"""Bytes with which Python can start."""

Stream = Literal["stdout", "stderr"]
STREAMS: Final[tuple[Stream, Stream]] = ("stdout", "stderr")

TRUNCATED: Final = re.compile(r"\[truncated: the first [\d,]+ of [\d,]+ bytes\]\s*\Z")
"""The notice at the end of a stream that a result could not hold, as `truncated` writes it."""


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What a script may use. A device has greatest values of its own; more than these is refused.

    Beside them stand the command's own `timeout`, which bounds the time on the wall, and the workspace's quota, which
    is the device's.

    :ivar memory: bytes, of each process and of all of them together.
    :ivar cpu: seconds of processor time, of each process and of all of them together.
    :ivar processes: processes and threads at once.
    :ivar open_files: file descriptors of a process.
    :ivar file_size: bytes of a file.
    :ivar output: bytes of output that are sent while it runs, of stdout and stderr each; the rest is counted.
    """

    memory: Annotated[int, Meta(ge=LEAST_MEMORY)] = 256 * MIB
    cpu: Annotated[float, Meta(gt=0)] = 60.0
    processes: Annotated[int, Meta(ge=1)] = 64
    open_files: Annotated[int, Meta(ge=16)] = 256
    file_size: Annotated[int, Meta(ge=0)] = 32 * MIB
    output: Annotated[int, Meta(ge=0)] = MIB


class ScriptResult(Struct, frozen=True):
    """How a script ended.

    :ivar exit_code: as a shell has it: 128 and the signal's number where a signal ended it.
    :ivar stdout: what it wrote, as UTF-8 with what is none replaced; the beginning of it with a notice at the end where
        it was more than a result holds.
    :ivar stderr: the same.
    :ivar duration: seconds.
    :ivar peak_memory: bytes that its processes had at once, as far as was seen.
    :ivar killed_by: the limit that ended it (`memory`, `cpu`, `processes`, `workspace`), or the signal's name
        (`SIGSEGV`); null where it ended by itself. `workspace` also where it left more there than it may.
    """

    exit_code: int
    stdout: str
    stderr: str
    duration: float
    peak_memory: int
    killed_by: str | None = None


class WorkspaceFile(Struct, frozen=True):
    """A file in one's workspace: its name with `/` between folders, bytes, and when it was changed (Unix seconds)."""

    name: str
    size: int
    modified: float


class FileChunk(Struct, frozen=True):
    """A part of a file: `size` is the whole file's, `offset` where `data` begins in it. In JSON `data` is base64."""

    name: str
    size: int
    offset: int
    data: bytes


def truncated(kept: int, total: int) -> str:
    """The notice at the end of a stream of which a result holds only the first bytes."""
    return f"[truncated: the first {kept:,} of {total:,} bytes]\n"
