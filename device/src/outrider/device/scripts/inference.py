"""Which packages a script needs, told by what it imports."""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from functools import cache
from importlib import import_module
from importlib.resources import as_file, files
from typing import Annotated, Final, Protocol, cast

from msgspec import DecodeError, Meta, json
from packaging.requirements import InvalidRequirement, Requirement

from . import imports
from .refusals import ScriptRefused

PATIENCE: Final = 15.0
"""Seconds for reading the scripts of one run, where the machine has much else to do."""

_ANSWER: Final = 1_000_000
"""Bytes that are taken of what imports are told in."""

_Names = Annotated[list[Annotated[str, Meta(max_length=imports.LONGEST)]], Meta(max_length=imports.MOST)]


class _Mapped(Protocol):
    resolved_package: str


class _Mapper(Protocol):
    def map_import(self, import_info: object) -> _Mapped: ...


async def packages_of(texts: Mapping[str, str], there: Iterable[str] = ()) -> list[str]:
    """The packages that scripts import, beside the standard library, each other, and what they find in their folder.

    An import whose package nobody knows counts as the package of the same name. A file that is not Python has none.

    :param texts: by name, with `/` between folders.
    :param there: names of other files in the workspace.
    :raises ScriptRefused: to read them takes too much.
    """
    found = await _imported([*texts.values()])
    own = {part.removesuffix(".py") for name in (*texts, *there) for part in name.split("/")}
    third_party = {name for name in found if (top := name.partition(".")[0]) not in own and not _is_standard(top)}
    return await asyncio.to_thread(_packages, third_party)


async def _imported(texts: list[str]) -> list[str]:
    """What texts import, read in a process that ends with its time, and when this is cancelled."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", imports.__file__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):  # it has ended
                process.stdin.write(json.encode(texts))
                await process.stdin.drain()
            process.stdin.close()
            try:
                await process.stdout.readexactly(_ANSWER + 1)
            except asyncio.IncompleteReadError as all:
                return json.decode(all.partial, type=_Names)
    except (TimeoutError, DecodeError):
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    raise ScriptRefused(
        "to find what the script imports takes too long or too much memory: say its packages as requirements, without "
        "infer_requirements"
    )


def _is_standard(module: str) -> bool:
    return module in sys.stdlib_module_names or module == "__future__"


def _packages(modules: Iterable[str]) -> list[str]:
    return sorted({package for name in modules if (package := _package(name))})


def _package(module: str) -> str | None:
    models = import_module("pyimport2pkg.models")
    found = _mapper().map_import(models.ImportInfo.from_module_name(module))
    name = found.resolved_package
    try:
        Requirement(name)
    except InvalidRequirement:  # a module whose name no package can have, as one that begins with _
        return None
    return name


@cache
def _mapper() -> _Mapper:
    # The library has no annotations; its own class for the database would write to the folder it is installed in.
    return cast(_Mapper, import_module("pyimport2pkg.mapper").Mapper(_Database()))


class _Database:
    """The mapping that the library carries, opened for reading only."""

    def lookup(self, module_name: str) -> list[tuple[str, int]] | None:
        """Packages that have a module, the most downloaded first."""
        with (
            as_file(files("pyimport2pkg") / "data" / "mapping.db") as path,
            closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection,
        ):
            rows = connection.execute(
                "SELECT m.package_name, p.download_count FROM mappings m JOIN packages p USING (package_name) "
                "WHERE m.module_name = ? ORDER BY p.download_count DESC",
                (module_name,),
            ).fetchall()
        return rows or None
