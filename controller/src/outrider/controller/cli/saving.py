"""A folder that takes what scripts printed, two files for each device or input, and an index of them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import json

from outrider.device.scripts.contract import STREAMS, Stream
from outrider.schema import LocalError, OutriderError

INDEX: Final = "index.ndjson"
"""The file with a line of JSON for each device or input, in the order in which they ended."""

_ENDING: Final[Mapping[Stream, str]] = {"stdout": "out", "stderr": "err"}


class FolderInUse(LocalError):
    """A folder for output that holds something already, or cannot be made."""


class NotSaved(OutriderError):
    """Output could not be written."""


class Folder:
    """A folder for the output of one run. Everything in it is new: nothing is written over, no link is followed.

    Names are made here or have been checked: nothing that a device says becomes one.
    """

    def __init__(self, path: Path) -> None:
        """Make the folder.

        :raises FolderInUse: it holds something already, or cannot be made.
        """
        self.path = path
        self._begun: set[Path] = set()
        try:
            path.mkdir(parents=True, exist_ok=True)
            used = any(path.iterdir())
        except OSError as error:
            raise FolderInUse(f"the folder {path} cannot be used: {error.strerror or error}") from None
        if used:
            raise FolderInUse(f"{path} is not empty, and nothing in it is written over: name a new folder")

    def begin(self, name: str) -> None:
        """Make both files of a device or an input.

        :raises NotSaved: they cannot be written.
        """
        for stream in STREAMS:
            self.add(name, stream, "")

    def add(self, name: str, stream: Stream, text: str) -> None:
        """Append to a file.

        :raises NotSaved: it cannot be written.
        """
        self.write(self.file(name, stream), _bytes(text))

    def replace(self, name: str, stream: Stream, text: str) -> None:
        """Write a file of this run anew.

        :raises NotSaved: it cannot be written.
        """
        self.write(self.file(name, stream), _bytes(text), anew=True)

    def note(self, entry: Mapping[str, object], name: str | None) -> None:
        """Append a line to the index.

        :param name: that of the device or input, where there are files of it.
        :raises NotSaved: it cannot be written.
        """
        files = {} if name is None else {stream: self.file(name, stream) for stream in STREAMS}
        self.write(INDEX, json.encode({**entry, **files}) + b"\n")

    def file(self, name: str, stream: Stream) -> str:
        """The name of a file."""
        return f"{name}.{_ENDING[stream]}"

    def write(self, file: str, data: bytes, *, anew: bool = False) -> None:
        """Append to a file in the folder, or in one of its folders, which this run makes.

        :raises NotSaved: it cannot be written, or something else has made it.
        """
        path = self.path / file
        new = path not in self._begun
        flags = os.O_EXCL if new else os.O_TRUNC if anew else os.O_APPEND
        try:
            if new:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._begun.add(path)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | flags, 0o666)
            with open(descriptor, "wb") as opened:  # noqa: PTH123  # a path has no flags
                opened.write(data)
        except OSError as error:
            raise NotSaved(f"{path} cannot be written: {error.strerror or error}") from None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
