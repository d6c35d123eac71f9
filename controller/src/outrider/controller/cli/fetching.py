"""Files that a script has written, fetched from the device into the folder of its output."""

import re
from typing import Final

import typer
from msgspec import DecodeError

from outrider.controller import Fleet
from outrider.controller.scripts import FETCH
from outrider.device.scripts.contract import FileChunk
from outrider.schema import OutriderError

from .saving import Folder, NotSaved
from .terminal import printable

LARGEST: Final = 1024**3
"""Bytes of a file that is fetched."""

_PART: Final = re.compile(r"(?!\.{1,2}\Z)[^/\\\0]{1,255}")


def file_name(text: str) -> str:
    """A name that is safe within a folder: a parser for options."""
    if all(_PART.fullmatch(part) for part in text.split("/")) and len(text) <= 1000 and text.isprintable():
        return text
    raise typer.BadParameter(f"{text!r} is no name of a file in a workspace: write data.csv, or plots/a.png")


async def fetch(fleet: Fleet, device: str, name: str, folder: Folder) -> str:
    """Fetch a file into the folder's folder for this device; why it was not, else nothing.

    :raises NotSaved: it cannot be written here.
    """
    file = f"{device}/{name}"
    size, at = 0, 0
    try:
        while True:
            chunk = await fleet.call(device, FETCH, name=name, offset=at, type=FileChunk)
            if at == 0:
                size = chunk.size
                if size > LARGEST:
                    return f"{name} was not fetched: it has {size:,} bytes, and {LARGEST:,} are the most"
            folder.write(file, chunk.data[: size - at])
            at += len(chunk.data)
            if at >= size:
                return ""
            if not chunk.data:
                return f"{name} was fetched in part: it got shorter meanwhile"
    except NotSaved:
        raise
    except (OutriderError, DecodeError) as error:
        return f"{name} was {'fetched in part' if at else 'not fetched'}: {printable(str(error))}"
