"""Which packages a script needs, told by what it imports."""

import ast
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from functools import cache
from importlib import import_module
from importlib.resources import as_file, files
from typing import Protocol, cast

from packaging.requirements import InvalidRequirement, Requirement


class _Mapped(Protocol):
    resolved_package: str


class _Mapper(Protocol):
    def map_import(self, import_info: object) -> _Mapped: ...


def packages_of(texts: Mapping[str, str], there: Iterable[str] = ()) -> list[str]:
    """The packages that scripts import, beside the standard library, each other, and what they find in their folder.

    An import whose package nobody knows counts as the package of the same name. A file that is not Python has none.

    :param texts: by name, with `/` between folders.
    :param there: names of other files in the workspace.
    """
    own = {part.removesuffix(".py") for name in (*texts, *there) for part in name.split("/")}
    found: set[str] = set()
    for text in texts.values():
        with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            found.update(_imported(ast.parse(text)))
    third_party = {name for name in found if (top := name.partition(".")[0]) not in own and not _is_standard(top)}
    return sorted({package for name in third_party if (package := _package(name))})


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=str(module), level=0, names=names):
                # What is imported from a namespace may be a module of it: `from google.cloud import storage`.
                yield from (f"{module}.{each.name}" for each in names)
            case _:
                pass


def _is_standard(module: str) -> bool:
    return module in sys.stdlib_module_names or module == "__future__"


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
