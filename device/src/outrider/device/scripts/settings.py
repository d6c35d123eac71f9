"""What a device's owner grants to scripts."""

from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from .contract import MIB, Limits
from .refusals import ScriptRefused

GREATEST: Final = Limits(
    memory=1024 * MIB, cpu=300.0, processes=256, open_files=1024, file_size=256 * MIB, output=16 * MIB
)
"""What a script may use at most where the device's owner says nothing else."""


class Settings(Struct, frozen=True, kw_only=True):
    """What a device's owner grants to scripts.

    :ivar greatest: what one script may use at most.
    :ivar timeout: seconds that one may take at most, with the time in which its packages are installed.
    :ivar parallel: scripts at once; one more is `busy`.
    :ivar quota: bytes of an owner's workspace.
    :ivar files: files and folders of an owner's workspace.
    :ivar patterns: what the names of files that are sent must look like.
    :ivar packages: whether the packages that they ask for are installed, with uv.
    :ivar index: where from: a URL, or a folder with wheels; None for what the machine's configuration says.
    :ivar packages_size: bytes that installed packages may have in all.
    :ivar network: whether scripts may reach the network.
    :ivar python: path of the interpreter that runs scripts.
    :ivar sandbox: the name of the one that locks them in.
    :ivar folder: where workspaces and packages are, see `places.place`.
    """

    greatest: Limits = GREATEST
    timeout: float = 300.0
    parallel: int = 100
    quota: int = 100 * MIB
    files: int = 5000
    patterns: tuple[str, ...] = ("*.py",)
    packages: bool = True
    index: str | None = None
    packages_size: int = 2048 * MIB
    network: bool = False
    python: str | None = None
    sandbox: str | None = None
    folder: Path | None = None


def granted(asked: Limits, greatest: Limits) -> Limits:
    """The limits of a run: those that were asked for; what was left at its default, at most what the device grants.

    :raises ScriptRefused: it names a limit that is over the device's greatest, and that one.
    """
    usual = Limits()
    lowered: dict[str, int | float] = {}
    for name in Limits.__struct_fields__:
        wanted, most, default = (getattr(limits, name) for limits in (asked, greatest, usual))
        if wanted <= most:
            continue
        if wanted != default:
            raise ScriptRefused(f"limits.{name} {wanted:,} is more than this device grants: at most {most:,}")
        lowered[name] = most
    return replace(asked, **lowered) if lowered else asked
