"""The part of the machine that a script sees: its programs and libraries, and the variables to find them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .run import WORKSPACE, Run

FOLDERS: Final = tuple(Path("/", name) for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"))
"""Beside /usr: links into it on most machines, and folders on others."""

PATH: Final = "/usr/local/bin:/usr/bin:/bin"

_ETC: Final = (
    *("ld.so.cache", "alternatives", "localtime"),
    *("ssl/certs", "ssl/openssl.cnf", "pki/tls/certs", "pki/tls/cert.pem", "pki/ca-trust"),
)
_NETWORK: Final = ("resolv.conf", "hosts", "nsswitch.conf", "services", "protocols", "gai.conf", "host.conf")


def settings(*, network: bool) -> Iterator[Path]:
    """What programs need of /etc, whether it is there or not; nothing in it is secret. Each costs 0.1 ms a start."""
    for name in (*_ETC, *(_NETWORK if network else ())):
        yield Path("/etc", name)


def variables(run: Run, *, temporary: str) -> dict[str, str]:
    """All variables that a script gets."""
    return {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "HOME": WORKSPACE,
        "TMPDIR": temporary,
        "USER": "script",
        "LOGNAME": "script",
        **run.environment,
    }
