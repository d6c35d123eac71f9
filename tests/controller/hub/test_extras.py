"""A machine without what the hub needs."""

import pytest

from tests.processes import Processes


@pytest.mark.parametrize(
    ("command", "library"),
    [("hub", "litestar"), ("hub", "prometheus_client"), ("hub export", "sqlalchemy"), ("hub token list", "alembic")],
)
async def test_missing_library_is_named_and_how_to_get_it(spawn: Processes, command: str, library: str) -> None:
    calls = f"import sys; sys.modules[{library!r}] = None; sys.argv = {['outrider', *command.split()]}; "
    process = spawn.python("-c", f"{calls}from outrider.controller.cli.main import main; main()")
    assert await process.wait(20) == 2
    assert f"the hub needs {library}: pip install 'outrider-controller[hub]'" in " ".join(process.errors.split())
