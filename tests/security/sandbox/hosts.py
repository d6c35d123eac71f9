"""Starting the sandboxes' host as root or as an ordinary user, and giving it scripts to run."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from outrider.device.scripts.sandbox import script_user
from tests.security.sandbox.host import Order, Outcome

ORDINARY: Final = 61_000
"""The user that stands for an ordinary one where the tests are root."""
CHECKOUT: Final = Path(__file__).parents[3]
MOUNTING: Final = ("unshare", "--mount", "--propagation=private")
SECRET: Final = "a-secret-of-the-device"


def blocked(paths: Sequence[Path]) -> dict[Path, list[Path]]:
    """The folders on the way to them that only their owner may pass, and what is needed below."""
    found: dict[Path, list[Path]] = {}
    for path in paths:
        for folder in reversed(path.parents):
            if not folder.stat().st_mode & 0o001:
                found.setdefault(folder, []).append(path)
                break
    return found


def ordinary(command: Sequence[str]) -> list[str]:
    """The command as an ordinary user's, started by root.

    In a mount namespace of its own it can reach this interpreter and this checkout also in root's home, and nothing
    else there.
    """
    command = ["setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups", "--", *command]
    closed = blocked(_needed())
    if not closed:
        return command
    steps = ["set -e"]
    for number, (folder, paths) in enumerate(closed.items()):
        kept = f"/mnt/{number}"
        steps += ["mount -t tmpfs none /mnt", f"mkdir -p {kept}", f"mount --bind {shlex.quote(str(folder))} {kept}"]
        steps += [f"mount -t tmpfs -o mode=755 none {shlex.quote(str(folder))}"]
        for path in paths:
            target = shlex.quote(str(path))
            steps += [
                f"mkdir -p {target}",
                f"mount --bind {kept}/{shlex.quote(str(path.relative_to(folder)))} {target}",
            ]
        steps += ["umount -l /mnt"]
    steps += ['exec "$@"']
    return [*MOUNTING, "sh", "-c", "\n".join(steps), "sh", *command]


def _needed() -> list[Path]:
    """What the host's process reads."""
    return sorted({Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), CHECKOUT.resolve()})


class Host:
    """A running host. `user` is whose rights scripts have there."""

    def __init__(self, process: "subprocess.Popen[bytes]", kind: str, role: str, folder: Path, user: int) -> None:
        self.process = process
        self.kind = kind
        self.role = role
        self.folder = folder
        self.user = user

    def workspace(self, name: str) -> Path:
        """The folder of an owner of scripts, as a device makes it."""
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        os.chown(folder, self.user, self.user)
        return folder

    def send(self, workspace: Path, source: str, *arguments: str, **fields: Any) -> None:  # noqa: ANN401
        """Have a script run."""
        order = Order(str(workspace), source, list(arguments), **fields)
        assert self.process.stdin
        self.process.stdin.write(msgspec.json.encode(order) + b"\n")
        self.process.stdin.flush()

    def run(self, workspace: Path, source: str, *arguments: str, **fields: Any) -> Outcome:  # noqa: ANN401
        """Run a script and wait for its end."""
        self.send(workspace, source, *arguments, **fields)
        assert self.process.stdout
        return msgspec.json.decode(self.process.stdout.readline(), type=Outcome)


@contextmanager
def start_host(kind: str, role: str, folder: Path) -> Generator[Host]:
    """Start one; `role` is `root` or `ordinary`."""
    command = [sys.executable, "-m", "tests.security.sandbox.host", kind]
    owner = os.getuid()
    if role == "ordinary" and owner == 0:
        owner = ORDINARY
        command = ordinary(command)
    user = script_user() if owner == 0 else owner
    assert user is not None
    temporary = folder / "tmp"  # what killed ones leave there goes with the folder
    temporary.mkdir(exist_ok=True)
    temporary.chmod(0o1777)
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=CHECKOUT,
        env=os.environ | {"DEVICE_PASSWORD": SECRET, "TMPDIR": str(temporary)},
    )
    assert process.stdin
    assert process.stdout
    try:
        assert process.stdout.readline() == b"\n", f"{kind} does not work here as {role}"
        yield Host(process, kind, role, folder, user)
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def missing(kind: str, role: str) -> str | None:
    """Why that cannot be tried here, if so."""
    if role == "root" and os.getuid() != 0:
        return "the tests are not root"
    if role == "ordinary" and os.getuid() == 0 and blocked(_needed()) and not _may_mount():
        return "what the tests need is closed to an ordinary user, and this root may not mount it elsewhere"
    if kind == "bubblewrap" and shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    return None


@cache
def _may_mount() -> bool:
    """Whether this root may have mounts of its own, as one in a container may not."""
    return subprocess.run([*MOUNTING, "true"], capture_output=True, check=False).returncode == 0
