"""Scripts as they come: names, lines of code, and forms with files. What comes out is a request like any other."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from litestar.datastructures import UploadFile
from litestar.exceptions import ClientException
from msgspec import ValidationError, convert, json
from msgspec.structs import replace

from outrider.controller.scripts import SUFFIX
from outrider.device.scripts.names import sent_parts_of, shown
from outrider.device.scripts.refusals import ScriptRefused

from .authorization import ClientRequest
from .bodies import RunBody
from .problems import invalid

FILES: Final = ("files[]", "files", "file")
"""What the parts of a form may be called that are files."""

MAIN: Final = "main.py"

_LISTS: Final = frozenset({"args", "requirements"})
_TEXTS: Final = frozenset({"client", "script_name", "stdin", "target"})
_VALUES: Final = frozenset({"infer_requirements", "limits", "timeout"})
_FIELDS: Final = (*sorted(_TEXTS | _LISTS | _VALUES), *FILES)


class Upload(NamedTuple):
    """A script with all that is said of it.

    :ivar files: names and texts, the main one among them.
    """

    body: RunBody
    files: Mapping[str, str]
    main: str


def of_body(body: RunBody) -> Upload:
    """A script that came as text or lines.

    :raises Refused: its name cannot be.
    """
    name = check_name(body.script_name, "script_name")
    code = body.code if isinstance(body.code, str) else "\n".join(body.code)
    return Upload(replace(body, code=""), {name: code}, name)


async def of_form(request: ClientRequest) -> Upload:
    """A script that came as files of a form.

    :raises Refused: naming the field that is wrong.
    """
    try:
        form = await request.form()
    except (ClientException, UnicodeError, LookupError) as error:
        raise invalid(f"the form cannot be read: {getattr(error, 'detail', None) or error}") from None
    parts = list(form.multi_items())
    said = _said([(name, part) for name, part in parts if name not in FILES])
    files = await _files([(name, part) for name, part in parts if name in FILES], said.get("script_name"))
    try:
        body = convert({**said, "code": ""}, RunBody)
    except ValidationError as error:
        words, _, path = str(error).partition(" - at `$.")
        field = path.rstrip("`")
        raise invalid(f"{field}: {words}" if field else words, field or None) from None
    return Upload(body, files, _main(files, said.get("script_name")))


def check_name(name: str, field: str) -> str:
    """A script's name that makes no trouble as a file's.

    :raises Refused: it has folders in it, is hidden, too long, or no `.py`.
    """
    if not name.endswith(SUFFIX) or name == SUFFIX:
        raise invalid(f"{shown(name)} is no name of a script: it must end in {SUFFIX}", field)
    return check_file_name(name, field)


def check_file_name(name: str, field: str) -> str:
    """A file's name that makes no trouble; whether its ending is wanted the device says.

    :raises Refused: it has folders in it, is hidden, or too long.
    """
    if "/" in name or "\\" in name:
        raise invalid(f"{shown(name)} must be a name without folders", field)
    try:
        sent_parts_of(name)
    except ScriptRefused as error:
        raise invalid(str(error), field) from None
    return name


async def _files(parts: Sequence[tuple[str, object]], wanted: str | None) -> dict[str, str]:
    """The files; a single one is called as it is wanted to be."""
    files: dict[str, str] = {}
    for field, part in parts:
        if not isinstance(part, UploadFile):
            raise invalid(
                f"{field} is no file: send it with a filename, as curl does with -F {field}=@script.py", field
            )
        if len(parts) > 1:
            name = check_file_name(part.filename, field)
        else:
            name = check_name(part.filename, field) if wanted is None else wanted
        if name in files:
            raise invalid(f"there are two files called {name}: give each a name of its own", field)
        try:
            files[name] = (await part.read()).decode()
        except UnicodeDecodeError as error:
            words = f"{name} is not UTF-8: byte {error.object[error.start]:#04x} at {error.start}; save it as UTF-8"
            raise invalid(words, field) from None
    if not files:
        raise invalid("no file: send the script as a part called file, or several as files[]", "file")
    return files


def _main(files: Mapping[str, str], wanted: str | None) -> str:
    """Which of the files is run."""
    if len(files) == 1 and wanted is None:
        return next(iter(files))
    main = MAIN if wanted is None else wanted
    if main not in files:
        words = f"none of {', '.join(sorted(files))} is called {main}: say with script_name which of them is to be run"
        raise invalid(words, "script_name")
    return main


def _said(parts: Sequence[tuple[str, object]]) -> dict[str, Any]:
    """The fields beside the files."""
    said: dict[str, Any] = {}
    for name, part in parts:
        field = name.removesuffix("[]") if name.removesuffix("[]") in _LISTS else name
        if field not in _TEXTS | _LISTS | _VALUES:
            raise invalid(f"no field is called {name!a} here: there are {', '.join(_FIELDS)}", name)
        if not isinstance(part, str):
            raise invalid(f"{field} is a text here, and no file", field)
        if field in _LISTS:
            said.setdefault(field, []).append(part)
        elif field in said:
            raise invalid(f"{field} is there twice", field)
        else:
            said[field] = part if field in _TEXTS else _read(field, part)
    if "script_name" in said:
        check_name(said["script_name"], "script_name")
    return said


def _read(field: str, text: str) -> object:
    """A value that is no text, as JSON has it."""
    try:
        return json.decode(text)
    except (ValueError, RecursionError):
        raise invalid(f"{field} must be written as JSON, as 30, true or {{}}", field) from None
