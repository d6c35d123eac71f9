"""Every attack is tried on each sandbox, of a device that is root and of one that is an ordinary user's."""

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outrider.device.scripts.removal import remove
from outrider.device.scripts.sandbox import script_user
from tests.security.sandbox.host import Outcome
from tests.security.sandbox.hosts import Host, missing, start_host

SANDBOXES = [(kind, role) for kind in ("bubblewrap", "landlock") for role in ("root", "ordinary")]


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A folder that scripts' users can pass, and not list. Pytest's own are closed to them at each start of pytest."""
    made = Path(tempfile.mkdtemp(prefix="outrider-attacks-"))
    made.chmod(0o711)
    yield made
    remove(made)


@pytest.fixture
def folder(place: Path) -> Path:
    """A workspace without a host: of the user whose rights scripts of this process have."""
    made = place / f"own-{secrets.token_hex(8)}"
    made.mkdir()
    user = script_user()
    if user is not None:
        os.chown(made, user, user)
    return made


@pytest.fixture(scope="session", params=SANDBOXES, ids=lambda pair: "-".join(pair))
def host(request: pytest.FixtureRequest, place: Path) -> Iterator[Host]:
    kind, role = request.param
    reason = missing(kind, role)
    if reason:
        pytest.skip(reason)
    # Not one for each: where tests are shared out, a worker may come back to a host that it had ended.
    folder = Path(tempfile.mkdtemp(prefix=f"{kind}-{role}-", dir=place))
    folder.chmod(0o711)
    with start_host(kind, role, folder) as started:
        yield started


@pytest.fixture
def workspace(host: Host, request: pytest.FixtureRequest) -> Path:
    """A workspace of the test's own."""
    return host.workspace(f"{request.node.originalname}-{len(list(host.folder.iterdir()))}")


@pytest.fixture
def run(host: Host, workspace: Path) -> Callable[..., Outcome]:
    """Run a script there: its source, arguments, and what `Order` takes besides."""

    def run(source: str, *arguments: object, **fields: object) -> Outcome:
        return host.run(workspace, source, *map(str, arguments), **fields)

    return run
