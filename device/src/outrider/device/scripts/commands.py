"""The commands of a device that allows scripts: running them, and what they leave in their owners' workspaces."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, json

from outrider.device.executor import ENVELOPE_SIZE
from outrider.device.job import Job

from .beginning import beginning
from .contract import FileChunk, Limits, ScriptResult, WorkspaceFile
from .endings import to_the_end
from .environments import Environments
from .interpreter import Interpreter
from .metadata import Metadata, check_python, check_requirements, metadata_of, name_of
from .output import Output
from .refusals import ScriptRefused
from .sandbox import Run, Sandbox, execute
from .settings import Settings, granted
from .workspace import Owner, Workspaces

DEFAULT_MAIN: Final = "script.py"
ENTRY: Final = "main.py"

LONGEST_ARGUMENT: Final = 100_000
"""Bytes; Linux takes 131,072, MAX_ARG_STRLEN in execve(2)."""

INFERRED_AT_ONCE: Final = 2
"""Runs whose imports are looked for at the same time: each may take memory."""

AROUND: Final = 512
"""Bytes of a value kept free for what stands around its text or data."""


class Script(NamedTuple):
    """What is to be run: files by name, and which of them."""

    files: dict[str, str]
    main: str


class ScriptCommands:
    """The commands, as they are registered on a device. They run from `open` on.

    :param max_size: bytes of a message of the device.
    """

    _workspaces: Workspaces
    _environments: Environments | None
    _inferring: asyncio.Semaphore

    def __init__(self, settings: Settings, sandbox: Sandbox, interpreter: Interpreter, *, max_size: int) -> None:
        self._settings = settings
        self._sandbox = sandbox
        self._interpreter = interpreter
        self._room = max_size - ENVELOPE_SIZE - AROUND

    def open(self, workspaces: Workspaces, environments: Environments | None) -> None:
        """Take what the device's own place on the disk holds: workspaces, and packages where such are installed."""
        self._workspaces = workspaces
        self._environments = environments
        self._inferring = asyncio.Semaphore(INFERRED_AT_ONCE)

    async def run_script(
        self,
        job: Job,
        source: str | None = None,
        files: dict[str, str] | None = None,
        args: list[str] = [],  # noqa: B006 - a default on the wire; it is never changed
        stdin: str = "",
        requirements: list[str] = [],  # noqa: B006
        infer_requirements: bool = False,
        main: str | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> ScriptResult:
        """Run a Python script in a sandbox and return how it ended; its output comes while it runs.

        Give its text as source, or several files by name; of these main is run. Files stay in your workspace, where the
        script begins and which it may write. It gets args and stdin, and packages for its requirements, its inline
        metadata (PEP 723) and, with infer_requirements, its imports.
        """
        limits = granted(limits, self._settings.greatest)
        script = chosen(source, files, main)
        written = self._workspaces.check(script.files)
        given = encoded_input(args, stdin)
        metadata = metadata_of(script.files[script.main])
        check_python(metadata.requires_python, self._interpreter.version)
        owner = Owner(job.requester, job.behalf)
        wanted = await self._requirements(owner, script, metadata, requirements, infer_requirements)
        output = Output(job, limit=limits.output, room=self._room)
        with self._workspaces.running(owner) as workspace:
            await to_the_end(asyncio.to_thread(self._workspaces.write, owner, written))
            async with self._packages(wanted, job) as packages, keeping(self._workspaces, written) as sent:
                run = Run(
                    command=(self._interpreter.path, *beginning(sent, script.main, args)),
                    workspace=workspace,
                    limits=limits,
                    quota=self._settings.quota,
                    files=self._settings.files,
                    packages=(*self._interpreter.folders, *packages, sent),
                    environment=environment_of(packages),
                    network=self._settings.network,
                    stdin=given,
                )
                try:
                    ended = await execute(self._sandbox, run, output.take)
                finally:
                    output.close()
        stdout, stderr = output.results()
        return ScriptResult(
            exit_code=ended.exit_code,
            stdout=stdout,
            stderr=stderr,
            duration=ended.duration,
            peak_memory=ended.peak_memory,
            killed_by=ended.killed_by,
        )

    def fetch_file(
        self,
        job: Job,
        name: str,
        offset: Annotated[int, Meta(ge=0)] = 0,
        length: Annotated[int, Meta(ge=0)] | None = None,
    ) -> FileChunk:
        """Return a file of your workspace from offset on, or a part of it where a message does not hold all."""
        most = max((self._room - 6 * len(name.encode(errors="replace"))) * 3 // 4, 0)  # base64; the name with escapes
        return self._workspaces.read(
            Owner(job.requester, job.behalf), name, offset, most if length is None else min(length, most)
        )

    def list_files(self, job: Job) -> list[WorkspaceFile]:
        """Return the files of your workspace by name; where they are too many for a message, the first of them."""
        files = self._workspaces.list(Owner(job.requester, job.behalf))
        left = self._room
        for count, file in enumerate(files):
            left -= len(json.encode(file)) + 1
            if left < 0:
                job.print(f"[{len(files) - count:,} more files are not listed]", stream="stderr")
                return files[:count]
        return files

    def purge(self, job: Job) -> int:
        """Remove all files of your workspace, and return how many those were."""
        return self._workspaces.purge(Owner(job.requester, job.behalf))

    async def _requirements(
        self, owner: Owner, script: Script, metadata: Metadata, requirements: Sequence[str], infer: bool
    ) -> tuple[str, ...]:
        """All that the script needs, checked."""
        asked = [*metadata.dependencies, *requirements]
        if infer and self._environments is not None:
            from .inference import packages_of

            named = {name_of(each) for each in check_requirements(asked)}
            there = [file.name for file in await asyncio.to_thread(self._workspaces.list, owner)]
            async with self._inferring:
                inferred = await packages_of(script.files, there)
            asked += [each for each in inferred if name_of(each) not in named]
        checked = check_requirements(asked)
        if checked and self._environments is None:
            raise ScriptRefused(
                f"this device installs no packages, and the script needs {', '.join(checked)}: send it to one that "
                "does, or have this one started without --script-no-packages"
            )
        return checked

    @contextlib.asynccontextmanager
    async def _packages(self, requirements: Sequence[str], job: Job) -> AsyncGenerator[tuple[Path, ...]]:
        if not requirements or self._environments is None:
            yield ()
            return
        async with self._environments.holding(requirements, lambda text: job.report(text=text)) as folder:
            yield (folder,)


@contextlib.asynccontextmanager
async def keeping(workspaces: Workspaces, files: Mapping[tuple[str, ...], bytes]) -> AsyncGenerator[Path]:
    """A folder with the files of one run, which is gone afterwards, whenever that is cancelled."""
    folder = workspaces.place_for_sent()
    try:
        await to_the_end(asyncio.to_thread(workspaces.keep_sent, folder, files))
        yield folder
    finally:
        await to_the_end(asyncio.to_thread(workspaces.forget_sent, folder))


def chosen(source: str | None, files: Mapping[str, str] | None, main: str | None) -> Script:
    """Which files there are and which one is run.

    :raises ScriptRefused: that is not said, or not so that it can be.
    """
    if source is not None and files is not None:
        raise ScriptRefused("source and files are both given: give the script's text as one of them")
    if source is not None:
        main = DEFAULT_MAIN if main is None else main
        return Script({main: source}, main)
    if not files:
        raise ScriptRefused("there is no script: give its text as source, or files by name")
    if main is None:
        if len(files) > 1 and ENTRY not in files:
            raise ScriptRefused(f"which of {len(files)} files is run? Say main=NAME, or call one {ENTRY}")
        main = ENTRY if ENTRY in files else next(iter(files))
    elif main not in files:
        raise ScriptRefused(f"main is {main!r}, which is none of the files")
    return Script(dict(files), main)


def encoded_input(args: Sequence[str], stdin: str) -> bytes:
    """What the script reads, as UTF-8.

    :raises ScriptRefused: that or an argument is nothing that a program can be given.
    """
    try:
        for each in args:
            if len(each.encode()) > LONGEST_ARGUMENT:
                raise ScriptRefused(
                    f"an argument has more than {LONGEST_ARGUMENT:,} bytes: send that as stdin, or as a file"
                )
            if "\0" in each:
                raise ScriptRefused("an argument has a NUL character, which no program can be given: leave it out")
        return stdin.encode()
    except UnicodeEncodeError as error:
        raise ScriptRefused(f"args and stdin are text, and this cannot be encoded: {error.reason}") from None


def environment_of(packages: Sequence[Path]) -> dict[str, str]:
    """The variables of a script, beside those which the sandbox sets."""
    variables = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
    if packages:
        variables["PYTHONPATH"] = ":".join(map(str, packages))
    return variables
